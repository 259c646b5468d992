"""Read masks from untrusted files: the stored numbers, never colours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import JPEG_FORMATS, Header, decode, open_header
from upscore.data.matlab_masks import find_matrix
from upscore.data.pixel_blocks import flat_blocks
from upscore.data.pnm import pnm_values
from upscore.errors import DataError
from upscore.matlab_files import is_matlab
from upscore.text import listed
from upscore.types import IGNORE, voc_palette

__all__ = ["DecodedMask", "read_instances", "read_label", "read_mask"]


@dataclass(frozen=True, eq=False)
class DecodedMask:
    """A mask, with what is known from its file."""

    label: npt.NDArray[np.uint8]  #: (H, W) stored values; with a mapping, classes or 255
    orientation: int  #: the file's EXIF orientation, 1 to 8; 1 is upright as stored
    unnamed: tuple[int, ...] = ()  #: stored values that the mapping does not name and that are ignored
    palette: bytes = b""  #: red, green and blue of each number from 0, where the file has a palette
    instances: npt.NDArray[np.int32] | None = None  #: (H, W) the number of each pixel's object, 0 for none, where the mask tells objects


def read_label(path: str | os.PathLike[str], *, mapping: Mapping[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Read a mask as class indices: the stored numbers, never colours.

    Palette and grey masks give their values, two-tone ones 0 and 1, 16- and 32-bit ones
    their values where none is above 255, floating-point ones their values where all are
    whole, and colour masks with three equal channels those of any.

    Parameters
    ----------
    path : path
        A PNG, or any other lossless format of :func:`~upscore.data.image_files.read_image`; or a MATLAB file with one matrix
        (:mod:`upscore.data.matlab_masks`).
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
        As :func:`~upscore.data.image_files.read_image`; also a mask made of colours, one whose transparency
        varies, one with values outside 0 to 255 that the mapping does not name, one with
        fractions, and one saved as JPEG or lossy WebP, which invent values along every
        edge (one of a single value passes).
    """
    return read_mask(path, mapping=mapping).label


def read_mask(path: str | os.PathLike[str], *, mapping: Mapping[int, int] | None = None) -> DecodedMask:
    """Do what :func:`read_label` does; also return the EXIF orientation, the palette and the values that the mapping does not name."""
    file = EncodedImage.read(Path(path))
    pixels, orientation, lossy, palette = _decode_values(file)
    if lossy and pixels.min() != pixels.max():
        found = len(_colours(pixels)[0]) if pixels.ndim == 3 else len(np.unique(pixels))
        raise file.error(
            f"a {lossy} mask cannot hold class indices: compression invents values along every edge "
            f"({found} values found): export the masks as PNG",
            check="values.lossy",
        )
    if pixels.ndim == 3:
        pixels = _one_channel(file, pixels)
    label, unnamed = _to_bytes(file, pixels, mapping)
    return DecodedMask(label, orientation, unnamed, palette)


def read_instances(path: str | os.PathLike[str]) -> npt.NDArray[np.int32]:
    """Read a mask of object numbers, (H, W) int32; 0 is no object.

    Files and errors are those of :func:`read_label`, but all values of 32 signed bits are allowed.
    """
    file = EncodedImage.read(Path(path))
    pixels, *_ = _decode_values(file)
    if pixels.ndim == 3:
        pixels = _one_channel(file, pixels)
    if pixels.dtype.itemsize >= 4:
        low, high = _integer_range(file, pixels)
        if low < -(2**31) or high >= 2**31:
            raise file.error(
                f"the mask holds object numbers from {low} to {high}, expected at most 31 bits: export it again", check="values.range"
            )
    return np.ascontiguousarray(pixels, np.int32)


