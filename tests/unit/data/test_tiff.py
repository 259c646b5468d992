"""TIFFs whose tags decide what their numbers mean: bands, pages, bits, and files made to be hard to read."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from upscore.data.encoded_image import EncodedImage
from upscore.data.image_files import ALPHA_WARNING, check_image, find_stored_input, inspect_image, read_image, read_image_with_metadata
from upscore.data.mask_files import read_instances, read_label
from upscore.data.tiff import read_tiff_tags
from upscore.errors import DataError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 255, (6, 8, 4), np.uint8)


def tiff(
    pixels: np.ndarray, *, photometric: int = 2, order: str = "<", tags: dict[int, tuple[int, ...]] | None = None, kind: int = 1
) -> bytes:
    """An uncompressed TIFF of any bands, as GDAL or OpenCV write it; ``tags`` are more of them, all SHORT or LONG."""
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(order)).tobytes()
    data += b"\0" * (len(data) % 2)
    entries = {
        256: (width,), 257: (height,), 258: (pixels.dtype.itemsize * 8,) * bands, 259: (1,), 262: (photometric,), 273: (8,), 277: (bands,),
        278: (height,), 279: (pixels.nbytes,), 284: (1,), 339: (kind,) * bands, **(tags or {}),
    }  # fmt: skip
    entries = {tag: values for tag, values in entries.items() if values}
    table, late, after = b"", b"", 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        long = tag in (256, 257, 273, 279) or max(values) > 65535
        packed = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        table += struct.pack(order + "HHI", tag, 4 if long else 3, len(values))
        if len(packed) <= 4:
            table += packed.ljust(4, b"\0")
        else:
            table += struct.pack(order + "I", after + len(late))
            late += packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(data)) + data + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0" + late


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.tif"


def refused(read: object, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: ") as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extra", [(), (0,)])
def test_a_fourth_band_that_no_tag_says_is_alpha_is_data(file: Path, extra: tuple[int, ...], order: str) -> None:
    for kind, dtype in ((np.uint8, "uint8"), (np.uint16, "uint16")):
        stored = COLOURS.astype(kind) * (1 if kind is np.uint8 else 257)
        file.write_bytes(tiff(stored, order=order, tags={338: extra}))
        spec = find_stored_input(file)
        assert str(spec) == f"4 bands of {dtype} (red, green, blue, band 4)"
        found = read_image_with_metadata(file, spec)
        assert np.array_equal(found.pixels, stored)
        assert found.pixels.dtype == dtype
        assert found.warnings == inspect_image(file, spec).warnings == ()
        for read in (read_image, check_image, read_label):
            assert "4 bands" in refused(read, file, file.read_bytes())


def test_alpha_is_laid_over_white_and_said_where_it_hides_something(file: Path) -> None:
    colour, alpha = COLOURS[..., :3].astype(float), COLOURS[..., 3:].astype(float) / 255
    file.write_bytes(tiff(COLOURS, tags={338: (2,)}))
    assert np.array_equal(read_image(file), np.floor(colour * alpha + 255 * (1 - alpha) + 0.5 - 1e-9))
    assert read_image_with_metadata(file).warnings == inspect_image(file).warnings == (ALPHA_WARNING,)
    premultiplied = COLOURS.copy()
    premultiplied[..., :3] = np.rint(colour * alpha)
    file.write_bytes(tiff(premultiplied, tags={338: (1,)}))
    assert np.abs(read_image(file) - (premultiplied[..., :3] + 255 * (1 - alpha))).max() <= 1.01
    whole = COLOURS.copy()
    whole[..., 3] = 255
    file.write_bytes(tiff(whole, tags={338: (2,)}))
    assert read_image_with_metadata(file).warnings == ()
    grey = np.array([[[200, 255], [100, 0], [50, 128]]], np.uint8)  # premultiplied grey
    file.write_bytes(tiff(np.minimum(grey, grey[..., 1:]), photometric=1, tags={338: (1,)}))
    assert read_image(file)[..., 0].tolist() == [[200, 255, 177]]


def test_other_bands_are_refused_and_the_remedy_works(file: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    eight = np.dstack([COLOURS, COLOURS])
    for content in (
        tiff(eight, tags={338: (0,) * 5}),
        tiff(eight),
        tiff(eight, photometric=1, tags={338: (0,) * 7}),
        tiff(eight[..., :5], tags={338: (2, 0)}),
    ):
        for read in (read_image, check_image, read_label):
            assert "bands of 8-bit unsigned values" in refused(read, file, content)
    assert "2 bands" in refused(read_image, file, tiff(eight[..., :2], photometric=1, tags={338: (0,)}))
    assert "5 bands" in refused(read_image, file, tiff(eight[..., :5], photometric=5, tags={338: (0,)}))
    assert not caplog.records
    assert capfd.readouterr().err == ""
    # What gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB writes:
    file.write_bytes(tiff(eight[..., :3]))
    assert np.array_equal(read_image(file), eight[..., :3])
    file.write_bytes(tiff(eight[..., :1], photometric=1))
    assert np.array_equal(read_label(file), eight[..., 0])


def stack(pages: list[Image.Image], kinds: list[int] | None = None) -> bytes:
    content = io.BytesIO()
    for page, kind in zip(pages, kinds or [0] * len(pages), strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    pages[0].save(content, "TIFF", save_all=True, append_images=pages[1:], tiffinfo={254: (kinds or [0])[0]})
    return content.getvalue()


def test_a_stack_of_pages_is_refused_and_split_it_is_read(file: Path) -> None:
    pages = [Image.fromarray(RNG.integers(0, 3, (6, 8), np.uint8)) for _ in range(3)]
    file.write_bytes(stack(pages))
    for read in (read_image, check_image, read_label, read_instances):
        assert "holds 3 pages" in refused(read, file, file.read_bytes())
    with Image.open(file) as several:
        for number, page in enumerate(ImageSequence.Iterator(several)):
            page.save(file.with_name(f"page-{number}.tif"))
    for number, page in enumerate(pages):
        assert np.array_equal(read_label(file.with_name(f"page-{number}.tif")), np.asarray(page))


def test_overviews_and_transparency_masks_are_no_pages(file: Path) -> None:
    pages = [Image.fromarray(COLOURS[..., :3]), Image.fromarray(COLOURS[::2, ::2, :3]), Image.fromarray(COLOURS[..., 3])]
    whole = stack(pages, [0, 1, 4])
    assert read_tiff_tags(EncodedImage("a.tif", whole)).pages == 1
    file.write_bytes(whole)
    assert np.array_equal(read_image(file), COLOURS[..., :3])
    assert read_image_with_metadata(file).warnings == ()
    assert "holds 2 pages" in refused(read_image, file, stack(pages, [0, 1, 2]))


@pytest.mark.parametrize(
    ("values", "kind", "order"),
    [
        (np.array([[0, 1, 65535]], np.uint16), 1, "<"),
        (np.array([[0, 1, 65535]], np.uint16), 1, ">"),
        (np.array([[0, 1, -9999]], np.int16), 2, "<"),
        (np.array([[0, 1, -1]], np.int8), 2, "<"),
        (np.array([[0, 1, -(2**31)]], np.int32), 2, ">"),
        (np.array([[0, 1, 2**32 - 1]], np.uint32), 1, "<"),
        (np.array([[0, 1, -9999]], np.float32), 3, "<"),
        (np.array([[0, 1, 2**32]], np.float32), 3, ">"),
    ],
)  # fmt: skip
def test_a_mapping_names_values_of_any_width(file: Path, values: np.ndarray, kind: int, order: str) -> None:
    file.write_bytes(tiff(values[..., None], photometric=1, kind=kind, order=order))
    last = int(values[0, 2])
    text = refused(read_label, file, file.read_bytes())
    assert f"{min(0, last)} to {max(1, last)}" in text
    assert "label_mapping" in text
    assert read_label(file, mapping={0: 1, 1: 0, last: 255}).tolist() == [[1, 0, 255]]
    assert read_label(file, mapping={0: 1, 1: -1, last: 2}).tolist() == [[1, 255, 2]]
    with pytest.raises(DataError, match=f"holds {last}, which label_mapping does not name"):
        read_label(file, mapping={0: 0, 1: 1, 7: 255})
    assert read_label(file, mapping={0: 0, last: 255}).tolist() == [[0, 255, 255]]


def test_whole_numbers_in_floating_point_are_classes_and_fractions_are_not(file: Path) -> None:
    file.write_bytes(tiff(np.array([[0, 2, 255]], np.float32)[..., None], photometric=1, kind=3))
    assert read_label(file).tolist() == [[0, 2, 255]]
    assert read_label(file).dtype == np.uint8
    assert read_instances(file).tolist() == [[0, 2, 255]]
    for odd in (0.5, np.nan, np.inf):
        content = tiff(np.array([[0, odd]], np.float32)[..., None], photometric=1, kind=3)
        for read in (read_label, read_instances):
            text = refused(read, file, content)
            assert "expected whole numbers" in text
            assert "8-bit PNG" in text


def test_white_is_zero_changes_an_image_and_not_the_numbers_of_a_mask(file: Path) -> None:
    for kind in (np.uint8, np.uint16):
        stored = np.array([[0, 1, 2, 200]], kind)[..., None]
        file.write_bytes(tiff(stored, photometric=0))
        assert read_label(file).tolist() == [[0, 1, 2, 200]]
        greatest = np.iinfo(kind).max
        assert read_image(file)[..., 0].tolist() == np.rint((greatest - stored[..., 0].astype(int)) * 255 / greatest).astype(int).tolist()


def test_what_cannot_be_read_is_called_by_its_numbers(file: Path) -> None:
    text = refused(read_label, file, tiff(np.zeros((2, 2, 1), np.float64), photometric=1, kind=3))
    assert "1 band of 64-bit floating-point values" in text
    assert "-1 to 1" not in text
    assert "16-bit signed" in refused(read_image, file, tiff(np.zeros((2, 2, 3), np.int16), kind=2))
    assert "values from -5 to 3" in refused(read_image, file, tiff(np.array([[[-5], [3]]], np.int8), photometric=1, kind=2))


def test_tags_that_ask_for_much_are_refused_before_they_get_it(file: Path) -> None:
    plain = tiff(COLOURS[..., :3])
    assert "strips or tiles" in refused(
        check_image, file, plain.replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, 2**21))
    )
    assert "tiles of 100000×100000" in refused(check_image, file, tiff(COLOURS[..., :3], tags={322: (100000,), 323: (100000,)}))
    assert "compression 34925" in refused(check_image, file, tiff(COLOURS[..., :3], tags={259: (34925,)}))
    # Directories without end, each of a few tags: counted, not followed for ever.
    one = struct.pack("<HHHII", 1, 254, 4, 1, 1)
    chain = b"II*\0" + struct.pack("<I", 8) + b"".join(one + struct.pack("<I", 8 + 18 * (i + 1)) for i in range(2**18 + 5))
    assert "more than 262144 tags" in refused(check_image, file, chain)
    circle = bytearray(b"II*\0" + struct.pack("<I", 8) + one + struct.pack("<I", 8))
    assert read_tiff_tags(EncodedImage("a.tif", bytes(circle))).pages == 1
