import base64

import cv2
import numpy as np
import pytest

from upscore.html.drawing import as_uri, colour_heat, pale, shrink


def decode(uri, form="webp"):
    assert uri.startswith(f"data:image/{form};base64,")
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_image_comes_back_from_its_uri(channels):
    pixels = np.random.default_rng(0).integers(1, 256, (7, 9, channels), dtype=np.uint8)
    order = [2, 1, 0, 3][:channels]
    np.testing.assert_array_equal(decode(as_uri(pixels))[..., order], pixels)


@pytest.mark.parametrize("shape", [(1, 16384, 3), (16384, 1, 4), (1, 16383, 3)])
def test_what_is_too_long_for_webp_comes_back_too(shape):
    pixels = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    order = [2, 1, 0, 3][: shape[2]]
    np.testing.assert_array_equal(decode(as_uri(pixels), "png" if max(shape) > 16383 else "webp")[..., order], pixels)


def test_heat_grows_lighter_and_ends_at_its_bounds():
    colours = colour_heat(np.linspace(0, 1, 18)[None])[0].astype(int)
    assert (np.diff(colours @ [2, 7, 1]) > 0).all()
    assert colours[0].max() < 8
    np.testing.assert_array_equal(colour_heat(np.array([[-1.0, 0, 1, 9]]))[0, [0, 3]], colour_heat(np.array([[0.0, 0, 1, 1]]))[0, [0, 3]])


def test_images_shrink_to_a_side_and_label_maps_keep_their_numbers():
    label_map = np.repeat(np.arange(3, dtype=np.uint8)[:, None] * 100, 900, axis=1)
    small = shrink(label_map, exact=True)
    assert small.shape == (1, 440)
    assert set(np.unique(small)) <= {0, 100, 200}
    image = np.zeros((10, 20, 3), np.uint8)
    assert shrink(image, exact=False).shape == image.shape
    assert shrink(image, exact=False, side=5).shape == (2, 5, 3)


def test_pale_images_are_grey_and_light():
    ground = pale(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    assert (ground == ground[..., :1]).all()
    assert ground.min() >= 170
