"""The field of displacement_field against torch's bicubic resize, and moving along it against SciPy's interpolation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates

from upscore.data.elastic import displacement_field, remap


@pytest.mark.parametrize("knots", [2, 3, 5, 8])
@pytest.mark.parametrize("size", [(33, 47), (8, 8), (200, 3)])
def test_the_field_is_torchs_bicubic_interpolation_of_the_grid(knots, size):
    vectors = np.random.default_rng(0).normal(0, 10, (2, knots, knots))
    torchs = F.interpolate(torch.from_numpy(vectors)[None], size=size, mode="bicubic", align_corners=True)[0]
    np.testing.assert_allclose(displacement_field(vectors, size), torchs.numpy(), rtol=0, atol=1e-9)


def test_the_field_holds_the_vectors_at_the_knots_and_keeps_a_common_one():
    vectors = np.random.default_rng(0).normal(0, 10, (2, 3, 3))
    field = displacement_field(vectors, (41, 61))
    np.testing.assert_allclose(field[:, ::20, ::30], vectors, rtol=0, atol=1e-12)
    assert np.allclose(displacement_field(np.full((2, 3, 3), 7.0), (9, 9)), 7)
    assert np.allclose(displacement_field(vectors, (1, 1))[:, 0, 0], vectors[:, 1, 1])  # one pixel is the middle


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(30, 40), (7, 5), (1, 1)])
def test_pixels_are_read_where_scipy_reads_them(mirror, size):
    rng = np.random.default_rng(1)
    image, weights = rng.integers(0, 256, (*size, 3), np.uint8), rng.random(size, np.float32)
    label = rng.integers(0, 2**31 - 1, size, np.int32)
    rows, columns = (rng.uniform(-2 * side - 5, 3 * side + 5, (50, 60)) for side in size)
    mode = {"mode": "reflect"} if mirror else {"mode": "grid-constant"}

    def scipys(plane, fill):
        return map_coordinates(plane.astype(float), [rows, columns], order=1, cval=fill, **mode)

    shown = remap(image, rows, columns, fill=(10, 20, 30), mirror=mirror)
    for channel, fill in enumerate((10, 20, 30)):
        assert np.abs(shown[..., channel] - scipys(image[..., channel], fill)).max() < 255 / 32 * 2 + 1  # OpenCV's 32nds of a pixel
    assert np.abs(remap(weights, rows, columns, fill=0, mirror=mirror) - scipys(weights, 0)).max() < 1 / 16
    taken = remap(label, rows, columns, fill=-7, mirror=mirror)
    nearest = map_coordinates(label, [np.floor(rows + 0.5), np.floor(columns + 0.5)], order=0, cval=-7, mode="constant")
    if mirror:
        nearest = map_coordinates(label, [rows, columns], order=0, mode="reflect")
        tied = np.abs(rows % 1 - 0.5) + np.abs(columns % 1 - 0.5) < 1e-9
        assert not tied.any()
    assert np.array_equal(taken, nearest)
    assert taken.dtype == label.dtype


def test_planes_wider_than_sixteen_bits_are_read():
    plane = np.zeros((2, 40000, 3), np.uint8)
    plane[:, 39000] = 200
    rows, columns = np.mgrid[:2, 38999:39003].astype(float)
    assert remap(plane, rows, columns, fill=(0, 0, 0), mirror=False)[0, :, 0].tolist() == [0, 200, 0, 0]
