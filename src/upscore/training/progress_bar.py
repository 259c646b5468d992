"""The progress of a run that was started from Python: a bar and a line for each row of the log, where a person sees them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from upscore.errors import RecipeError
from upscore.text import one_line, visible
from upscore.training.checkpoint import Progress
from upscore.training.progress_listener import ProgressListener, SilentListener
from upscore.training.recipe import Recipe

__all__ = ["ProgressBar", "RowListener", "Show", "listener_for", "reading_bar", "show_warnings"]

Show: TypeAlias = bool | Callable[[Mapping[str, float]], object]
"""Whether to show progress where a person sees it; or what is called with each row of the log instead."""


def _console() -> Console:
    return Console(stderr=True, highlight=False, emoji=False)


def _is_seen(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


def _bars(console: Console, *columns: TextColumn) -> Bars:
    """Return bars, which show nothing where nobody sees them, or a notebook cannot draw them."""
    hidden = not _is_seen(console) or (console.is_jupyter and find_spec("ipywidgets") is None)
    return Bars(*columns, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True, disable=hidden)


class ProgressBar:
    """A bar over the steps of the run, another over the images of a validation, and a line for each row."""

    def __init__(self) -> None:
        self.bars = _bars(_console(), TextColumn("{task.description}"))
        self.steps = self.bars.add_task("training", total=None)
        self.images = self.bars.add_task("validating", total=None, visible=False)

    def begin(self, *, recipe: Recipe, progress: Progress, steps_per_epoch: int) -> None:
        """Start the bar, at the step that a resumed run had reached."""
        self.bars.update(self.steps, total=recipe.run.total_steps(steps_per_epoch), completed=progress.step)
        self.bars.start()

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """Advance by a step."""
        self.bars.update(self.steps, advance=1, description=f"epoch {epoch}  loss {loss:.3f}")

    def validating(self, done: int, total: int) -> None:
        """Show how far the validation is."""
        self.bars.update(self.images, completed=done, total=total, visible=done < total)

    def row(self, row: dict[str, float]) -> None:
        """Print a line."""
        if _is_seen(self.bars.console):
            self.bars.console.print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), soft_wrap=True)

    def end(self, progress: Progress) -> None:
        """Remove the bars."""
        self.bars.stop()


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
        return ProgressBar if progress else SilentListener
    if not callable(progress):
        raise RecipeError(f"found progress={progress!r}, expected True, False, or a function that is called with each row of the log")
    return functools.partial(RowListener, progress)


@contextlib.contextmanager
def reading_bar(progress: Show) -> Iterator[Callable[[int, int], None]]:
    """Show how many images have been checked; yields a function of (done, total)."""
    if progress is not True:
        yield lambda done, total: None
        return
    with _bars(_console(), TextColumn("reading the data")) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def show_warnings(warnings: Iterable[str], progress: Show) -> None:
    """Print warnings where progress is shown, and a person sees it."""
    console = _console()
    for warning in warnings if progress is True and _is_seen(console) else ():
        console.print(f"[bold yellow]warning:[/bold yellow] {escape(visible(one_line(warning)))}", soft_wrap=True)
