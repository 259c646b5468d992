"""Read the bands of an image file as they are stored: any number of them, of 8 or 16 bits or floating-point.

::

    8-bit grey or colour                 uint8     what :mod:`upscore.data.image_files` reads too, without becoming RGB
    PNG, PNM of 16 bits                  uint16    transparency is laid over white
    TIFF of 9 to 16 bits                 uint16    white is zero: inverted
    TIFF of other integers, or floats    float32   the declared "no data" (GDAL_NODATA) becomes NaN
    .npy                                 uint8, uint16, or else float32

A TIFF's bands are all data, but for one that its tags declare as transparency. Several pages of one
size are bands, in their order. tifffile decodes what Pillow cannot; sizes are checked before.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import EXIF_TRANSPOSE, MAX_PIXELS, Header, decode, open_header
from upscore.data.pnm import pnm_values
from upscore.data.structure import check_end
from upscore.data.tiff import TiffTags, is_tiff, read_tiff_tags, refuse_tags_beyond
from upscore.errors import DataError
from upscore.input_spec import MAX_BANDS, RGB, DType, Image, InputSpec

__all__ = ["ALPHA_WARNING", "MAX_BYTES", "StoredBands", "is_npy", "open_stored_bands"]

MAX_BYTES = 2**31
"""The largest image in bytes once it is decoded, all bands together."""

ALPHA_WARNING = "alpha channel taken for transparency over white; if it holds data, such as near infrared, save the image without it"

_SMALL = 2**26
_MAX_RATIO = 4000
"""Bytes of an image over those of its file, above which it is damaged, or made to take memory; LZW and Deflate stay below it."""

_NPY = b"\x93NUMPY"
_MAX_NPY_HEADER = 10_000
_NODATA = 42113  # GDAL's tag


@dataclass(frozen=True)
class StoredBands:
    """An image file whose header was read."""

    size: tuple[int, int]  #: height and width, upright
    orientation: int  #: the file's EXIF orientation, 1 to 8; 1 is upright as stored
    spec: InputSpec  #: number, names and type of its bands, as far as the file gives them
    decode: Callable[[], tuple[Image, tuple[str, ...]]]  #: returns the image (H, W, C), upright, and warnings


def open_stored_bands(file: EncodedImage) -> StoredBands:
    """Read the header of an image file of any kind.

    Raises
    ------
    DataError
        It is no image, is damaged, has over 64 bands or more pixels than are read, or values of a type that is not read. So too
        ``decode``, which also refuses infinite values.
    """
    if is_npy(file):
        return _open_npy(file)
    if is_tiff(file.data) and not _is_plain_page(tags := read_tiff_tags(file)):
        return _open_tiff(file, tags)
    header = open_header(file)
    grey = header.image.mode in ("1", "L", "LA", "La") or header.image.mode.startswith("I")
    spec = InputSpec.unnamed(1, "uint8") if grey else RGB
    if header.bits > 8:
        spec = InputSpec(spec.bands, "uint16")
    return StoredBands(header.size, header.orientation, spec, lambda: _guarded(file, lambda: _decode_common(header, spec)))


def is_npy(file: EncodedImage) -> bool:
    """Return whether a file begins as NumPy's do."""
    return file.data[: len(_NPY)] == _NPY


def _is_plain_page(tags: TiffTags) -> bool:
    return tags.is_plain and tags.pages == 1


def _guarded(file: EncodedImage, decoded: Callable[[], tuple[npt.NDArray[Any], tuple[str, ...]]]) -> tuple[Image, tuple[str, ...]]:
    """Return what was decoded, made contiguous and checked; whatever a decoder raises becomes a DataError."""
    try:
        pixels, warnings = decoded()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything
        raise file.damaged_image_error(error) from error
    if pixels.dtype.kind == "f" and np.isinf(pixels).any():
        raise file.error("the image holds infinite values, expected finite ones, or NaN for no data: export it again")
    return np.ascontiguousarray(pixels), warnings


