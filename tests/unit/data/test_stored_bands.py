"""Images of any bands: read as they are stored, or refused in one line that shows what was found and what was expected."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from upscore.data.image_files import ALPHA_WARNING, find_stored_input, inspect_image, read_image, read_image_with_metadata
from upscore.data.tiff import count_pages
from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec

RNG = np.random.default_rng(0)


def sixteen(*shape: int) -> np.ndarray:
    return RNG.integers(0, 65536, shape, np.uint16)


def read(path: Path) -> tuple[InputSpec, np.ndarray]:
    """Return a file's bands, and its image; what the header says of its size is that of the image."""
    spec = find_stored_input(path)
    image = read_image_with_metadata(path, spec)
    spec.check(image.pixels)
    assert inspect_image(path, spec).size == image.pixels.shape[:2]
    assert image.pixels.flags.c_contiguous
    return spec, image.pixels


def refused(path: Path, spec: InputSpec | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_image_with_metadata(path, spec or find_stored_input(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [2, 4, 8])
def test_tiffs_of_many_bands(tmp_path: Path, bands: int, dtype: str, planar: str, compression: str | None) -> None:
    stored = (RNG.random((13, 17, bands)) * 250).astype(dtype)
    written = stored if planar == "contig" else np.moveaxis(stored, 2, 0)
    predictor = compression in ("lzw", "deflate")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, written, photometric="minisblack", planarconfig=planar, compression=compression, predictor=predictor)
    spec, image = read(path)
    assert str(spec).startswith(f"{bands} bands of {dtype} (band 1, band 2")
    assert np.array_equal(image, stored)


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (np.int16, "float32"),
        (np.int32, "float32"),
        (np.float16, "float32"),
        (np.float64, "float32"),
        (np.uint32, "float32"),
        (np.int8, "float32"),
    ],
)
def test_other_numbers_become_floats(tmp_path: Path, stored: type, dtype: str) -> None:
    values = np.array([[0, 1, 100], [7, 50, 120]]).astype(stored)
    if np.dtype(stored).kind != "u":
        values = -values
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    spec, image = read(tmp_path / "a.tif")
    assert str(spec) == f"1 band of {dtype} (band 1)"
    assert np.array_equal(image[..., 0], values.astype(np.float32))


