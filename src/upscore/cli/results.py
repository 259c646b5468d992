"""What a verb prints when it is done: tables of metrics, summaries, and where the files are."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table

from upscore.cli.console import MAX_COMMAND, aside, console, escape, make_table, percent, print_unit, print_warnings, short_name
from upscore.cli.next_command import labelling_command, print_next
from upscore.text import describe_duration, visible

if TYPE_CHECKING:
    from upscore.demo import Demonstration
    from upscore.evaluation.hints import Baseline
    from upscore.evaluation.proposal_sweep import ProposalSweep
    from upscore.evaluation.result import Evaluation
    from upscore.evaluation.tune import Tuning
    from upscore.explain import Explanation
    from upscore.inference.predict_files import DiscoveredImages, LabelledImage
    from upscore.inference.prelabels import PreLabelSettings
    from upscore.models.ensemble import Ensemble
    from upscore.models.factory import ListedModel
    from upscore.settings import CRFSettings, InferenceSettings
    from upscore.training.launch import Run
    from upscore.training.plan import Plan
    from upscore.training.recipes import ShippedRecipe

__all__ = [
    "print_demonstration",
    "print_ensemble",
    "print_evaluation",
    "print_explanation",
    "print_image",
    "print_models",
    "print_plan",
    "print_predictions",
    "print_recipes",
    "print_run",
    "print_sweep",
    "print_tuning",
]


MATTERING = (
    "model.backbone",
    "model.weights",
    "augment.crop_size",
    "run.batch_size",
    "run.accumulate",
    "run.epochs",
    "optimizer.name",
    "optimizer.lr",
    "run.device",
    "run.devices",
    "run.precision",
    "run.validate_every",
    "run.patience",
)
"""The choices that a plan shows; all are in the recipe, and shown with --verbose."""


def print_plan(plan: Plan, *, verbose: bool = False) -> None:
    """Print what is trained on what, the choices that matter and why, or all of them, and how long it will take."""
    from upscore.evaluation.hints import describe_small_split

    recipe, census = plan.recipe, plan.census
    console.print(
        f"[bold]{escape(recipe.data.path)}[/bold]: {census.images:,} training and {len(plan.val):,} validation images, "
        f"{len(census.labels)} classes",
        soft_wrap=True,
    )
    images = plan.recipe.input.spec()
    if not images.is_rgb:
        console.print(f"  images of {escape(images)}; mean and deviation of each band are measured on the training images")
    for message in plan.messages:
        console.print(f"  {escape(message)}", soft_wrap=True)
    print_warnings(plan.warnings)
    _print_hint(describe_small_split(len(plan.val), recipe.data.val))
    choices = [choice for choice in plan.choices if verbose or choice.setting in MATTERING]
    choices = [choice for choice in choices if verbose or (choice.setting, choice.value) != ("run.devices", 1)]
    if choices:
        table = Table(box=None, pad_edge=False, header_style="dim", title="chosen", title_justify="left", title_style="bold")
        for column in ("setting", "value", "why"):
            table.add_column(column, overflow="fold")
        for choice in choices:
            table.add_row(escape(choice.setting), escape(choice.value), f"[dim]{escape(choice.why)}[/dim]")
        console.print(table)
    if hidden := len(plan.choices) - len(choices):
        console.print(f"[dim]and {hidden} more, all in recipe.toml; --verbose shows them[/dim]")
    console.print(_describe_network(plan), soft_wrap=True)
    if plan.seconds is not None:
        console.print(f"about {describe_duration(plan.seconds)} on {escape(recipe.run.device)}, if it is not stopped early")
    console.print(f"run folder: [bold]{escape(plan.folder)}[/bold]", soft_wrap=True)


def _describe_network(plan: Plan) -> str:
    """Return the network, its size and the weights it starts from."""
    model = plan.recipe.model
    on = f" on {model.backbone}" if model.backbone else ""
    weights = {"none": "initialised at random", "imagenet": "backbone with ImageNet's weights"}.get(
        str(model.weights), f"weights of {model.weights}"
    )
    if model.start_from:
        weights = f"weights of {' and '.join([model.start_from] if isinstance(model.start_from, str) else model.start_from)}"
    parameters = "" if plan.model is None else f", {sum(weight.numel() for weight in plan.model.parameters()) / 1e6:.2f} M parameters"
    return f"network: {escape(model.name)}{escape(on)}{parameters}, {escape(weights)}"


def print_run(run: Run) -> None:
    """Print the best metrics of a run beside the baseline, its weakest classes, hints, and the command to run next."""
    from upscore.evaluation.hints import is_still_rising, one_class_baseline
    from upscore.models.bundle import Bundle

    progress, data = run.progress, run.recipe.data
    console.print(
        f"best mIoU [bold]{percent(progress.best_miou)} %[/bold] after epoch {progress.best_epoch:g}: {escape(run.best)}", soft_wrap=True
    )
    metrics: Any = Bundle.load(run.best).card["metrics"]
    classes = metrics["classes"]
    _print_baseline(one_class_baseline({name: of["pixels"] for name, of in classes.items()}, absent=metrics["absent"]), metrics["mean_iou"])
    _print_weakest({name: of["iou"] for name, of in classes.items()})
    print_warnings(run.warnings)
    if is_still_rising(progress.history) and not progress.stopped:
        epochs = run.recipe.run.epochs or 1
        words = ["upscore", "train", "--resume", "--out", str(run.folder), "--epochs", str(epochs + max(1, epochs // 2))]
        _print_hint(f"validation was still rising: train longer with {shlex.join(words)}")
    words = ["upscore", "evaluate", str(run.folder), str(data.path), *(["--split", data.val] if data.val != "val" else [])]
    words += [word for name, value in data.reading.items() for word in (f"--{name.replace('_', '-')}", value)]
    print_next(shlex.join(words))


def _print_baseline(baseline: Baseline | None, mean_iou: float | None) -> None:
    """Print what labelling every pixel as the most frequent class gets, and whether the network is better."""
    if baseline is None:
        return
    verdict = "" if mean_iou is None or mean_iou > baseline.mean_iou else ": [bold yellow]the network is no better[/bold yellow]"
    console.print(
        f"baseline, every pixel {short_name(baseline.name)}: mean IoU {percent(baseline.mean_iou)} %, "
        f"pixel accuracy {percent(baseline.pixel_accuracy)} %{verdict}",
        soft_wrap=True,
    )


def _print_weakest(class_iou: Mapping[str, float | None]) -> None:
    from upscore.evaluation.hints import find_weakest_classes

    weakest = ", ".join(f"{short_name(name)} {percent(iou)} %" for name, iou in find_weakest_classes(class_iou))
    if weakest:
        console.print(f"lowest IoU: {weakest}", soft_wrap=True)


def _print_hint(text: str | None) -> None:
    if text is not None:
        console.print(f"[bold]hint:[/bold] {escape(text, MAX_COMMAND)}", soft_wrap=True)


def print_evaluation(
    evaluation: Evaluation,
    page: Path,
    *,
    as_json: bool,
    objects: Mapping[str, Any] | None = None,
    next_command: str | None = None,
) -> None:
    """Print an evaluation, with a CRF before and after it, and that of objects: as tables, or as JSON alone."""
    if as_json:
        counted = {} if objects is None else {"objects": objects}
        print(json.dumps(evaluation.numbers() | {"settings": evaluation.as_dict()["settings"], "report": str(page)} | counted, indent=2))
        return
    from upscore.evaluation.hints import describe_small_split

    before, after = evaluation.before, evaluation
    versions = [after] if before is None else [before, after]
    times = [""] if before is None else ["\nbefore", "\nafter"]
    columns = [f"{name}{time}" for name in ("IoU", "boundary IoU") for time in times]
    columns += [f"{name}{times[-1]}" for name in ("precision", "recall", "F1")]
    print_unit(with_changes=before is not None)
    table = make_table(["class", *columns, "pixels"], left=["class"])
    for i, name in enumerate(after.labels.names):
        values = [version.metrics.class_iou[i] for version in versions]
        values += [version.border_metrics.class_boundary_iou[i] for version in versions]
        values += [after.metrics.class_precision[i], after.metrics.class_recall[i], after.metrics.class_f1[i]]
        table.add_row(short_name(name), *map(percent, values), f"{int(after.metrics.class_pixels[i]):,}")
    console.print(table)
    totals = make_table(["metric", "value"] if before is None else ["metric", "before", "after", "change"], left=["metric"])
    for name, value in after.totals.items():
        was = [] if before is None else [before.totals[name]]
        totals.add_row(name, *map(percent, was), f"[bold]{percent(value)}[/bold]", *(_change(earlier, value) for earlier in was))
    console.print(totals)
    if before is not None and after.settings is not None and after.settings.crf is not None:
        _print_crf(after.settings.crf)
    if objects is not None:
        _print_objects(objects)
    _print_baseline(evaluation.baseline, after.metrics.mean_iou)
    _print_weakest(dict(zip(after.labels.names, after.metrics.class_iou.tolist(), strict=True)))
    print_warnings(evaluation.warnings)
    _print_hint(describe_small_split(len(evaluation.images), evaluation.split))
    for warning, count in evaluation.image_warnings.items():
        console.print(f"{count} image{'s' * (count > 1)}: {escape(warning)}", soft_wrap=True)
    bf_score = evaluation.boundary_f1_metrics
    policies = [evaluation.policy, evaluation.border_metrics.policy] + ([] if bf_score is None else [bf_score.policy])
    console.print(f"[dim]{escape(' '.join(policies))}[/dim]")
    console.print(f"report: [bold]{escape(page)}[/bold]", soft_wrap=True)
    print_next(next_command)


def _print_objects(objects: Mapping[str, Any]) -> None:
    """Print COCO's average precision of objects, and how many were merged."""
    columns = ("AP", "AP50", "AP75", "small", "medium", "large", "recall")
    table = make_table(["objects", *columns], left=["objects"])
    for of in ("boxes", "masks"):
        row = objects[of]
        table.add_row(of, *(percent(row[key.lower()]) for key in columns))
    for name, ap in objects["masks"]["classes"].items():
        table.add_row(f"  masks, {short_name(name)}", percent(ap), *[""] * (len(columns) - 1))
    console.print(table)
    console.print(
        f"{objects['found']:,} objects found from {objects['origin']}, {objects['true']:,} true ones; {objects['merged']:,} of these share "
        "a found object with another of their class",
        soft_wrap=True,
    )
    console.print(
        "[dim]AP: COCO's average precision, over IoU thresholds from .50 to .95; small is below 32², large above 96² pixels.[/dim]"
    )


