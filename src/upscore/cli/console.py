"""The terminal: lines of text of unknown origin, progress bars, and errors on a line of their own."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from upscore.errors import RunInterrupted
from upscore.text import one_line, shortened, visible

__all__ = [
    "aside",
    "console",
    "escape",
    "make_table",
    "print_aside",
    "print_line",
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
def report_errors() -> Iterator[None]:
    """Clear the progress bar before an error's line; an interrupt ends in one line too, and in its signal's exit code."""
    try:
        yield
    except KeyboardInterrupt as stop:  # before typer prints an empty line for it
        aside.show_cursor(True)
        print(f"upscore: {stop if isinstance(stop, RunInterrupted) else 'interrupted'}", file=sys.stderr)
        raise SystemExit(128 + (stop.number if isinstance(stop, RunInterrupted) else signal.SIGINT)) from None
    except BaseException:
        aside.show_cursor(True)
        raise


@contextlib.contextmanager
def progress_bar(task: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function of (done, total)."""
    with Progress(
        TextColumn(task), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=aside, transient=True, disable=quiet
    ) as progress:
        bar = progress.add_task(task, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@contextlib.contextmanager
def tuning_bar() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int, float | None], None]]]:
    """Show a bar for each stage of tuning, with the best gain; yields a function of a line, and one of (stage, done, total, best)."""
    with Progress(
        TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}"),
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
