"""The progress of a training run: a bar with the time that is left, one for each validation, and a line for each row of the log."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from upscore.errors import RecipeError
from upscore.text import describe_duration, one_line, visible
from upscore.training.checkpoint import Progress
from upscore.training.progress_listener import ProgressListener, SilentListener
from upscore.training.recipe import Recipe

__all__ = ["RowListener", "Show", "TrainingProgressBar", "listener_for", "reading_bar", "show_warnings"]

Show: TypeAlias = bool | Callable[[Mapping[str, float]], object]
"""Whether to show progress where a person sees it; or what is called with each row of the log instead."""

BAR = 12  # characters: what stands beside it fits into a line of 80

PLAIN_SECONDS = 300.0
"""Between two lines with the time that is left, where bars cannot be drawn."""


def _console() -> Console:
    return Console(stderr=True, highlight=False, emoji=False)


def _is_seen(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


def _bars(*columns: ProgressColumn) -> Bars:
    """Return bars, which show nothing where nobody sees them, or where a terminal or a notebook cannot redraw them."""
    console = _console()
    drawn = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal and not console.is_dumb_terminal
    return Bars(*columns, console=console, transient=True, disable=not drawn)


class _Status(ProgressColumn):
    """What stands after a bar: the rate and the time left of a run, or the images of a validation."""

    def __init__(self, bar: TrainingProgressBar) -> None:
        super().__init__()
        self.bar = bar

    def render(self, task: Task) -> Text:
        if task.id == self.bar.validation:
            return Text(f"{int(task.completed)}/{int(task.total or 0)} images")
        left = self.bar.seconds_left()
        return Text(f"{self.bar.rate:.1f} images/s" + ("" if left is None else f", {describe_duration(left)} left"))


class TrainingProgressBar:
    """A bar over the whole run, another while it is validated, and a line for each epoch or validated part of one.

    ``estimate`` is about how many seconds the whole run takes, as far as is known beforehand. It is corrected as the run proceeds: with
    each step of the first epoch the measured time counts for more, and from then on alone. Bars are drawn where a person sees them; lines
    are printed there, or ``always``, such as into the file that a command's output goes to.
    """

    def __init__(self, estimate: float | None = None, *, always: bool = False) -> None:
        self.estimate = self.left = estimate
        self.bar = _bars(TextColumn("{task.description}"), BarColumn(BAR), TextColumn("{task.percentage:>3.0f}%"), _Status(self))
        self.prints = always or _is_seen(self.bar.console)
        self.task = self.bar.add_task("starting", total=None)
        self.validation = self.bar.add_task("validating", total=None, visible=False)
        self.epochs = self.steps = self.steps_per_epoch = 0
        self.step_number = self.first_step = 0
        self.images, self.rate = 0, 0.0  # trained on since the last validation, and in a second
        self.began = self.rate_since = self.left_since = self.printed = time.monotonic()
        self.best = -1.0

    def begin(self, *, recipe: Recipe, progress: Progress, steps_per_epoch: int) -> None:
        """Start the bar, at the step that a resumed run had reached."""
        self.steps, self.steps_per_epoch = recipe.run.total_steps(steps_per_epoch), steps_per_epoch
        self.step_number = self.first_step = progress.step
        self.epochs = -(-self.steps // steps_per_epoch)
        self.best = progress.best_miou
        if recipe.run.lengthened_at(progress.step):
            before = recipe.run.lengthened[-1].of
            self._print(f"lengthened from {before} to {self.steps} steps: the learning rate is that of the longer schedule from here on")
        if progress.step:
            self._print(f"continuing after step {progress.step}, epoch {progress.step // steps_per_epoch} of {self.epochs}")
        self.bar.update(self.task, total=self.steps, completed=progress.step)
        self.began = self.rate_since = self.left_since = self.printed = time.monotonic()
        self.bar.start()

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """Advance by a step."""
        self.images += images
        self.step_number += 1
        self.rate = self.images / max(1e-9, time.monotonic() - self.rate_since)
        self._estimate()
        self.bar.update(self.task, completed=self.step_number, description=f"epoch {epoch}/{self.epochs}  loss {loss:.3f}")

    def seconds_left(self) -> float | None:
        """Return about how long the run still takes, with its validations; None where nothing is known yet."""
        return None if self.left is None else max(0.0, self.left - (time.monotonic() - self.left_since))

    def _estimate(self) -> None:
        """Correct the time that is left; between steps it is counted down."""
        now, taken, left = time.monotonic(), self.step_number - self.first_step, self.steps - self.step_number
        if taken:
            measured = left * (now - self.began) / taken
            known = 1.0 if self.estimate is None else min(1.0, taken / self.steps_per_epoch)
            self.left = known * measured + (1 - known) * left * (self.estimate or 0.0) / self.steps
        self.left_since = now

    def validating(self, done: int, total: int) -> None:
        """Show how many images are validated, in a bar of their own."""
        self.bar.update(self.validation, completed=done, total=total, visible=done < total)

    def row(self, row: dict[str, float]) -> None:
        """Print the line of an epoch."""
        line = f"epoch {row['epoch']:>3g}/{self.epochs}  loss {row['loss']:.4f}"
        if "val_loss" in row:
            line += f"  val loss {row['val_loss']:.4f}"
        if "miou" in row:
            line += f"  mIoU {100 * row['miou']:5.2f} %  pixel accuracy {100 * row['pixel_accuracy']:5.2f} %"
            line += "  [green]best[/green]" if row["miou"] > self.best else ""
            self.best = max(self.best, row["miou"])
        self._print(line)
        self.bar.update(self.validation, visible=False)
        self._estimate()  # with the validation
        now, left = time.monotonic(), self.left
        if self.bar.disable and left and now - self.printed >= PLAIN_SECONDS:
            self._print(f"about {describe_duration(left)} left")
            self.printed = now
        self.rate_since, self.images = now, 0

    def end(self, progress: Progress) -> None:
        """Remove the bar."""
        self.bar.stop()
        if progress.stopped:
            self._print(f"stopped early: no better mIoU in {progress.stale} validations")

    def _print(self, line: str) -> None:
        if self.prints:
            self.bar.console.print(line, soft_wrap=True)


class RowListener(SilentListener):
    """Calls a function with a copy of each row of the log."""

    def __init__(self, function: Callable[[Mapping[str, float]], object]) -> None:
        self.function = function

    def row(self, row: dict[str, float]) -> None:
        """Pass it on."""
        self.function(dict(row))


def listener_for(progress: Show) -> Callable[[], ProgressListener]:
    """Return what makes the listener that a caller asks for; RecipeError where it is neither true, false nor callable."""
    if isinstance(progress, bool):
        return TrainingProgressBar if progress else SilentListener
    if not callable(progress):
        raise RecipeError(f"found progress={progress!r}, expected True, False, or a function that is called with each row of the log")
    return functools.partial(RowListener, progress)


@contextlib.contextmanager
def reading_bar(progress: Show) -> Iterator[Callable[[int, int], None]]:
    """Show how many images have been checked; yields a function of (done, total)."""
    if progress is not True:
        yield lambda done, total: None
        return
    with _bars(TextColumn("reading the data"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def show_warnings(warnings: Iterable[str], progress: Show) -> None:
    """Print warnings where progress is shown, and a person sees it."""
    console = _console()
    for warning in warnings if progress is True and _is_seen(console) else ():
        console.print(f"[bold yellow]warning:[/bold yellow] {escape(visible(one_line(warning)))}", soft_wrap=True)