def _decode_common(header: Header, spec: InputSpec) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Decode a file that Pillow knows, of 8 bits or, where it is PNG or PNM, 16."""
    check_end(header.file)
    if (stored := pnm_values(header)) is not None:
        max_value, full = int(header.coding[1][1]), int(spec.unit)
        if max_value != full:
            stored = ((stored.astype(np.uint32) * full + max_value // 2) // max_value).astype(spec.dtype)
        return stored.reshape(*stored.shape[:2], len(spec)), ()
    if spec.dtype == "uint16" and not header.image.mode.startswith("I"):  # Pillow decodes the upper 8 bits only
        pixels = cv2.imdecode(np.frombuffer(header.file.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype != np.uint16:
            raise header.file.error("the image's 16-bit colours cannot be decoded: export it again as a PNG")
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape[2] >= 3:
            pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
        return _over_white(_upright(pixels, header.turn), len(spec), 65535)
    image = decode(header)
    if not header.alpha:
        values = np.asarray(
            image if image.mode in ("L", "RGB") or image.mode.startswith("I") else image.convert("L" if len(spec) == 1 else "RGB")
        )
        if values.dtype not in (np.uint8, np.uint16):  # Pillow's 32-bit integers
            if values.min() < 0 or values.max() > 65535:
                raise header.file.error(
                    f"the image holds values from {values.min()} to {values.max()}, expected 0 to 65535: export it again"
                )
            values = values.astype(np.uint16)
        return values.reshape(*values.shape[:2], len(spec)), ()
    return _over_white(np.asarray(image.convert("LA" if len(spec) == 1 else "RGBA")), len(spec), 255)


def _over_white(
    pixels: npt.NDArray[Any], bands: int, white: int, *, premultiplied: bool = False
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Lay colours with transparency in their last channel over white; grey may be repeated in three channels."""
    if pixels.shape[2] == bands:
        return pixels, ()
    colours = pixels[..., [0] if bands == 1 else [0, 1, 2]].astype(np.uint64)
    if pixels.shape[2] not in (2, 4):
        return colours.astype(pixels.dtype), ()
    alpha = pixels[..., -1:].astype(np.uint64)
    laid = colours + (white - alpha) if premultiplied else (colours * alpha + white * (white - alpha) + white // 2) // white
    laid = np.minimum(laid, white)
    return laid.astype(pixels.dtype), (ALPHA_WARNING,) if int(alpha.min()) < white else ()


def _upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Apply an EXIF orientation to (H, W, C)."""
    if orientation not in EXIF_TRANSPOSE:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)  # 5 is that alone
    down, across = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def _check_size(file: EncodedImage, height: int, width: int, bands: int, itemsize: int) -> None:
    if min(height, width, bands) < 1:
        raise file.error(f"the image has {height}×{width} pixels of {bands} bands, expected at least one of each")
    if bands > MAX_BANDS:
        raise file.error(f"the image has {bands} bands, expected at most {MAX_BANDS}: extract those that are meant")
    if height * width > MAX_PIXELS or height * width * bands * itemsize > MAX_BYTES:
        raise file.error(
            f"the image has {height}×{width} pixels of {bands} bands, {height * width * bands * itemsize} bytes, expected at most "
            f"{MAX_PIXELS} pixels and {MAX_BYTES} bytes: divide it into tiles"
        )
    if height * width * bands * itemsize > max(_SMALL, _MAX_RATIO * len(file.data)):
        raise file.error(
            f"the file has {len(file.data)} bytes for {height}×{width} pixels of {bands} bands, which no compression would: it is damaged"
        )


def _open_tiff(file: EncodedImage, tags: TiffTags) -> StoredBands:
    dtype = _type_of(tags)
    if dtype is None:
        raise file.error(
            f"the TIFF has {tags}, which is not read, expected up to 32 bits, or floating-point: export it as 16-bit or float32"
        )
    stacked = tags.pages > 1
    data = tags.bands - tags.has_alpha
    bands = data * tags.pages
    height, width = tags.size
    _check_size(file, height, width, bands, 4 if dtype == "float32" else 2)
    names = ["red", "green", "blue"] if tags.photometric in (2, 6) and data >= 3 and not stacked else []
    spec = InputSpec((*names, *(f"band {number}" for number in range(len(names) + 1, bands + 1))), dtype)
    size = (width, height) if tags.orientation >= 5 else (height, width)
    return StoredBands(size, tags.orientation, spec, lambda: _guarded(file, lambda: _decode_tiff(file, tags, spec)))


def _type_of(tags: TiffTags) -> DType | None:
    """Return the type that a TIFF's values are read as; None where they are not read."""
    bits = max(tags.bits)
    if tags.kind == 1 and bits <= 8 and tags.photometric not in (5, 8):
        return "uint8"
    if tags.kind == 1 and bits <= 16 and tags.photometric != 3:
        return "uint16"
    if (tags.kind in (1, 2) and bits <= 32) or (tags.kind == 3 and bits in (16, 32, 64)):
        return "float32"
    return None


def _decode_tiff(file: EncodedImage, tags: TiffTags, spec: InputSpec) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it prints what it finds wrong where nobody has set up logging
    refuse_tags_beyond(file, tags)
    planes = []
    with tifffile.TiffFile(io.BytesIO(file.data), _multifile=False) as tiff:
        for offset in tags.offsets:
            tiff.filehandle.seek(offset)  # page by page: tifffile's own list follows every directory of a damaged file
            page = tifffile.TiffPage(tiff, index=0)
            if page.shape[-2:] != tags.size and page.shape[:2] != tags.size:
                raise file.error(
                    f"the TIFF's pages differ in size ({tags.size[0]}×{tags.size[1]} and {page.shape}), expected the same for all, which "
                    "are taken for bands: write each page to a file of its own"
                )
            values = page.asarray()
            values = values[..., None] if values.ndim == 2 else np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
            if values.ndim != 3 or values.shape[:2] != tags.size or values.shape[2] != tags.bands:
                raise file.error(f"the TIFF's values are arranged as {page.axes}, expected rows, columns and bands: export it again")
            if tags.photometric == 0 and values.dtype.kind == "u":
                values = np.asarray(2 ** max(tags.bits) - 1 - values, values.dtype)
            planes.append(_without_nodata(page, values, spec))
    pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    warnings: tuple[str, ...] = ()
    if tags.has_alpha:
        white = 1 if spec.dtype == "float32" else 2 ** max(tags.bits) - 1
        pixels, warnings = (
            _over_white(pixels, len(spec), white, premultiplied=tags.extra[:1] == (1,)) if white > 1 else (pixels[..., :-1], ())
        )
    return _upright(pixels, tags.orientation), warnings


def _without_nodata(page: Any, values: npt.NDArray[Any], spec: InputSpec) -> npt.NDArray[Any]:
    """Return values of the spec's type; of floating-point ones those that a tag declares as no data are NaN."""
    converted = np.asarray(values, spec.dtype)
    tag = page.tags.get(_NODATA)
    if tag is None or spec.dtype != "float32":
        return converted
    try:
        declared = float(str(tag.value).strip("\0 "))
    except ValueError:
        return converted
    if math.isnan(declared):
        return converted
    missing = values == np.asarray(declared).astype(values.dtype)
    return np.where(missing, np.float32(np.nan), converted)


def _open_npy(file: EncodedImage) -> StoredBands:
    stream = io.BytesIO(file.data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:
        raise file.damaged_image_error(error) from error
    begin = stream.tell()
    described = f"the array has shape {shape} and type {dtype}"
    if dtype.hasobject or dtype.kind not in "uifb" or dtype.itemsize > 8:
        raise file.error(f"{described}, expected numbers")
    if len(shape) not in (2, 3):
        raise file.error(f"{described}, expected (H, W) or (H, W, bands)")
    height, width, bands = (*shape, 1)[:3]
    if bands > MAX_BANDS and shape[0] <= MAX_BANDS:
        raise file.error(f"{described}, expected bands last, (H, W, bands): save np.moveaxis(array, 0, 2)")
    kind: DType = "uint8" if dtype == np.uint8 or dtype == np.bool_ else "uint16" if dtype == np.uint16 else "float32"
    _check_size(file, height, width, bands, max(dtype.itemsize, 4))
    if len(file.data) - begin < math.prod(shape) * dtype.itemsize:
        raise file.error(f"the array is truncated ({len(file.data) - begin} bytes for {math.prod(shape)} values): copy or save it again")

    def decoded() -> tuple[npt.NDArray[Any], tuple[str, ...]]:
        values = np.frombuffer(file.data, dtype, math.prod(shape), begin).reshape(shape, order="F" if fortran else "C")
        return np.asarray(values.reshape(height, width, bands), kind), ()

    spec = InputSpec(dtype=kind) if bands == 3 and kind != "float32" else InputSpec.unnamed(bands, kind)
    return StoredBands((height, width), 1, spec, lambda: _guarded(file, decoded))
