"""The content of an image file, not yet decoded, with the name that errors give it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from upscore.errors import DataError
from upscore.files import check_file, read_file
from upscore.text import reason

__all__ = ["EncodedImage"]

_MAX_BYTES = 2**30


@dataclass(frozen=True, repr=False)
class EncodedImage:
    """An image file in memory."""

    name: str  #: what errors call it
    data: bytes  #: all of it

    @classmethod
    def read(cls, path: Path) -> EncodedImage:
        """Read a regular file of at most a gibibyte; an empty one is an error."""
        if check_file(path, what="an image") == 0:
            raise DataError(f"{path}: the file is empty, expected an image")
        return cls(str(path), read_file(path, max_bytes=_MAX_BYTES, what="an image"))

    def error(self, message: str) -> DataError:
        """Return the error with ``message`` about this file."""
        return DataError(f"{self.name}: {message}")

    def damaged_image_error(self, error: Exception) -> DataError:
        """Return the error for a file on which a decoder failed with ``error``."""
        return self.error(f"the image is damaged or truncated ({reason(error)}): copy or export it again")
