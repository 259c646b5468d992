"""Files made of so many blocks, scans or frames that a decoder would not come to an end."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data import structure
from upscore.data.encoded_image import EncodedImage
from upscore.data.image_files import check_image, read_image
from upscore.data.mask_files import read_label
from upscore.data.structure import MAX_BLOCKS, MAX_SCANS, check_structure
from upscore.errors import DataError

SMOOTH = np.dstack([np.arange(64, dtype=np.uint8)[None].repeat(48, 0)] * 3)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for read in (read_image, check_image, read_label):
        with pytest.raises(DataError, match=message):
            read(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_ordinary_file_is_one_frame(form: str) -> None:
    assert check_structure(EncodedImage("a", encoded(Image.fromarray(SMOOTH), form))) == 1
    assert check_structure(EncodedImage("a", encoded(Image.fromarray(SMOOTH), form)[:40])) == 1


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused_and_a_frame_of_it_is_read(tmp_path: Path, form: str) -> None:
    frames = [Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (3, 90, 200)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    refused(tmp_path / "a", content, f"the {form} is an animation of 3 frames")
    with Image.open(io.BytesIO(content)) as image:
        image.seek(0)
        image.convert("RGB").save(tmp_path / "frame.png")
    assert read_image(tmp_path / "frame.png")[0, 0].tolist() == [3, 3, 3]


def test_a_second_image_in_a_phones_photograph_is_no_animation(tmp_path: Path) -> None:
    photo = Image.fromarray(SMOOTH)
    (tmp_path / "a.jpg").write_bytes(encoded(photo, "MPO", save_all=True, append_images=[photo]))
    assert check_image(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (48, 64)


def test_scans_are_counted_and_a_new_export_is_read(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(SMOOTH), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    scans = whole.count(b"\xff\xda")
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:-2] + scan * (MAX_SCANS - scans) + b"\xff\xd9")
    assert check_image(path) == (48, 64)
    refused(path, whole[:-2] + scan * (MAX_SCANS - scans + 1) + b"\xff\xd9", "more than 100 scans")
    # What follows the end, and thumbnails among the segments, do not count.
    inside = encoded(Image.fromarray(SMOOTH), "JPEG", progressive=True, comment=(b"\xff\xda" * 400))
    path.write_bytes(inside + b"\xff\xda\0\4" * 400)
    assert read_image(path).shape == SMOOTH.shape
    with Image.open(io.BytesIO(whole)) as image:
        image.save(path)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() < 9


def test_blocks_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    png = encoded(Image.fromarray(SMOOTH), "PNG")
    refused(path, png[:33] + chunk(b"teSt") * MAX_BLOCKS + png[33:], "the PNG has more than")
    jpeg = encoded(Image.fromarray(SMOOTH), "JPEG")
    refused(path, jpeg[:2] + b"\xff\xfe\0\2" * MAX_BLOCKS + jpeg[2:], "the JPEG has more than")
    refused(path, jpeg[:2] + b"\xff" * (MAX_BLOCKS + 9) + jpeg[2:], "the JPEG has more than")
    gif = encoded(Image.fromarray(SMOOTH[..., 0]), "GIF")
    at = gif.index(b",\0\0\0\0")
    refused(path, gif[:at] + b"\0" * (MAX_BLOCKS + 1) + gif[at:], "the GIF has more than")
    refused(path, gif[:at] + b"!\xfe" + b"\1x" * (8 * MAX_BLOCKS + 1) + b"\0" + gif[at:], "the GIF has more than")
    for content in (png, jpeg, gif):
        path.write_bytes(content)
        assert check_image(path) == (48, 64)


def test_a_run_length_bmp_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + 1024) + struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, 0, 0, 0, 256, 0)
    content = head + bytes(range(256)) * 4 + b"\4\7\0\0\4\x09\0\1"
    path = tmp_path / "a.bmp"
    path.write_bytes(content)
    assert read_image(path).shape == (2, 4, 3)
    refused(path, content + b"\0\0" * 2**23, "the run-length BMP has .* save it as a PNG")


def test_the_walk_survives_anything() -> None:
    rng = np.random.default_rng(1)
    for begin in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"):
        for length in (0, 1, 2, 3, 7, 30, 3000):
            structure.check_structure(EncodedImage("a", begin + rng.integers(0, 256, length, np.uint8).tobytes()))
