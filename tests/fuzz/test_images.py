"""Image files, whatever is in them: pixels of the size that the header says, or one line."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from fuzz.examples import altered, each_of, fuzz, taken_or_refused
from mat_bytes import cell, mat_bytes, structs
from upscore.data.image_files import check_image, decode_image, find_stored_input, read_image, read_image_with_metadata
from upscore.data.mask_files import read_instances, read_label

CHUNKS = (
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff", b"\xff\xd8", b"\xff\xd9", b"\xff\xc4\x00\x02",
    b"\x89PNG\r\n\x1a\n",
    b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*",
    b"RIFF", b"WEBPVP8 ", b"VP8L",
    b"\x0e\0\0\0", b"\x0f\0\0\0\x08\0\0\0", b"\0\0\0\x80", b"MATLAB 7.3", b"\x01IM",
    b"P6 99999 99999 255 ", b"P5 1 1 65535 ", b"9" * 5000, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg>", b"Exif\x00\x00", b"\x01\x12\x00\x03",
)  # fmt: skip


def _encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None, **options)
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _valid() -> dict[str, bytes]:
    """Return a small image of every kind that is read."""
    rng = np.random.default_rng(0)
    colour, grey = rng.integers(0, 256, (7, 5, 3), np.uint8), rng.integers(0, 4, (7, 5), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    palette = io.BytesIO()
    indexed = Image.fromarray(grey).convert("P")
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    indexed.save(palette, "PNG", transparency=0)
    bits = io.BytesIO()
    Image.fromarray(grey > 1).save(bits, "PNG")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = 8
    pages = io.BytesIO()
    Image.fromarray(colour).save(pages, "TIFF", save_all=True, append_images=[Image.fromarray(colour[::-1])])
    moving = io.BytesIO()
    Image.fromarray(grey).save(moving, "GIF", save_all=True, append_images=[Image.fromarray(grey[::-1])])
    return {
        "png": _encoded(colour, "PNG"),
        "png-grey": _encoded(grey, "PNG"),
        "png-alpha": _encoded(np.dstack([colour, colour[..., :1]]), "PNG"),
        "png-16": _encoded(grey.astype(np.uint16) * 9999, "PNG"),
        "png-palette": palette.getvalue(),
        "png-bits": bits.getvalue(),
        "jpeg": _encoded(colour, "JPEG", exif=turned),
        "jpeg-grey": _encoded(grey, "JPEG", progressive=True),
        "gif": moving.getvalue(),
        "bmp": _encoded(colour, "BMP"),
        "tiff": _encoded(colour, "TIFF", tiffinfo=tags),
        "tiff-lzw": _encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": _encoded(grey, "TIFF", compression="tiff_deflate"),
        "tiff-float": _encoded(grey.astype(np.float32), "TIFF"),
        "tiff-pages": pages.getvalue(),
        "webp": _encoded(colour, "WEBP", lossless=True),
        "webp-lossy": _encoded(colour, "WEBP"),
        "ppm": _encoded(colour, "PPM"),
        "pgm-16": b"P5 5 7 65535\n" + bytes(70),
        "pbm": b"P4 5 7\n" + bytes(7),
        "tiff-bands": _tiff(rng.integers(0, 65536, (7, 5, 4), np.uint16), planarconfig="contig", compression="lzw", predictor=True),
        "tiff-planes": _tiff(rng.random((8, 7, 5), np.float32), planarconfig="separate", compression="deflate"),
        "tiff-tiles": _tiff(rng.random((40, 50), np.float32), tile=(16, 16), compression="zstd"),
        "tiff-stack": _tiff(rng.integers(0, 65536, (3, 7, 5), np.uint16)),
        "npy": _npy(rng.random((7, 5, 4))),
        "mat": mat_bytes({"GTcls": structs([{"Segmentation": grey, "Boundaries": cell(["a", 1.0])}])}, compressed=False),
        "mat-compressed": mat_bytes({"LabelMap": grey.astype(np.float64), "names": cell(["a", "b"])}),
        "text-pnm": b"P2 2 2 9\n1 2 3 4\n",
    }


VALID = _valid()


def looked_at(file, content: bytes) -> None:
    file.write_bytes(content)
    size = None
    with taken_or_refused():
        size = check_image(file)
    for read in (read_image, read_label, read_instances):
        with taken_or_refused():
            pixels = read(file)
            assert size is None or pixels.shape[:2] == size
    with taken_or_refused():
        decode_image(content)
    with taken_or_refused():
        spec = find_stored_input(file)
        spec.check(read_image_with_metadata(file, spec).pixels)


@pytest.mark.parametrize("kind", VALID)
@fuzz
@given(data=st.data())
def test_any_image(tmp_path_factory, kind, data):
    looked_at(tmp_path_factory.getbasetemp() / f"altered.{kind}", data.draw(altered(VALID[kind], CHUNKS)))


@fuzz
@each_of([*CHUNKS, *VALID.values()])
@given(content=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(CHUNKS), max_size=8).map(b"".join)))
def test_any_bytes(tmp_path_factory, content):
    looked_at(tmp_path_factory.getbasetemp() / "any.png", content)
