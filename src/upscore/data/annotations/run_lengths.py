"""Decode and encode masks that are stored as runs of equal pixels, as four tools write them.

==============  ===========================================  ==========================================
COCO            column by column over the whole image        a list of lengths, or a text of characters
CVAT            row by row inside a box                       numbers divided by commas
Label Studio    four channels of 8 bits, row by row           a packed stream of bits
==============  ===========================================  ==========================================

COCO's and CVAT's first run is of pixels outside. Every length is checked: runs must fill the mask exactly. All functions raise a
``ValueError`` whose message is a reason for the caller to put behind the file's name.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "coco_area",
    "decode_coco_runs",
    "decode_cvat_runs",
    "decode_label_studio_runs",
    "encode_cvat_runs",
    "encode_label_studio_runs",
    "fill_runs",
    "parse_coco_text",
]

_MAX_RUN_BITS = 50
_LENGTH_BITS = (3, 4, 8, 16)  # of the lengths of a run of Label Studio's, in its own files
_LONGEST_RUN = 2**16
_NUMBERS = re.compile(r"[0-9,\s]*")


def fill_runs(lengths: Any, count: int) -> npt.NDArray[np.bool_]:
    """Return ``count`` pixels, of which runs of these lengths are outside and inside in turn, the first outside.

    A ValueError is raised where a length is not a whole number of at least 0, or they do not add up to ``count``.

    >>> fill_runs([1, 2, 1], 4).tolist()
    [False, True, True, False]
    """
    runs = _whole_numbers(lengths)
    if runs.size and not (int(runs.min()) >= 0 and int(runs.max()) <= count):
        raise ValueError(f"a run length is {int(runs.min()) if runs.min() < 0 else int(runs.max())}, expected 0 to {count}")
    ends = np.cumsum(runs, dtype=np.int64)
    if (total := int(ends[-1]) if runs.size else 0) != count:
        raise ValueError(f"the run lengths add up to {total}, expected the {count} pixels of the mask")
    return np.repeat((np.arange(len(runs)) & 1).astype(np.bool_), runs)


def coco_area(counts: Any) -> int:
    """Return how many pixels are inside, by COCO's run lengths, a list or a text; a ValueError where they are no such numbers.

    >>> coco_area([2, 1, 1])
    1
    """
    runs = parse_coco_text(counts) if isinstance(counts, str) else _whole_numbers(counts)
    return int(runs[1::2].sum())


def _whole_numbers(values: Any) -> npt.NDArray[np.int64]:
    try:
        numbers = np.asarray(values)
    except (ValueError, OverflowError):
        numbers = np.empty(1)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ValueError("the run lengths are not whole numbers")
    return numbers.astype(np.int64)


def parse_coco_text(text: str) -> npt.NDArray[np.int64]:
    """Return the run lengths of COCO's compressed text.

    Each character holds five bits, above 48, the lowest first; its sixth bit says that more follow, and the fifth of the last one is the
    sign. From the fourth number on each is a difference to the one two before it.

    >>> parse_coco_text("061").tolist()
    [0, 6, 1]
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64) - 48
    if codes.size == 0:
        return codes
    if not ((codes >= 0) & (codes < 64)).all():
        raise ValueError("the run lengths hold a character that is not between '0' and 'o'")
    if codes[-1] & 32:
        raise ValueError("the run lengths end inside a number")
    starts = np.flatnonzero(np.concatenate([[True], codes[:-1] & 32 == 0]))
    digit = np.arange(codes.size) - np.repeat(starts, np.diff(starts, append=codes.size))
    if 5 * int(digit.max()) > _MAX_RUN_BITS:
        raise ValueError("a run length has more than ten characters")
    numbers = np.add.reduceat((codes & 31) << (5 * digit), starts)
    last = np.append(starts[1:], codes.size) - 1
    numbers -= np.where(codes[last] & 16, np.int64(1) << (5 * (digit[last] + 1)), 0)
    runs = numbers.copy()
    for first in (1, 2):  # from the fourth on the even and the odd ones are running sums of their own
        runs[first::2] = np.cumsum(numbers[first::2])
    return runs


