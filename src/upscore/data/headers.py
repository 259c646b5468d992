"""Open picture files without trust: what they are and how large, before a pixel is decoded.

Only :data:`FORMATS` are opened, by what the file holds and not by its name: Pillow knows
others, some of which run programs. Damage of any kind is one line that names the file.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from upscore import files
from upscore.errors import DataError
from upscore.text import reason

__all__ = ["FORMATS", "MAX_PIXELS", "UPRIGHT", "check_file", "damaged", "decode", "open_header", "read_bytes"]

MAX_PIXELS = 2**27
"""The largest picture that is decoded, in pixels (11585 × 11585); larger ones are refused."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of the formats that are opened."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a picture of each EXIF orientation upright; 1 already is."""

_PLUGINS = (TiffImagePlugin, WebPImagePlugin)  # imported to be known: Pillow loads only some formats by itself
_MAX_BYTES = 2**30
_ORIENTATION = 0x0112  # EXIF's tag
_warnings_lock = threading.Lock()  # catch_warnings swaps a process-wide list


def check_file(path: Path) -> int:
    """Return the size in bytes of a regular file; devices and pipes could block for ever."""
    size = files.check_file(path, what="a picture")
    if size == 0:
        raise DataError(f"{path}: the file is empty, expected a picture")
    return size


def read_bytes(path: Path) -> bytes:
    """Return a regular file of at most a gibibyte."""
    check_file(path)
    return files.read_file(path, most=_MAX_BYTES, what="a picture")


def open_header(name: str, file: BinaryIO) -> tuple[Image.Image, int]:
    """Read the header; return the undecoded picture and its EXIF orientation, 1 to 8.

    ``name`` is what errors call the file.
    """
    limit = f"expected at most {MAX_PIXELS} pixels: cut it into tiles"
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit says it better, and a doubtful tag is no news
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DataError(f"{name}: the picture is far too large ({error}), {limit}") from error
        except UnidentifiedImageError:
            raise DataError(f"{name}: not a picture that can be read, expected one of {', '.join(FORMATS)}") from None
        except Exception as error:  # damaged headers raise nearly anything, and none of it is our fault
            raise damaged(name, error) from error
        turn = 1
        # Pillow turns TIFFs itself, and would decode a whole PNG to look for a tag behind the pixels.
        if image.format != "TIFF" and not (image.format == "PNG" and "exif" not in image.info):
            with contextlib.suppress(Exception):  # a damaged tag does not make the picture unreadable
                turn = int(image.getexif().get(_ORIENTATION, 1))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: the picture has {height}×{width} = {height * width} pixels, {limit}")
    if width * height == 0:
        raise DataError(f"{name}: the picture has {height}×{width} pixels, expected at least one")
    return image, turn if turn in UPRIGHT else 1


def decode(image: Image.Image, turn: int) -> Image.Image:
    """Decode the pixels and turn them upright."""
    image.load()
    return image if turn == 1 else image.transpose(UPRIGHT[turn])


def damaged(name: str, error: Exception) -> DataError:
    """Return the error that says so for the file ``name``."""
    return DataError(f"{name}: the picture is damaged or cut short ({reason(error)}): copy or export it again")
