"""The verbs ``evaluate``, ``tune`` and ``proposal-sweep``: those that need images with masks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import Bundle, Data, Device, examples, given_command
from upscore.cli.inference_options import InferenceOptions, inference_options

__all__ = ["commands"]

commands = typer.Typer()

Split = Annotated[str, typer.Option(help="The split to evaluate on.")]


@commands.command(
    epilog=examples(
        "upscore evaluate runs/street-fcn8s street/dataset.yaml",
        "upscore evaluate runs/street-fcn8s street/dataset.yaml --split test --json > metrics.json",
        "upscore evaluate runs/street-fcn8s street/dataset.yaml --crf",
    )
)
@inference_options()
def evaluate(
    context: typer.Context,
    *,
    bundle: Bundle,
    data: Data,
    split: Split = "val",
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="RUN/evaluation-SPLIT")] = None,
    absent: Annotated[
        str,
        typer.Option(
            help="Classes that the mean IoU leaves out: 'union' those in neither truth nor prediction, "
            "'present' those not in the truth, 'all' none."
        ),
    ] = "union",
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON, and nothing else, to standard output.")] = False,
    options: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Evaluate a trained network on a split: metrics, also per class, and a report with images.

    Masks are never resized and no image is counted twice. How ignored pixels and absent classes are counted is printed with the metrics.
    With the CRF, every metric is printed before and after it.
    """
    from upscore.cli import console, results

    with console.report_errors():
        from upscore.data.open_dataset import open_dataset
        from upscore.evaluation.evaluate import evaluate as evaluate
        from upscore.evaluation.gallery import Gallery
        from upscore.evaluation.report import write_report

        predictor = options.predictor(bundle, device=device)
        dataset = open_dataset(data, split)
        console.print_aside(dataset.warnings)
        with console.progress_bar("evaluating", quiet=json) as progress:
            gallery = Gallery(dataset.labels)
            evaluation = evaluate(predictor, dataset, absent=absent, progress=progress, path=data, show=gallery.add)
        folder = out or _beside(bundle, f"evaluation-{split}")
        page = write_report(evaluation, folder, predictor=predictor, dataset=dataset, command=given_command(context), gallery=gallery)
    results.print_evaluation(evaluation, page, as_json=json)


@commands.command(
    epilog=examples(
        "upscore tune runs/street-fcn8s street/dataset.yaml",
        "upscore tune runs/street-fcn8s street/dataset.yaml --metric both --trials 60 --out street-tuned",
    )
)
def tune(
    bundle: Bundle,
    data: Data,
    split: Annotated[str, typer.Option(help="The split to tune on; report metrics on another.")] = "val",
    trials: Annotated[int, typer.Option(min=1, help="How many settings to try.")] = 30,
    metric: Annotated[
        str, typer.Option(help="What to maximise: mean_iou, boundary_iou, trimap_iou, or both, the mean of the first two.")
    ] = "mean_iou",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random search.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Where to write the tuned bundle.", show_default="over the old one")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Tune a bundle that was tuned before.")] = False,
    device: Device = "auto",
) -> None:
    """Search the CRF's settings for a trained network, and switch the CRF on if it helps.

    The settings are chosen on the first half of the split and confirmed on the second. Only if both halves gain is the CRF switched on in
    the bundle.
    """
    from upscore.cli import console, results

    with console.report_errors():
        from upscore.evaluation.tune import tune as search
        from upscore.models.ensemble import check_output_folder, find_model, load_model

        # The output folder is checked before the work, not after it.
        network = load_model(bundle)
        folder = out or find_model(bundle)
        check_output_folder(folder, network)
        with console.tuning_bar() as (report, progress):
            tuned = search(
                network,
                data,
                split=split,
                trials=trials,
                metric=metric,  # type: ignore[arg-type]  # checked there
                seed=seed,
                device=device,
                again=again,
                report=report,
                progress=progress,
            )
        tuned.apply(network).save(folder)
    results.print_tuning(tuned, folder)


@commands.command(
    "proposal-sweep",
    epilog=examples(
        "upscore proposal-sweep runs/deconvnet street/dataset.yaml --max-proposals 50",
        "upscore proposal-sweep edeconvnet VOC2012 --pages 20 --counts 1,5,10,20,50",
    ),
)
@inference_options(leave_out=("no_proposals",))
def proposal_sweep(
    context: typer.Context,
    *,
    bundle: Bundle,
    data: Data,
    split: Split = "val",
    pages: Annotated[
        int, typer.Option(min=0, help="How many images get a page of their own, evenly spaced; all images are evaluated.")
    ] = 8,
    counts: Annotated[str, typer.Option(metavar="N,N,…", help="Numbers of proposals to evaluate.")] = "1,5,10,20,50",
    out: Annotated[Path | None, typer.Option(help="Folder for the pages.", show_default="RUN/proposal-sweep-SPLIT")] = None,
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
    with console.report_errors():
        from upscore.data.open_dataset import open_dataset
        from upscore.evaluation.proposal_sweep import sweep_proposals
        from upscore.evaluation.proposal_sweep_page import ProposalSweepPages

        predictor = options.predictor(bundle, device=device)
        dataset = open_dataset(data, split)
        console.print_aside(dataset.warnings)
        writer = ProposalSweepPages(
            out or _beside(bundle, f"proposal-sweep-{split}"),
            labels=dataset.labels,
            settings=predictor.settings,
            shown=sorted({round(i * (len(dataset) - 1) / max(1, pages - 1)) for i in range(min(pages, len(dataset)))}),
            command=given_command(context),
        )
        with console.progress_bar("evaluating") as progress:
            sweep = sweep_proposals(predictor, dataset, counts=[int(part) for part in numbers], show=writer.show, progress=progress)
        page = writer.write_index(sweep, dataset=dataset.name, split=dataset.split, model=predictor.source)
    results.print_sweep(sweep, page)


def _beside(bundle: str, name: str) -> Path:
    """Return where a bundle's report goes: into its run folder, or into the current folder where the bundle is in none."""
    path = Path(bundle)
    for folder in (path, path.parent):
        if os.path.isfile(folder / "recipe.toml"):
            return folder / name
    return Path(name)
