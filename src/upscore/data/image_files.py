"""Images and masks, read from untrusted files and written so that nothing is ever half there.

Decoding is OpenCV for JPEG, for speed, and Pillow for everything else: OpenCV turns the
indices of a palette PNG, which are what a mask is made of, into colours.

Sizes are read from the header and evaluated before a single pixel is decoded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.headers import EXIF_TRANSPOSE, MAX_PIXELS, Header, damaged_image_error, decode, open_header, read_bytes
from upscore.data.pnm import MAX_PLAIN, read_pnm
from upscore.errors import DataError
from upscore.files import write_atomically
from upscore.types import IGNORE, LabelSpace, voc_palette

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "DecodedImage",
    "DecodedMask",
    "ImageFacts",
    "check_image",
    "decode_image",
    "inspect_image",
    "read_image",
    "read_image_with_metadata",
    "read_instances",
    "read_label",
    "read_mask",
    "write_image",
    "write_label_map",
]

_JPEG = ("JPEG", "MPO")
_BLOCK = 2**22  # pixels that are worked on at a time

_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg")

IMAGE_SUFFIXES = (*_JPEG_SUFFIXES, ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
"""File name endings, in lower case, that are taken for images when a folder is searched."""

DARK_BELOW = 2**14
"""An image of more than 8 bits whose greatest value is below this, and not 0, gets a warning: it comes out in the darkest quarter."""

ALPHA_WARNING = "alpha channel taken for transparency over white; if it holds data, such as near infrared, save the image without it"
BAND_WARNING = "fourth band left out, since no tag says that it is transparency; red, green and blue are read"
DARK_WARNING = (
    f"all values below {DARK_BELOW} of 65535, as when 10, 12 or 14 bits are stored in 16, so read as nearly black; "
    "multiply the values of all images by one factor (64, 16 or 4) and save them again"
)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image that was read, and what its reader decided.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
        RGB, upright.
    orientation : int
        The file's EXIF orientation, 1 to 8; 1 is upright as stored.
    warnings : tuple of str
        What its user should know of how it was read; mostly nothing.
    """

    pixels: npt.NDArray[np.uint8]
    orientation: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DecodedMask:
    """A mask that was read.

    Parameters
    ----------
    label : (H, W) uint8
        Stored values; with a mapping, classes or 255.
    orientation : int
        As of :class:`DecodedImage`.
    unnamed : tuple of int
        Stored values that the mapping does not name and that became 255; none without a mapping.
    palette : bytes
        Red, green and blue of each number from 0, where the file gives its numbers colours; else empty.
    """

    label: npt.NDArray[np.uint8]
    orientation: int
    unnamed: tuple[int, ...] = ()
    palette: bytes = b""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without decoding it.

    Parameters
    ----------
    size : (int, int)
        Height and width, upright.
    orientation : int
        As of :class:`DecodedImage`.
    warnings : tuple of str
        As of :class:`DecodedImage`, where the header says it.
    """

    size: tuple[int, int]
    orientation: int
    warnings: tuple[str, ...] = ()


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image as upright RGB.

    EXIF orientation is applied. Grey is repeated in the three channels; 16-bit grey is
    scaled from its full range (``v / 257``, rounded) and 16-bit colour keeps its upper
    eight bits; palette, CMYK and the like become RGB; transparency is laid over white; a
    TIFF's fourth band that no tag says is transparency is left out.
    :func:`read_image_with_metadata` also says what of this should be known.

    Parameters
    ----------
    path : path
        A JPEG, PNG, BMP, GIF, TIFF, WebP or PNM file.

    Returns
    -------
    (H, W, 3) uint8
        RGB, C-contiguous.

    Raises
    ------
    DataError
        The file is missing, empty, no image, damaged, cut short, holds floating-point
        values, several pages or frames, or other bands beyond grey or RGB that no tag says
        are transparency; or it has more than :data:`MAX_PIXELS` pixels.
    """
    return read_image_with_metadata(path).pixels


def decode_image(data: bytes, *, name: str = "image") -> npt.NDArray[np.uint8]:
    """Do what :func:`read_image` does with a file's content; errors call it ``name``."""
    return _decode_image(data, name).pixels


def read_image_with_metadata(path: str | os.PathLike[str]) -> DecodedImage:
    """Do what :func:`read_image` does; return also the EXIF orientation and what should be known of the reading."""
    return _decode_image(read_bytes(Path(path)), os.fspath(path))


