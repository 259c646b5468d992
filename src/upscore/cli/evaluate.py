"""The verbs ``evaluate``, ``tune`` and ``proposal-sweep``: those that need images with masks."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscore.cli.arguments import (
    Data,
    Device,
    MinArea,
    ObjectsFrom,
    Run,
    check_object_flags,
    examples,
    given_command,
    given_words,
)
from upscore.cli.inference_options import InferenceOptions, inference_options
from upscore.cli.reading_flags import ReadingFlags, reading_flags

if TYPE_CHECKING:
    from upscore.data.dataset import Dataset
    from upscore.evaluation.result import ImageMetrics
    from upscore.types import Prediction, Sample

__all__ = ["commands"]

commands = typer.Typer()

MEMORY = "use smaller images, or another --device"
"""What to change where memory runs out outside of the network, which names its own settings."""

MAX_NAMED = 4  # images that the command to run next names

Split = Annotated[str, typer.Option(help="The split to evaluate on.")]


@commands.command(
    epilog=examples(
        "upscore evaluate runs/street-fcn8s street/dataset.yaml",
        "upscore evaluate runs/street-fcn8s street/dataset.yaml --split test --json > metrics.json",
        "upscore evaluate runs/street-fcn8s street/dataset.yaml --crf",
        "upscore evaluate runs/people people/dataset.yaml --objects --min-area 50",
    )
)
@inference_options()
@reading_flags()
def evaluate(
    context: typer.Context,
    *,
    run: Run,
    data: Data,
    split: Split = "val",
    reading: ReadingFlags,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="RUN/evaluation-SPLIT")] = None,
    absent: Annotated[
        str,
        typer.Option(
            help="Classes that the mean IoU leaves out: 'union' those in neither truth nor prediction, "
            "'present' those not in the truth, 'all' none."
        ),
    ] = "union",
    boundary_f1: Annotated[bool, typer.Option("--boundary-f1", help="Also compute SegNet's BF score, of boundaries that match.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON, and nothing else, to standard output.")] = False,
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Also find single objects, and print COCO's average precision of their boxes and masks; the data needs instance masks.",
        ),
    ] = False,
    objects_from: ObjectsFrom = None,
    min_area: MinArea = None,
    options: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Evaluate a trained network on a split: metrics, also per class, and a report with images.

    Masks are never resized and no image is counted twice. How ignored pixels and absent classes are counted is printed with the metrics.
    With the CRF, every metric is printed before and after it.
    """
    from upscore.cli import console, results

    check_object_flags(objects, objects_from, min_area)
    with console.report_errors("nothing was written: metrics are of all images", memory=MEMORY):
        with console.loading():
            from upscore.data.open_dataset import open_dataset
            from upscore.data.paired_files import PairedFiles
            from upscore.evaluation.evaluate import evaluate as evaluate
            from upscore.evaluation.gallery import Gallery
            from upscore.evaluation.objects import ObjectEvaluation
            from upscore.evaluation.report import write_report
            from upscore.inference.object_detection import ObjectSettings

        with console.loading("the network"):
            predictor = options.predictor(run, device=device)
        counted = ObjectEvaluation(predictor, ObjectSettings(objects_from, min_area or 1)) if objects else None  # type: ignore[arg-type]
        dataset = open_dataset(data, split, **reading.options())
        if predictor.has_second_head and not options.second_head:
            console.print_aside(["the network has a second head, which --second-head evaluates"])
        if options.second_head and isinstance(second := getattr(dataset, "second", None), PairedFiles):
            dataset = second
        console.print_aside(dataset.warnings)
        with console.progress_bar("evaluating", quiet=json) as progress:
            gallery = Gallery(dataset.labels, predictor.input)

            def show(sample: Sample, metrics: ImageMetrics, prediction: Prediction) -> None:
                gallery.add(sample, metrics, prediction)
                if counted is not None:
                    counted.add(sample)

            evaluation = evaluate(
                predictor, dataset, absent=absent, boundary_f1=boundary_f1, progress=progress, path=data,
                sinks=(lambda sample: ()) if counted is None else counted.sinks, show=show,
            )  # fmt: skip
        folder = out or _beside(run, f"evaluation-{split}")
        found = None if counted is None else counted.as_dict()
        page = write_report(
            evaluation, folder, predictor=predictor, dataset=dataset, command=given_command(context), gallery=gallery, objects=found
        )
    given = given_words(context, {"device", *(field.name for field in dataclasses.fields(InferenceOptions))})
    results.print_evaluation(
        evaluation,
        page,
        as_json=json,
        objects=found,
        next_command=_predict_evaluated(run, dataset, given),
    )


