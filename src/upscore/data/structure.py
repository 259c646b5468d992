"""Walk over the blocks of an image file before a decoder does, so that no file can keep a decoder busy for ever.

Pillow reads PNG chunks, JPEG segments and GIF blocks one by one in Python, and libjpeg goes
over the whole image once a scan: a file of a few megabytes could ask for hours. Nothing is
decoded here; what is counted is bounded far above what any program writes.
"""

from __future__ import annotations

import re

from upscore.errors import DataError

__all__ = ["MAX_BLOCKS", "MAX_SCANS", "check_structure"]

MAX_BLOCKS = 2**18
"""The most chunks, segments or blocks in a file: a PNG of a gibibyte has half as many."""

MAX_SCANS = 100
"""The most scans in a JPEG: progressive ones mostly have ten. At 134 megapixels one takes about a tenth of a second."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def check_structure(name: str, data: bytes) -> int:
    """Return how many frames an image file has, as far as its blocks say: 1, or for an animation more.

    Parameters
    ----------
    name : str
        What errors call the file.
    data : bytes
        All of it. Only JPEG, PNG and GIF are walked over; other files count as one frame.

    Raises
    ------
    DataError
        The file has more than :data:`MAX_BLOCKS` blocks, or a JPEG more than :data:`MAX_SCANS` scans.
    """
    if data[:2] == b"\xff\xd8":
        _walk_jpeg(name, data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        return _walk_png(name, data)
    elif data[:3] == b"GIF":
        return _walk_gif(name, data)
    return 1


def _walk_png(name: str, data: bytes) -> int:
    at, blocks, frames = 8, 0, 1
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"acTL" and at + 12 <= len(data):
            frames = max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        blocks = _counted(name, "PNG", blocks)
        if kind == b"IEND":
            break
    return frames


def _walk_jpeg(name: str, data: bytes) -> None:
    at, blocks, scans = 2, 0, 0
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0x01, 0xFF) or 0xD0 <= data[at + 1] <= 0xD8:
            if scans:  # within a scan: on to the next marker that is one
                found = _MARKER.search(data, at)
                if found is None:
                    return
                at = found.start()
            else:  # fill, junk and lone markers, which Pillow steps over byte by byte
                at += 1
            blocks = _counted(name, "JPEG", blocks)
            continue
        if data[at + 1] == 0xD9:
            return
        if data[at + 1] == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise DataError(f"{name}: the JPEG has more than {MAX_SCANS} scans, expected at most that: export it again")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        blocks = _counted(name, "JPEG", blocks)


def _walk_gif(name: str, data: bytes) -> int:
    at, blocks, frames = 13, 0, 0
    at += _palette(data, 10)
    while at < len(data) and data[at] != 0x3B:
        blocks = _counted(name, "GIF", blocks)
        if data[at] == 0x2C:
            frames += 1
            at += 11 + _palette(data, at + 9)
        elif data[at] == 0x21:
            at += 2
        else:
            at += 1
            continue
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks = _counted(name, "GIF", blocks, 8 * MAX_BLOCKS)  # at most 255 bytes each
        at += 1
    return max(1, frames)


def _palette(data: bytes, flags: int) -> int:
    """Return the bytes of the palette that the flags at a place announce."""
    return 3 << (data[flags] & 7) + 1 if flags < len(data) and data[flags] & 128 else 0


def _counted(name: str, form: str, blocks: int, most: int = MAX_BLOCKS) -> int:
    if blocks >= most:
        raise DataError(f"{name}: the {form} is made of more than {most} pieces, expected at most that: export it again")
    return blocks + 1
