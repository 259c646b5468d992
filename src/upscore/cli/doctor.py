"""The verb ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import RUN_HELP, Data, Device, examples, given_command
from upscore.cli.reading_flags import ReadingFlags, reading_flags

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "upscore doctor street/dataset.yaml",
        "upscore doctor street --strict --only values --only sizes",
        "upscore doctor street --mend street-mended",
        "upscore doctor street --run runs/street-fcn8s --review street-review",
    )
)
@reading_flags(leave_out=("classes",))
def doctor(
    context: typer.Context,
    *,
    data: Data,
    reading: ReadingFlags,
    mend: Annotated[Path | None, typer.Option(metavar="NEW", help="Write a corrected copy to this new folder.", show_default=False)] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Also find labels that a trained network doubts. " + RUN_HELP, show_default=False),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write the images with doubtful labels here, for labelme and Label Studio.", show_default=False
        ),
    ] = None,
    include_trained: Annotated[
        bool, typer.Option("--include-trained", help="Examine the labels of images that RUN was trained on, too.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="ID", help="Run this check, or family of checks; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(metavar="ID", help="Leave this check, or family, out; may be repeated.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings too.")] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("doctor.html"),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else; no page is written.")] = False,
    device: Device = "auto",
) -> int:
    """Examine images, masks and splits: what is wrong, on which images, and what to do.

    Every image and mask is read once. With --run, labels that a trained network doubts are found too, on images that it was not trained
    on. Nothing is changed: --mend writes a corrected copy. Exit codes: 0 nothing is wrong, 1 there are errors (with --strict, warnings),
    2 the data could not be examined.
    """
    from upscore.cli import console
    from upscore.cli.diagnosis import print_diagnosis
    from upscore.cli.next_command import after_diagnosis, print_next
    from upscore.errors import UpscoreError

    if run is None and (review is not None or include_trained):
        raise typer.BadParameter("it needs a trained network: give --run RUN", param_hint="--review" if review else "--include-trained")
    with console.report_errors("nothing was written"):
        try:
            from upscore.doctor.diagnosis import diagnose
            from upscore.doctor.mend import find_corrected
            from upscore.doctor.mend import mend as write_mended
            from upscore.doctor.page import write_page

            predictor = None
            if run is not None:
                with console.loading():
                    from upscore.inference.predictor import Predictor

                predictor = Predictor(run, device=device)
            with console.progress_bar("examining the data", then="checking", quiet=json) as progress:
                diagnosis = diagnose(
                    data, only=only or (), skip=skip or (), reading=reading.options(), predictor=predictor, include_trained=include_trained,
                    progress=progress, predicting=progress,
                )  # fmt: skip
            mended = None
            if mend is not None:
                with console.progress_bar("writing the copy", quiet=json) as progress:
                    mended = write_mended(diagnosis, mend, progress=progress)
            reviewed = None
            if review is not None and diagnosis.snapshot.review is not None:
                from upscore.review.review_files import write_review

                with console.progress_bar("writing the review", quiet=json) as progress:
                    reviewed = write_review(diagnosis.snapshot.review, review, progress=progress)
            page = None if json else write_page(diagnosis, out, command=given_command(context), mended=mended)
        except UpscoreError as error:
            error.exit_code = 2
            raise
    print_diagnosis(diagnosis, page, mended, reviewed, as_json=json)
    if not json:
        print_next(after_diagnosis(context, diagnosis, mended, review if reviewed else None, find_corrected(diagnosis)))
    return diagnosis.exit_code(strict=strict)
