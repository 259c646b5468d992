"""Read the stored values of a PNM file: Pillow's own reader takes a microsecond for each, and scales them to 255.

P2, P3, P5 and P6 with any maximum; Pillow reads the formats of one bit, which it does fast.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from upscore.data.headers import Header

__all__ = ["MAX_PLAIN", "pnm_values"]

MAX_PLAIN = 2**24
"""Maximum of values of a plain-text file; they take some seconds."""

_BLOCK = 2**20
_COMMENT = re.compile(rb"#[^\r\n]*")


def pnm_values(header: Header) -> npt.NDArray[np.uint8 | np.uint16] | None:
    """Return the stored values, (H, W) or (H, W, 3); None for other files and the formats of one bit.

    A DataError is raised where there are too few, one is above the header's maximum, or a text has more than :data:`MAX_PLAIN`.
    """
    file, (decoder, arguments) = header.file, header.coding
    if decoder not in ("ppm", "ppm_plain"):
        return None
    width, height = header.image.size
    shape = (height, width, 3) if header.image.mode == "RGB" else (height, width)
    count, length = int(np.prod(shape)), len(file.data)
    plain = decoder == "ppm_plain"
    if plain and count > MAX_PLAIN:
        raise file.error(f"the file holds {count} values as text, expected at most {MAX_PLAIN}: save it as a PNG")
    if len(arguments) < 2:  # a plain file of one bit
        if length > 32 * count + _BLOCK:
            raise file.error(f"the file has {length} bytes for {count} values: it is damaged: save it as a PNG")
        return None
    begin, max_value = int(header.image.tile[0][2]), int(arguments[1])  # type: ignore[attr-defined]
    stored = np.dtype(np.uint8 if max_value < 256 else ">u2")
    if plain:
        values = _read_text(header, begin, count)
    else:
        if length - begin < count * stored.itemsize:
            raise file.error(f"the image is truncated ({length - begin} bytes for {count} values): copy or export it again")
        values = np.frombuffer(file.data, stored, count, begin)
    if count and int(values.max()) > max_value:
        raise file.error(f"the image holds the value {int(values.max())}, but its header allows at most {max_value}: export it again")
    return (np.asarray(values, np.uint8) if max_value < 256 else np.asarray(values, np.uint16)).reshape(shape)


def _read_text(header: Header, begin: int, count: int) -> npt.NDArray[np.int64]:
    """Read values in text, a block at a time; a comment runs from # to the end of its line."""
    file = header.file
    if len(file.data) - begin > 32 * count + _BLOCK:
        raise file.error(f"the file has {len(file.data)} bytes for {count} values: it is damaged: save it as a PNG")
    text = _COMMENT.sub(b" ", file.data[begin:])
    values, filled, at = np.empty(count, np.int64), 0, 0
    while filled < count and at < len(text):
        end = min(at + _BLOCK, len(text))
        while end < len(text) and not text[end : end + 1].isspace() and end - at < _BLOCK + 16:  # do not divide a number
            end += 1
        words = text[at:end].split()[: count - filled]
        at = end
        if any(len(word) > 10 or not word.isdigit() for word in words):
            raise file.error("the image is damaged (found what is no number): copy or export it again")
        values[filled : filled + len(words)] = [int(word) for word in words]
        filled += len(words)
    if filled < count:
        raise file.error(f"the image is truncated ({filled} of {count} values): copy or export it again")
    return values
