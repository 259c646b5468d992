"""Edges grow with the change of colour, and a border is more of one than texture or blur of the same contrast."""

import cv2
import numpy as np
import pytest

from upscore.proposals import detect_edges

HALF = 40.0
"""The change of colour, in units of Lab, that counts as half an edge."""


def slopes(lightness):
    """Return the change of colour that an image (H, W) of Lab lightness, 0 to 100, is found to have."""
    lab = np.zeros((*lightness.shape, 3), np.float32)
    lab[..., 0] = lightness
    image = np.rint(255 * cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)).clip(0, 255).astype(np.uint8)
    strength = detect_edges(image).strength.astype(np.float64)
    return HALF * strength / (1 - strength)


def step(low, high):
    lightness = np.full((60, 80), low, np.float64)
    lightness[:, 40:] = high
    return lightness


def test_twice_the_contrast_is_twice_the_slope():
    """The geometric mean over the scales is as linear as each of them; their product is not."""
    found = [slopes(step(30, 30 + change)).max() for change in (10, 20, 40)]
    assert found[1] / found[0] == pytest.approx(2, rel=0.1)
    assert found[2] / found[1] == pytest.approx(2, rel=0.1)


def test_texture_and_blur_are_weaker_than_a_border():
    border = slopes(step(30, 70)).max()
    columns = np.arange(80)
    stripes = np.where(columns // 3 % 2, 70.0, 30.0) + np.zeros((60, 1))
    ramp = np.interp(columns, [20, 60], [30, 70]) + np.zeros((60, 1))
    assert slopes(stripes)[:, 20:60].max() < 0.5 * border
    assert slopes(ramp).max() < 0.5 * border
