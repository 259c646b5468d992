"""Schedules of the learning rate: a record for each, and the factor of a step.

A factor is a function of the step alone, so that a resumed run needs no scheduler's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upscore.training.recipe_sections import ScheduleSection

__all__ = ["SCHEDULES", "Schedule", "lr_factor"]


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes after the warm-up: (settings, step, steps, steps per epoch) -> factor of its peak, in [0, 1]."""

    description: str
    factor: Callable[[ScheduleSection, int, int, int], float]


SCHEDULES: Mapping[str, Schedule] = {
    "poly": Schedule("(1 - step / steps) ** power", lambda settings, step, steps, _: float((1 - step / steps) ** settings.power)),
    "cosine": Schedule(
        "(1 + cos(π step / steps)) / 2 (Loshchilov and Hutter, 2017, without restarts)",
        lambda settings, step, steps, _: (1 + math.cos(math.pi * step / steps)) / 2,
    ),
    "step": Schedule(
        "times gamma every step_epochs epochs, or every step_every steps",
        lambda settings, step, _, steps_per_epoch: float(
            settings.gamma ** (step // (settings.step_every or settings.step_epochs * steps_per_epoch))
        ),
    ),
    "constant": Schedule("the peak throughout", lambda *_: 1.0),
}
"""By the name that ``schedule.name`` takes."""


def lr_factor(settings: ScheduleSection, *, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the factor, in [0, 1], that the peak learning rate is multiplied by at ``step``, counted from 0, of a run of ``steps``.
    >>> from upscore.training.recipe_sections import ScheduleSection
    >>> cosine = ScheduleSection(name="cosine", warmup_steps=1)
    >>> [round(lr_factor(cosine, step=step, steps=4, steps_per_epoch=2), 3) for step in range(4)]
    [0.5, 0.854, 0.5, 0.146]
    """
    warmup = settings.warmup_steps or 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[settings.name].factor(settings, step, steps, steps_per_epoch)
