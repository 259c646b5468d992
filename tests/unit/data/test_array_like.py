"""Images and masks of any library are the same arrays, and what is none is refused in a line."""

import numpy as np
import pytest
import torch
from PIL import Image

from upscore.data.array_like import image_array, mask_array
from upscore.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(2, 0, 1)
CLASSES = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        torch.from_numpy(PIXELS),
        CHANNELS_FIRST,
        CHANNELS_FIRST / 255,
        (CHANNELS_FIRST / 255).double().requires_grad_(),
        (CHANNELS_FIRST / 255).half(),
        Image.fromarray(PIXELS),
    ],
    ids=["array", "bytes last", "bytes first", "floats", "with a gradient", "half precision", "PIL"],
)
def test_one_image_in_every_form_is_the_same_array(image):
    np.testing.assert_array_equal(image_array(image), PIXELS)


def test_a_square_of_three_pixels_has_its_channels_first():
    image = torch.arange(27, dtype=torch.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(image_array(image), image.permute(1, 2, 0).numpy())


def test_pil_images_become_rgb():
    grey = Image.fromarray(PIXELS[..., 0])
    np.testing.assert_array_equal(image_array(grey), np.stack([PIXELS[..., 0]] * 3, axis=-1))
    clear = Image.fromarray(np.dstack([PIXELS, np.zeros((5, 7), np.uint8)]))
    assert (image_array(clear) == 255).all()
    palette = Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE)
    assert image_array(palette).shape == (5, 7, 3)


@pytest.mark.parametrize(
    "mask",
    [
        CLASSES,
        CLASSES.astype(np.int64),
        torch.from_numpy(CLASSES),
        torch.from_numpy(CLASSES)[None].long(),
        Image.fromarray(CLASSES),
        Image.fromarray(CLASSES.astype(np.int32)),
    ],
    ids=["array", "int64", "tensor", "one channel", "PIL", "PIL of 32 bits"],
)
def test_one_mask_in_every_form_is_the_same_array(mask):
    found = mask_array(mask)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, CLASSES)


def test_a_palette_gives_numbers_and_not_colours():
    mask = Image.fromarray(CLASSES).convert("P")
    mask.putpalette([9, 8, 7] * 256)
    np.testing.assert_array_equal(mask_array(mask), CLASSES)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (CHANNELS_FIRST.float(), "values from .* to 248.*divide it by 255"),
        ((CHANNELS_FIRST / 255 - 0.45) / 0.22, "before normalisation"),
        (CHANNELS_FIRST / 255 * float("nan"), "values from nan"),
        (CHANNELS_FIRST.int(), r"\.to\(torch.uint8\)"),
        (torch.from_numpy(PIXELS) / 255, r"\.permute\(2, 0, 1\)"),
        (CHANNELS_FIRST[:1], r"shape \(1, 5, 7\)"),
        (CHANNELS_FIRST[None], "predict_probs"),
        (torch.zeros(3, 0, 4), r"shape \(3, 0, 4\)"),
        (Image.fromarray(PIXELS[..., 0].astype(np.float32)), "mode 'F'.*scale"),
        (b"bytes", "found bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused(image, said):
    with pytest.raises(DataError, match=said):
        image_array(image)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.from_numpy(CLASSES) / 255, "ToTensor"),
        (CLASSES.astype(np.float32), "float32.*astype"),
        (PIXELS, "shape .* as a mask.*each colour its number"),
        (Image.fromarray(PIXELS), "mode 'RGB'.*each colour its number"),
        (CLASSES.astype(np.int16) - 1, "found -1 in a mask.*255 where"),
        (CLASSES.astype(np.int64) * 2, "found 510 in a mask"),
        (CLASSES[None], r"shape \(1, 2, 3\)"),
        (None, "found NoneType as a mask"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_mask_is_refused(mask, said):
    with pytest.raises(DataError, match=said):
        mask_array(mask)
