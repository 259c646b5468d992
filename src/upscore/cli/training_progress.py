"""The progress of a training run: a bar, and a line for each epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from upscore.cli.console import aside

if TYPE_CHECKING:
    from upscore.training.checkpoint import Progress as RunProgress
    from upscore.training.recipe import Recipe

__all__ = ["TrainingProgressBar"]


class _Rate(ProgressColumn):
    """Images per second, as text."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields.get('rate', 0.0):.1f} images/s", style="cyan")


class TrainingProgressBar:
    """A bar over the whole run, and a line for each epoch or validated part of one."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=aside,
            transient=True,
        )
        self.task = self.bar.add_task("starting", total=None, rate=0.0)
        self.epochs = self.images = 0
        self.started = 0.0
        self.best = -1.0

    def begin(self, *, recipe: Recipe, progress: RunProgress, steps_per_epoch: int) -> None:
        """Start the bar, at the step that a resumed run had reached."""
        steps = recipe.run.total_steps(steps_per_epoch)
        self.epochs = -(-steps // steps_per_epoch)
        self.best = progress.best_miou
        if recipe.run.lengthened_at(progress.step):
            before = recipe.run.lengthened[-1].of
            aside.print(
                f"lengthened from {before} to {steps} steps: the learning rate is that of the longer schedule from here on", soft_wrap=True
            )
        if progress.step:
            aside.print(f"continuing after step {progress.step}, epoch {progress.step // steps_per_epoch} of {self.epochs}")
        self.bar.update(self.task, total=steps, completed=progress.step)
        self.started = time.monotonic()
        self.bar.start()

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """Advance by a step."""
        self.images += images
        rate = self.images / max(1e-9, time.monotonic() - self.started)
        self.bar.update(self.task, advance=1, description=f"epoch {epoch}/{self.epochs}  loss {loss:.3f}", rate=rate)

    def validating(self, done: int, total: int) -> None:
        """Show that validation is running."""
        self.bar.update(self.task, description=f"validating {done}/{total}")

    def row(self, row: dict[str, float]) -> None:
        """Print the line of an epoch."""
        line = f"epoch {row['epoch']:>3g}/{self.epochs}  loss {row['loss']:.4f}"
        if "val_loss" in row:
            line += f"  val loss {row['val_loss']:.4f}"
        if "miou" in row:
            line += f"  mIoU {100 * row['miou']:5.2f}  pixel accuracy {100 * row['pixel_accuracy']:5.2f}"
            line += "  [green]best[/green]" if row["miou"] > self.best else ""
            self.best = max(self.best, row["miou"])
        self.bar.console.print(line, soft_wrap=True)
        self.started, self.images = time.monotonic(), 0

    def end(self, progress: RunProgress) -> None:
        """Remove the bar."""
        self.bar.stop()
        if progress.stopped:
            aside.print(f"stopped early: no better mIoU in {progress.stale} validations")
