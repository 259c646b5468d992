"""What is informed of the progress of a run: a console, a log, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from upscore.training.checkpoint import Progress
from upscore.training.recipe import Recipe

__all__ = ["ProgressListener", "SilentListener"]


class ProgressListener(Protocol):
    """Is called by the loop as a run proceeds, in the first process only."""

    def begin(self, *, recipe: Recipe, progress: Progress, steps_per_epoch: int) -> None:
        """The run starts, or continues from ``progress``."""

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """A step of ``images`` images is done."""

    def validating(self, done: int, total: int) -> None:
        """``done`` of ``total`` validation images are evaluated."""

    def row(self, row: dict[str, float]) -> None:
        """An epoch is done, or the part of it between two validations; ``row`` is its line in the log."""

    def end(self, progress: Progress) -> None:
        """The run is finished, or interrupted."""


class SilentListener:
    """A listener that does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **values: None
