"""Images and masks as Python libraries hand them over, PIL images, arrays and tensors, as the arrays that everything here reads."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec
from upscore.types import IGNORE

__all__ = ["TOLERANCE", "describe", "image_array", "mask_array"]

TOLERANCE = 1e-3
"""By how much values of an image tensor may leave [0, 1], as rounding does."""

EIGHT_BITS = ("1", "L", "P", "RGB", "RGBX", "RGBA", "LA", "PA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB")
"""Modes of PIL with bytes as values."""


def describe(value: object) -> str:
    """Return what a value is, for a message: type, shape and kind of numbers.

    >>> describe(np.zeros((4, 5), np.float32))
    'an array of shape (4, 5) and type float32'
    """
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if _is_tensor(value):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode '{value.mode}'"
    return type(value).__name__


def _is_tensor(value: object) -> TypeGuard[Any]:
    import torch

    return isinstance(value, torch.Tensor)


def image_array(image: object, spec: InputSpec = RGB) -> npt.NDArray[Any]:
    """Return an image as an array (H, W, C) of the bands of ``spec``.

    Parameters
    ----------
    image : PIL image, array or tensor
        A PIL image becomes RGB: grey is repeated, transparency is laid over white. Its EXIF orientation is not applied, so that
        the result has the size that PIL reports. A tensor is (3, H, W) or (H, W, 3) uint8, or (3, H, W) floating in [0, 1], on any
        device; floats are rounded to 8 bits, as image files are. One of shape (3, H, 3) has its channels first. An array is
        returned as it is. For other bands than RGB of 8 bits a tensor is (C, H, W), stored values or, of integers, floats in [0, 1],
        and a PIL image has their values.
    spec : InputSpec
        The bands.

    Returns
    -------
    (H, W, C)
        uint8 (H, W, 3), unless an array of something else was given, which the caller checks.

    Raises
    ------
    DataError
        It is none of these, or a tensor of another shape, type or range.

    Examples
    --------
    >>> import torch
    >>> image_array(torch.ones(3, 4, 5)).shape
    (4, 5, 3)
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return _from_pil(image) if spec.is_rgb else np.atleast_3d(np.asarray(image))
    if _is_tensor(image):
        return _from_tensor(image) if spec.is_rgb else _bands_from_tensor(image, spec)
    if not spec.is_rgb:
        raise DataError(f"found {describe(image)}, expected an image (H, W, {len(spec)}) {spec.dtype} as an array or a tensor, or a path")
    raise DataError(f"found {describe(image)}, expected an image (H, W, 3) uint8 RGB as an array, a tensor (3, H, W) or a PIL image")


def _from_pil(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode not in EIGHT_BITS:
        raise DataError(f"found {describe(image)}, expected 8 bits, such as 'RGB' or 'L': scale its values to 0 to 255, and convert it")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _from_tensor(image: Any) -> npt.NDArray[np.uint8]:
    import torch

    wanted = "expected an image (3, H, W), uint8 or floats from 0 to 1"
    if image.ndim == 4:
        raise DataError(f"found {describe(image)}, {wanted}: give the images one by one, or the batch to predict_probs")
    first, last = image.ndim == 3 and image.shape[0] == 3, image.ndim == 3 and image.shape[2] == 3
    if not (first or (last and image.dtype == torch.uint8)) or 0 in image.shape:
        raise DataError(f"found {describe(image)}, {wanted}{': move the channels with .permute(2, 0, 1)' if last and not first else ''}")
    values = image.detach().movedim(0, 2) if first else image
    if values.is_floating_point():
        low, high = (float(end) for end in values.aminmax())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for what is not a number
            remedy = "divide it by 255" if low >= 0 and high > 2 else "give it as it is before normalisation"
            raise DataError(f"found an image with values from {low:g} to {high:g}, {wanted}: {remedy}")
        values = values.float().mul(255).round_().clamp_(0, 255)
    elif values.dtype != torch.uint8:
        raise DataError(f"found {describe(image)}, {wanted}: convert it with .to(torch.uint8)")
    return np.ascontiguousarray(values.to("cpu", torch.uint8).numpy())


def _bands_from_tensor(image: Any, spec: InputSpec) -> npt.NDArray[Any]:
    """Return a tensor (C, H, W) as stored values; what is none of these bands is returned as it is, for the caller to refuse."""
    if image.ndim != 3 or image.shape[0] != len(spec):
        raise DataError(f"found {describe(image)}, expected an image ({len(spec)}, H, W) of {spec}")
    values = image.detach().movedim(0, 2).cpu()
    if spec.dtype != "float32" and values.is_floating_point():
        low, high = (float(end) for end in values.aminmax())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for what is not a number
            found = f"found an image with values from {low:g} to {high:g}"
            raise DataError(f"{found}, expected {spec.dtype}, or floats from 0 to 1: divide by {spec.unit:g}")
        values = values.double().mul(spec.unit).round_().clamp_(0, spec.unit)
    return np.ascontiguousarray(values.numpy().astype(spec.dtype))


def mask_array(mask: object) -> npt.NDArray[np.uint8]:
    """Return a mask as class numbers (H, W) uint8.

    Parameters
    ----------
    mask : PIL image, array or tensor
        Whole numbers from 0 to 255, or booleans: (H, W), or a tensor (1, H, W). Of a PIL image with a palette the numbers are taken,
        not the colours.

    Raises
    ------
    DataError
        It holds fractions or floating-point numbers, colours, or numbers that are not from 0 to 255.

    Examples
    --------
    >>> mask_array(np.array([[True, False]])).tolist()
    [[1, 0]]
    """
    wanted = f"expected class numbers (H, W), with {IGNORE} where a pixel is ignored"
    if _is_tensor(mask):
        tensor = mask.detach().cpu()
        values = np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy())
        values = values[0] if values.ndim == 3 and len(values) == 1 else values
    elif isinstance(mask, Image.Image | np.ndarray):
        values = np.asarray(mask)
    else:
        raise DataError(f"found {describe(mask)} as a mask, {wanted}, as an array, a tensor or a PIL image")
    if values.ndim != 2 or 0 in values.shape:
        colours = values.ndim == 3 and 3 in (values.shape[0], values.shape[2])
        raise DataError(f"found {describe(mask)} as a mask, {wanted}{': give each colour its number first' if colours else ''}")
    if values.dtype.kind not in "bui":
        raise DataError(
            f"found {describe(mask)} as a mask, {wanted}: convert whole numbers with .astype(np.uint8); "
            "what divides images by 255, as torchvision's ToTensor, is not for masks"
        )
    if values.dtype != np.uint8 and values.dtype != np.bool_:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > IGNORE:
            raise DataError(f"found {low if low < 0 else high} in a mask, {wanted}")
    return values.astype(np.uint8)