def decode_coco_runs(counts: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask (height, width) of COCO's run lengths, a list or a text.

    >>> decode_coco_runs([2, 1, 1], 2, 2)
    array([[False,  True],
           [False, False]])
    """
    if isinstance(counts, str):
        counts = parse_coco_text(counts)
    return np.ascontiguousarray(fill_runs(counts, height * width).reshape(width, height).T)


def decode_cvat_runs(text: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask (height, width) of CVAT's text of run lengths, row by row inside its box.

    >>> decode_cvat_runs("2, 1, 1", 2, 2)
    array([[False, False],
           [ True, False]])
    """
    if not _NUMBERS.fullmatch(text):
        raise ValueError("the run lengths are not whole numbers divided by commas")
    words = [word.strip() for word in text.split(",")]
    if any(len(word) > 10 or not word.isdigit() for word in words):
        raise ValueError("the run lengths are not whole numbers divided by commas")
    return fill_runs([int(word) for word in words], height * width).reshape(height, width)


def encode_cvat_runs(mask: npt.NDArray[np.bool_]) -> str:
    """Return a mask (height, width) as CVAT's text of run lengths.

    >>> encode_cvat_runs(np.array([[False, False], [True, False]]))
    '2, 1, 1'
    """
    values = np.concatenate([[False], mask.ravel()])
    starts = np.flatnonzero(values[1:] != values[:-1])
    return ", ".join(map(str, np.diff(starts, prepend=0, append=mask.size).tolist()))


def decode_label_studio_runs(data: bytes, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask (height, width) of Label Studio's run lengths: where the fourth of four channels is above 0.

    The bytes are a stream of bits: 32 for how many values there are; 5 for the bits of a value, less 1; four times 4 for the bits of a
    length, less 1; and then records of a bit for whether one value is repeated, 2 for which of the four sizes the length has, the length
    less 1, and the value or the values.
    """
    stream = _Bits(data)
    expected = height * width * 4
    if (count := stream.take(32)) != expected:
        raise ValueError(f"the run lengths hold {count} values, expected 4 for each of the {height}×{width} (height × width) pixels")
    value_bits = stream.take(5) + 1
    if value_bits != 8:
        raise ValueError(f"the run lengths have values of {value_bits} bits, expected 8")
    length_bits = [stream.take(4) + 1 for _ in range(4)]
    decoded = np.empty(expected, np.uint8)
    filled = 0
    while filled < expected:
        repeated = stream.take(1)
        number = stream.take(length_bits[stream.take(2)]) + 1
        if number > expected - filled:
            raise ValueError(f"the run lengths add up to more than {expected} values")
        decoded[filled : filled + number] = stream.take(8) if repeated else stream.take_bytes(number)
        filled += number
    return decoded.reshape(height, width, 4)[..., 3] > 0


def encode_label_studio_runs(mask: npt.NDArray[np.bool_]) -> bytes:
    """Return a mask (H, W) as Label Studio's run lengths, of four equal channels that are 255 inside and 0 outside.

    Every record repeats one value; lengths have 3, 4, 8 or 16 bits, as in Label Studio's own files, and longer runs are divided.

    >>> mask = np.array([[True, False, False]])
    >>> (decode_label_studio_runs(encode_label_studio_runs(mask), 1, 3) == mask).all()
    np.True_
    """
    values = mask.ravel()
    if 4 * values.size >= 2**32:
        raise ValueError(f"the mask has {values.size:,} pixels, expected fewer than {2**30:,}")
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if values.size else np.empty(0, np.int64)
    lengths = 4 * np.diff(starts, append=values.size)
    parts = -(-lengths // _LONGEST_RUN)
    run = np.repeat(np.arange(len(starts)), parts)
    part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    length = np.minimum(lengths[run] - part * _LONGEST_RUN, _LONGEST_RUN) - 1
    size = np.searchsorted(1 << np.array(_LENGTH_BITS), length, "right")  # the index of the first that is wide enough
    bits = np.array(_LENGTH_BITS)[size]
    # 1 for a repeated value, two bits of the size, the length, and the value, whose bits are all equal.
    record = ((4 | size) << (bits + 8)) | (length << 8) | np.where(values[starts[run]], 255, 0)
    position = np.arange(26, -1, -1)  # of at most 3 + 16 + 8 bits
    written = position < (bits + 11)[:, None]
    stream = ((record[:, None] >> position) & 1).astype(np.uint8)[written]
    head = 4 * values.size << 21 | 7 << 16 | sum(width - 1 << shift for width, shift in zip(_LENGTH_BITS, (12, 8, 4, 0), strict=True))
    begin = np.unpackbits(np.frombuffer(head.to_bytes(7, "big"), np.uint8))[3:]  # 32 + 5 + 4 × 4 bits
    return np.packbits(np.concatenate([begin, stream])).tobytes()


class _Bits:
    """Bytes, read from their highest bit on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, count: int) -> int:
        """Return the next ``count`` bits, at most 32, as a number."""
        begin, end = self._position, self._position + count
        if end > 8 * len(self._data):
            raise ValueError("the run lengths end too early")
        self._position = end
        part = int.from_bytes(self._data[begin >> 3 : (end + 7) >> 3], "big")
        return part >> (-end & 7) & ((1 << count) - 1)

    def take_bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """Return the next ``count`` values of 8 bits."""
        begin, end = self._position, self._position + 8 * count
        if end > 8 * len(self._data):
            raise ValueError("the run lengths end too early")
        self._position = end
        stored = np.frombuffer(self._data[begin >> 3 : (end + 7) >> 3], np.uint8)
        shift = begin & 7
        if shift == 0:
            return stored
        wide = stored.astype(np.uint16)
        return ((wide[:-1] << shift | wide[1:] >> (8 - shift)) & 255).astype(np.uint8)
