"""Files and folders written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from upscore.errors import OutputError

__all__ = ["beside", "flush", "refuse_other_contents", "write_atomically", "written_whole"]


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
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): free some space or choose another place") from None
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
    except OSError as error:
        reason = " ".join(str(error).split())[:160]
        raise OutputError(
            f"the {what} cannot be written to '{folder}' ({reason}): check space and rights, or choose another place"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def refuse_other_contents(folder: Path, *, what: str, holds: Collection[str]) -> None:
    """Raise an OutputError where ``folder`` holds anything but what ``holds`` names."""
    if not folder.exists():
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
