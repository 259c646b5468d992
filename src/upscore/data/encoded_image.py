"""The content of an image file, not yet decoded, with the name that errors give it.

A page of a TIFF is named by a path below the file: the third of ``stack.tif`` is ``stack.tif/page-0003``. So is an image in a Parquet
file: that of the third row in the column ``image`` of ``train.parquet`` is ``train.parquet/image/row-0000003``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from upscore.data.parquet_files import PARQUET_SUFFIX, read_image_bytes
from upscore.errors import DataError
from upscore.files import check_file, read_file
from upscore.text import reason

__all__ = ["EncodedImage", "cell_path", "is_cell", "page_path", "split_page"]

_MAX_BYTES = 2**30
_PAGE = re.compile(r"page-([0-9]{4,6})")
_ROW = re.compile(r"row-([0-9]{7})")


def page_path(file: Path, number: int) -> Path:
    """Return the path that names a page of a file, counted from 1.

    >>> page_path(Path("stack.tif"), 3).as_posix()
    'stack.tif/page-0003'
    """
    return file / f"page-{number:04d}"


def cell_path(file: Path, column: str, row: int) -> Path:
    """Return the path that names the image in a row, counted from 1, of a column of a Parquet file.

    >>> cell_path(Path("train.parquet"), "mask", 3).as_posix()
    'train.parquet/mask/row-0000003'
    """
    return file / column / f"row-{row:07d}"


def is_cell(path: Path) -> bool:
    """Return whether a path has the form of :func:`cell_path`; the disk is not read."""
    return bool(_ROW.fullmatch(path.name)) and path.parent.parent.suffix.lower() == PARQUET_SUFFIX


def split_page(path: Path) -> tuple[Path, int]:
    """Return the file that a path names, and which page or row of it; 0 where the path is a file's own.

    >>> split_page(Path("folder/page-0003"))  # there is no such file
    (PosixPath('folder/page-0003'), 0)
    """
    if is_cell(path) and path.parent.parent.is_file():
        return path.parent.parent, int(path.name[4:])
    found = _PAGE.fullmatch(path.name)
    return (path.parent, int(found[1])) if found and path.parent.is_file() else (path, 0)


@dataclass(frozen=True, repr=False)
class EncodedImage:
    """An image file in memory."""

    name: str  #: what errors call it
    data: bytes  #: all of it
    page: int = 0  #: which of its pages is meant, counted from 1; 0 for the file as a whole

    @classmethod
    def read(cls, path: Path) -> EncodedImage:
        """Read a regular file of at most a gibibyte; an empty one is an error."""
        file, page = split_page(path)
        if page and is_cell(path):
            return cls(str(path), read_image_bytes(file, path.parent.name, page))
        if check_file(file, what="an image") == 0:
            raise DataError(f"{file}: the file is empty, expected an image")
        return cls(str(path), read_file(file, max_bytes=_MAX_BYTES, what="an image"), page)

    def error(self, message: str, *, check: str = "files.unreadable") -> DataError:
        """Return the error with ``message`` about this file, reported under the id ``check``."""
        return DataError(f"{self.name}: {message}", check=check)

    def damaged_image_error(self, error: Exception) -> DataError:
        """Return the error for a file on which a decoder failed with ``error``."""
        return self.error(f"the image is damaged or truncated ({reason(error)}): copy or export it again")
