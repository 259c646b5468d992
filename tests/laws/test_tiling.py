"""Tiles equal the whole image, on the real networks too; without enough margin they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.segmenter import NetworkSegmenter
from upscore.inference.sources import ArraySource
from upscore.inference.tile_grid import plan_tiles
from upscore.inference.tiling import Tiles, tiled
from upscore.inference.tta import tta, tta_context
from upscore.models.factory import create_model
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

sizes = st.integers(1, 300)


class Pyramid(nn.Module):
    """Two poolings and a transposed convolution with random weights; its whole geometry is known."""

    stride = 4

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.num_classes = num_classes
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(6, num_classes, 3, padding=1),
            nn.ConvTranspose2d(num_classes, num_classes, 8, 4, 2),
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)
        self.geometry = Geometry().conv(3, 1, 1).pool(2, 2).conv(3, 1, 1).pool(2, 2).conv(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)[..., : images.shape[-2], : images.shape[-1]]


def random_images(height: int, width: int, count: int = 1) -> Tensor:
    """In float64, so that what a crop computes in another order is told from what it computes wrongly."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width), dtype=torch.float64)


@settings(deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(20, 200), margin=st.integers(0, 90), step=st.integers(1, 40), multiple=st.integers(1, 5))
def test_tiles_partition_the_image_and_keep_in_step(height: int, width: int, tile: int, margin: int, step: int, multiple: int) -> None:
    stride = step * multiple
    covered = np.zeros((height, width), np.int64)
    padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    for piece in plan_tiles(height, width, tile=tile, margin=margin, stride=stride, multiple=multiple):
        window, crop = piece
        covered[window.slices] += 1
        assert covered[crop.slices][piece.inside].shape == covered[window.slices].shape
        for begin, end, first, last, whole, size in (
            (window.top, window.bottom, crop.top, crop.bottom, height, padded[0]),
            (window.left, window.right, crop.left, crop.right, width, padded[1]),
        ):
            assert first % stride == 0
            assert last == whole or (size - last) % stride == 0
            assert first <= max(0, begin - margin)
            assert last >= min(whole, end + margin)
            assert end - begin <= -(-tile // stride) * stride
            assert last - first <= end - begin + 2 * (margin + stride)
    assert (covered == 1).all()


@given(height=st.integers(1, 150), width=st.integers(1, 150), tile=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_tiles_equal_the_whole_image(height: int, width: int, tile: int) -> None:
    network = Pyramid().double()
    segment = NetworkSegmenter(network)
    images = random_images(height, width, 2)
    whole = segment(images)
    parts = tiled(segment, tile=tile, margin=network.geometry.margin(), stride=4)(images)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


@given(
    height=st.integers(1, 110),
    width=st.integers(1, 110),
    tile=st.integers(1, 60),
    flips=st.booleans(),
    rotations=st.booleans(),
    scales=st.sampled_from([(1.0,), (0.5,), (1.0, 0.5), (0.75, 1.25), (2.0, 1.0), (0.7,), (1 / 3, 1.0)]),
)
@settings(max_examples=25, deadline=None)
def test_averages_are_exact_under_tiling(
    height: int, width: int, tile: int, flips: bool, rotations: bool, scales: tuple[float, ...]
) -> None:
    network = Pyramid().double()
    # In float64 to the end: resizing computes places in an image in the type of its values.
    segment = tta(lambda images: network(images).detach().softmax(1), flips=flips, rotations=rotations, scales=scales)
    margin, stride, multiple = tta_context(margin=network.geometry.margin(), stride=4, scales=scales)
    images = random_images(height, width)
    parts = tiled(segment, tile=tile, margin=margin, stride=stride, multiple=multiple)(images)
    torch.testing.assert_close(parts, segment(images), rtol=0, atol=1e-9)


def test_too_small_a_margin_is_seen() -> None:
    segment = NetworkSegmenter(Pyramid().double())
    images = random_images(97, 61)
    parts = tiled(segment, tile=16, margin=0, stride=4)(images)
    assert (parts - segment(images)).abs().max() > 1e-2


def test_crops_out_of_step_are_seen() -> None:
    network = Pyramid().double()
    segment = NetworkSegmenter(network)
    images = random_images(97, 61)
    parts = tiled(segment, tile=15, margin=network.geometry.margin() + 1, stride=1)(images)
    assert (parts - segment(images)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "backbone", "arguments"),
    [
        ("fcn32s", "vgg16", {"width": 1 / 32}),
        ("fcn8s", "vgg16", {"width": 1 / 32}),
        ("fcn16s", "resnet10t", {}),
        ("fcn8s", "mobilenetv2_050", {}),
    ],
)
def test_real_networks_are_exact_under_tiling(name: str, backbone: str, arguments: dict[str, float]) -> None:
    torch.manual_seed(0)
    network = create_model(name, backbone=backbone, num_classes=4, **arguments).eval()
    for layer, parameter in network.named_parameters():
        if layer.startswith("decoder.score"):
            nn.init.normal_(parameter, std=0.05)  # they start at zero, and zero equals zero
    labels = LabelSpace(("a", "b", "c", "d"))
    for height, width, tile in ((651, 33, 128), (40, 333, 160), (17, 9, 32)):
        image = (random_images(height, width)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        whole = Predictor(network, labels=labels, tile="whole").predict(image, probs=True)
        parts = Predictor(network, labels=labels, tile=tile).predict(image, probs=True)
        assert whole.probs is not None
        assert parts.probs is not None
        np.testing.assert_allclose(parts.probs, whole.probs, rtol=0, atol=1e-5)
        sure = np.diff(np.sort(whole.probs, axis=0)[-2:], axis=0)[0] > 2e-5  # rounding may decide a tie either way
        assert (parts.label_map == whole.label_map)[sure].all()
        assert sure.mean() > 0.99
    assert whole.probs.std() > 1e-4


def test_a_stream_holds_one_tile_at_a_time() -> None:
    """An image of 10^8 pixels on a few real bytes: read in crops, never converted whole."""
    side = 10_000
    image = np.broadcast_to(np.uint8(77), (side, side, 3))
    seen = []

    def segment(images: Tensor) -> Tensor:
        seen.append(images.shape)
        return torch.full((1, 2, 1, 1), 0.5).expand(1, 2, *images.shape[-2:])

    pixels = 0
    source = ArraySource(image)
    for window, (probs,) in Tiles(2500, 32, 32).walk(lambda crop: segment(image_to_tensor(source.read(crop))[None]), side, side):
        assert probs.shape[1:] == (window.bottom - window.top, window.right - window.left)
        pixels += probs[0].numel()
    assert pixels == side * side
    assert max(height * width for *_, height, width in seen) < 2700**2


def test_tensors_are_scaled_to_one() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 15
    tensor = image_to_tensor(image)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), image.astype(np.float32) / 255)
