import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from upscore.errors import DataError
from upscore.explain.receptive_fields import (
    effective_receptive_fields,
    enclosing_side,
    measure_receptive_fields,
    theoretical_receptive_field,
    theoretical_side,
)
from upscore.inference.tile_grid import Window
from upscore.ops.geometry import Geometry


class Smooth(nn.Module):
    """Two convolutions with a smooth function between them: differences of its scores converge to derivatives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Dropout(0.5), nn.Conv2d(4, 3, 3, padding=1)).double()
        self.geometry = Geometry().conv(3, padding=1).conv(3, padding=1)

    def forward(self, images):
        return self.layers(images)


@pytest.mark.parametrize("at", [(0, 0), (3, 2), (5, 6)])
def test_the_effective_field_is_the_sum_of_absolute_differences(at):
    model, images = Smooth().eval(), torch.rand(1, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        k = int(model(images)[0, :, at[0], at[1]].argmax())
        expected = np.zeros((6, 7))
        for c, i, j in np.ndindex(3, 6, 7):
            nudge = torch.zeros_like(images)
            nudge[0, c, i, j] = 1e-6
            expected[i, j] += abs(float((model(images + nudge) - model(images - nudge))[0, k, at[0], at[1]])) / 2e-6
    np.testing.assert_allclose(effective_receptive_fields(model, images, [at])[0], expected, atol=1e-6)


def test_the_network_is_left_in_the_mode_it_was_in_and_evaluated_without_dropout():
    model, images = Smooth().train(), torch.rand(1, 3, 6, 7, dtype=torch.float64)
    once, again = effective_receptive_fields(model, images, [(2, 2)])[0], effective_receptive_fields(model, images, [(2, 2)])[0]
    np.testing.assert_array_equal(once, again)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_several_points_share_a_pass_forward_and_are_told_as_they_are_done():
    model, images, told = Smooth().eval(), torch.rand(1, 3, 6, 7, dtype=torch.float64), []
    points = [(0, 0), (5, 6), (3, 3)]
    fields = effective_receptive_fields(model, images, points, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    for point, field in zip(points, fields, strict=True):
        np.testing.assert_array_equal(field, effective_receptive_fields(model, images, [point])[0])


def test_pixels_outside_and_several_images_are_refused():
    with pytest.raises(DataError, match="6,0 outside the image of 6 rows and 7 columns"):
        effective_receptive_fields(Smooth(), torch.rand(1, 3, 6, 7, dtype=torch.float64), [(6, 0)])[0]
    with pytest.raises(DataError, match="found 2 images"):
        effective_receptive_fields(Smooth(), torch.rand(2, 3, 6, 7, dtype=torch.float64), [(0, 0)])[0]


def test_the_theoretical_field_is_cut_by_the_image_and_may_be_all_of_it():
    model = Smooth()
    assert theoretical_side(model) == 7  # 5, and a pixel more on either side
    assert theoretical_receptive_field(model, (1, 10), (20, 12)) == Window(0, 7, 5, 12)
    model.geometry = Geometry(receptive_field=math.inf)
    assert theoretical_side(model) == math.inf
    assert theoretical_receptive_field(model, (1, 10), (20, 12)) == Window(0, 0, 20, 12)
    assert theoretical_side(nn.Identity()) == math.inf  # it does not say


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32)), st.data())
def test_the_enclosing_square_holds_its_share_and_the_next_smaller_does_not(field, data):
    at = tuple(data.draw(st.integers(0, n - 1)) for n in field.shape)
    side = enclosing_side(field, at, fraction=0.9)

    def held(side):
        reach = side // 2
        return field[max(0, at[0] - reach) : at[0] + reach + 1, max(0, at[1] - reach) : at[1] + reach + 1].sum(dtype=np.float64)

    total = field.sum(dtype=np.float64)
    if total == 0:
        assert side == 0
        return
    assert side % 2 == 1
    assert held(side) >= 0.9 * total * (1 - 1e-12)
    assert side == 1 or held(side - 2) <= 0.9 * total * (1 + 1e-12)


def test_what_is_kept_of_a_field_is_small_and_its_mean_the_same():
    model, images = Smooth().eval(), torch.rand(1, 3, 10, 660, dtype=torch.float64)
    (field,) = measure_receptive_fields(model, images, [(5, 300)])
    assert field.effective.shape == (3, 220)
    assert field.theoretical == Window(2, 297, 9, 304)
    assert 1 <= field.effective_side <= 5
    assert field.effective.mean() == pytest.approx(effective_receptive_fields(model, images, [(5, 300)])[0].mean(), rel=1e-5)


def test_a_score_that_is_a_constant_has_an_empty_field():
    model = Smooth()
    nn.init.zeros_(model.layers[-1].weight)
    (field,) = measure_receptive_fields(model, torch.rand(1, 3, 6, 7, dtype=torch.float64), [(2, 2)])
    assert field.effective_side == 0
    assert not field.effective.any()