def _decode_values(file: EncodedImage) -> tuple[npt.NDArray[Any], int, str, bytes]:
    """Return a mask's stored values, channels in a third axis, its orientation, the format's name if it is lossy, and the palette."""
    if is_matlab(file.data):
        return find_matrix(file), 1, "", b""
    header = open_header(file)
    lossy_webp = file.data[:4] == b"RIFF" and file.data[12:16] == b"VP8 "
    lossy = "JPEG" if header.image.format in JPEG_FORMATS else "lossy WebP" if lossy_webp else ""
    try:
        if (values := pnm_values(header)) is not None:
            return values, header.orientation, lossy, b""
        upright = decode(header)
        if upright.mode == "La":
            upright = upright.convert("LA")
        if upright.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "F") and not upright.mode.startswith("I"):
            upright = upright.convert("RGB")
        if header.bits > 8 and upright.mode in ("RGB", "RGBA", "LA"):
            raise file.error(
                f"a mask of {header.bits}-bit colours, of which the lower bits are lost: export it as an 8-bit PNG", check="values.colours"
            )
        pixels = np.asarray(upright)
        palette = bytes(upright.getpalette() or ()) if upright.mode == "P" else b""
    except DataError:
        raise
    except Exception as error:
        raise file.damaged_image_error(error) from error
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8), header.orientation, lossy, palette
    if (factor := _stretch_factor(header)) > 1:
        pixels = pixels // factor
    tags = header.tiff
    if tags is not None and tags.photometric == 0 and upright.mode == "L":  # white is zero: Pillow inverts it
        pixels = (2 ** tags.bits[0] - 1) - pixels
    if tags is not None and upright.mode in ("L", "I"):
        pixels = pixels.view({(2, 8): np.int8, (1, 32): np.uint32}.get((tags.kind, tags.bits[0]), pixels.dtype))
    return pixels, header.orientation, lossy, palette


def _stretch_factor(header: Header) -> int:
    """Return the factor by which Pillow multiplies 2- and 4-bit grey, so that it spans 0 to 255."""
    return {"L;2": 85, "L;4": 17}.get(str(header.coding[1][0])[:3], 1)


def _integer_range(file: EncodedImage, pixels: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the smallest and the largest value of a mask, after checking that all are integers."""
    if pixels.dtype.kind == "f":
        for part in flat_blocks(pixels):
            fractions = part[~(np.isfinite(part) & (part == np.rint(part)))]
            if fractions.size:
                raise file.error(
                    f"the mask holds {fractions[0]}, expected whole numbers: export it as an 8-bit PNG of class indices",
                    check="values.range",
                )
    return int(pixels.min()), int(pixels.max())


def _to_bytes(
    file: EncodedImage, pixels: npt.NDArray[Any], mapping: Mapping[int, int] | None
) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
    """Return a mask's values as uint8, mapped where a mapping is given; and those of them that it does not name."""
    if mapping is None and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels), ()
    low, high = _integer_range(file, pixels)
    if mapping is None:
        if low < 0 or high > IGNORE:
            raise file.error(
                f"the mask holds values from {low} to {high}, expected class indices 0 to 254 and 255 for ignored: "
                f"name every value in label_mapping, which may send {low if low < 0 else high} to 255 to ignore it",
                check="values.range",
            )
        return np.ascontiguousarray(pixels, np.uint8), ()
    keys = np.array(sorted(mapping), np.int64)
    classes = np.array([IGNORE if mapping[int(key)] == -1 else mapping[int(key)] for key in keys], np.uint8)
    label = np.empty(pixels.shape, np.uint8)
    target, unnamed, begin = label.reshape(-1), set[int](), 0
    for part in flat_blocks(pixels):
        numbers = part.astype(np.int64)
        indices = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
        named = keys[indices] == numbers
        target[begin : begin + len(part)] = np.where(named, classes[indices], np.uint8(IGNORE))
        if not named.all():
            unnamed.update(np.unique(numbers[~named])[:1000].tolist())
        begin += len(part)
    wide = sorted(value for value in unnamed if not 0 <= value <= IGNORE)
    if wide:
        raise file.error(
            f"the mask holds {listed(wide)}, which label_mapping does not name: name every value outside 0 to 255, "
            f"as {{{wide[0]}: 255}} to ignore it",
            check="values.range",
        )
    return label, tuple(sorted(unnamed))


def _colours(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the colours of (H, W, 3) as numbers, 65536 R + 256 G + B, and how many pixels have each."""
    counts = np.zeros(2**24, np.int64)
    for part in flat_blocks(pixels):
        found, times = np.unique(part.astype(np.int64) @ np.array([65536, 256, 1]), return_counts=True)
        counts[found] += times
    found = np.flatnonzero(counts)
    return found, counts[found]


def _one_channel(file: EncodedImage, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the channel that holds the class indices of a colour or transparent mask, or raise why there is none."""
    if pixels.shape[2] in (2, 4):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if alpha.min() != alpha.max():
            raise file.error(
                "the mask's transparency varies, so its values are ambiguous: export it without an alpha channel", check="values.alpha"
            )
    if pixels.shape[2] == 1 or all((part[:, 0] == part[:, 1]).all() and (part[:, 1] == part[:, 2]).all() for part in flat_blocks(pixels)):
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
    raise file.error(f"a colour mask where indices are expected, {len(colours)} colours ({shown}{more}): {hint}", check="values.colours")
