"""Pictures and masks, read from untrusted files and written so that nothing is ever half there.

Decoding is OpenCV for JPEG, for speed, and Pillow for everything else: OpenCV turns the
indices of a palette PNG, which are what a mask is made of, into colours.

Sizes are read from the header and judged before a single pixel is decoded.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.dataset import RawLabel
from upscore.data.headers import MAX_PIXELS, UPRIGHT, damaged, decode, open_header, read_bytes
from upscore.errors import DataError
from upscore.files import write_atomically
from upscore.types import LabelSpace, voc_palette

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "check_picture",
    "decode_picture",
    "read_instances",
    "read_label",
    "read_picture",
    "read_raw_label",
    "write_label_map",
    "write_picture",
]

_JPEG = ("JPEG", "MPO")

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
"""File name endings, in lower case, that are taken for pictures when a folder is searched."""


def read_picture(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a picture as upright RGB.

    EXIF orientation is applied. Grey is repeated in the three channels; 16-bit grey is
    scaled from its full range (``v / 257``, rounded) and 16-bit colour keeps its upper
    eight bits; palette, CMYK and the like become RGB; transparency is laid over white.
    Of an animation or a multi-page file the first picture is read.

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
        The file is missing, empty, no picture, damaged, cut short, holds floating-point
        values, or has more than :data:`MAX_PIXELS` pixels.
    """
    return decode_picture(read_bytes(Path(path)), name=os.fspath(path))


def decode_picture(data: bytes, *, name: str = "picture") -> npt.NDArray[np.uint8]:
    """Do what :func:`read_picture` does with a file's content; errors call it ``name``."""
    image, turn = open_header(name, io.BytesIO(data))
    _check_end(name, image.format, data)
    try:
        if image.format in _JPEG and image.mode in ("L", "RGB"):  # CMYK is Pillow's, which knows Adobe's inverted files
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is not None:
                return pixels if turn == 1 else np.array(Image.fromarray(pixels).transpose(UPRIGHT[turn]))
        return _as_rgb(name, decode(image, turn))
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise damaged(name, error) from error


def read_label(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a mask as class indices: the stored numbers, never colours.

    Palette and grey masks give their values, two-tone ones 0 and 1, 16- and 32-bit ones
    their values where none is above 255, and colour masks whose three channels agree
    one of them.

    Parameters
    ----------
    path : path
        A PNG, or any other format of :func:`read_picture` that loses nothing.

    Returns
    -------
    (H, W) uint8
        C-contiguous.

    Raises
    ------
    DataError
        As :func:`read_picture`; also a mask made of colours, one whose transparency
        varies, one with values outside 0 to 255, and one saved as JPEG or lossy WebP,
        which invent values along every edge (one of a single value passes).
    """
    return read_raw_label(path).values


def read_raw_label(path: str | os.PathLike[str]) -> RawLabel:
    """Do what :func:`read_label` does, and return the palette beside the numbers."""
    path = Path(path)
    pixels, lossy, palette = _read_numbers(path)
    if lossy and pixels.min() != pixels.max():
        found = np.unique(pixels.reshape(-1, *pixels.shape[2:]), axis=0)
        raise DataError(
            f"{path}: a {lossy} mask cannot hold class indices: compression invents values along every edge "
            f"({len(found)} values found): export the masks as PNG"
        )
    if pixels.ndim == 3:
        pixels = _one_channel(path, pixels)
    if pixels.dtype != np.uint8:
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 255:
            raise DataError(f"{path}: the mask holds values from {low} to {high}, expected class indices 0 to 254 and 255 for ignored")
        pixels = pixels.astype(np.uint8)
    return RawLabel(np.ascontiguousarray(pixels), palette)


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
        As :func:`read_label`, but values above 255 are welcome.
    """
    path = Path(path)
    pixels, _, _ = _read_numbers(path)
    if pixels.ndim == 3:
        pixels = _one_channel(path, pixels)
    return np.ascontiguousarray(pixels, np.int32)


def check_picture(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return ``(H, W)`` of the upright picture, after making sure that the file was not cut short.

    Nothing is decoded: JPEGs must have their end marker and PNGs their last chunk, which is
    what an interrupted copy lacks.

    Raises
    ------
    DataError
        As :func:`read_picture`, where it can be known without decoding.
    """
    data = read_bytes(Path(path))
    image, turn = open_header(os.fspath(path), io.BytesIO(data))
    _check_end(os.fspath(path), image.format, data)
    width, height = image.size
    return (width, height) if turn >= 5 else (height, width)


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


def write_picture(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
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


def _as_rgb(name: str, image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode == "F":
        raise DataError(f"{name}: the picture holds floating-point values, expected 8 or 16 bits: scale and export it again")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        low, high = int(deep.min()), int(deep.max())
        if low < 0 or high > 65535:
            raise DataError(f"{name}: the picture holds values from {low} to {high}, expected 0 to 65535: scale and export it again")
        grey = ((deep + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layers = np.asarray(image.convert("RGBA")).astype(np.uint32)
        alpha = layers[..., 3:]
        return ((layers[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(image.convert("RGB"))


def _read_numbers(path: Path) -> tuple[npt.NDArray[Any], str, bytes]:
    """Decode a mask; return the stored numbers, colours in a third axis, the format's name where it loses detail, and the palette."""
    data = read_bytes(path)
    image, turn = open_header(str(path), io.BytesIO(data))
    stretch = _stretch(image)
    lossy = "JPEG" if image.format in ("JPEG", "MPO") else "lossy WebP" if data[:4] == b"RIFF" and data[12:16] == b"VP8 " else ""
    try:
        upright = decode(image, turn)
        if upright.mode == "F":
            raise DataError(f"{path}: the mask holds floating-point values, expected class indices: export it as an 8-bit PNG")
        if upright.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA") and not upright.mode.startswith("I"):
            upright = upright.convert("RGB")
        pixels = np.asarray(upright)
        palette = bytes(upright.getpalette() or ()) if upright.mode == "P" else b""
    except DataError:
        raise
    except Exception as error:
        raise damaged(str(path), error) from error
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    return pixels if stretch == 1 else pixels // stretch, lossy, palette


def _stretch(image: Image.Image) -> int:
    """Return what Pillow multiplies 2- and 4-bit grey by when it decodes, so that it spans 0 to 255."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    form = arguments if isinstance(arguments, str) else arguments[0] if isinstance(arguments, tuple) and arguments else ""
    return {"L;2": 85, "L;4": 17}.get(str(form), 1)


def _one_channel(path: Path, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the one channel that carries the indices of a colour or transparent mask, or say why there is none."""
    if pixels.shape[2] in (2, 4):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if alpha.min() != alpha.max():
            raise DataError(f"{path}: the mask's transparency varies, so its values are ambiguous: export it without an alpha channel")
    if pixels.shape[2] == 1 or ((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2])).all():
        return pixels[..., 0]
    codes = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, counts = np.unique(codes, return_counts=True)
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
