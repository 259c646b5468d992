"""The CRF as a segmenter: it composes, it hears what it should, and windows come near the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from upscore.crf import Bilateral, DenseCRF, Gaussian
from upscore.errors import CRFError, DataError
from upscore.inference import crf_postprocess as module
from upscore.inference.crf_postprocess import crf, plan_refinement, refine_windows
from upscore.inference.ensembling import ensemble
from upscore.inference.predictor import Predictor
from upscore.inference.sources import ArraySource
from upscore.inference.tiling import tiled
from upscore.inference.tta import tta
from upscore.ops.geometry import Geometry
from upscore.settings import CRFSettings
from upscore.types import LabelSpace

NEAR = DenseCRF(kernels=(Gaussian(1.0, 2.0), Bilateral(4.0, 20.0, 4.0)), iterations=3)
LABELS = LabelSpace(("a", "b", "c"))
SETTINGS = {"gaussian_sigma": 1.0, "gaussian_weight": 2.0, "bilateral_sigma": 4.0, "bilateral_sigma_colour": 20.0, "iterations": 3}


class Strided(nn.Module):
    """A pooling and a transposed convolution with fixed random weights; its whole geometry is known."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ConvTranspose2d(3, 3, 4, 2, 1))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.8, generator=torch.Generator().manual_seed(parameter.numel()))
        self.geometry = Geometry().conv(3, 1, 1).pool(2, 2).conv(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)[..., : images.shape[-2], : images.shape[-1]]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Two colours with noise, which meet along a wave."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    left = x < width / 2 + 4 * np.sin(y / 5)
    colours = np.where(left[..., None], np.array([200, 60, 40]), np.array([40, 90, 210]))
    return (colours + rng.integers(-20, 21, (height, width, 3))).clip(0, 255).astype(np.uint8)


def as_images(*images: np.ndarray) -> Tensor:
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]).float() / 255


def redness(images: Tensor) -> Tensor:
    """Believes red and blue, and mistakes a speck in every seventh column and row."""
    logits = torch.stack([images[:, 0] * 3, images[:, 2] * 3, torch.zeros_like(images[:, 0])], 1)
    logits[:, 2, ::7, ::7] = 5
    return logits.softmax(1)


def test_it_is_the_crf_on_each_image():
    images = scene(20, 27), scene(20, 27, seed=1)
    refined = crf(redness, NEAR)(as_images(*images))
    assert refined.dtype == torch.float32
    for one, image in zip(refined, images, strict=True):
        np.testing.assert_array_equal(one, NEAR.refine(redness(as_images(image))[0].numpy(), image))


def test_every_byte_of_a_image_comes_back():
    seen = []

    class Watching(DenseCRF):
        def refine(self, scores, image, **_):
            seen.append(image)
            return scores

    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    for off in (0.0, 0.3 / 255, -0.3 / 255):
        crf(redness, Watching())(as_images(image) + off)
        np.testing.assert_array_equal(seen[-1], image)
        assert seen[-1].dtype == np.uint8


def test_specks_go_and_borders_stay():
    image = scene(60, 60)
    images = as_images(image)
    before, after = redness(images)[0].argmax(0).numpy(), crf(redness)(images)[0].argmax(0).numpy()
    clean = images[0, ::2].argmax(0).numpy()
    assert (before != clean).sum() > 50
    assert (after != clean).sum() == 0


def test_it_composes_with_the_others():
    torch.manual_seed(0)
    network = Strided()

    def probs(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images).softmax(1)

    inner = tta(tiled(probs, tile=16, margin=network.geometry.margin(), stride=2), flips=True)
    images = as_images(scene(33, 41))
    outer = crf(ensemble([inner, redness]), NEAR)
    expected = NEAR.refine(((inner(images) + redness(images)) / 2)[0].numpy(), scene(33, 41))
    np.testing.assert_allclose(outer(images)[0], expected, atol=1e-5)
    assert outer(images).sum(1).sub(1).abs().max() < 1e-4


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 2)])
def test_any_image_and_the_surest_network(classes, size):
    for image in (np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8), scene(*size)):
        for logits in (torch.zeros(1, classes, *size), torch.eye(classes)[torch.zeros(1, *size, dtype=int)].permute(0, 3, 1, 2) * 1e4):
            refined = crf(lambda images, said=logits: said.softmax(1))(as_images(image))
            assert refined.shape == (1, classes, *size)
            assert refined.isfinite().all()
            np.testing.assert_allclose(refined.sum(1), 1, atol=1e-5)


