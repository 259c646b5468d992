"""What the commands show: bars while something takes long, tables and lines when it is done."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as unmarked
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from upscore.errors import RunInterrupted
from upscore.text import one_line, shortened, visible

if TYPE_CHECKING:
    from upscore.data.dataset import Dataset
    from upscore.demo import Demonstration
    from upscore.evaluation.evaluate import Evaluation
    from upscore.evaluation.proposal_sweep import ProposalSweep
    from upscore.evaluation.tune import Tuning
    from upscore.explain import Explanation
    from upscore.inference.predict_files import Found, LabelledImage
    from upscore.inference.settings import CRFSettings, InferenceSettings
    from upscore.models.ensemble import Ensemble
    from upscore.models.factory import ListedModel
    from upscore.training.checkpoint import Progress as RunProgress
    from upscore.training.launch import Run
    from upscore.training.plan import Plan
    from upscore.training.recipe import Recipe
    from upscore.training.recipes import ShippedRecipe

console = Console(highlight=False, emoji=False)
aside = Console(stderr=True, highlight=False, emoji=False)

NAME = 60
"""Characters of the longest name that a table shows whole."""


def escape(text: object, most: int = 1000) -> str:
    """Return text of unknown origin (a path, a note, a value) fit for a line: no markup, nothing hidden, of bounded length."""
    return unmarked(visible(shortened(str(text), most)))


def short_name(text: str) -> str:
    """Return a name of unknown origin fit for a cell of a table."""
    return escape(text, NAME)


class _Rate(ProgressColumn):
    """Images per second, as text."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields.get('rate', 0.0):.1f} images/s", style="cyan")


class TrainingDisplay:
    """A bar over the whole run, and a line for each epoch or evaluated part of one."""

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
        self.epochs = self.started_at = self.images = 0
        self.started = 0.0
        self.best = -1.0

    def begin(self, *, recipe: Recipe, progress: RunProgress, steps_per_epoch: int) -> None:
        """Start the bar, at the step a resumed run had reached."""
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
        """Say that validation is under way."""
        self.bar.update(self.task, description=f"validating {done}/{total}")

    def row(self, row: dict[str, float]) -> None:
        """Print its line."""
        line = f"epoch {row['epoch']:>3g}/{self.epochs}  loss {row['loss']:.4f}"
        if "miou" in row:
            better = row["miou"] > self.best
            self.best = max(self.best, row["miou"])
            line += f"  mIoU {100 * row['miou']:5.2f}  pixel accuracy {100 * row['pixel_accuracy']:5.2f}" + (
                "  [green]best[/green]" if better else ""
            )
        self.bar.console.print(line)
        self.started, self.images = time.monotonic(), 0

    def end(self, progress: RunProgress) -> None:
        """Take the bar away."""
        self.bar.stop()
        if progress.stopped:
            aside.print(f"stopped early: no better mIoU in {progress.stale} validations")


@contextlib.contextmanager
def errors_on_their_own_line() -> Iterator[None]:
    """Let nothing of a bar stand before an error's line; an interrupt ends in one line too, and in the exit code of its signal."""
    try:
        yield
    except KeyboardInterrupt as stop:  # before typer makes an empty line of it
        aside.show_cursor(True)
        print(f"upscore: {stop if isinstance(stop, RunInterrupted) else 'interrupted'}", file=sys.stderr)
        raise SystemExit(128 + (stop.number if isinstance(stop, RunInterrupted) else signal.SIGINT)) from None
    except BaseException:
        aside.show_cursor(True)
        raise


