"""The terminal: lines of text of unknown origin, progress bars, and errors on a line of their own.

Bars are drawn on a terminal that can move its cursor. Elsewhere (a file, a pipe, ``TERM=dumb``) long work prints a plain line now and then.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from upscore.errors import RunInterrupted, UpscoreError
from upscore.text import one_line, shortened, visible

__all__ = [
    "MAX_COMMAND",
    "aside",
    "bar_columns",
    "console",
    "draws_bars",
    "escape",
    "image_bar",
    "loading",
    "make_table",
    "percent",
    "print_aside",
    "print_line",
    "print_unit",
    "print_warnings",
    "progress_bar",
    "report_errors",
    "short_name",
    "tuning_bar",
]

console = Console(highlight=False, emoji=False)
aside = Console(stderr=True, highlight=False, emoji=False)
"""Standard error, for what is not a result."""

MAX_NAME = 60  # characters of the longest name that a table shows in full

MAX_COMMAND = 20_000  # characters of the longest command that is printed in full

MAX_FILE = 28  # and of that of a file beside a progress bar

PLAIN_SECONDS = 60.0
"""Between two plain lines of progress, where bars cannot be drawn."""

LARGE = 10_000_000  # pixels of an image whose files take seconds to write

BAR_WIDTH = 20  # characters: what stands beside it fits into a line of 80


def draws_bars() -> bool:
    """Return whether standard error can show a bar that is redrawn."""
    return aside.is_terminal and not aside.is_dumb_terminal


def escape(text: object, length: int = 1000) -> str:
    """Return text of unknown origin (a path, a warning, a value) for a line: without markup, hidden characters visible, bounded."""
    return escape_markup(visible(shortened(str(text), length)))


def short_name(text: str) -> str:
    """Return a name of unknown origin for a cell of a table."""
    return escape(text, MAX_NAME)


def make_table(columns: Iterable[str], *, left: Sequence[str] = ()) -> Table:
    """Return an empty table; columns are aligned to the right, but for those in ``left``."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table


def print_unit(*, with_changes: bool = False) -> None:
    """Print the unit of the tables that follow."""
    console.print(f"[dim]all metrics in %{', changes in percentage points' if with_changes else ''}[/dim]")


def percent(value: Any) -> str:
    """Return a fraction as a number in per cent, for a table whose unit is printed; a dash for None and nan."""
    return "–" if value is None or value != value else f"{100 * float(value):.2f}"


def print_line(line: str) -> None:
    """Print a line to standard output."""
    console.print(escape(line))


def print_aside(lines: Iterable[str]) -> None:
    """Print to standard error how inputs were read, and what was left out."""
    for line in lines:
        aside.print(f"  {escape(line)}", soft_wrap=True)


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings beside the results they concern."""
    for warning in warnings:
        console.print(f"[bold yellow]warning:[/bold yellow] {escape(one_line(warning))}", soft_wrap=True)


@contextlib.contextmanager
def loading(what: str = "PyTorch") -> Iterator[None]:
    """Show on a terminal that something is loaded that takes seconds; the line is gone when the block ends."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    line = f"upscore: loading {what} …"
    print(line, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"\r{' ' * len(line)}\r", end="", file=sys.stderr, flush=True)  # also where a terminal knows no control sequences


@contextlib.contextmanager
def report_errors(
    interrupted: str = "nothing was written", *, memory: str = "close other programs, or choose another --device"
) -> Iterator[None]:
    """Clear the progress bar before an error's line; an interrupt ends in one line too, and in its signal's exit code.

    ``interrupted`` is what an interrupt leaves behind, ``memory`` what to change where memory runs out and nothing explains it closer.
    """
    try:
        yield
    except KeyboardInterrupt as stop:  # before typer prints an empty line for it
        aside.show_cursor(True)
        text = str(stop) if isinstance(stop, RunInterrupted) else f"interrupted: {interrupted}"
        print(f"upscore: {text}", file=sys.stderr)
        raise SystemExit(128 + (stop.number if isinstance(stop, RunInterrupted) else signal.SIGINT)) from None
    except BaseException as error:
        aside.show_cursor(True)
        if isinstance(error, UpscoreError) or not _is_out_of_memory(error):
            raise
        raise UpscoreError(f"memory ran out: {memory}") from error


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # it is not loaded to find out
        return isinstance(error, MemoryError)
    from upscore.ops.out_of_memory import is_out_of_memory

    try:
        return is_out_of_memory(error)
    except ValueError:  # its text cannot be made, such as that of a number of thousands of digits
        return False


