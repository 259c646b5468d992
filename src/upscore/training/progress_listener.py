"""What is informed of the progress of a run: a console, a log, or nothing.

The log is a table anyone can open, and TensorBoard's event files where that is installed. The whole table is rewritten from the run's
history, so that a resumed run leaves no row twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from upscore.files import write_atomically
from upscore.training.checkpoint import Progress
from upscore.training.recipe import Recipe

__all__ = ["ProgressListener", "RunLogger", "SilentListener"]


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


class RunLogger:
    """Writes each row to ``log.csv`` and, if asked, TensorBoard's event files in a folder, and passes everything on to a listener."""

    def __init__(self, listener: ProgressListener, folder: Path, tensorboard: bool):
        self.listener, self.folder, self.tensorboard = listener, folder, tensorboard
        self.rows: list[dict[str, float]] = []
        self.writer: Any = None

    def begin(self, *, recipe: Recipe, progress: Progress, steps_per_epoch: int) -> None:
        """Continue the rows that a resumed run already has: exactly those, whenever it was killed."""
        self.rows = list(progress.history)
        self._write()
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=len(self.rows) + 1)
        self.listener.begin(recipe=recipe, progress=progress, steps_per_epoch=steps_per_epoch)

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """Pass it on."""
        self.listener.step(epoch=epoch, loss=loss, images=images)

    def validating(self, done: int, total: int) -> None:
        """Pass it on."""
        self.listener.validating(done, total)

    def row(self, row: dict[str, float]) -> None:
        """Write the row."""
        self.rows.append(row)
        self._write()
        if self.writer is not None:
            for name in row.keys() - {"epoch", "step"}:
                self.writer.add_scalar(name, row[name], len(self.rows))
            self.writer.flush()
        self.listener.row(row)

    def _write(self) -> None:
        if not self.rows:
            (self.folder / "log.csv").unlink(missing_ok=True)
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        table = csv.DictWriter(text, columns)
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(self.folder / "log.csv", text.getvalue().encode())

    def end(self, progress: Progress) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
        self.listener.end(progress)
