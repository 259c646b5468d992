"""The verb ``next``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import Device, Run, examples

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    "next",
    epilog=examples(
        "upscore next runs/street-fcn8s unlabelled/ --count 50 --out to-label",
        "upscore next runs/street-fcn8s unlabelled/ --labelled street --as label-studio --out to-label",
    ),
)
def choose_next_images(
    *,
    run: Run,
    images: Annotated[list[str], typer.Argument(metavar="UNLABELLED…", help="Files, folders and globs.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the images to label.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many images to choose.")] = 50,
    labelled: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Leave out the images of this dataset, which have masks; may be repeated.", show_default=False),
    ] = None,
    tool: Annotated[
        str, typer.Option("--as", metavar="FORMAT", help="labelme, label-studio, or another format of 'upscore predict --as'.")
    ] = "labelme",
    device: Device = "auto",
) -> None:
    """Choose the images to label next, and write them with the network's predictions to correct.

    They are those that the network is uncertain of, and that differ from one another. Images that the network was trained on are left out.
    """
    from upscore.cli import console
    from upscore.cli.next_command import labelling_command, print_next

    with console.report_errors("nothing was written"):
        with console.loading():
            from upscore.data.open_dataset import list_splits, open_dataset
            from upscore.data.write_dataset import find_writer
            from upscore.files import refuse_full
            from upscore.inference.file_discovery import discover_images
            from upscore.inference.predictor import Predictor
            from upscore.review.next_images import choose_next, write_next

        find_writer(tool, predictions=True)
        refuse_full(out, what="the images to label")
        found = discover_images(images, exclude=out)
        datasets = [open_dataset(data, split) for data in labelled or () for split in list_splits(data)]
        with console.loading("the network"):
            predictor = Predictor(run, device=device)
        with console.progress_bar("examining images") as progress:
            chosen = choose_next(predictor, found, count, labelled=datasets, progress=progress)
        with console.progress_bar("writing tasks") as progress:
            folder = write_next(chosen, out, tool=tool, progress=progress)
    console.print_aside(chosen.messages)
    for rank, image in enumerate(chosen.chosen[:10], start=1):
        console.console.print(f"{rank:>3}  {image.uncertainty:.2f}  {console.escape(image.image.path)}", soft_wrap=True)
    if len(chosen.chosen) > 10:
        console.console.print(f"     and {len(chosen.chosen) - 10} more, listed in next.json")
    console.console.print(
        f"{len(chosen.chosen)} of {chosen.examined} images to label: [bold]{console.escape(folder)}[/bold]", soft_wrap=True
    )
    tasks = out / tool
    print_next(labelling_command(tool, tasks, root=out.absolute().parent) or shlex.join(["upscore", "doctor", str(tasks)]))
