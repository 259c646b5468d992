"""The fractions of classes are counted in parts, and are those of the whole."""

import numpy as np
import pytest

from upscore.types import LabelSpace, Prediction


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4099, 2051)])
def test_fractions_are_those_of_every_pixel(size):
    label_map = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), size)
    labels = LabelSpace(("a", "b", "c"))
    expected = {name: float((label_map == k).mean()) for k, name in enumerate(labels.names)}
    assert Prediction(label_map, labels).class_fractions() == pytest.approx(expected)