@contextlib.contextmanager
def bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for ``what``; yields a function of (done, total)."""
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=aside, transient=True, disable=quiet
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def tuning() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int, float | None], None]]]:
    """Show a bar for each stage of tuning, with the best gain so far; yields a function of a line, and one of (what, done, total, best)."""
    with Progress(
        TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}"),
        console=aside, transient=True,
    ) as progress:  # fmt: skip
        task, stage = progress.add_task("", total=None, best=""), [""]

        def show(what: str, done: int, total: int, best: float | None) -> None:
            if what in ("predicting", "drawing") and what != stage[0]:
                progress.reset(task)
            stage[0] = what
            gain = "" if best is None else f"best {100 * best:+.2f} points"
            progress.update(task, description=what, completed=done, total=total, best=gain)

        yield lambda line: aside.print(escape(line), soft_wrap=True), show


def checking() -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    """Show a bar while the data is looked at."""
    return bar("reading the data")


def say(line: str) -> None:
    """Print a line of narration."""
    console.print(escape(line))


def say_aside(line: str) -> None:
    """Print a line that is no result."""
    aside.print(line, soft_wrap=True)


def dataset_notes(dataset: Dataset) -> None:
    """Say beside the results what the reader of a dataset decided."""
    for note in dataset.notes:
        aside.print(f"  {escape(note)}", soft_wrap=True)


def plan(ready: Plan) -> None:
    """Print what was chosen, and why."""
    census = ready.census
    console.print(f"[bold]{escape(ready.recipe.data.path)}[/bold]: {census.images} images to learn from, {len(census.labels)} classes")
    for note in ready.messages:
        console.print(f"  {escape(note)}")
    _warn(ready.warnings)
    if ready.choices:
        table = Table(box=None, pad_edge=False, header_style="dim", title="chosen", title_justify="left", title_style="bold")
        for column in ("setting", "value", "why"):
            table.add_column(column, overflow="fold")
        for choice in ready.choices:
            table.add_row(escape(choice.setting), escape(choice.value), f"[dim]{escape(choice.why)}[/dim]")
        console.print(table)
    console.print(f"run folder: [bold]{escape(ready.folder)}[/bold]")


def finished(run: Run, *, data: str | None) -> None:
    """Print how a run ended and what to do next."""
    progress = run.progress
    console.print(f"best mIoU [bold]{100 * progress.best_miou:.2f}[/bold] after epoch {progress.best_epoch:g}: {escape(run.best)}")
    _warn(run.warnings)
    console.print(f"next: upscore evaluate {escape(shlex.quote(str(run.folder)))} {escape(shlex.quote(data or 'DATA'))}")


def scores(evaluation: Evaluation, page: Path, *, as_json: bool) -> None:
    """Print an evaluation, with a CRF before and after it: as tables, or as JSON alone."""
    if as_json:
        print(json.dumps(evaluation.numbers() | {"settings": evaluation.settings, "report": str(page)}, indent=2))
        return
    both = [evaluation] if evaluation.before is None else [evaluation.before, evaluation]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for column in ("IoU", "boundary IoU", "accuracy"):
        for when in ("",) if len(both) == 1 else ("before", "after"):
            table.add_column(f"{column}\n{when}" if when else column, justify="right")
    table.add_column("pixels", justify="right")
    for i, name in enumerate(evaluation.labels.names):
        table.add_row(
            short_name(name),
            *(_percent(one.metrics.class_iou[i]) for one in both),
            *(_percent(one.border_metrics.class_boundary_iou[i]) for one in both),
            *(_percent(one.metrics.class_accuracy[i]) for one in both),
            f"{int(evaluation.metrics.class_pixels[i]):,}",
        )
    console.print(table)
    b = evaluation.border_metrics
    if evaluation.before is None:
        shares = {name: _percent(value) for name, value in evaluation.totals.items()}
        shares["mean IoU"] = f"[bold]{shares['mean IoU']}[/bold]"
        console.print("   ".join(f"{name} {share}" for name, share in shares.items()))
    else:
        console.print(_before_and_after(evaluation.before, evaluation))
        from upscore.inference.settings import CRFSettings

        _crf(CRFSettings.model_validate(evaluation.settings["crf"]))
    _warn(evaluation.warnings)
    for note, count in evaluation.noted.items():
        console.print(f"{count} image{'s' * (count > 1)}: {escape(note)}", soft_wrap=True)
    console.print(f"[dim]{escape(evaluation.policy)} {escape(b.policy)}[/dim]")
    console.print(f"report: [bold]{escape(page)}[/bold]")


def _before_and_after(before: Evaluation, after: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("score", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for (name, was), now in zip(before.totals.items(), after.totals.values(), strict=True):
        table.add_row(name, _percent(was), f"[bold]{_percent(now)}[/bold]", _change(was, now))
    return table


def _crf(settings: CRFSettings) -> None:
    """Print the CRF's numbers, and whether it could have been faster."""
    from upscore.crf.engines import native

    console.print(f"CRF: {escape(settings)}", soft_wrap=True)
    if not native.available():
        console.print(
            "[dim]the CRF ran in NumPy, some nine times slower than compiled: install upscore again where there is a C++ compiler[/dim]",
            soft_wrap=True,
        )


def tuned(found: Tuning, place: Path) -> None:
    """Print what tuning found, whether the CRF is on, and where the bundle is."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "images", "mean IoU\nbefore", "\nafter", "boundary IoU\nbefore", "\nafter", "trimap IoU\nbefore", "\nafter"):
        table.add_column(column, justify="right" if column else "left")
    for name, half in (("chosen on", found.chosen_on), ("confirmed on", found.confirmed_on), ("together", found.whole)):
        scores = [scores[score] for score in ("mean_iou", "boundary_iou", "trimap_iou") for scores in (half.before, half.after)]
        table.add_row(name, str(half.images), *(_percent(score) for score in scores))
    console.print(table)
    _crf(found.settings)
    console.print(f"[bold]{escape(found.verdict)}[/bold]", soft_wrap=True)
    console.print(f"bundle: [bold]{escape(place)}[/bold]")


def put_together(together: Ensemble, place: Path) -> None:
    """Print an ensemble's members and how each looks at an image."""
    from upscore.inference.settings import InferenceSettings

    settings = InferenceSettings.of(together.inference)
    for member in together.members:
        own = InferenceSettings.of(member.inference).proposals
        how = "whole images" if own is None else f"{own.most} proposals ({own.by}), aggregated by {own.aggregate}"
        console.print(f"  {escape(member.architecture)}: {how}")
    what = "scores multiplied" if settings.combine == "product" else "probabilities averaged"
    console.print(f"{len(together.members)} networks, {what}{', then the CRF' if settings.refines else ''}: [bold]{escape(place)}[/bold]")


