"""The verb ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import Crowd, Data, Drawing, SplitBy, Unlabelled, examples, given_command

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "upscore doctor street/dataset.yaml",
        "upscore doctor street --strict --only values --only sizes",
        "upscore doctor street --mend street-mended",
    )
)
def doctor(
    context: typer.Context,
    data: Data,
    split_by: SplitBy = None,
    crowd: Crowd = None,
    unlabelled: Unlabelled = None,
    drawing: Drawing = None,
    mend: Annotated[Path | None, typer.Option(metavar="NEW", help="Write a corrected copy to this new folder.", show_default=False)] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ID", help="Run this check, or family of checks; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(metavar="ID", help="Leave this check, or family, out; may be repeated.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings too.")] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("doctor.html"),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else; no page is written.")] = False,
) -> int:
    """Examine images, masks and splits: what is wrong, on which images, and what to do.

    Every image and mask is read once. Nothing is changed: --mend writes a corrected copy. Exit codes: 0 nothing is wrong, 1 there are
    errors (with --strict, warnings), 2 the data could not be examined.
    """
    from upscore.cli import console
    from upscore.cli.diagnosis import print_diagnosis
    from upscore.errors import UpscoreError

    with console.report_errors("nothing was written"):
        try:
            from upscore.doctor.diagnosis import diagnose
            from upscore.doctor.mend import mend as write_mended
            from upscore.doctor.page import write_page

            with console.progress_bar("reading the data", then="checking", quiet=json) as progress:
                reading = {"split_by": split_by, "crowd": crowd, "unlabelled": unlabelled, "drawing": drawing}
                diagnosis = diagnose(data, only=only or (), skip=skip or (), reading=reading, progress=progress)
            mended = None
            if mend is not None:
                with console.progress_bar("writing the copy", quiet=json) as progress:
                    mended = write_mended(diagnosis, mend, progress=progress)
            page = None if json else write_page(diagnosis, out, command=given_command(context), mended=mended)
        except UpscoreError as error:
            error.exit_code = 2
            raise
    print_diagnosis(diagnosis, page, mended, as_json=json)
    return diagnosis.exit_code(strict=strict)
