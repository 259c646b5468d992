r"""Lists of images, one a line, from any tool and any system.

::

    images/train/a.jpg                  relative to the dataset's folder, or to the list's own
    images\train\a.jpg                  backslashes are read as slashes
    D:\data\street\images\train\a.jpg   a path of another machine: the end of it that is there
    images/a.jpg masks/a.png            an image and its mask, divided by blanks, a tab, a comma or a semicolon
    /JPEGImages/a.jpg /masks/a.png      as DeepLab writes them, relative although they begin with a slash
    # a line that begins with # is a comment, unless a file has that name
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PureWindowsPath

from upscore.errors import DataError
from upscore.files import read_text

__all__ = ["Line", "find_below", "find_end", "read_lines", "read_list"]

_MAX_BYTES = 2**27
_MAX_LINE = 8192
_MAX_PARTS = 64
_DIVIDERS = re.compile(r"\s*[,;\t]\s*|\s+")


@dataclass(frozen=True)
class Line:
    """One line of a list: an image, and its mask where the line names one."""

    image: Path
    mask: Path | None = None


def read_lines(file: Path) -> list[str]:
    """Return the lines of a list that are not blank, without blanks at their ends.

    Raises
    ------
    DataError
        The list cannot be read, is empty, or a line is absurdly long.
    """
    text = read_text(file, max_bytes=_MAX_BYTES, what="a list of images")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines:
        raise DataError(f"{file}: the list is empty, expected one image a line")
    if longest := next((line for line in lines if len(line) > _MAX_LINE), None):
        raise DataError(f"{file}: a line has {len(longest)} characters, expected one path a line")
    return lines


def read_list(file: Path, root: Path, warnings: list[str]) -> list[Line]:
    """Return the files that a list names, in its order.

    Its paths are relative to ``root``, or else to the list's own folder; ``warnings`` gets a sentence where paths of another machine
    were resolved by their ends.

    Raises
    ------
    DataError
        The list cannot be read or is empty, or a file that it names is missing.
    """
    found: list[Line] = []
    by_end = 0
    for line in read_lines(file):
        path = _exactly(line, root, file.parent)
        if path is None and line.startswith("#"):
            continue
        if path is not None:
            found.append(Line(path))
        elif (pair := _pair(line, root, file.parent)) is not None:
            found.append(pair[0])
            by_end += pair[1]
        elif (path := find_end(root, line, file=True)) is not None:
            found.append(Line(path))
            by_end += 1
        else:
            raise DataError(f"{file}: the list names {line[:200]}, which is not below {root}: paths are relative to that folder")
    if not found:
        raise DataError(f"{file}: the list is empty, expected one image a line")
    if by_end:
        warnings.append(
            f"{by_end} of {len(found)} paths in {file.name} are of another machine: the files at their ends below {root} were taken"
        )
    return found


def find_below(folder: Path, text: str, *, file: bool = False) -> Path | None:
    r"""Return the file or folder (with ``file``, the file) that a path names below ``folder``, or None.

    Backslashes may stand for slashes, and letters with marks may be composed (NFC) or
    decomposed (NFD).
    """
    for form in dict.fromkeys((text, text.replace("\\", "/"))):
        for spelt in dict.fromkeys((form, unicodedata.normalize("NFC", form), unicodedata.normalize("NFD", form))):
            path = folder / spelt
            if os.path.isfile(path) if file else os.path.exists(path):
                return path
    return None


def find_end(folder: Path, text: str, *, file: bool = False) -> Path | None:
    """Return what the longest possible end of an absolute path leads to below ``folder``; None for other paths and if there is nothing.

    Such paths are written on one machine and read on another: ``D:\\street\\images\\a.jpg``
    is ``images/a.jpg`` in the folder that street has become.
    """
    anchor = PureWindowsPath(text).anchor
    parts = [part for part in PureWindowsPath(text).parts if part != anchor]
    if not anchor or ".." in parts:
        return None
    ends = ("/".join(parts[start:]) for start in range(min(len(parts), _MAX_PARTS)))
    return next((path for end in ends if (path := find_below(folder, end, file=file)) is not None), None)


def _exactly(text: str, root: Path, beside: Path) -> Path | None:
    return find_below(root, text, file=True) or find_below(beside, text, file=True)


def _pair(line: str, root: Path, beside: Path) -> tuple[Line, bool] | None:
    """Divide a line where both sides are files; also return whether either was found by the end of its path only."""
    for divider in islice(_DIVIDERS.finditer(line), _MAX_PARTS):
        files = []
        by_end = False
        for side in (line[: divider.start()], line[divider.end() :]):
            path = _exactly(side, root, beside)
            if path is None and (path := find_end(root, side, file=True)) is not None:
                by_end |= find_below(root, side.lstrip("/\\"), file=True) is None
            files.append(path)
            if path is None:
                break
        if files[0] is not None and files[-1] is not None and len(files) == 2:
            return Line(files[0], files[1]), by_end
    return None