def left_out(found: Found) -> None:
    """Say what of the given folders and patterns was not taken."""
    for note in found.notes:
        aside.print(escape(note), soft_wrap=True)


def bad_image(result: LabelledImage) -> None:
    """Report an image that could not be labelled, or what should be known of one that was."""
    if result.error:
        aside.print(f"upscore: {escape(visible(result.error))}", style="red", soft_wrap=True)
    for note in result.notes:
        aside.print(escape(visible(f"{result.file}: {note}")), soft_wrap=True)


def predicted(results: Sequence[LabelledImage], found: Found, out: Path, settings: InferenceSettings) -> None:
    """Print how many images were labelled, with which CRF, and where they are."""
    failed = sum(bool(result.error) for result in results)
    if settings.crf is not None and settings.crf.on:
        _crf(settings.crf)
    counts = [f"{len(results) - failed} labelled"]
    counts += [f"[red]{failed} failed[/red]"] if failed else []
    counts += [f"{found.left_out} left out"] if found.left_out else []
    console.print(f"{', '.join(counts)}: [bold]{escape(out)}[/bold]", soft_wrap=True)


def explained(explanation: Explanation, place: Path) -> None:
    """Print what the network says at the pixel, what that depends on, and where the page is."""
    (row, column), field = explanation.at, explanation.fields[0]
    k = int(explanation.label_map[row, column])
    depends = (
        f"95 % of its field within {field.held_side}×{field.held_side} pixels" if field.held_side else "which nothing in the image moves"
    )
    console.print(
        f"row {row}, column {column}: [bold]{short_name(explanation.labels.names[k])}[/bold] "
        f"{_percent(explanation.probs[k, row, column])} %, {depends}",
        soft_wrap=True,
    )
    if explanation.image.shape[:2] != explanation.size:
        height, width = explanation.image.shape[:2]
        console.print(f"[dim]the image was shrunk to {height}×{width} pixels: --pixels takes more[/dim]", soft_wrap=True)
    console.print(f"page: [bold]{escape(place)}[/bold]", soft_wrap=True)


def grown(growth: ProposalSweep, page: Path) -> None:
    """Print mean IoU over the number of proposals, and by what else was evaluated."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("mean IoU", justify="right")
    for row in growth.curve():
        table.add_row(
            f"{short_name(growth.network)}, {int(row['proposals'])} proposal{'s' * (row['proposals'] > 1)}", _percent(row["mean_iou"])
        )
    for name in growth.ways:
        if name != growth.all_boxes:
            table.add_row(short_name(name), f"[bold]{_percent(growth.mean_iou(name))}[/bold]")
    console.print(table)
    if growth.without:
        console.print(f"{growth.without} image{'s' * (growth.without > 1)}: no proposals were found: labelled as a whole", soft_wrap=True)
    console.print(f"pages: [bold]{escape(page)}[/bold]", soft_wrap=True)


def models(rows: Sequence[ListedModel]) -> None:
    """Print the networks there are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("model", "backbone", "parameters", "stride", "field"):
        table.add_column(column, justify="left" if column in ("model", "backbone") else "right")
    for row in rows:
        size = f"{row.parameters:.2f} M"
        table.add_row(escape(row.name), escape(row.backbone or "its own"), size, str(row.stride), f"{row.receptive_field:g}")
    console.print(table)
    console.print(
        "[dim]with 21 classes; field: pixels that a cell of the coarsest features sees, or a score of a network that is whole by itself. "
        "--backbone takes alexnet, googlenet, vgg16 and any timm backbone with strides 8, 16 and 32.[/dim]"
    )


def recipes(listed: Sequence[ShippedRecipe]) -> None:
    """Print the recipes that come with upscore, a paragraph each."""
    for recipe in listed:
        console.print(f"[bold]{escape(recipe.name)}[/bold]")
        console.print(Padding(escape(recipe.about), (0, 0, 0, 4)))
        if recipe.claims:
            console.print(Padding(f"[dim]{escape(recipe.claims)}[/dim]", (0, 0, 0, 4)))
        console.print(Padding(f"[cyan]{escape(recipe.command)}[/cyan]", (0, 0, 1, 4)))


def demonstrated(made: Demonstration) -> None:
    """Print where the demo's results are."""
    for what, path in made.places().items():
        console.print(f"{what:<12} [bold]{escape(path)}[/bold]")


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"[bold yellow]warning:[/bold yellow] {escape(one_line(warning))}", soft_wrap=True)


def _percent(value: Any) -> str:
    return "–" if value != value else f"{100 * float(value):.2f}"


def _change(was: float, now: float) -> str:
    """Return a difference in points, green or red."""
    if was != was or now != now:
        return "–"
    points = round(100 * (now - was), 2)
    colour = "green" if points > 0 else "red" if points < 0 else "dim"
    return f"[{colour}]{points:+.2f}[/{colour}]"
