"""Read images from untrusted files, upright: as RGB of 8 bits, or as the bands that a network takes.

RGB is what every common file can be read as. Decoding is then OpenCV for JPEG, for speed, and Pillow for everything
else: OpenCV turns the indices of a palette PNG, which masks are made of, into colours. Other bands are read as they are
stored (:mod:`upscore.data.stored_bands`). Sizes are read from the header and checked before a pixel is decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import EXIF_TRANSPOSE, JPEG_FORMATS, Header, decode, open_header
from upscore.data.pixel_blocks import boxes, slices
from upscore.data.pnm import pnm_values
from upscore.data.stored_bands import ALPHA_WARNING, StoredBands, is_npy, open_stored_bands
from upscore.data.structure import check_end
from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec
from upscore.input_spec import Image as Bands

__all__ = [
    "ALPHA_WARNING",
    "DecodedImage",
    "ImageFacts",
    "StoredImage",
    "check_image",
    "decode_image",
    "find_stored_input",
    "inspect_image",
    "read_image",
    "read_image_with_metadata",
    "read_stored_image",
]

DARK_BELOW = 2**14
"""An image of more than 8 bits whose largest value is below this, and not 0, gets a warning: it is decoded to the darkest quarter."""

DARK_WARNING = (
    f"all values below {DARK_BELOW} of 65535, as when 10, 12 or 14 bits are stored in 16, so read as nearly black; "
    "multiply the values of all images by one factor (64, 16 or 4) and save them again"
)


GREY = InputSpec.unnamed(1, "uint8")
"""How grey images of 8 bits are stored; they are read as RGB, and may be mixed with it."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image, with its EXIF orientation and what a user should know about its decoding."""

    pixels: Bands  #: (H, W, C), upright; RGB of 8 bits where no other bands were asked for
    orientation: int  #: the file's EXIF orientation, 1 to 8; 1 is upright as stored
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image, and what its file declares of its bands."""

    decoded: DecodedImage
    spec: InputSpec  #: RGB for grey and colour images of 8 bits


@dataclass(frozen=True)
class ImageFacts:
    """What is known from the header of an image."""

    size: tuple[int, int]  #: height and width, upright
    orientation: int  #: as in DecodedImage
    warnings: tuple[str, ...] = ()  #: as far as the header shows


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image as upright RGB.

    EXIF orientation is applied. Grey is repeated in the three channels; 16-bit grey is
    scaled from its full range (``v / 257``, rounded) and 16-bit colour is reduced to its
    upper eight bits; palette, CMYK and the like become RGB; transparency is laid over white. Warnings of these:
    :func:`read_image_with_metadata`.

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
        The file is missing, empty, no image, damaged, truncated, holds floating-point
        values, several pages or frames, or other bands beyond grey or RGB that no tag
        declares as transparency; or it has more than :data:`~upscore.data.headers.MAX_PIXELS` pixels.
    """
    return np.asarray(read_image_with_metadata(path).pixels, np.uint8)


def decode_image(data: bytes, *, name: str = "image") -> npt.NDArray[np.uint8]:
    """Do what :func:`read_image` does with a file's content; errors call it ``name``."""
    return np.asarray(_decode_rgb(EncodedImage(name, data)).pixels, np.uint8)


def read_image_with_metadata(path: str | os.PathLike[str], spec: InputSpec = RGB) -> DecodedImage:
    """Read an image, its EXIF orientation and warnings: as :func:`read_image` does, or where ``spec`` is not RGB of 8 bits as its bands.

    A DataError is raised as by :func:`read_image` and :func:`~upscore.data.stored_bands.open_stored_bands`, and where the file's bands
    are not those of ``spec``.
    """
    file = EncodedImage.read(Path(path))
    if spec.is_rgb:
        return _decode_rgb(file)
    stored = _stored_as(file, spec)
    pixels, warnings = stored.decode()
    return DecodedImage(pixels, stored.orientation, warnings)


def read_stored_image(path: str | os.PathLike[str]) -> StoredImage:
    """Read an image and find its bands, from one reading of its file: as RGB where :func:`find_stored_input` returns that.

    A DataError is raised as by :func:`read_image` and :func:`~upscore.data.stored_bands.open_stored_bands`.
    """
    file = EncodedImage.read(Path(path))
    stored = open_stored_bands(file)
    if stored.spec == GREY or stored.spec.is_rgb:
        return StoredImage(_decode_rgb(file), RGB)
    pixels, warnings = stored.decode()
    return StoredImage(DecodedImage(pixels, stored.orientation, warnings), stored.spec)


def find_stored_input(path: str | os.PathLike[str]) -> InputSpec:
    """Return the bands of an image as they are stored, with their type; RGB for grey and colour images of 8 bits.

    Only the header is read; errors are those of :func:`~upscore.data.stored_bands.open_stored_bands`.
    """
    found = open_stored_bands(EncodedImage.read(Path(path))).spec
    return RGB if found == GREY else found


def _stored_as(file: EncodedImage, spec: InputSpec) -> StoredBands:
    """Return a file's bands, which are those of ``spec``."""
    stored = open_stored_bands(file)
    if not spec.fits(stored.spec):
        raise file.error(
            f"the image has {stored.spec}, expected {spec}: a network takes images of the bands and the type that it was trained on; "
            "convert the image, or train on images like this one"
        )
    return stored


