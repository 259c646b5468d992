"""Reading untrusted images and masks, and writing them whole or not at all."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from upscore.data import pixel_blocks
from upscore.data.headers import MAX_PIXELS
from upscore.data.image_files import (
    DARK_BELOW,
    DARK_WARNING,
    check_image,
    decode_image,
    inspect_image,
    read_image,
    read_image_with_metadata,
)
from upscore.data.mask_files import read_instances, read_label
from upscore.data.png_files import write_image, write_label_map
from upscore.errors import DataError, OutputError
from upscore.types import LabelSpace, voc_palette

SMOOTH = np.dstack(np.meshgrid(np.arange(48) * 5, np.arange(36) * 7)).astype(np.uint8)
PHOTO = np.dstack([SMOOTH, SMOOTH[..., 0] // 2 + 60])


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_that_of_pillow(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    path = tmp_path / "a.x"
    path.write_bytes(encoded(Image.fromarray(PHOTO), form, exif=exif, **options))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (3 if form == "JPEG" else 0)
    assert check_image(path) == expected.shape[:2]


@settings(max_examples=30, deadline=None)
@given(image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_a_written_image_reads_back(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("p") / "deeper" / "a.png"
    write_image(path, image)
    assert np.array_equal(read_image(path), image)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "YCbCr"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a"
    original = Image.fromarray(PHOTO).convert(mode)
    path.write_bytes(encoded(original, "JPEG" if mode == "YCbCr" else "TIFF" if mode == "CMYK" else "PNG"))
    found = read_image(path)
    assert found.shape == PHOTO.shape
    assert np.abs(found.astype(int) - np.asarray(original.convert("RGB"))).max() <= (12 if mode == "YCbCr" else 0)
    if mode in ("L", "1", "LA"):
        assert (found == found[..., :1]).all()


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(read_image(path).astype(int) - PHOTO).mean() < 12


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_from_the_full_range(tmp_path: Path, form: str) -> None:
    deep = np.array([[0, 1, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.fromarray(deep), form))
    assert np.array_equal(read_image(path)[..., 1], np.rint(deep / 257).astype(np.uint8))


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]], np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    assert read_image(path).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 224, 244]]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("L")
    palette.putpalette([200, 10, 10, 9, 9, 9])
    path.write_bytes(encoded(palette, "PNG", transparency=1))
    assert read_image(path).tolist() == [[[200, 10, 10], [255, 255, 255]]]
    assert read_label(path).tolist() == [[0, 1]]


def test_anything_may_follow_the_end_of_a_jpeg() -> None:
    whole = encoded(Image.fromarray(PHOTO), "JPEG")
    for trailing in (b"\0\0\0", b"camera maker's notes", b"a film of \xff\xda its own \xff\xd8", whole):
        assert np.array_equal(decode_image(whole + trailing), decode_image(whole))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("filling", [b"", b"\0" * 3000, b"x" * 3000])
def test_a_cut_jpeg_is_an_error_whatever_fills_the_gap(tmp_path: Path, progressive: bool, filling: bytes) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    thumbnail = encoded(Image.fromarray(PHOTO), "JPEG")  # has an end marker of its own
    path = tmp_path / "cut.jpg"
    for extra in ({}, {"comment": thumbnail}):
        whole = encoded(Image.fromarray(noise), "JPEG", progressive=progressive, **extra)
        assert decode_image(whole).shape == noise.shape
        for missing in (2, 40, 300, 1200):
            path.write_bytes(whole[:-missing] + filling)
            with pytest.raises(DataError, match=r"cut\.jpg: .*truncated") as error:
                read_image(path)
            one_line(error)
            with pytest.raises(DataError, match=r"cut\.jpg: .*truncated"):
                check_image(path)


def test_a_png_cut_short_is_known_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    whole = encoded(Image.fromarray(PHOTO), "PNG")
    path.write_bytes(whole)
    assert check_image(path) == PHOTO.shape[:2]
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"cut\.png: .*truncated") as error:
        check_image(path)
    one_line(error)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), form=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]))
def test_damage_is_a_image_or_one_line_never_a_crash(data: st.DataObject, form: str) -> None:
    content = bytearray(encoded(Image.fromarray(PHOTO[:20, :20]), form))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    problem = ""
    try:
        found = decode_image(bytes(content), name="odd")
    except DataError as error:
        problem = str(error)
    assert problem == "" or re.fullmatch("odd: .+", problem)
    assert problem or (found.dtype == np.uint8 and found.ndim == 3)


def grey_png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def huge_png(width: int, height: int) -> bytes:
    return grey_png(width, height, 8, b"\0" * 99)


def test_masks_of_few_bits_give_what_is_stored(tmp_path: Path) -> None:
    # Decoders stretch such greys to 0..255; the class is the number in the file.
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(4, 1, 2, bytes([0, 0b00_01_10_11])))
    assert read_label(path).tolist() == [[0, 1, 2, 3]]
    path.write_bytes(grey_png(4, 1, 4, bytes([0, 0x0F, 0x3A])))
    assert read_label(path).tolist() == [[0, 15, 3, 10]]
    inverted = [(256, 4), (257, 1), (258, 2), (259, 1), (262, 0), (273, 8), (277, 1), (278, 1), (279, 1)]  # white is zero
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in inverted)
    path.write_bytes(b"II*\0" + struct.pack("<I", 10) + bytes([0b00_01_10_11, 0]) + struct.pack("<H", 9) + table + bytes(4))
    assert read_label(path).tolist() == [[0, 1, 2, 3]]
    path.write_bytes(grey_png(4, 1, 1, bytes([0, 0b0110_0000])))
    assert read_label(path).tolist() == [[0, 1, 1, 0]]
    assert read_image(path)[0, :, 0].tolist() == [0, 255, 255, 0]


@pytest.mark.parametrize(("width", "height"), [(12000, 12000), (16000, 16000), (200000, 200000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(huge_png(width, height))
    for read in (read_image, read_label, check_image):
        with pytest.raises(DataError, match=rf"bomb\.png.*expected at most {MAX_PIXELS} pixels") as error:
            read(path)
        one_line(error)


def test_a_large_but_allowed_image_is_measured_undecoded_and_warns_nobody(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(huge_png(10000, 10000))  # Pillow warns of more than 89 million pixels
    assert check_image(path) == (10000, 10000)


def test_what_is_no_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "folder.png").mkdir()
    cases = {
        "empty.png": "empty",
        "text.png": "not an image",
        "page.png": "not an image",
        "folder.png": "folder",
        "none.png": "no such file",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        cases["pipe.png"] = "not a regular file"
    for name, message in cases.items():
        for read in (read_image, read_label, check_image, read_instances):
            with pytest.raises(DataError, match=rf"{name}: .*{message}") as error:
                read(tmp_path / name)
            one_line(error)
    with pytest.raises(DataError, match="cannot be read"):
        read_image("a\0b.png")


@settings(max_examples=30, deadline=None)
@given(label=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))), classes=st.integers(1, 255))
def test_a_written_label_map_reads_back_as_indices(tmp_path_factory: pytest.TempPathFactory, label: np.ndarray, classes: int) -> None:
    path = tmp_path_factory.mktemp("m") / "a.png"
    labels = LabelSpace(tuple(str(i) for i in range(classes)))
    write_label_map(path, label, labels)
    assert np.array_equal(read_label(path), label)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), labels.colours()[label])
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_masks_of_every_mode_give_their_indices(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 2, (9, 11), np.uint8)
    path = tmp_path / "a.png"
    several = {
        "P": Image.fromarray(indices).convert("P"),
        "L": Image.fromarray(indices),
        "1": Image.fromarray(indices * 255).convert("1"),
        "I;16": Image.fromarray(indices.astype(np.uint16)),
        "RGB": Image.fromarray(np.dstack([indices] * 3)),
        "RGBA": Image.fromarray(np.dstack([indices] * 3 + [np.full_like(indices, 255)])),
        "LA": Image.merge("LA", [Image.fromarray(indices), Image.new("L", (11, 9), 255)]),
    }
    for mode, image in several.items():
        assert image.mode == mode
        path.write_bytes(encoded(image, "PNG"))
        assert np.array_equal(read_label(path), indices), mode
        assert read_label(path).dtype == np.uint8
    path.write_bytes(encoded(Image.fromarray(indices.astype(np.int32)), "TIFF"))
    assert np.array_equal(read_label(path), indices)


def test_masks_that_are_no_indices_say_why(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"

    def refused(image: Image.Image, form: str = "PNG", **options: object) -> str:
        path.write_bytes(encoded(image, form, **options))
        with pytest.raises(DataError, match=r"mask\.png") as error:
            read_label(path)
        return one_line(error)

    colours = np.zeros((10, 10, 3), np.uint8)
    colours[:3] = (12, 200, 7)
    text = refused(Image.fromarray(colours))
    assert "a colour mask where indices are expected, 2 colours ((0, 0, 0): 70 px, (12, 200, 7): 30 px)" in text
    assert "VOC" not in text
    many = np.random.default_rng(0).integers(0, 255, (10, 10, 3), np.uint8)
    assert "and 94 more" in refused(Image.fromarray(many))
    palette = np.array([*voc_palette(21), (224, 224, 192)], np.uint8)
    assert "PASCAL VOC's palette saved as RGB" in refused(Image.fromarray(palette[np.array([[0, 15, 21]])]))
    assert "values from 0 to 300" in refused(Image.fromarray(np.array([[0, 300]], np.uint16)))
    assert "transparency varies" in refused(Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)))
    assert "holds 0.5, expected whole numbers" in refused(Image.fromarray(np.array([[0.0, 0.5]], np.float32)), "TIFF")
    mask = Image.fromarray((np.arange(32 * 32).reshape(32, 32) % 7 > 3).astype(np.uint8) * 255)
    assert "JPEG mask cannot hold class indices" in refused(mask, "JPEG")
    assert "lossy WebP" in refused(mask, "WEBP", quality=60)


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W) grey, (H, W, 3) colour or (H, W, 4) with alpha; Pillow writes only the first."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    form = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(values.shape[-1])}[values.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, form, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
def test_twelve_bits_in_sixteen_are_said_and_multiplied_they_are_not(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.png"
    values = np.random.default_rng(0).integers(0, 4096, shape, np.uint16)
    values.flat[0] = 4095
    if shape[-1] == 4:
        values[..., 3] = 65535
    path.write_bytes(deep_png(values))
    assert read_image_with_metadata(path).warnings == (DARK_WARNING,)
    assert read_image(path).max() <= 16
    assert inspect_image(path, values=True).warnings == (DARK_WARNING,)
    colour = values if len(shape) == 2 else values[..., :3]
    colour *= 16  # as the warning says
    path.write_bytes(deep_png(values))
    assert read_image_with_metadata(path).warnings == ()
    assert read_image(path).max() == 255
    for greatest, warnings in ((DARK_BELOW, ()), (DARK_BELOW - 1, (DARK_WARNING,)), (0, ())):
        path.write_bytes(deep_png(np.full((2, 3), greatest, np.uint16)))
        assert read_image_with_metadata(path).warnings == warnings
    path.write_bytes(encoded(Image.fromarray(np.full((2, 3), 4, np.uint8)), "PNG"))
    assert read_image_with_metadata(path).warnings == inspect_image(path, values=True).warnings == ()


def test_a_tiff_that_says_twelve_bits_is_scaled_from_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    packed = bytes([0xFF, 0xF8, 0x00])  # 4095 and 2048
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 12) + packed + b"\0" + struct.pack("<H", len(tags)) + table + bytes(4))
    assert read_image_with_metadata(path).pixels[..., 0].tolist() == [[255, 128]]
    assert read_image_with_metadata(path).warnings == ()


def test_colour_masks_of_sixteen_bits_lose_their_numbers_and_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(np.ones((2, 3, 3), np.uint16)))
    with pytest.raises(DataError, match="16-bit colours"):
        read_label(path)
    path.write_bytes(deep_png(np.ones((2, 3), np.uint16)))
    assert (read_label(path) == 1).all()


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    palette = Image.fromarray(rng.integers(0, 3, (7, 9), np.uint8)).convert("L")
    palette.putpalette([200, 10, 10, 9, 9, 9, 77, 88, 99])
    files = {
        "palette": encoded(palette, "PNG", transparency=1),
        "gif": encoded(palette, "GIF", transparency=1),
        "alpha": encoded(Image.fromarray(rng.integers(0, 256, (7, 9, 4), np.uint8)), "PNG"),
        "grey and alpha": encoded(Image.fromarray(rng.integers(0, 256, (7, 9, 2), np.uint8), "LA"), "PNG"),
        "deep": deep_png(rng.integers(0, 65536, (7, 9), np.uint16)),
        "deep colour": deep_png(rng.integers(0, 65536, (7, 9, 3), np.uint16)),
        "cmyk": encoded(Image.fromarray(PHOTO).convert("CMYK"), "TIFF"),
    }
    whole = {name: decode_image(content) for name, content in files.items()}
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(Image.fromarray(rng.integers(0, 2, (7, 9, 3), np.uint8)), "PNG"))
    with pytest.raises(DataError) as error:
        read_label(path)
    for block in (1, 2, 9, 10, 20):
        monkeypatch.setattr(pixel_blocks, "_BLOCK", block)
        for name, content in files.items():
            assert np.array_equal(decode_image(content), whole[name]), (name, block)
        with pytest.raises(DataError) as again:
            read_label(path)
        assert str(again.value) == str(error.value)


def test_instances_may_be_deep(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    numbers = np.array([[0, 1, 65535, 300]], np.uint16)
    path.write_bytes(encoded(Image.fromarray(numbers), "PNG"))
    assert read_instances(path).tolist() == numbers.tolist()
    assert read_instances(path).dtype == np.int32


def test_a_failed_write_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.zeros((4, 4), np.uint8)
    labels = LabelSpace(("a",))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written") as error:
        write_label_map(tmp_path / "file" / "a.png", label, labels)
    one_line(error)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match=r"a\.png: cannot be written"):
        write_label_map(tmp_path / "a.png", label, labels)
    old = tmp_path / "old.png"
    write_label_map(old, label, labels)
    before = old.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_label_map(old, label + 1, labels)
    assert old.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "file", "old.png"]


def test_threads_do_not_disturb_one_another(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG"))
    expected = read_image(path)
    failures: list[object] = []

    def read() -> None:
        for _ in range(30):
            if not np.array_equal(read_image(path), expected):
                failures.append(path)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
