import numpy as np
import pytest
import torch

from upscore.errors import ModelError
from upscore.input_spec import RGB
from upscore.models.normalization import Normalization


def test_caffe_is_bgr_in_bytes_minus_the_mean():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = image[:, :, ::-1].astype(np.float64) - (104.00699, 116.66877, 122.67892)
    given = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    found = Normalization.caffe()(given)[0].permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_imagenet_is_rgb_with_unit_deviation():
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(Normalization.imagenet()(mean + 2 * std), torch.full((1, 3, 1, 1), 2.0))


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, 1.347 / 3, 0.678 / 3), (4, 0.5, 0.25), (2, 0.5, 0.25)])
def test_other_numbers_of_channels(channels, mean, std):
    normalization = Normalization.imagenet(channels)
    found = normalization(torch.full((1, channels, 1, 1), 0.75))
    torch.testing.assert_close(found, torch.full((1, channels, 1, 1), (0.75 - mean) / std))


def test_statistics_travel_with_the_weights_and_move_with_the_model():
    one, other = Normalization.imagenet(), Normalization([0.1] * 3, [0.2] * 3)
    other.load_state_dict(one.state_dict())
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(one(x), other(x))
    assert other.double()(x.double()).dtype == torch.float64
    assert one(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 4, 4), (1, 4, 4, 3)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ModelError, match=r"expected \(N, 3, H, W\)"):
        Normalization.imagenet()(torch.zeros(shape))


def test_impossible_statistics_are_refused():
    with pytest.raises(ModelError, match="deviation"):
        Normalization([0.5], [0.0])
    with pytest.raises(ModelError, match="one of each"):
        Normalization([0.5, 0.5], [0.25])


def test_caffe_of_rgb_with_other_means_is_that_of_the_release_for_sift_flow():
    mean = tuple(value / 255 for value in (108.353, 115.294, 114.578))  # red, green, blue
    layer = Normalization.caffe_of(RGB.with_statistics(mean, (1.0, 1.0, 1.0)))
    image = torch.rand(2, 3, 4, 5)
    expected = image.flip(1) * 255 - torch.tensor([114.578, 115.294, 108.353]).view(3, 1, 1)
    torch.testing.assert_close(layer(image), expected)
