"""Write files and folders atomically, and read untrusted files.

Only regular files of bounded size are read: a pipe or a device, which any name may lead to,
could block for ever or never end.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from upscore.errors import DataError, OutputError, UpscoreError
from upscore.text import reason
from upscore.text_encoding import decode_text

__all__ = [
    "StreamedFile",
    "beside",
    "check_file",
    "flush",
    "give_name",
    "read_file",
    "read_text",
    "reading",
    "refuse_full",
    "refuse_other_contents",
    "replace_folder",
    "write_atomically",
]


def check_file(path: Path, *, what: str, error: type[UpscoreError] = DataError) -> int:
    """Return the size in bytes of a regular file, without opening it.

    ``path`` may be too long or hold null bytes; links are followed. ``what`` is what it is to be read as, such as "a recipe".
    ``error`` is raised where there is no such file, or it is a folder, a pipe, a device or a socket.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise error(f"{path}: cannot be read as {what}: no such file") from None
    except (OSError, ValueError) as fault:  # ValueError: a null byte, or characters that the file system's encoding lacks
        raise error(f"{path}: cannot be read as {what}: {_why(fault)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{path}: cannot be read as {what}: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: cannot be read as {what}: not a regular file, but a pipe, a device or a socket")
    return found.st_size


def read_file(path: Path, *, max_bytes: int, what: str, error: type[UpscoreError] = DataError) -> bytes:
    """Return the content of a regular file of at most ``max_bytes`` bytes, also where it grows while it is read.

    ``error`` is raised where :func:`check_file` does, and for a larger file or one that cannot be read.
    """
    size = check_file(path, what=what, error=error)
    if size <= max_bytes:
        try:
            # A pipe may have replaced the file since it was checked; without this flag opening it waits for a writer.
            with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError("it was replaced by a pipe, a device or a socket")
                content = file.read(max_bytes + 1)
        except (OSError, ValueError) as fault:
            raise error(f"{path}: cannot be read as {what}: {_why(fault)}") from None
        if len(content) <= max_bytes:
            return content
        size = len(content)
    raise error(f"{path}: cannot be read as {what}: it has {size} bytes, expected at most {max_bytes}")


def read_text(path: Path, *, max_bytes: int, what: str, error: type[UpscoreError] = DataError) -> str:
    """Return the text of a regular file, as :func:`upscore.text_encoding.decode_text` decodes it.

    ``error`` is raised where :func:`read_file` does, and for other encodings.
    """
    content = read_file(path, max_bytes=max_bytes, what=what, error=error)
    try:
        return decode_text(content)
    except ValueError as fault:
        raise error(f"{path}: cannot be read as {what}: {fault}") from None


@contextmanager
def reading(path: str | os.PathLike[str], *, error: type[UpscoreError] = DataError) -> Iterator[None]:
    """Turn an ``OSError`` (no permission, a name too long, a circle of links) into an ``error`` of one line that names the file.

    It is ``path`` where the system does not report the file.
    """
    try:
        yield
    except OSError as fault:
        raise error(f"{fault.filename or os.fspath(path)}: cannot be read: {_why(fault)}") from fault


def _why(fault: OSError | ValueError) -> str:
    return fault.strerror if isinstance(fault, OSError) and fault.strerror else reason(fault)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that the file is the old one or the new one, never a part; folders on the way are made.

    An OutputError is raised where there is no permission or no space; no partial file is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_name(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name, or characters that no file name can hold
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({_why(error)}): free some space or choose another path") from None
    except BaseException:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise


class StreamedFile:
    """A file that is written piece by piece, and takes its name when it is closed.

    Parameters
    ----------
    path : path
        The file, which is replaced if it is there; folders on the way are made.

    Attributes
    ----------
    ended : bool
        Whether it is closed or abandoned.

    Raises
    ------
    OutputError
        From every method: there is no room or no right to write. No partial file is left behind.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.ended = path, False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = tempfile.NamedTemporaryFile(  # noqa: SIM115  # it is open until it is closed or abandoned
                dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
            )
        except (OSError, ValueError) as error:
            raise self._error(error) from None

    def write(self, content: bytes) -> None:
        """Append ``content``."""
        try:
            self._file.write(content)
        except OSError as error:
            raise self._error(error) from None

    def close(self) -> None:
        """Give the file its name; nothing where that was done, or it was abandoned."""
        if self.ended:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            give_name(self._file.name, self.path)
        except OSError as error:
            raise self._error(error) from None
        self.ended = True

    def abandon(self) -> None:
        """Remove what was written, unless the file is closed."""
        if not self.ended:
            self.ended = True
            with suppress(OSError):  # closing writes what is buffered, which a full disk refuses once more
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def _error(self, error: OSError | ValueError) -> OutputError:
        if hasattr(self, "_file"):
            self.abandon()
        return OutputError(f"{self.path}: cannot be written ({_why(error)}): free some space or choose another folder")


def give_name(temporary: str, path: Path) -> None:
    """Let a complete temporary file replace ``path``, with the permissions of a new file; OSError where that fails."""
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def replace_folder(folder: Path, *, what: str, holds: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder to fill, which then replaces ``folder``: atomically, so that there is the old one or the new one.

    If the process is killed between two renames, the old one is left as ``beside(folder, "replaced")``.

    Parameters
    ----------
    folder : path
        The result; replaced if it exists and holds nothing but what ``holds`` names.
    what : str
        What errors call it: "bundle".
    holds : collection of str
        Names of the files that may be in it.

    Raises
    ------
    OutputError
        The folder holds something else, or cannot be written; also for an ``OSError`` while it is filled.
    """
    folder = folder.absolute()
    partial, replaced = beside(folder, "partial"), beside(folder, "replaced")
    try:
        refuse_other_contents(folder, what=what, holds=holds)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for path in (*partial.iterdir(), partial):
            if path.is_file():
                os.chmod(path, 0o666 & ~_umask())  # safetensors writes files that only their owner may read
            flush(path)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        partial.rename(folder)
        flush(folder.parent)
    except (OSError, UnicodeEncodeError) as error:
        raise OutputError(
            f"the {what} cannot be written to '{folder}' ({reason(error, 160)}): check space and permissions, or choose another path"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if os.path.exists(replaced) and not os.path.exists(folder):
            replaced.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def refuse_other_contents(folder: Path, *, what: str, holds: Collection[str]) -> None:
    """Raise an OutputError where ``folder`` holds anything but what ``holds`` names."""
    if not os.path.exists(folder):
        return
    others = sorted(p.name for p in folder.iterdir() if p.name not in holds) if folder.is_dir() else [folder.name]
    if others:
        article = "an" if what[0] in "aeiou" else "a"
        raise OutputError(f"'{folder}' is not {article} {what} (it holds '{others[0]}') and is left as it is: choose another path")


def refuse_full(folder: Path, *, what: str) -> None:
    """Raise an OutputError where ``folder`` is a file or holds anything: ``what`` is to be written into a new one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' holds something already, expected a new folder for {what}: choose another path")


def beside(folder: Path, state: str) -> Path:
    """Return the hidden path next to ``folder`` of its version in ``state``: "partial" or "replaced"."""
    return folder.parent / f".{folder.name}.{state}"


def flush(path: Path) -> None:
    """Force a file or folder to the disk, where the system can."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
