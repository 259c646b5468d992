"""Read the numbers of a PNM file: Pillow's own reader spends a microsecond on each, and stretches them to 255.

P2, P3, P5 and P6 with any greatest value; the formats of one bit are left to Pillow, which is quick with them.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["MAX_PLAIN", "read_pnm"]

MAX_PLAIN = 2**24
"""The most numbers of a plain-text file that are read, which takes some seconds."""

_BLOCK = 2**20
_COMMENT = re.compile(rb"#[^\r\n]*")


def read_pnm(name: str, data: bytes, *, begin: int, shape: tuple[int, ...], most: int, plain: bool) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return the stored numbers.

    Parameters
    ----------
    name : str
        What errors call the file.
    data : bytes
        All of it.
    begin : int
        Where the numbers begin, after the header.
    shape : tuple of int
        (H, W) or (H, W, 3).
    most : int
        The greatest value that the header allows, 1 to 65535.
    plain : bool
        The numbers are text.

    Raises
    ------
    DataError
        There are too few numbers, one is greater than ``most``, or a text has more than :data:`MAX_PLAIN` of them.
    """
    count = int(np.prod(shape))
    kind = np.dtype(np.uint8 if most < 256 else ">u2")
    if plain:
        if count > MAX_PLAIN:
            raise DataError(f"{name}: the file holds {count} numbers as text, expected at most {MAX_PLAIN}: save it as a PNG")
        found = _read_text(name, data, begin, count)
    else:
        if len(data) - begin < count * kind.itemsize:
            raise DataError(f"{name}: the image is cut short ({len(data) - begin} bytes for {count} numbers): copy or export it again")
        found = np.frombuffer(data, kind, count, begin)
    if count and int(found.max()) > most:
        raise DataError(f"{name}: the image holds the value {int(found.max())}, but its header allows at most {most}: export it again")
    return (np.asarray(found, np.uint8) if most < 256 else np.asarray(found, np.uint16)).reshape(shape)


def _read_text(name: str, data: bytes, begin: int, count: int) -> npt.NDArray[np.int64]:
    """Read numbers in text, a block at a time; a comment runs from # to the end of its line."""
    if len(data) - begin > 32 * count + _BLOCK:
        raise DataError(f"{name}: the file has {len(data)} bytes for {count} numbers: it is damaged: save it as a PNG")
    text = _COMMENT.sub(b" ", data[begin:])
    found, filled, at = np.empty(count, np.int64), 0, 0
    while filled < count and at < len(text):
        end = min(at + _BLOCK, len(text))
        while end < len(text) and not text[end : end + 1].isspace() and end - at < _BLOCK + 16:  # do not cut a number in two
            end += 1
        words = text[at:end].split()[: count - filled]
        at = end
        if any(len(word) > 10 or not word.isdigit() for word in words):
            raise DataError(f"{name}: the image is damaged (found what is no number): copy or export it again")
        found[filled : filled + len(words)] = [int(word) for word in words]
        filled += len(words)
    if filled < count:
        raise DataError(f"{name}: the image is cut short ({filled} of {count} numbers): copy or export it again")
    return found