def print_tuning(tuning: Tuning, folder: Path, *, next_command: str | None = None) -> None:
    """Print the metrics of both halves, the CRF's settings, whether it is on, and where the bundle is."""
    columns = [f"{name}\n{time}" for name in ("mean IoU", "boundary IoU", "trimap IoU") for time in ("before", "after")]
    print_unit()
    table = make_table(["", "images", *columns], left=[""])
    for name, half in (("chosen on", tuning.chosen_on), ("confirmed on", tuning.confirmed_on), ("together", tuning.whole)):
        values = [version[metric] for metric in ("mean_iou", "boundary_iou", "trimap_iou") for version in (half.before, half.after)]
        table.add_row(name, str(half.images), *(percent(value) for value in values))
    console.print(table)
    _print_crf(tuning.settings)
    console.print(f"[bold]{escape(tuning.verdict)}[/bold]", soft_wrap=True)
    console.print(f"bundle: [bold]{escape(folder)}[/bold]", soft_wrap=True)
    print_next(next_command)


def print_ensemble(ensemble: Ensemble, folder: Path) -> None:
    """Print the networks of an ensemble, their inference modes, and how they are combined."""
    settings = ensemble.inference
    for member in ensemble.members:
        proposals = member.inference.proposals
        mode = "whole images"
        if proposals is not None:
            mode = f"{proposals.max_proposals} proposals ({proposals.proposer}), aggregated by {proposals.aggregate}"
        console.print(f"  {escape(member.architecture)}: {mode}")
    combined = "scores multiplied" if settings.combine == "product" else "probabilities averaged"
    crf = ", then the CRF" if settings.uses_crf else ""
    console.print(f"{len(ensemble.members)} networks, {combined}{crf}: [bold]{escape(folder)}[/bold]")


