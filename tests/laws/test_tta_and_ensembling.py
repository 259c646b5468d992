"""Averages against their definition, written out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from upscore.errors import RecipeError
from upscore.inference.ensembling import ensemble
from upscore.inference.tta import tta, tta_context

sides = st.integers(1, 40)
scales = st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0])


def lopsided(images: Tensor) -> Tensor:
    """A segmenter that knows left from right and its own scale: class 0 grows with the column."""
    columns = torch.linspace(0, 1, images.shape[-1]).expand_as(images[:, :1])
    logits = torch.cat([columns + images[:, :1], images[:, 1:2] * 2, images[:, 2:] - columns], 1)
    return (3 * logits).softmax(1)


def weigh(source: int, target: int) -> np.ndarray:
    """Bilinear antialiased resampling as a (target, source) matrix: a triangle as wide as the coarser grid's step."""
    step = source / target
    reach = max(1.0, step)
    centres = (np.arange(target)[:, None] + 0.5) * step
    triangle = np.maximum(0, 1 - np.abs(np.arange(source)[None] + 0.5 - centres) / reach)
    return triangle / triangle.sum(1, keepdims=True)


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    return weigh(images.shape[-2], height) @ images @ weigh(images.shape[-1], width).T


@given(height=sides, width=sides, scale=scales, flips=st.booleans(), seed=st.integers(0, 99))
@settings(deadline=None)
def test_tta_is_the_mean_over_its_looks(height: int, width: int, scale: float, flips: bool, seed: int) -> None:
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    multiple = {0.25: 4, 0.5: 2, 0.75: 4, 1.0: 1, 1.25: 4, 1.5: 2, 2.0: 1}[scale]
    padded = np.pad(images.double().numpy(), ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)), mode="edge")
    tall, wide = padded.shape[-2:]
    view = resize(padded, round(tall * scale), round(wide * scale))
    looks = [lopsided(torch.from_numpy(view)).numpy()]
    if flips:
        looks.append(lopsided(torch.from_numpy(view[..., ::-1].copy())).numpy()[..., ::-1])
    expected = np.mean([resize(look, tall, wide) for look in looks], axis=0)[..., :height, :width]
    found = tta(lopsided, flips=flips, scales=(scale,))(images)
    assert found.shape == (1, 3, height, width)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-5)


@given(height=sides, width=sides)
def test_flips_make_a_segmenter_symmetric(height: int, width: int) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    segment = tta(lopsided, flips=True)
    torch.testing.assert_close(segment(images.flip(-1)).flip(-1), segment(images), rtol=0, atol=1e-6)


SYMMETRIES = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def moved(images: torch.Tensor, turns: int, mirrored: bool) -> torch.Tensor:
    """One of the eight symmetries of the square, by indices alone."""
    for _ in range(turns):
        images = images.transpose(-2, -1).flip(-2)
    return images.flip(-1) if mirrored else images


@given(height=sides, width=sides, symmetry=st.sampled_from(SYMMETRIES), flips=st.booleans())
def test_rotations_make_a_segmenter_equivariant(height: int, width: int, symmetry: tuple[int, bool], flips: bool) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    turns, mirrored = symmetry
    segment = tta(lopsided, flips=flips, rotations=True)
    mirrored = mirrored and flips  # turns alone are a group of four
    torch.testing.assert_close(segment(moved(images, turns, mirrored)), moved(segment(images), turns, mirrored), rtol=0, atol=1e-6)


@given(height=sides, width=sides)
def test_flips_and_rotations_are_the_mean_over_the_eight_symmetries(height: int, width: int) -> None:
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(width))
    results = []
    for turns, mirrored in SYMMETRIES:
        back = lopsided(moved(images, turns, mirrored))
        back = back.flip(-1) if mirrored else back
        results.append(moved(back, -turns % 4, False))
    torch.testing.assert_close(tta(lopsided, flips=True, rotations=True)(images), torch.stack(results).mean(0), rtol=0, atol=1e-6)
    turned = torch.stack([moved(lopsided(moved(images, turns, False)), -turns % 4, False) for turns in range(4)]).mean(0)
    torch.testing.assert_close(tta(lopsided, rotations=True)(images), turned, rtol=0, atol=1e-6)


def test_no_average_is_the_segmenter_itself() -> None:
    assert tta(lopsided) is lopsided
    assert tta_context(margin=7, stride=32) == (7, 32, 1)


@given(weights=st.lists(st.floats(0.1, 9), min_size=1, max_size=4))
def test_an_ensemble_is_the_weighted_mean(weights: list[float]) -> None:
    images = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    members = [lambda x, k=k: (lopsided(x) ** k) / (lopsided(x) ** k).sum(1, keepdim=True) for k in range(1, len(weights) + 1)]
    expected = sum(w * m(images) for w, m in zip(weights, members, strict=True)) / sum(weights)
    torch.testing.assert_close(ensemble(members, weights=weights)(images), expected)
    torch.testing.assert_close(ensemble(members)(images), sum(m(images) for m in members) / len(members))


def test_a_copy_of_a_member_changes_nothing() -> None:
    images = torch.rand(1, 3, 6, 7)
    torch.testing.assert_close(ensemble([lopsided, lopsided])(images), lopsided(images))


@given(scale=scales, stride=st.sampled_from([1, 4, 8, 16, 32]), blocks=st.integers(0, 5), margin=st.integers(0, 300))
def test_crops_stay_in_step_at_every_scale(scale: float, stride: int, blocks: int, margin: int) -> None:
    wide, step, multiple = tta_context(margin=margin, stride=stride, scales=(scale,))
    assert (blocks * step * scale) % stride == 0
    assert step % multiple == 0
    assert (multiple * scale) % 1 == 0
    assert wide >= margin / scale


@pytest.mark.parametrize("scales", [(), (0.0,), (float("nan"),), (float("inf"),), (0.5, 0.5), (0.7071,), (100.0,), (-1.0,)])
def test_impossible_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="scale"):
        tta(lopsided, scales=scales)


def test_impossible_ensembles_are_refused() -> None:
    with pytest.raises(RecipeError, match="at least one"):
        ensemble([])
    with pytest.raises(RecipeError, match="positive weight"):
        ensemble([lopsided], weights=[0.0])
    with pytest.raises(RecipeError, match="3 and 2 classes"):
        ensemble([lopsided, lambda x: lopsided(x)[:, :2]])(torch.rand(1, 3, 2, 2))