def bar_columns(task: str) -> list[ProgressColumn]:
    """Return the columns of a bar: the task, the bar, how many of all are done, and the time that is left."""
    return [TextColumn(task), BarColumn(BAR_WIDTH), MofNCompleteColumn(), TimeRemainingColumn()]


@contextlib.contextmanager
def progress_bar(task: str, *, then: str = "", quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, or a plain line now and then; yields a function of (done, total).

    ``then`` is what is done when all is done, until the block ends.
    """
    if quiet or not draws_bars():
        yield (lambda done, total: None) if quiet else _plain_lines(task)
        return
    with Progress(*bar_columns("{task.description}"), console=aside, transient=True) as progress:
        bar = progress.add_task(task, total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, description=then if then and done == total else task)

        yield show


def _plain_lines(task: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that prints a line when the last one is a while ago."""
    printed = [time.monotonic()]

    def show(done: int, total: int) -> None:
        if time.monotonic() - printed[0] >= PLAIN_SECONDS and done < total:
            printed[0] = time.monotonic()
            aside.print(f"{task}: {done:,} of {total:,}", soft_wrap=True)

    return show


class ImageBar:
    """Progress over the pixels of images, and inside one that takes more than one tile; ``sizes`` are the pixels of each by its path."""

    def __init__(self, sizes: Mapping[str, int], show: Callable[[int, int, str], None]) -> None:
        self.sizes, self.show = sizes, show
        self.images = self.pixels = 0  # done

    def inside(self, path: Path, pixels: int, total: int) -> None:
        """Show how much of the image is labelled that is being labelled."""
        name = escape(shortened(path.name, MAX_FILE))
        written = f"writing {name}" if total >= LARGE else ""
        shown = f"{name} {100 * pixels // total:>2} %" if pixels < total else written
        self.show(self.images, self.pixels + pixels, shown)

    def advance(self, path: str) -> None:
        """Show that an image is done."""
        self.images += 1
        self.pixels += self.sizes.get(path, 1)
        self.show(self.images, self.pixels, "")


@contextlib.contextmanager
def image_bar(task: str, sizes: Mapping[str, int]) -> Iterator[ImageBar]:
    """Show a progress bar over images that large ones advance tile by tile, with their names; or a plain line now and then."""
    if not draws_bars():
        lines = _plain_lines(task)
        yield ImageBar(sizes, lambda images, pixels, inside: lines(images, len(sizes)))
        return
    columns = (
        TextColumn(task), BarColumn(BAR_WIDTH), TextColumn("{task.fields[done]}"), TimeRemainingColumn(),
        TextColumn("{task.fields[inside]}"),
    )  # fmt: skip
    with Progress(*columns, console=aside, transient=True) as progress:
        bar = progress.add_task(task, total=sum(sizes.values()), done=f"0/{len(sizes)}", inside="")

        def show(images: int, pixels: int, inside: str) -> None:
            progress.update(bar, completed=pixels, done=f"{images}/{len(sizes)}", inside=inside)

        yield ImageBar(sizes, show)


@contextlib.contextmanager
def tuning_bar() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int, float | None], None]]]:
    """Show a bar for each stage of tuning, with the best gain; yields a function of a line, and one of (stage, done, total, best)."""
    with Progress(
        *bar_columns("{task.description:<10}"), TextColumn("{task.fields[best]}"),
        console=aside, transient=True,
    ) as progress:  # fmt: skip
        bar, current = progress.add_task("", total=None, best=""), [""]

        def show(stage: str, done: int, total: int, best: float | None) -> None:
            if stage in ("predicting", "sampling") and stage != current[0]:
                progress.reset(bar)
            current[0] = stage
            gain = "" if best is None else f"best {100 * best:+.2f} points"
            progress.update(bar, description=stage, completed=done, total=total, best=gain)

        yield lambda line: aside.print(escape(line), soft_wrap=True), show
