"""The courses of the learning rate, beside torch's own schedulers."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upscore.training.recipe_sections import ScheduleSection
from upscore.training.schedules import SCHEDULES, lr_factor


def course(*, steps: int = 100, **settings) -> list[float]:
    return [lr_factor(ScheduleSection(**settings), step=i, steps=steps, steps_per_epoch=10) for i in range(steps)]


def torchs(scheduler, *, steps: int = 100, **settings) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    following, rates = scheduler(optimizer, **settings), []
    for _ in range(steps):
        rates.append(following.get_last_lr()[0])
        optimizer.step()
        following.step()
    return rates


def test_courses_are_those_of_torchs_schedulers():
    schedulers = torch.optim.lr_scheduler
    assert course(name="cosine", steps=37) == pytest.approx(torchs(schedulers.CosineAnnealingLR, steps=37, T_max=37), abs=1e-12)
    for power in (0.9, 2.0):
        expected = torchs(schedulers.PolynomialLR, steps=37, total_iters=37, power=power)
        assert course(name="poly", power=power, steps=37) == pytest.approx(expected, abs=1e-12)
    assert course(name="step", step_every=7, gamma=0.5) == pytest.approx(torchs(schedulers.StepLR, step_size=7, gamma=0.5))
    assert course(name="step", step_epochs=4, gamma=0.1) == pytest.approx(torchs(schedulers.StepLR, step_size=40, gamma=0.1))
    assert set(course(name="constant")) == {1.0}


@given(name=st.sampled_from(list(SCHEDULES)), steps=st.integers(1, 200), warmup=st.integers(0, 20))
def test_every_course_rises_in_the_warm_up_and_falls_afterwards_within_bounds(name, steps, warmup):
    factors = course(name=name, steps=steps, warmup_steps=warmup)
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(a < b for a, b in pairwise(factors[:warmup]))
    assert all(a >= b for a, b in pairwise(factors[warmup:]))


def test_the_warm_up_ends_at_the_schedule():
    assert course(name="constant", warmup_steps=4)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
