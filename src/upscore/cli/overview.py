"""The verbs ``models``, ``recipes`` and ``demo``: those that need no data."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import complete_recipes, examples

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(epilog=examples("upscore models --backbone resnet34 --backbone efficientnet_b0"))
def models(
    backbone: Annotated[
        list[str] | None, typer.Option(help="A backbone to list the networks for; may be repeated.", show_default="some common ones")
    ] = None,
) -> None:
    """List the networks: what each is, its parameters, strides and receptive field."""
    from upscore.cli import console, results

    with console.report_errors():
        with console.loading():
            from upscore.models.factory import list_models

        with console.loading("the networks"):
            rows = list_models(backbones=tuple(backbone)) if backbone else list_models()
    results.print_models(rows)


@commands.command(epilog=examples("upscore recipes", "upscore recipes segnet-camvid > mine.toml"))
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print the file of this recipe.", show_default="list all", autocompletion=complete_recipes)
    ] = None,
) -> None:
    """List the recipes of the papers: what they train, what the authors report, and the command that starts them."""
    from upscore.cli import console, results

    with console.report_errors():
        from upscore.training.recipes import find_recipe, list_recipes

        if name is not None:
            print(find_recipe(name).read_text(encoding="utf-8"), end="")
            return
        shipped = list_recipes()
    results.print_recipes(shipped)


@commands.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
) -> None:
    """Train, evaluate and predict on synthetic images, and write a report to open: a few minutes."""
    from upscore.cli import console, results
    from upscore.training.progress_bar import TrainingProgressBar

    with console.report_errors(f"what is done is in {out}; to begin again, remove it"):
        with console.loading():
            from upscore.demo import run_demo

        listener = functools.partial(TrainingProgressBar, always=True)
        demonstration = run_demo(out, seed=seed, listener=listener, report_step=console.print_line)
    results.print_demonstration(demonstration)
