"""Overlapping tiles: they add up to one everywhere, they agree with the whole image where it can be known, and memory is a strip's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from upscore.errors import GeometryError
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.tile_grid import Window, plan_spans
from upscore.inference.tiling import Tiles, tiled
from upscore.inference.tta import tta, tta_context
from upscore.models.factory import create_model
from upscore.types import LabelSpace

steps = st.integers(4, 24)
sizes = st.integers(1, 150)


def walk(segment, image, tiles, within=None):
    """What is blended of an image that is read tile by tile."""
    return tiles.walk(lambda crop: segment(image_to_tensor(image[crop.slices])[None]), *image.shape[:2], within=within)


def random_images(height: int, width: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width), dtype=torch.float64)


@settings(deadline=None)
@given(size=st.integers(1, 2000), step=st.integers(1, 40), multiple=st.integers(1, 5), times=st.integers(2, 20))
def test_spans_cover_the_axis_overlap_in_pairs_and_keep_in_step(size: int, step: int, multiple: int, times: int) -> None:
    stride = step * multiple
    span, padded = stride * times, -(-size // multiple) * multiple
    spans = plan_spans(size, span=span, stride=stride, multiple=multiple)
    covered = np.zeros(size, int)
    for one in spans:
        covered[one.begin : one.end] += 1
        assert 0 <= one.first <= one.begin < one.next <= one.end <= one.last <= size
        assert one.fades_in <= one.next - one.begin
        assert one.first % stride == 0
        assert one.last == size or (padded - one.last) % stride == 0
        assert one.last - one.first <= span + stride
        assert len(spans) == 1 or 2 * (one.last - one.first) >= span  # none is a sliver
    assert set(np.unique(covered)) <= {1, 2}
    for one, other in itertools.pairwise(spans):
        assert other.begin == one.next
        assert other.fades_in == one.fades_out >= span / 4
    assert (spans[0].fades_in, spans[-1].fades_out) == (0, 0)


@settings(max_examples=30, deadline=None)
@given(height=sizes, width=sizes, times=st.integers(2, 6), step=steps)
def test_a_network_that_looks_nowhere_else_gives_what_it_gives_for_the_whole_image(height: int, width: int, times: int, step: int) -> None:
    """So the weights add up to one at every pixel, and every pixel lies where it should."""
    images = random_images(height, width, 2)
    parts = tiled(lambda x: x * 2 - 1, margin=None, tile=times * step, stride=step)(images)
    torch.testing.assert_close(parts, images * 2 - 1, rtol=0, atol=1e-12)


def test_tiles_fade_evenly_into_one_another_and_say_nothing_at_their_edges() -> None:
    seen = []

    def segment(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.full_like(images, float(len(seen) == 1))

    first = tiled(segment, margin=None, tile=64, stride=8)(random_images(20, 100))[0, 0]
    fades = first[0, 1:] - first[0, :-1]
    assert (first == first[:1]).all()
    shared = first[0][(first[0] > 0) & (first[0] < 1)]
    assert len(shared) == 16
    torch.testing.assert_close(shared + shared.flip(0), torch.ones_like(shared))
    assert (fades <= 0).all()
    assert 0 < float(shared[-1]) < 0.05


@settings(max_examples=30, deadline=None)
@given(height=sizes, width=sizes, times=st.integers(2, 6), step=steps, data=st.data())
def test_any_window_can_be_had_alone(height: int, width: int, times: int, step: int, data: st.DataObject) -> None:
    image = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width)))

    def segment(images: Tensor) -> Tensor:  # of the tile's mean too, so that another tile says another thing
        return images + images.mean((1, 2, 3), keepdim=True)

    def canvas(within: Window | None) -> np.ndarray:
        found, times_said = np.full((3, height, width), np.nan), np.zeros((height, width), int)
        for place, (probs,) in walk(segment, image, Tiles(times * step, None, step), within=within):
            found[(slice(None), *place.slices)] = probs.numpy()
            times_said[place.slices] += 1
        assert times_said.max() == 1
        assert within is not None or times_said.min() == 1
        return found

    np.testing.assert_allclose(
        canvas(window)[(slice(None), *window.slices)], canvas(None)[(slice(None), *window.slices)], rtol=0, atol=1e-6
    )


@settings(max_examples=25, deadline=None)
@given(times=st.integers(2, 6), step=steps, data=st.data())
def test_an_image_no_larger_than_a_tile_is_looked_at_once_and_whole(times: int, step: int, data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, times * step)) for _ in range(2))
    seen = []

    def segment(images: Tensor) -> Tensor:
        seen.append(images)
        return images - images.mean()

    images = random_images(height, width, 2)
    assert torch.equal(tiled(segment, margin=None, tile=times * step, stride=step)(images), images - images.mean())
    assert torch.equal(seen[0], images)


def test_bounded_networks_are_exact_but_near_the_tiles_edges() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2, 7, padding=3).double().requires_grad_(False)
    images = random_images(150, 260)
    whole, parts = convolution(images), tiled(convolution, margin=None, tile=64, stride=4)(images)
    wrong = (parts - whole).abs().amax((0, 1)) > 1e-12
    edges = np.zeros((150, 260), bool)
    for axis, size in ((0, 150), (1, 260)):
        for one in plan_spans(size, span=64, stride=4):
            for edge in (one.first, one.last):
                if 0 < edge < size:
                    np.moveaxis(edges, axis, 0)[edge - 3 : edge + 3] = True
    assert wrong.any()
    assert not wrong[torch.from_numpy(~edges)].any()


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (0.75,)])
def test_flips_and_scales_of_what_looks_nowhere_else_are_exact_in_overlapping_tiles(scales: tuple[float, ...]) -> None:
    segment = tta(lambda images: images.softmax(1), flips=True, scales=scales)
    _, stride, multiple = tta_context(margin=0, stride=4, scales=scales)
    images = random_images(131, 290)
    parts = tiled(segment, margin=None, tile=-(-96 // stride) * stride, stride=stride, multiple=multiple)(images)
    wrong = (parts - segment(images)).abs().amax((0, 1)) > 1e-9
    assert wrong.double().mean() < 0.2  # within the margin of a tile's edge alone
    assert scales != (1.0,) or not wrong.any()


def test_what_is_held_is_a_tile_and_a_strip() -> None:
    """An image of 10^8 pixels on a few real bytes; pieces come while later tiles are still unread."""
    height, width = 50_000, 2000
    image = np.broadcast_to(np.uint8(77), (height, width, 3))
    seen, pixels = [], 0

    def segment(images: Tensor) -> Tensor:
        seen.append(images.shape)
        return torch.full((1, 2, 1, 1), 0.25).expand(1, 2, *images.shape[-2:])

    for number, (_, (probs,)) in enumerate(walk(segment, image, Tiles(1024, None, 32)), start=1):
        pixels += probs[0].numel()
        assert len(seen) == number
        assert float(probs.amin()) == float(probs.amax()) == 0.25
    assert pixels == height * width
    assert max(rows * columns for *_, rows, columns in seen) <= 1056**2


def test_turned_images_are_cut_alike() -> None:
    def segment(images: Tensor) -> Tensor:
        return images + images.mean()

    images = random_images(90, 260)
    upright = tiled(segment, margin=None, tile=64, stride=8)(images)
    torch.testing.assert_close(tiled(segment, margin=None, tile=64, stride=8)(images.mT).mT, upright, rtol=0, atol=1e-12)


def test_a_real_network_with_squeeze_and_excitation_is_near_its_whole_result() -> None:
    torch.manual_seed(0)
    network = create_model("fcn32s", backbone="efficientnet_b0", num_classes=3).eval()
    nn.init.normal_(network.decoder.score_fr.weight, std=0.05)
    image = np.kron(np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8), np.ones((32, 32, 1), np.uint8))[:361, :557]
    labels = LabelSpace(("a", "b", "c"))
    whole = Predictor(network, labels=labels, tile="whole").predict(image, probs=True)
    parts = Predictor(network, labels=labels, tile=256).predict(image, probs=True)
    assert whole.probs is not None
    assert parts.probs is not None
    assert 0 < np.abs(parts.probs - whole.probs).mean() < 0.1 * whole.probs.std() + 0.02


@pytest.mark.parametrize(("size", "span", "stride", "multiple"), [(0, 64, 32, 1), (99, 32, 32, 1), (99, 70, 32, 1), (99, 64, 32, 3)])
def test_impossible_plans_are_refused(size: int, span: int, stride: int, multiple: int) -> None:
    with pytest.raises(GeometryError, match="expected positive sizes"):
        plan_spans(size, span=span, stride=stride, multiple=multiple)
