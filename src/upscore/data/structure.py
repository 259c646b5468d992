"""Check the blocks of an image file before a decoder reads it, so that no file can occupy a decoder for hours.

Pillow reads PNG chunks, JPEG segments and GIF blocks one by one in Python, and libjpeg passes
over the whole image for each scan. Nothing is decoded here; the limits are far above what any
program writes.
"""

from __future__ import annotations

import re

from upscore.data.encoded_image import EncodedImage

__all__ = ["MAX_BLOCKS", "MAX_SCANS", "check_end", "check_structure"]

MAX_BLOCKS = 2**18
"""Maximum of chunks, segments or blocks in a file: a PNG of a gibibyte has half as many."""

MAX_SCANS = 100
"""Maximum of scans in a JPEG: progressive ones mostly have ten. At 134 megapixels one takes about a tenth of a second."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def check_structure(file: EncodedImage) -> int:
    """Return the number of frames of an image file, as far as its blocks show: 1, or more for an animation.

    Only JPEG, PNG and GIF are examined; other files count as one frame. A DataError is raised where a file has more than
    :data:`MAX_BLOCKS` blocks, or a JPEG more than :data:`MAX_SCANS` scans.
    """
    if _is_jpeg(file):
        _walk_jpeg(file)
    elif _is_png(file):
        return _walk_png(file)
    elif file.data[:3] == b"GIF":
        return _walk_gif(file)
    return 1


def check_end(file: EncodedImage) -> None:
    """Refuse a JPEG without its end marker or a PNG without its last chunk: it was truncated.

    Without a JPEG's end marker decoders may fill what is missing with grey or noise. A
    thumbnail in a segment before the first scan has an end marker of its own, so these are
    skipped; anything may follow the end.
    """
    data = file.data
    if _is_jpeg(file):
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
            at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data.find(b"\xff\xd9", at) < 0:
            raise file.error("the JPEG is truncated (it has no end marker): copy or export it again")
    elif _is_png(file) and b"IEND" not in data:
        raise file.error("the PNG is truncated (its last chunk is missing): copy or export it again")


def _is_jpeg(file: EncodedImage) -> bool:
    return file.data[:2] == b"\xff\xd8"


def _is_png(file: EncodedImage) -> bool:
    return file.data[:8] == b"\x89PNG\r\n\x1a\n"


def _walk_png(file: EncodedImage) -> int:
    data, at, blocks, frames = file.data, 8, 0, 1
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"acTL" and at + 12 <= len(data):
            frames = max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        blocks = _count_block(file, "PNG", blocks)
        if kind == b"IEND":
            break
    return frames


def _walk_jpeg(file: EncodedImage) -> None:
    data, at, blocks, scans = file.data, 2, 0, 0
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0x01, 0xFF) or 0xD0 <= data[at + 1] <= 0xD8:
            if scans:  # within a scan: find the next real marker
                found = _MARKER.search(data, at)
                if found is None:
                    return
                at = found.start()
            else:  # fill, junk and lone markers, which Pillow skips byte by byte
                at += 1
            blocks = _count_block(file, "JPEG", blocks)
            continue
        if data[at + 1] == 0xD9:
            return
        if data[at + 1] == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise file.error(f"the JPEG has more than {MAX_SCANS} scans, expected at most that: export it again")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        blocks = _count_block(file, "JPEG", blocks)


def _walk_gif(file: EncodedImage) -> int:
    data, at, blocks, frames = file.data, 13, 0, 0
    at += _palette_bytes(data, 10)
    while at < len(data) and data[at] != 0x3B:
        blocks = _count_block(file, "GIF", blocks)
        if data[at] == 0x2C:
            frames += 1
            at += 11 + _palette_bytes(data, at + 9)
        elif data[at] == 0x21:
            at += 2
        else:
            at += 1
            continue
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks = _count_block(file, "GIF", blocks, 8 * MAX_BLOCKS)  # at most 255 bytes each
        at += 1
    return max(1, frames)


def _palette_bytes(data: bytes, flags: int) -> int:
    """Return the size in bytes of the palette that the flags at an offset announce."""
    return 3 << (data[flags] & 7) + 1 if flags < len(data) and data[flags] & 128 else 0


def _count_block(file: EncodedImage, form: str, blocks: int, max_blocks: int = MAX_BLOCKS) -> int:
    if blocks >= max_blocks:
        raise file.error(f"the {form} has more than {max_blocks} blocks, expected at most that: export it again")
    return blocks + 1