@commands.command(
    epilog=examples(
        "upscore tune runs/street-fcn8s street/dataset.yaml",
        "upscore tune runs/street-fcn8s street/dataset.yaml --metric both --trials 60 --out street-tuned",
    )
)
@reading_flags()
def tune(
    context: typer.Context,
    *,
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="The split to tune on; report metrics on another.")] = "val",
    trials: Annotated[int, typer.Option(min=1, help="How many settings to try.")] = 30,
    metric: Annotated[
        str, typer.Option(help="What to maximise: mean_iou, boundary_iou, trimap_iou, or both, the mean of the first two.")
    ] = "mean_iou",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random search.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write the tuned network.", show_default="over the old one")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Tune a network that was tuned before.")] = False,
    reading: ReadingFlags,
    device: Device = "auto",
) -> None:
    """Search the CRF's settings for a trained network, and switch the CRF on if it helps.

    The settings are chosen on the first half of the split and confirmed on the second. Only if both halves gain is the CRF switched on in
    what is saved.
    """
    from upscore.cli import console, results

    with console.report_errors("the settings are as they were", memory=MEMORY):
        with console.loading():
            from upscore.data.open_dataset import open_dataset
            from upscore.evaluation.tune import tune as search
            from upscore.models.ensemble import check_output_folder, find_model, load_model

        # The output folder is checked before the work, not after it.
        network = load_model(run)
        folder = out or find_model(run)
        check_output_folder(folder, network)
        dataset = open_dataset(data, split, **reading.options())
        with console.tuning_bar() as (report, progress):
            tuned = search(
                network,
                dataset,
                trials=trials,
                metric=metric,  # type: ignore[arg-type]  # checked there
                seed=seed,
                device=device,
                again=again,
                report=report,
                progress=progress,
            )
        tuned.apply(network).save(folder)
    given = given_words(context, {field.name for field in dataclasses.fields(ReadingFlags)})
    words = ["upscore", "evaluate", str(folder), data, "--split", split, *given]
    results.print_tuning(tuned, folder, next_command=shlex.join(words))


@commands.command(
    "proposal-sweep",
    epilog=examples(
        "upscore proposal-sweep runs/deconvnet street/dataset.yaml --max-proposals 50",
        "upscore proposal-sweep edeconvnet VOC2012 --pages 20 --counts 1,5,10,20,50",
    ),
)
@inference_options(leave_out=("no_proposals", "second_head"))
@reading_flags()
def proposal_sweep(
    context: typer.Context,
    *,
    run: Run,
    data: Data,
    split: Split = "val",
    pages: Annotated[
        int, typer.Option(min=0, help="How many images get a page of their own, evenly spaced; all images are evaluated.")
    ] = 8,
    counts: Annotated[str, typer.Option(metavar="N,N,…", help="Numbers of proposals to evaluate.")] = "1,5,10,20,50",
    out: Annotated[Path | None, typer.Option(help="Folder for the pages.", show_default="RUN/proposal-sweep-SPLIT")] = None,
    reading: ReadingFlags,
    options: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Evaluate a network over the number of proposals, beside whole images, the ensemble, the CRF and the truth.

    It writes an HTML page for some images, and one with the curve of mean IoU over the number of proposals.
    """
    from upscore.cli import console, results

    numbers = [part.strip() for part in counts.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < len(part) < 6 for part in numbers):
        raise typer.BadParameter(f"found '{counts}', expected whole numbers such as 1,5,10,20,50", param_hint="--counts")
    with console.report_errors("pages of images that were done stay, the curve needs all of them", memory=MEMORY):
        with console.loading():
            from upscore.data.open_dataset import open_dataset
            from upscore.evaluation.proposal_sweep import sweep_proposals
            from upscore.evaluation.proposal_sweep_page import ProposalSweepPages

        with console.loading("the network"):
            predictor = options.predictor(run, device=device)
        dataset = open_dataset(data, split, **reading.options())
        console.print_aside(dataset.warnings)
        writer = ProposalSweepPages(
            out or _beside(run, f"proposal-sweep-{split}"),
            labels=dataset.labels,
            settings=predictor.settings,
            shown=sorted({round(i * (len(dataset) - 1) / max(1, pages - 1)) for i in range(min(pages, len(dataset)))}),
            command=given_command(context),
        )
        with console.progress_bar("evaluating") as progress:
            sweep = sweep_proposals(predictor, dataset, counts=[int(part) for part in numbers], show=writer.show, progress=progress)
        page = writer.write_index(sweep, dataset=dataset.name, split=dataset.split, model=predictor.source)
    results.print_sweep(sweep, page)


def _predict_evaluated(run: str, dataset: Dataset, given: list[str]) -> str | None:
    """Return the command that labels images that were evaluated, with the options that were given; None where they are no files.

    It names their folder where that holds nothing else, such as masks or other splits, and a few of them where it does.
    """
    from upscore.data.dataset import InFiles

    if not isinstance(dataset, InFiles):
        return None
    images = [str(path) for path in dataset.image_files]
    folder = os.path.dirname(images[0]) or "."
    if not os.path.isdir(folder):  # pages or rows of a file
        return None
    alone = {os.path.join(folder, name) for name in os.listdir(folder)} == set(images)
    return shlex.join(
        ["upscore", "predict", run, *([folder] if alone else images[:MAX_NAMED]), "--out", f"predictions-{dataset.split}", *given]
    )


def _beside(run: str, name: str) -> Path:
    """Return where a bundle's report goes: into its run folder, or into the current folder where the bundle is in none."""
    path = Path(run)
    for folder in (path, path.parent):
        if os.path.isfile(folder / "recipe.toml"):
            return folder / name
    return Path(name)
