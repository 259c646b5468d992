"""Read the headers of untrusted image files: their format, size and bands, before a pixel is decoded.

Only :data:`FORMATS` are opened, by content and not by name: Pillow knows others, some of which
run programs. Damage of any kind is an error of one line, and so is what a decoder would misread
or never finish: several pages or frames, bands whose meaning no tag gives, more blocks or scans
than any program writes.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from upscore.data.encoded_image import EncodedImage
from upscore.data.structure import check_structure
from upscore.data.tiff import TiffTags, is_tiff, read_tiff_tags, refuse_other_bands, unreadable_tiff_error

__all__ = ["EXIF_TRANSPOSE", "FORMATS", "IMAGE_SUFFIXES", "JPEG_FORMATS", "MAX_PIXELS", "Header", "decode", "open_header"]

MAX_PIXELS = 2**27
"""The largest image that is decoded, in pixels (11585 × 11585); larger ones are refused."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of the formats that are opened."""

JPEG_FORMATS = ("JPEG", "MPO")
"""Pillow's names of JPEG files: MPO is one that holds further images."""

_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg")

IMAGE_SUFFIXES = (*_JPEG_SUFFIXES, ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".npy")
"""File name endings, in lower case, of the images of a folder."""

EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image of each EXIF orientation upright; 1 already is."""

_PLUGINS = (TiffImagePlugin, WebPImagePlugin)  # imported to be known: Pillow loads only some formats by itself
_MAX_RLE_BYTES = 2**24  # of a run-length BMP, which Pillow decodes in Python, a run at a time
_ORIENTATION = 0x0112  # EXIF's tag
_warnings_lock = threading.Lock()  # catch_warnings swaps a process-wide list


@dataclass(frozen=True)
class Header:
    """The header of an image file."""

    file: EncodedImage
    image: Image.Image  #: not decoded
    turn: int  #: the EXIF orientation that decode() has to apply, 1 to 8; Pillow applies a TIFF's itself
    orientation: int  #: the file's EXIF orientation, 1 to 8; 1 is upright
    coding: tuple[str, tuple[Any, ...]]  #: the name of Pillow's decoder and its arguments, the arrangement of the bits first
    alpha: bool  #: whether there is an alpha channel, or a colour that is transparent
    tiff: TiffTags | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        width, height = self.image.size
        return (width, height) if self.turn >= 5 else (height, width)

    @property
    def bits(self) -> int:
        """Bits of a stored value, also where Pillow decodes only the upper 8 of 16."""
        decoder, (form, *rest) = self.coding
        if self.tiff is not None:
            return max(self.tiff.bits)
        if decoder.startswith("ppm"):
            return 16 if rest and int(rest[0]) > 255 else 8
        return 16 if ";16" in str(form) and not str(form).startswith("BGR") else 32 if self.image.mode == "F" else 8


def open_header(file: EncodedImage) -> Header:
    """Read the header of an image file.

    Raises
    ------
    DataError
        It is no image, is too large, is damaged, holds several pages or frames, has bands
        whose meaning is not declared, or would occupy a decoder for minutes.
    """
    limit = f"expected at most {MAX_PIXELS} pixels: divide it into tiles"
    frames = check_structure(file)
    tags = read_tiff_tags(file) if is_tiff(file.data) else None
    if tags is not None:
        refuse_other_bands(file, tags)
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit has a better message, and doubtful tags do not matter
        try:
            image = Image.open(io.BytesIO(file.data), formats=FORMATS)
            if tags is not None and tags.index:
                image.seek(tags.index)
        except Image.DecompressionBombError as error:
            raise file.error(f"the image is far too large ({error}), {limit}") from error
        except UnidentifiedImageError:
            if tags is not None and tags.pages:
                raise unreadable_tiff_error(file, tags) from None
            raise file.error(f"not an image that can be read, expected one of {', '.join(FORMATS)}") from None
        except Exception as error:  # damaged headers raise nearly anything
            raise file.damaged_image_error(error) from error
        orientation = tags.orientation if tags is not None else 1
        # Pillow turns TIFFs itself, and would decode a whole PNG to find a tag behind the pixels.
        if tags is None and not (image.format == "PNG" and "exif" not in image.info):
            with contextlib.suppress(Exception):  # a damaged tag does not make the image unreadable
                orientation = int(image.getexif().get(_ORIENTATION, 1))
    orientation = orientation if orientation in EXIF_TRANSPOSE else 1
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise file.error(f"the image has {height}×{width} = {height * width} pixels, {limit}")
    if width * height == 0:
        raise file.error(f"the image has {height}×{width} pixels, expected at least one")
    if image.format == "WEBP":
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise file.error(
            f"the {image.format} is an animation of {frames} frames, expected one image: "
            "write the frame that is meant to a file of its own, for example with ImageMagick's 'magick in.gif[0] frame.png'"
        )
    alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    header = Header(file, image, orientation if tags is None else 1, orientation, _coding(image), alpha, tags)
    if header.coding[0] == "bmp_rle" and len(file.data) > _MAX_RLE_BYTES:
        raise file.error(f"the run-length BMP has {len(file.data)} bytes, expected at most {_MAX_RLE_BYTES}: save it as a PNG")
    return header


def _coding(image: Image.Image) -> tuple[str, tuple[Any, ...]]:
    tiles: Any = getattr(image, "tile", None)
    if not tiles:
        return "", ("",)
    arguments = tiles[0][3]
    return str(tiles[0][0]), arguments if isinstance(arguments, tuple) and arguments else (arguments,)


def decode(header: Header) -> Image.Image:
    """Decode the pixels and turn them upright."""
    header.image.load()
    return header.image if header.turn == 1 else header.image.transpose(EXIF_TRANSPOSE[header.turn])