def test_what_is_no_probability_is_one_line():
    with pytest.raises(CRFError, match="not numbers"):
        crf(lambda images: torch.full((1, 2, *images.shape[-2:]), float("nan")))(as_images(scene(5, 5)))


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    classes=st.integers(1, 255),
    reach=st.sampled_from([0, 3.0, 80.0, 1000, np.inf]),
)
def test_windows_cover_once_and_fit_into_memory(height, width, classes, reach):
    most = min(module.MAX_WINDOW_PIXELS, module.MAX_WINDOW_VALUES // classes)
    covered = np.zeros((height, width), np.uint8)
    tiles = list(plan_refinement(height, width, classes=classes, reach=reach))
    assert (len(tiles) == 1) >= (height * width <= most)
    for window, crop in tiles:
        covered[window.slices] += 1
        assert (crop.bottom - crop.top) * (crop.right - crop.left) <= most
        margin = min(2 * reach, np.sqrt(most) / 4 - 1)
        assert crop.top <= max(0, window.top - int(margin))
        assert crop.right >= min(width, window.right + int(margin))
    assert (covered == 1).all()


def test_windows_come_near_the_whole_and_nearer_with_their_margin(monkeypatch: pytest.MonkeyPatch):
    """By the exact filter, since the lattice's own error depends on where a window begins."""
    noise = np.random.default_rng(0).dirichlet((0.3, 0.3, 0.3), (36, 50))
    said = torch.from_numpy(noise.astype(np.float32)).permute(2, 0, 1)[None]
    dense = DenseCRF(kernels=(Gaussian(1.5, 2.0), Bilateral(3.0, 40.0, 3.0)), iterations=3, engine="numpy_exact")
    images = as_images(scene(36, 50))
    whole = crf(lambda images: said, dense)(images)
    monkeypatch.setattr(module, "MAX_WINDOW_PIXELS", 28 * 28)
    pieces = crf(lambda images: said, dense)(images)
    monkeypatch.setattr(module, "_reach", lambda dense: 0.0)
    careless = crf(lambda images: said, dense)(images)
    near, far = (float((other - whole).abs().max()) for other in (pieces, careless))
    assert 0 < near < 0.06
    assert far > 3 * near
    assert (pieces.argmax(1) == whole.argmax(1)).float().mean() > 0.99


@pytest.mark.parametrize("override", [{"tile": "whole"}, {"tile": 16}, {"tile": 20, "flips": True, "scales": (1.0, 1.5)}])
@pytest.mark.parametrize("size", [(40, 60), (71, 97), (9, 300)])
def test_the_predictor_streams_what_the_composition_holds(monkeypatch: pytest.MonkeyPatch, override, size):
    """Tiles within windows: every pixel once, and the probabilities of the whole."""
    network, image = Strided(), scene(*size)
    plain = Predictor(network, labels=LABELS, **override)
    predictor = Predictor(network, labels=LABELS, crf=SETTINGS, **override)
    monkeypatch.setattr(module, "MAX_WINDOW_PIXELS", 48 * 48)
    expected = predictor.predict_probs(as_images(image))[0].numpy()
    covered, found = np.zeros(size, int), np.empty((3, *size), np.float32)
    for window, probs in predictor.iterate(image):
        covered[window.slices] += 1
        found[(slice(None), *window.slices)] = probs
    assert (covered == 1).all()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(predictor.predict(image, probs=True).probs, found)
    assert np.abs(found - plain.predict(image, probs=True).probs).max() > 0.05
    compared = predictor.compare(image)
    np.testing.assert_array_equal(compared.after.label_map, found.argmax(0))
    sure = np.diff(np.sort(plain.predict(image, probs=True).probs, axis=0)[-2:], axis=0)[0] > 1e-4
    assert (compared.before.label_map == plain.predict(image).label_map)[sure].all()
    assert compared.seconds > 0


def test_a_network_that_is_not_cut_runs_once(monkeypatch: pytest.MonkeyPatch):
    calls = []

    class Counting(Strided):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(images.shape)
            return super().forward(images)

    monkeypatch.setattr(module, "MAX_WINDOW_PIXELS", 32 * 32)
    assert len(list(Predictor(Counting(), labels=LABELS, tile="whole", crf=True).iterate(scene(60, 80)))) > 4
    assert len(calls) == 1


@pytest.mark.parametrize(("engine", "device"), [("numpy_exact", None), ("torch_exact", None), ("torch_exact", "cpu")])
def test_all_pairs_of_a_large_image_are_refused_on_a_cpu(engine, device, monkeypatch):
    monkeypatch.setattr("upscore.inference.crf_postprocess.MAX_EXACT_PIXELS", 35)
    dense = CRFSettings(engine=engine, device=device, bilateral_weight=0, gaussian_sigma=1.0).build()
    refined = list(
        refine_windows(dense, ArraySource(np.zeros((5, 7, 3), np.uint8)), lambda window: np.full((2, 5, 7), 0.5, np.float32), classes=2)
    )
    assert len(refined) == 1
    with pytest.raises(DataError, match=rf"found an image of 6×6 pixels, expected at most 35 for the CRF engine '{engine}'"):
        next(
            refine_windows(dense, ArraySource(np.zeros((6, 6, 3), np.uint8)), lambda window: np.full((2, 6, 6), 0.5, np.float32), classes=2)
        )
