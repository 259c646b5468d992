"""Decode masks that are stored as small PNGs in text, as labelme and Supervisely write them."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import decode, open_header
from upscore.errors import DataError
from upscore.text import reason

__all__ = ["decode_bitmap"]

_MAX_BYTES = 2**28


def decode_bitmap(text: Any) -> npt.NDArray[np.bool_]:
    """Return the mask (H, W) of a PNG in base64, which may also be compressed by zlib before.

    Inside is where the alpha channel is above 0, or without one where any channel is.

    Raises
    ------
    ValueError
        It is no such text, or the image cannot be decoded, with a reason for the caller to put behind the file's name.
    """
    if not isinstance(text, str):
        raise ValueError("the bitmap is not a text in base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the bitmap is not base64 ({reason(error)})") from None
    if not data.startswith(b"\x89PNG"):
        data = _decompress(data)
    try:
        header = open_header(EncodedImage("the bitmap", data))
        if header.image.format != "PNG":
            raise ValueError(f"the bitmap is a {header.image.format}, expected a PNG")
        image = decode(header)
        pixels = np.asarray(image if image.mode not in ("P", "PA") or not header.alpha else image.convert("RGBA"))
    except DataError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise ValueError(f"the bitmap is damaged ({reason(error)})") from None
    if pixels.ndim == 2:
        return pixels > 0
    channels = pixels[..., -1:] if pixels.shape[2] in (2, 4) else pixels
    return np.asarray((channels > 0).any(axis=2))


def _decompress(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"the bitmap is neither a PNG nor compressed by zlib ({reason(error)})") from None
    if not stream.eof:
        raise ValueError("the bitmap is truncated or too large")
    return content