def check_image(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return ``(H, W)`` of the upright image, and check that the file is complete.

    Nothing is decoded: JPEGs must have their end marker and PNGs their last chunk, which an
    interrupted copy lacks.

    Raises
    ------
    DataError
        As :func:`read_image`, where it can be known without decoding.
    """
    return inspect_image(path).size


def _stored_as_rgb(file: EncodedImage) -> StoredBands:
    """Return an array's bands, where they are RGB or grey of 8 bits."""
    stored = open_stored_bands(file)
    return stored if stored.spec == GREY else _stored_as(file, RGB)


def inspect_image(path: str | os.PathLike[str], spec: InputSpec = RGB, *, values: bool = False) -> ImageFacts:
    """Do what :func:`check_image` does, for images of the bands of ``spec``; also return the EXIF orientation and the header's warnings.

    With ``values`` an image of more than 8 bits that is read as RGB is decoded too, for the warning about a dark one.
    """
    file = EncodedImage.read(Path(path))
    if not spec.is_rgb:
        stored = _stored_as(file, spec)
        check_end(file)
        return ImageFacts(stored.size, stored.orientation)
    if is_npy(file):
        return ImageFacts(_stored_as_rgb(file).size, 1)
    header = open_header(file)
    check_end(file)
    if values and header.bits > 8:
        return ImageFacts(header.size, header.orientation, _decode_rgb(file).warnings)
    return ImageFacts(header.size, header.orientation, (ALPHA_WARNING,) if header.alpha else ())


def _decode_rgb(file: EncodedImage) -> DecodedImage:
    if is_npy(file):
        pixels, warnings = _stored_as_rgb(file).decode()
        return DecodedImage(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), 1, warnings)
    header = open_header(file)
    image = header.image
    check_end(file)
    try:
        if image.format in JPEG_FORMATS and image.mode in ("L", "RGB"):  # not CMYK: Pillow knows Adobe's inverted files
            decoded = cv2.imdecode(np.frombuffer(file.data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if decoded is not None:
                rgb = np.asarray(decoded, np.uint8)
                rgb = rgb if header.turn == 1 else np.array(Image.fromarray(rgb).transpose(EXIF_TRANSPOSE[header.turn]))
                return DecodedImage(rgb, header.orientation)
        if (stored := pnm_values(header)) is not None:
            return _scaled(stored, int(header.coding[1][1]))
        pixels, warnings = _as_rgb(header, decode(header))
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise file.damaged_image_error(error) from error
    return DecodedImage(pixels, header.orientation, warnings)


def _scaled(stored: npt.NDArray[np.uint8 | np.uint16], max_value: int) -> DecodedImage:
    """Return values from 0 to ``max_value`` as an image."""
    table = np.rint(np.arange(max_value + 1) * (255 / max_value)).astype(np.uint8)
    pixels = np.empty((*stored.shape[:2], 3), np.uint8)
    flat, target = stored.reshape(-1, *stored.shape[2:]), pixels.reshape(-1, 3)
    for block in slices(len(flat)):
        target[block] = table[flat[block]] if stored.ndim == 3 else table[flat[block]][:, None]
    return DecodedImage(pixels, 1)


def _as_rgb(header: Header, image: Image.Image) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Convert the upright image to RGB, a block at a time; also return the warnings."""
    if image.mode == "F":
        raise header.file.error("the image holds floating-point values, expected 8 or 16 bits: scale and export it again")
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    signed = header.tiff is not None and header.tiff.kind == 2 and image.mode == "L"
    deep = image.mode.startswith("I")
    declared = 4095 if header.tiff is not None and header.tiff.bits == (12,) else 65535
    inverted = deep and header.tiff is not None and header.tiff.photometric == 0  # Pillow inverts only up to 8 bits
    low, high, translucent = 0, 0, False
    for box in boxes(image.width, image.height):
        part, block = image.crop(box), (slice(box[1], box[3]), slice(box[0], box[2]))
        if deep or signed:
            numbers = np.asarray(part) if deep else np.asarray(part).view(np.int8)
            low, high = min(low, int(numbers.min())), max(high, int(numbers.max()))
            numbers = np.clip(numbers, 0, declared).astype(np.uint32) if deep else np.maximum(numbers, 0)
            if inverted:
                numbers = declared - numbers
            pixels[block] = ((numbers * 255 + declared // 2) // declared if deep else numbers).astype(np.uint8)[..., None]
        elif header.alpha:
            straight = part.convert("LA") if part.mode == "La" else part
            layers = np.asarray(straight.convert("RGBA"))
            alpha = layers[..., 3:].astype(np.uint16)
            translucent = translucent or int(alpha.min()) < 255
            high = max(high, int(layers[..., :3].max()))
            pixels[block] = (layers[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255  # at most 255 × 255 + 127: 16 bits hold it
        else:
            pixels[block] = np.asarray(part.convert("RGB"))
            if header.bits > 8:
                high = max(high, int(pixels[block].max()))
    if low < 0 or high > declared:
        expected = "0 to 255" if signed else f"0 to {declared}"
        raise header.file.error(f"the image holds values from {low} to {high}, expected {expected}: scale and export it again")
    of_16_bits = high if deep else high * 257
    dark = header.bits > 8 and declared == 65535 and 0 < of_16_bits < DARK_BELOW
    return pixels, (*((ALPHA_WARNING,) if translucent else ()), *((DARK_WARNING,) if dark else ()))