def print_image(prediction: LabelledImage) -> None:
    """Print the error of an image that could not be predicted, or the warnings of one that was."""
    if prediction.error:
        aside.print(f"upscore: {escape(visible(prediction.error))}", style="red", soft_wrap=True)
    for warning in prediction.warnings:
        aside.print(escape(visible(f"{prediction.file}: {warning}")), soft_wrap=True)


def print_predictions(
    predictions: Sequence[LabelledImage],
    found: DiscoveredImages,
    out: Path,
    settings: InferenceSettings,
    prelabels: PreLabelSettings | None = None,
) -> None:
    """Print how many images were predicted, with which CRF, and where the files are."""
    failed = sum(bool(prediction.error) for prediction in predictions)
    if settings.crf is not None and settings.crf.enabled:
        _print_crf(settings.crf)
    counts = [f"{len(predictions) - failed} labelled"]
    counts += [f"[red]{failed} failed[/red]"] if failed else []
    counts += [f"{found.left_out} left out"] if found.left_out else []
    console.print(f"{', '.join(counts)}: [bold]{escape(out)}[/bold]", soft_wrap=True)
    if prelabels is not None:
        exact = (
            f"polygons within {prelabels.tolerance:g} px of the labels' edges"
            if prelabels.tolerance
            else "polygons along the labels' edges"
        )
        console.print(f"for {escape(prelabels.format)}: [bold]{escape(out / prelabels.format)}[/bold] ({exact})", soft_wrap=True)
        from upscore.inference.prelabels import image_root

        folders = {image.path.parent for image in found.images}
        images = folders.pop() if len(folders) == 1 else None
        if prelabels.format != "labelme" or images is not None:  # labelme opens one folder
            print_next(labelling_command(prelabels.format, out / prelabels.format, root=image_root(found.images), images=images))


