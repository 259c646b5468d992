"""Files and folders written whole or not at all, and files read without trust.

What is read must be a regular file of bounded size: a pipe or a device, which may stand behind
any name, could block for ever or never end.
"""

from __future__ import annotations

import codecs
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from upscore.errors import DataError, OutputError, UpscoreError
from upscore.text import reason

__all__ = [
    "beside",
    "check_file",
    "flush",
    "read_file",
    "read_text",
    "reading",
    "refuse_other_contents",
    "write_atomically",
    "written_whole",
]


def check_file(path: Path, *, what: str, error: type[UpscoreError] = DataError) -> int:
    """Return the size in bytes of a regular file, without opening it.

    Parameters
    ----------
    path : path
        May be too long or hold null bytes; links are followed.
    what : str
        What it is to be read as: "a recipe".
    error : type of UpscoreError
        What is raised.

    Raises
    ------
    UpscoreError
        There is no such file, or it is a folder, a pipe, a device or a socket.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise error(f"{path}: cannot be read as {what}: no such file") from None
    except (OSError, ValueError) as fault:  # ValueError: a null byte, or letters the file system's encoding has not
        raise error(f"{path}: cannot be read as {what}: {_why(fault)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{path}: cannot be read as {what}: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: cannot be read as {what}: not a regular file, but a pipe, a device or a socket")
    return found.st_size


def read_file(path: Path, *, most: int, what: str, error: type[UpscoreError] = DataError) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Parameters
    ----------
    path, what, error
        As for :func:`check_file`.
    most : int
        Bytes; a file that grows while it is read is refused too.

    Raises
    ------
    UpscoreError
        As :func:`check_file`, or it is larger, or cannot be read.
    """
    size = check_file(path, what=what, error=error)
    if size <= most:
        try:
            # Between the two looks at the name a pipe may have taken it; without this flag opening one waits for a writer.
            with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError("it was replaced by a pipe, a device or a socket")
                content = file.read(most + 1)
        except (OSError, ValueError) as fault:
            raise error(f"{path}: cannot be read as {what}: {_why(fault)}") from None
        if len(content) <= most:
            return content
        size = len(content)
    raise error(f"{path}: cannot be read as {what}: it has {size} bytes, expected at most {most}")


def read_text(path: Path, *, most: int, what: str, error: type[UpscoreError] = DataError) -> str:
    """Return the text of a regular file of at most ``most`` bytes, in UTF-8, or in UTF-16 with its byte-order mark.

    The mark is no part of the text, and every line break is a line feed.

    Parameters
    ----------
    path, most, what, error
        As for :func:`read_file`.

    Raises
    ------
    UpscoreError
        As :func:`read_file`, or it is in another encoding.
    """
    content = read_file(path, most=most, what=what, error=error)
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        where = "its UTF-16 text is damaged" if marked else f"it is not UTF-8 text (byte 0x{content[fault.start]:02x} in line {line})"
        raise error(f"{path}: cannot be read as {what}: {where}: save it as UTF-8") from None


@contextmanager
def reading(path: str | os.PathLike[str], *, error: type[UpscoreError] = DataError) -> Iterator[None]:
    """Let a refusal of the system (no right, a name too long, a circle of links) end as one line that names the file.

    Parameters
    ----------
    path : path
        Is named where the system does not say which file it refused.
    error : type of UpscoreError
        What is raised for an ``OSError``.
    """
    try:
        yield
    except OSError as fault:
        raise error(f"{fault.filename or os.fspath(path)}: cannot be read: {_why(fault)}") from fault


def _why(fault: OSError | ValueError) -> str:
    return fault.strerror if isinstance(fault, OSError) and fault.strerror else reason(fault)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that the file is the old one or the new one, never a part.

    Raises
    ------
    OutputError
        There is no right or no room to write; nothing of the attempt stays behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name, or letters that no name of a file can hold
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({_why(error)}): free some space or choose another place") from None
    except BaseException:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def written_whole(folder: Path, *, what: str, holds: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to fill, which then takes the place of ``folder``; that is the old one or the new one, never a part.

    Where the process is killed between two renames, the old one is left as ``beside(folder, "replaced")``.

    Parameters
    ----------
    folder : path
        What it will be; replaced if it is there and holds nothing but what ``holds`` names.
    what : str
        What an error calls it: "bundle".
    holds : collection of str
        Names of all that may be in it.

    Raises
    ------
    OutputError
        The folder holds something else, or cannot be written; an ``OSError`` of the filling ends so too.
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
                os.chmod(path, 0o666 & ~_umask())  # safetensors, for one, writes files that no one else may read
            flush(path)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        partial.rename(folder)
        flush(folder.parent)
    except (OSError, UnicodeEncodeError) as error:
        raise OutputError(
            f"the {what} cannot be written to '{folder}' ({reason(error, 160)}): check space and rights, or choose another place"
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
        raise OutputError(f"'{folder}' is not {article} {what} (it holds '{others[0]}') and is left as it is: choose another place")


def beside(folder: Path, state: str) -> Path:
    """Return the hidden name next to ``folder`` for what it is about to be, or was."""
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