def twelve_bits(values: np.ndarray, photometric: int = 1) -> bytes:
    """A TIFF of one band of 12 bits, two values in three bytes."""
    height, width = values.shape
    rows = b""
    for row in values.tolist():
        bits = "".join(f"{value:012b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows += bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    entries = {256: width, 257: height, 258: 12, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(rows)}
    rows += b"\0" * (len(rows) % 2)
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + struct.pack("<H", len(entries)) + table + b"\0\0\0\0"


def test_twelve_bits_are_read_as_stored_and_white_may_be_zero(tmp_path: Path) -> None:
    values = np.array([[0, 1, 4095], [2048, 100, 7]])
    for photometric, expected in ((1, values), (0, 4095 - values)):
        (tmp_path / "a.tif").write_bytes(twelve_bits(values, photometric))
        spec, image = read(tmp_path / "a.tif")
        assert str(spec) == "1 band of uint16 (band 1)"
        assert np.array_equal(image[..., 0], expected)


def test_sixteen_bit_colours_keep_all_their_bits_and_lie_over_white(tmp_path: Path) -> None:
    colours = sixteen(5, 6, 4)
    cv2.imwrite(str(tmp_path / "a.png"), colours[..., [2, 1, 0]])
    spec, image = read(tmp_path / "a.png")
    assert str(spec) == "3 bands of uint16 (red, green, blue)"
    assert np.array_equal(image, colours[..., :3])
    cv2.imwrite(str(tmp_path / "b.png"), colours[..., [2, 1, 0, 3]])
    found = read_image_with_metadata(tmp_path / "b.png", spec)
    alpha = colours[..., 3:] / 65535
    assert np.abs(found.pixels - (colours[..., :3] * alpha + 65535 * (1 - alpha))).max() <= 0.51
    assert found.warnings == (ALPHA_WARNING,)
    tifffile.imwrite(tmp_path / "c.tif", colours, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(tmp_path / "c.tif")[1], found.pixels)
    premultiplied = colours.copy()
    premultiplied[..., :3] = np.rint(colours[..., :3] * alpha)
    tifffile.imwrite(tmp_path / "d.tif", premultiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(read(tmp_path / "d.tif")[1].astype(int) - found.pixels).max() <= 1
    cv2.imwrite(str(tmp_path / "e.png"), colours[..., 0])
    assert np.array_equal(read(tmp_path / "e.png")[1][..., 0], colours[..., 0])


def test_common_files_of_eight_bits_are_rgb(tmp_path: Path) -> None:
    colours, grey = RNG.integers(0, 256, (5, 6, 4), np.uint8), RNG.integers(0, 256, (5, 6), np.uint8)
    for name, image in {
        "a.png": Image.fromarray(colours[..., :3]),
        "b.png": Image.fromarray(grey),
        "c.png": Image.fromarray(colours),
        "d.tif": Image.fromarray(colours, "CMYK"),
        "e.jpg": Image.fromarray(grey),
        "f.png": Image.fromarray(grey).convert("P"),
        "g.tif": Image.fromarray(grey > 100),
    }.items():
        image.save(tmp_path / name)
        assert find_stored_input(tmp_path / name) == RGB, name
    single = InputSpec(("grey",))
    assert np.array_equal(read_image_with_metadata(tmp_path / "b.png", single).pixels[..., 0], grey)
    assert "3 bands of uint8 (red, green, blue), expected 1 band of uint8 (grey)" in refused(tmp_path / "a.png", single)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_upright_as_pillow_turns_colours(tmp_path: Path, orientation: int) -> None:
    stored = RNG.integers(0, 256, (3, 5, 3), np.uint8)
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "rgb.tif", stored, photometric="rgb", extratags=tags)
    tifffile.imwrite(tmp_path / "deep.tif", stored.astype(np.uint16) * 257, photometric="rgb", extratags=tags)
    upright = read_image(tmp_path / "rgb.tif")
    assert np.array_equal(read(tmp_path / "deep.tif")[1], upright.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = io.BytesIO()
    Image.fromarray(stored).save(encoded, "PNG", exif=exif)
    (tmp_path / "rgb.png").write_bytes(encoded.getvalue())
    assert np.array_equal(read_image_with_metadata(tmp_path / "rgb.png", InputSpec(dtype="uint8")).pixels, upright)


def test_declared_no_data_is_nan_and_infinity_is_refused(tmp_path: Path) -> None:
    heights = np.array([[1, -9999, 3]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", heights, photometric="minisblack", extratags=[(42113, 2, 0, "-9999", True)])
    assert np.array_equal(read(tmp_path / "a.tif")[1][..., 0], [[1, np.nan, 3]], equal_nan=True)
    tifffile.imwrite(tmp_path / "b.tif", heights, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "b.tif")[1][..., 0], heights)
    np.save(tmp_path / "c.npy", np.array([[1, np.inf]]))
    assert "infinite values, expected finite ones" in refused(tmp_path / "c.npy")


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for stored, kind in (
        (sixteen(4, 5, 6), "uint16"),
        (sixteen(4, 5), "uint16"),
        (RNG.random((4, 5, 2)), "float32"),
        (np.asfortranarray(RNG.random((4, 5, 2), np.float32)), "float32"),
        (RNG.integers(-9, 9, (4, 5, 2)), "float32"),
        (RNG.integers(0, 9, (4, 5, 7), np.uint8), "uint8"),
    ):
        np.save(path, stored)
        spec, image = read(path)
        assert spec.dtype == kind
        assert np.array_equal(image, stored.reshape(*image.shape).astype(kind))
    np.save(path, RNG.integers(0, 256, (4, 5, 3), np.uint8))
    assert find_stored_input(path) == RGB
    assert np.array_equal(read_image(path), np.load(path))
    np.save(path, RNG.integers(0, 256, (4, 5), np.uint8))
    assert np.array_equal(read_image(path), np.dstack([np.load(path)] * 3))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 70, 80), np.uint16), "shape (3, 70, 80) and type uint16, expected bands last, (H, W, bands): save np.moveaxis"),
        (np.zeros((70, 70, 80), np.uint16), "80 bands, expected at most 64"),
        (np.zeros(5), "shape (5,) and type float64, expected (H, W) or (H, W, bands)"),
        (np.zeros((2, 2), complex), "expected numbers"),
        (np.zeros((2, 2), "U3"), "expected numbers"),
        (np.zeros((0, 2)), "0×2 pixels of 1 bands"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as error:
        find_stored_input(tmp_path / "a.npy")
    assert words in str(error.value)


def test_a_pickled_array_is_not_unpickled(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("it ran",))

    np.save(tmp_path / "a.npy", np.array([[Runs()]]), allow_pickle=True)
    with pytest.raises(DataError, match="expected numbers"):
        find_stored_input(tmp_path / "a.npy")


def test_an_image_of_other_bands_is_refused_with_both(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, sixteen(4, 5, 4), photometric="rgb", extrasamples=["unspecified"])
    text = refused(path, InputSpec.unnamed(8, "float32"))
    assert "the image has 4 bands of uint16 (red, green, blue, band 4), expected 8 bands of float32 (band 1" in text
    assert "4 bands" in refused(path, RGB)
    np.save(tmp_path / "a.npy", sixteen(4, 5, 4))
    assert "4 bands of uint16" in refused(tmp_path / "a.npy", RGB)


def test_pages_of_a_size_are_bands_and_each_can_be_named(tmp_path: Path) -> None:
    path, pages = tmp_path / "stack.tif", sixteen(3, 4, 5)
    tifffile.imwrite(path, pages, photometric="minisblack")
    assert count_pages(path) == 3
    spec, image = read(path)
    assert str(spec) == "3 bands of uint16 (band 1, band 2, band 3)"
    assert np.array_equal(image, np.moveaxis(pages, 0, 2))
    for number in (1, 2, 3):
        assert np.array_equal(read(path / f"page-000{number}")[1][..., 0], pages[number - 1])
    with pytest.raises(DataError, match=r"stack\.tif/page-0004: the TIFF has 3 pages, expected page 4 among them"):
        find_stored_input(path / "page-0004")
    eight = RNG.integers(0, 256, (3, 4, 5), np.uint8)
    tifffile.imwrite(path, eight, photometric="minisblack")
    assert np.array_equal(read_image(path / "page-0002")[..., 0], eight[1])
    with tifffile.TiffWriter(path) as tiff:
        for size in (4, 5):
            tiff.write(sixteen(size, size), photometric="minisblack")
    assert "pages differ in size" in refused(path)


def test_a_cut_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for compression in (None, "lzw"):
        tifffile.imwrite(path, sixteen(40, 50, 4), photometric="minisblack", planarconfig="contig", compression=compression, metadata=None)
        whole = bytearray(path.read_bytes())
        del whole[400:3400]
        path.write_bytes(whole)
        with pytest.raises(DataError) as error:
            read_image_with_metadata(path, find_stored_input(path))
        assert "\n" not in str(error.value)