def print_explanation(explanation: Explanation, page: Path) -> None:
    """Print the prediction at the pixel, the size of its effective receptive field, and where the page is."""
    (row, column), side = explanation.pixel, explanation.receptive_fields[0].effective_side
    k = int(explanation.label_map[row, column])
    field = f"95 % of its effective receptive field within {side}×{side} pixels" if side else "a constant score, whatever the image"
    console.print(
        f"row {row}, column {column}: [bold]{short_name(explanation.labels.names[k])}[/bold] "
        f"{percent(explanation.probs[k, row, column])} %, {field}",
        soft_wrap=True,
    )
    height, width = explanation.image.shape[:2]
    if (height, width) != explanation.size:
        console.print(f"[dim]the image was shrunk to {height}×{width} pixels: raise --max-pixels for more[/dim]", soft_wrap=True)
    console.print(f"page: [bold]{escape(page)}[/bold]", soft_wrap=True)


def print_sweep(sweep: ProposalSweep, page: Path) -> None:
    """Print mean IoU over the number of proposals, and of the other inference modes."""
    print_unit()
    table = make_table(["", "mean IoU"], left=[""])
    for row in sweep.curve():
        count = int(row["proposals"])
        table.add_row(f"{short_name(sweep.network)}, {count} proposal{'s' * (count > 1)}", percent(row["mean_iou"]))
    for name in sweep.modes:
        table.add_row(short_name(name), percent(sweep.mean_iou(name)))
    console.print(table)
    if sweep.without_proposals:
        count = sweep.without_proposals
        console.print(f"{count} image{'s' * (count > 1)}: no proposals were found: labelled as a whole", soft_wrap=True)
    console.print(f"pages: [bold]{escape(page)}[/bold]", soft_wrap=True)


def print_models(rows: Sequence[ListedModel]) -> None:
    """Print what each network is, a row for each backbone it is put on, and what these are."""
    from upscore.models.factory import LISTED_BACKBONES

    for name, listed in itertools.groupby(rows, key=lambda row: row.name):
        same = list(listed)
        architecture = same[0].architecture
        console.print(f"[bold]{escape(name)}[/bold]: {escape(architecture.description)} [dim]({escape(architecture.paper)})[/dim]")
        table = make_table(["backbone", "parameters", "coarsest stride", "finest stride", "receptive field"], left=["backbone"])
        for row in same:
            table.add_row(escape(row.backbone or "its own"), f"{row.parameters:.2f} M", str(row.stride), str(row.finest), row.field)
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
        console.print()
    described = dict.fromkeys(row.backbone for row in rows if row.backbone in LISTED_BACKBONES)
    for backbone in described:
        console.print(f"[bold]{backbone}[/bold]: {LISTED_BACKBONES[backbone]}")
    if described:
        console.print()
    console.print(
        "[dim]with 21 classes. Coarsest stride: between the backbone's coarsest features; finest: between the scores that are upsampled to "
        "the image. Receptive field: of a cell of these features, or of a score of a network with its own encoder, in pixels. --backbone "
        "takes alexnet, googlenet, vgg16 and timm's networks, attention and plain transformers too.[/dim]"
    )


def print_recipes(recipes: Sequence[ShippedRecipe]) -> None:
    """Print the recipes that come with upscore, a paragraph each."""
    for recipe in recipes:
        console.print(f"[bold]{escape(recipe.name)}[/bold]")
        console.print(Padding(escape(recipe.about), (0, 0, 0, 4)))
        if recipe.claims:
            console.print(Padding(f"[dim]{escape(recipe.claims)}[/dim]", (0, 0, 0, 4)))
        console.print(Padding(f"[cyan]{escape(recipe.command)}[/cyan]", (0, 0, 1, 4)))


def print_demonstration(demonstration: Demonstration) -> None:
    """Print where the demo's results are."""
    for name, path in demonstration.paths().items():
        console.print(f"{name:<12} [bold]{escape(path)}[/bold]", soft_wrap=True)
    image = min(demonstration.images.iterdir())
    page = demonstration.report.parent.parent / "explained.html"
    print_next(shlex.join(["upscore", "explain", str(demonstration.run), str(image), "--out", str(page)]))


def _print_crf(settings: CRFSettings) -> None:
    """Print the CRF's settings, and whether it could have been faster."""
    from upscore.crf.engines.native_lattice import is_compiled

    console.print(f"CRF: {escape(settings)}", soft_wrap=True)
    if not is_compiled():
        console.print(
            "[dim]the CRF ran in NumPy, about nine times slower than compiled: install upscore again where there is a C++ compiler[/dim]",
            soft_wrap=True,
        )


def _change(before: float, after: float) -> str:
    """Return a difference in percentage points, green or red."""
    if before != before or after != after:
        return "–"
    points = round(100 * (after - before), 2)
    colour = "green" if points > 0 else "red" if points < 0 else "dim"
    return f"[{colour}]{points:+.2f}[/{colour}]"