def read_label(path: str | os.PathLike[str], *, mapping: Mapping[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Read a mask as class indices: the stored numbers, never colours.

    Palette and grey masks give their values, two-tone ones 0 and 1, 16- and 32-bit ones
    their values where none is above 255, floating-point ones their values where all are
    whole, and colour masks whose three channels agree one of them.

    Parameters
    ----------
    path : path
        A PNG, or any other format of :func:`read_image` that loses nothing.
    mapping : dict of int to int, optional
        Class of each stored value, which may be any 32-bit number, signed or not: 255 or
        -1, and every value from 0 to 255 that is not named, is ignored.

    Returns
    -------
    (H, W) uint8
        Stored values; with ``mapping`` classes. C-contiguous.

    Raises
    ------
    DataError
        As :func:`read_image`; also a mask made of colours, one whose transparency
        varies, one with values outside 0 to 255 that the mapping does not name, one with
        fractions, and one saved as JPEG or lossy WebP, which invent values along every
        edge (one of a single value passes).
    """
    return read_mask(path, mapping=mapping).label


def read_mask(path: str | os.PathLike[str], *, mapping: Mapping[int, int] | None = None) -> DecodedMask:
    """Do what :func:`read_label` does; return also the EXIF orientation, the palette and the values that the mapping does not name."""
    path = Path(path)
    pixels, header, lossy, palette = _read_numbers(path)
    if lossy and pixels.min() != pixels.max():
        found = len(_colours(pixels)[0]) if pixels.ndim == 3 else len(np.unique(pixels))
        raise DataError(
            f"{path}: a {lossy} mask cannot hold class indices: compression invents values along every edge "
            f"({found} values found): export the masks as PNG"
        )
    if pixels.ndim == 3:
        pixels = _one_channel(path, pixels)
    label, unnamed = _to_bytes(path, pixels, mapping)
    return DecodedMask(label, header.orientation, unnamed, palette)


def read_instances(path: str | os.PathLike[str]) -> npt.NDArray[np.int32]:
    """Read a mask of object numbers; 0 is no object.

    Parameters
    ----------
    path : path
        As for :func:`read_label`, up to 32 bits deep.

    Returns
    -------
    (H, W) int32

    Raises
    ------
    DataError
        As :func:`read_label`, but all values of 32 signed bits are welcome.
    """
    path = Path(path)
    pixels, *_ = _read_numbers(path)
    if pixels.ndim == 3:
        pixels = _one_channel(path, pixels)
    if pixels.dtype.itemsize == 4:
        low, high = _whole_range(path, pixels)
        if low < -(2**31) or high >= 2**31:
            raise DataError(f"{path}: the mask holds object numbers from {low} to {high}, expected at most 31 bits: export it again")
    return np.ascontiguousarray(pixels, np.int32)


def check_image(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return ``(H, W)`` of the upright image, after making sure that the file was not cut short.

    Nothing is decoded: JPEGs must have their end marker and PNGs their last chunk, which is
    what an interrupted copy lacks.

    Raises
    ------
    DataError
        As :func:`read_image`, where it can be known without decoding.
    """
    return inspect_image(path).size


def inspect_image(path: str | os.PathLike[str], *, values: bool = False) -> ImageFacts:
    """Do what :func:`check_image` does; return also the EXIF orientation and what the header says should be known.

    Parameters
    ----------
    path : path
        As for :func:`read_image`.
    values : bool
        Decode an image of more than 8 bits too, to know whether it comes out dark.
    """
    data = read_bytes(Path(path))
    header = open_header(os.fspath(path), data)
    _check_end(os.fspath(path), header.image.format, data)
    if values and header.bits > 8:
        return ImageFacts(header.size, header.orientation, _decode_image(data, os.fspath(path)).warnings)
    return ImageFacts(header.size, header.orientation, (*_band_warnings(header), *((ALPHA_WARNING,) if header.alpha else ())))


def write_label_map(path: str | os.PathLike[str], label_map: npt.NDArray[np.uint8], labels: LabelSpace) -> None:
    """Write a label map as an 8-bit palette PNG: its pixels are indices, and it looks like its colours.

    The file appears whole or not at all; folders on the way are made.

    Parameters
    ----------
    path : path
        Where to; a file already there is replaced.
    label_map : (H, W) uint8
        Class of each pixel, or 255.
    labels : LabelSpace
        Gives the palette, the ignored label's colour included.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    assert label_map.ndim == 2
    assert label_map.dtype == np.uint8
    image = Image.fromarray(np.ascontiguousarray(label_map)).convert("L")
    image.putpalette(labels.colours().tobytes())
    _write_png(Path(path), image)


def write_image(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
    """Write ``image``, (H, W, 3) uint8 RGB, as a PNG; like :func:`write_label_map` in all else."""
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    _write_png(Path(path), Image.fromarray(np.ascontiguousarray(image)))


def _check_end(name: str, kind: str | None, data: bytes) -> None:
    """Refuse a JPEG or PNG whose end is missing."""
    if kind in _JPEG and not _is_complete(data):
        raise DataError(f"{name}: the JPEG is cut short (it has no end marker): copy or export it again")
    if kind == "PNG" and b"IEND" not in data:
        raise DataError(f"{name}: the PNG is cut short (its last chunk is missing): copy or export it again")


def _is_complete(data: bytes) -> bool:
    """Whether an end marker follows the first scan of a JPEG.

    Without it decoders may fill what is missing with grey or noise and say nothing. A
    thumbnail among the segments before the scan has an end marker of its own, so these
    are walked over; anything may come after the end.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def _decode_image(data: bytes, name: str) -> DecodedImage:
    header = open_header(name, data)
    image = header.image
    _check_end(name, image.format, data)
    try:
        if image.format in _JPEG and image.mode in ("L", "RGB"):  # CMYK is Pillow's, which knows Adobe's inverted files
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is not None:
                pixels = pixels if header.turn == 1 else np.array(Image.fromarray(pixels).transpose(EXIF_TRANSPOSE[header.turn]))
                return DecodedImage(pixels, header.orientation)
        if (stored := _pnm_numbers(name, data, header)) is not None:
            return _scaled(stored, int(header.coding[1][1]))
        pixels, warnings = _as_rgb(name, header, decode(header))
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise damaged_image_error(name, error) from error
    return DecodedImage(pixels, header.orientation, warnings)


def _pnm_numbers(name: str, data: bytes, header: Header) -> npt.NDArray[np.uint8 | np.uint16] | None:
    """Return the numbers of a PNM file that Pillow would read slowly; none of any other file."""
    decoder, arguments = header.coding
    if decoder not in ("ppm", "ppm_plain"):
        return None
    width, height = header.image.size
    if len(arguments) < 2:  # a plain one of two tones
        if width * height > MAX_PLAIN or len(data) > 32 * width * height + 2**20:
            raise DataError(f"{name}: the file holds {width * height} pixels as text, expected at most {MAX_PLAIN}: save it as a PNG")
        return None
    shape = (height, width, 3) if header.image.mode == "RGB" else (height, width)
    begin = int(header.image.tile[0][2])  # type: ignore[attr-defined]
    return read_pnm(name, data, begin=begin, shape=shape, most=int(arguments[1]), plain=decoder == "ppm_plain")


def _scaled(stored: npt.NDArray[np.uint8 | np.uint16], most: int) -> DecodedImage:
    """Return numbers from 0 to ``most`` as an image."""
    table = np.rint(np.arange(most + 1) * (255 / most)).astype(np.uint8)
    pixels = np.empty((*stored.shape[:2], 3), np.uint8)
    flat, target = stored.reshape(-1, *stored.shape[2:]), pixels.reshape(-1, 3)
    for part in _parts(len(flat)):
        target[part] = table[flat[part]] if stored.ndim == 3 else table[flat[part]][:, None]
    return DecodedImage(pixels, 1)


def _as_rgb(name: str, header: Header, image: Image.Image) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return the upright image as RGB, made a block at a time, and what should be known of that."""
    if image.mode == "F":
        raise DataError(f"{name}: the image holds floating-point values, expected 8 or 16 bits: scale and export it again")
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    signed = header.tiff is not None and header.tiff.kind == 2 and image.mode == "L"
    deep = image.mode.startswith("I")
    declared = 4095 if header.tiff is not None and header.tiff.bits == (12,) else 65535
    inverted = deep and header.tiff is not None and header.tiff.photometric == 0  # Pillow inverts only up to 8 bits
    transparent = header.alpha
    low, high, hides = 0, 0, False
    for box in _boxes(image.width, image.height):
        part, place = image.crop(box), (slice(box[1], box[3]), slice(box[0], box[2]))
        if deep or signed:
            numbers = np.asarray(part) if deep else np.asarray(part).view(np.int8)
            low, high = min(low, int(numbers.min())), max(high, int(numbers.max()))
            numbers = np.clip(numbers, 0, declared).astype(np.uint32) if deep else np.maximum(numbers, 0)
            if inverted:
                numbers = declared - numbers
            pixels[place] = ((numbers * 255 + declared // 2) // declared if deep else numbers).astype(np.uint8)[..., None]
        elif transparent:
            straight = part.convert("LA") if part.mode == "La" else part
            layers = np.asarray(straight.convert("RGBA"))
            alpha = layers[..., 3:].astype(np.uint16)
            hides = hides or int(alpha.min()) < 255
            high = max(high, int(layers[..., :3].max()))
            pixels[place] = (layers[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255  # at most 255 × 255 + 127: 16 bits hold it
        else:
            pixels[place] = np.asarray(part.convert("RGB"))
            if header.bits > 8:
                high = max(high, int(pixels[place].max()))
    if low < 0 or high > declared:
        expected = "0 to 255" if signed else f"0 to {declared}"
        raise DataError(f"{name}: the image holds values from {low} to {high}, expected {expected}: scale and export it again")
    reach = high if deep else high * 257
    dark = header.bits > 8 and declared == 65535 and 0 < reach < DARK_BELOW
    return pixels, (*_band_warnings(header), *((ALPHA_WARNING,) if hides else ()), *((DARK_WARNING,) if dark else ()))


def _band_warnings(header: Header) -> tuple[str, ...]:
    return (BAND_WARNING,) if header.tiff is not None and header.tiff.band_left_out else ()


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left, top, right, bottom) of blocks of at most ``_BLOCK`` pixels that cover an image."""
    across = min(width, _BLOCK)
    down = max(1, _BLOCK // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def _parts(count: int) -> Iterator[slice]:
    """Yield slices of at most ``_BLOCK`` that cover ``count`` pixels."""
    for begin in range(0, count, _BLOCK):
        yield slice(begin, min(begin + _BLOCK, count))


def _read_numbers(path: Path) -> tuple[npt.NDArray[Any], Header, str, bytes]:
    """Decode a mask; return its numbers, colours in a third axis, its header, the format's name where it loses detail, and the palette."""
    data = read_bytes(path)
    header = open_header(str(path), data)
    if header.tiff is not None and header.tiff.band_left_out:
        raise DataError(f"{path}: the mask has {header.tiff}, expected one band: keep that ('gdal_translate -b 1 in.tif out.tif')")
    stretch = _stretch(header)
    lossy = "JPEG" if header.image.format in _JPEG else "lossy WebP" if data[:4] == b"RIFF" and data[12:16] == b"VP8 " else ""
    try:
        numbers = _pnm_numbers(str(path), data, header)
        if numbers is not None:
            return numbers, header, lossy, b""
        upright = decode(header)
        if upright.mode == "La":
            upright = upright.convert("LA")
        if upright.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "F") and not upright.mode.startswith("I"):
            upright = upright.convert("RGB")
        if header.bits > 8 and upright.mode in ("RGB", "RGBA", "LA"):
            raise DataError(f"{path}: a mask of {header.bits}-bit colours, of which the lower bits are lost: export it as an 8-bit PNG")
        pixels = np.asarray(upright)
        palette = bytes(upright.getpalette() or ()) if upright.mode == "P" else b""
    except DataError:
        raise
    except Exception as error:
        raise damaged_image_error(str(path), error) from error
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8), header, lossy, palette
    pixels = pixels if stretch == 1 else pixels // stretch
    tags = header.tiff
    if tags is not None and tags.photometric == 0 and upright.mode == "L":  # white is zero: Pillow shows it so, the number is another
        pixels = (2 ** tags.bits[0] - 1) - pixels
    if tags is not None and upright.mode in ("L", "I"):
        pixels = pixels.view({(2, 8): np.int8, (1, 32): np.uint32}.get((tags.kind, tags.bits[0]), pixels.dtype))
    return pixels, header, lossy, palette


def _stretch(header: Header) -> int:
    """Return what Pillow multiplies 2- and 4-bit grey by when it decodes, so that it spans 0 to 255."""
    return {"L;2": 85, "L;4": 17}.get(str(header.coding[1][0])[:3], 1)


def _whole_range(path: Path, pixels: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the least and the greatest number of a mask, after making sure that all are whole."""
    if pixels.dtype.kind == "f":
        for part in _flat_parts(pixels):
            odd = part[~(np.isfinite(part) & (part == np.rint(part)))]
            if odd.size:
                raise DataError(f"{path}: the mask holds {odd[0]}, expected whole numbers: export it as an 8-bit PNG of class indices")
    return int(pixels.min()), int(pixels.max())


def _flat_parts(pixels: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    flat = pixels.reshape(-1, *pixels.shape[2:])
    for part in _parts(len(flat)):
        yield flat[part]


def _to_bytes(path: Path, pixels: npt.NDArray[Any], mapping: Mapping[int, int] | None) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
    """Return a mask's numbers as bytes, or what a mapping makes of them; and the bytes that it does not name."""
    if mapping is None and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels), ()
    low, high = _whole_range(path, pixels)
    if mapping is None:
        if low < 0 or high > IGNORE:
            raise DataError(
                f"{path}: the mask holds values from {low} to {high}, expected class indices 0 to 254 and 255 for ignored: "
                f"name every value in label_mapping, which may send {low if low < 0 else high} to 255 to ignore it"
            )
        return np.ascontiguousarray(pixels, np.uint8), ()
    keys = np.array(sorted(mapping), np.int64)
    classes = np.array([IGNORE if mapping[int(key)] == -1 else mapping[int(key)] for key in keys], np.uint8)
    label = np.empty(pixels.shape, np.uint8)
    target, unnamed, begin = label.reshape(-1), set[int](), 0
    for part in _flat_parts(pixels):
        numbers = part.astype(np.int64)
        place = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
        named = keys[place] == numbers
        target[begin : begin + len(part)] = np.where(named, classes[place], np.uint8(IGNORE))
        if not named.all():
            unnamed.update(np.unique(numbers[~named])[:1000].tolist())
        begin += len(part)
    wide = sorted(value for value in unnamed if not 0 <= value <= IGNORE)
    if wide:
        shown = ", ".join(map(str, wide[:3])) + (f" and {len(wide) - 3} more" if len(wide) > 3 else "")
        raise DataError(
            f"{path}: the mask holds {shown}, which label_mapping does not name: name every value outside 0 to 255, "
            f"as {{{wide[0]}: 255}} to ignore it"
        )
    return label, tuple(sorted(unnamed))


def _colours(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the colours of (H, W, 3) as numbers, 65536 R + 256 G + B, and how many pixels have each."""
    counts = np.zeros(2**24, np.int64)
    for part in _flat_parts(pixels):
        found, times = np.unique(part.astype(np.int64) @ np.array([65536, 256, 1]), return_counts=True)
        counts[found] += times
    found = np.flatnonzero(counts)
    return found, counts[found]


def _one_channel(path: Path, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the one channel that carries the indices of a colour or transparent mask, or say why there is none."""
    if pixels.shape[2] in (2, 4):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if alpha.min() != alpha.max():
            raise DataError(f"{path}: the mask's transparency varies, so its values are ambiguous: export it without an alpha channel")
    if pixels.shape[2] == 1 or all((part[:, 0] == part[:, 1]).all() and (part[:, 1] == part[:, 2]).all() for part in _flat_parts(pixels)):
        return pixels[..., 0]
    found, counts = _colours(pixels)
    order = np.argsort(-counts, kind="stable")
    colours = [(int(code >> 16), int(code >> 8 & 255), int(code & 255)) for code in found[order]]
    shown = ", ".join(f"{colour}: {count} px" for colour, count in zip(colours[:6], counts[order], strict=False))
    more = f", and {len(colours) - 6} more" if len(colours) > 6 else ""
    if set(colours) <= {*voc_palette(21), (224, 224, 192)}:
        hint = "they are PASCAL VOC's palette saved as RGB: convert each colour back to its index and save 8-bit PNGs"
    else:
        hint = "convert each colour to its class's index and save 8-bit PNGs"
    raise DataError(f"{path}: a colour mask where indices are expected, {len(colours)} colours ({shown}{more}): {hint}")


def _write_png(path: Path, image: Image.Image) -> None:
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=4)
    write_atomically(path, encoded.getvalue())
