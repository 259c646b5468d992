"""The verb ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import FORMATS, Data, complete_formats, examples
from upscore.cli.reading_flags import ReadingFlags, reading_flags

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "upscore convert street-labelme --out street",
        "upscore convert street --out street-coco --to coco",
        "upscore convert street --out street-tasks --to label-studio --tolerance 1",
        "upscore convert VOC2012 --out voc-val --to cvat --split val",
    )
)
@reading_flags(leave_out=("classes",))
def convert(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="NEW", help="A new folder for the converted dataset.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", autocompletion=complete_formats)
    ] = "folder",
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPLIT",
            help="A split to convert; may be repeated. NAME=val writes the split NAME as val.",
            show_default="train, val and test",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, metavar="PIXELS", help="By which polygons may differ from the edges of pixels; 0 is exact.")
    ] = 0.0,
    reading: ReadingFlags,
) -> None:
    """Write a dataset in another format, with its images, and read it again to count the pixels that differ.

    folder is images/ and masks/ with a dataset.yaml. The original is never changed.
    """
    from upscore.cli import console
    from upscore.cli.converted import print_converted

    with console.report_errors("nothing was written"):
        from upscore.data.convert import convert as write_converted

        with console.progress_bar("writing and reading again") as progress:
            converted = write_converted(
                data, out, to=to, splits=split or (), tolerance=tolerance, reading=reading.options(), progress=progress
            )
    print_converted(converted)
