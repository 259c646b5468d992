"""The verb ``train``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from upscore.cli.arguments import (
    DATA_HELP,
    complete_devices,
    complete_models,
    complete_recipes,
    examples,
    parse_crop_size,
)
from upscore.cli.reading_flags import ReadingFlags, reading_flags

__all__ = ["commands"]

commands = typer.Typer()

BACKBONE_HELP = "'alexnet', 'googlenet', 'vgg16' or the name of a timm network; not for networks with an encoder of their own."
START_HELP = "A run whose weights to start from: a coarser FCN (32s → 16s → 8s), or the same network."
RECIPE_HELP = "Start from this recipe; flags override it. 'upscore recipes' lists those of the papers."


def _option(text: str, *names: str, default: str | bool = "chosen", **values: Any) -> Any:
    return typer.Option(*names, help=text, show_default=default, **values)


@commands.command(
    epilog=examples(
        "upscore train street/dataset.yaml",
        "upscore train street --backbone resnet18 --weights resnet18.pth --epochs 50",
        "upscore train VOC2012 --model fcn32s --backbone vgg16 --weights vgg16.pth --set optimizer.name=sgd",
        "upscore train --resume --out runs/street-fcn8s",
        "upscore train --recipe runs/street-fcn8s/recipe.toml --seed 1 --out runs/again",
    )
)
@reading_flags(leave_out=("classes",))
def train(
    *,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)] = None,
    model: Annotated[
        str | None,
        _option("An architecture; 'upscore models' lists them.  [default: fcn8s]", default=False, autocompletion=complete_models),
    ] = None,
    backbone: Annotated[str | None, _option(BACKBONE_HELP)] = None,
    weights: Annotated[str | None, _option("Weights of the backbone: a FILE, 'imagenet' or 'none'.")] = None,
    start_from: Annotated[str | None, _option(START_HELP, "--start-from", default=False)] = None,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="With --start-from: initialise the score layers anew, for other classes.")
    ] = False,
    epochs: Annotated[int | None, _option("Passes over the training images.", min=1)] = None,
    batch_size: Annotated[int | None, _option("Images in a step, over all devices.", min=1)] = None,
    crop_size: Annotated[str | None, _option("Size of the training crops, in pixels; image: whole images.", metavar="N|HxW|image")] = None,
    lr: Annotated[float | None, _option("Peak learning rate.")] = None,
    device: Annotated[str | None, _option("cpu, cuda or mps.", autocompletion=complete_devices)] = None,
    devices: Annotated[int | None, _option("Number of processes, one for each device.", min=1)] = None,
    precision: Annotated[str | None, _option("fp32, bf16, or fp16 on cuda.")] = None,
    workers: Annotated[int | None, _option("Number of processes that read images.", min=0)] = None,
    seed: Annotated[int | None, _option("Seed of everything random.  [default: 0]", min=0, default=False)] = None,
    out: Annotated[Path | None, _option("The run folder.", default="runs/DATA-MODEL")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out from its last checkpoint.")] = False,
    recipe: Annotated[str | None, _option(RECIPE_HELP, metavar="NAME|FILE.toml", default=False, autocompletion=complete_recipes)] = None,
    settings: Annotated[
        list[str] | None, _option("Any other setting; may be repeated.", "--set", metavar="SECTION.KEY=VALUE", default=False)
    ] = None,
    reading: ReadingFlags,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out training images that cannot be read; they are listed in skipped.txt.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, print the whole plan, and stop.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every choice and its reason.")] = False,
) -> None:
    """Train a network on images and masks; save the best and the last.

    Settings that are not given are chosen from the data and the machine. The choices that matter are printed, and all of them are saved
    with their reasons in the recipe.
    """
    from upscore.cli import console, results

    flags: dict[str, Any] = {
        "data.path": data,
        **{f"data.{name}": value for name, value in reading.options().items() if name != "classes"},
        "data.skip_bad": True if skip_bad else None,
        "model.name": model,
        "model.backbone": backbone,
        "model.weights": weights,
        "model.start_from": start_from,
        "model.new_classes": True if new_classes else None,
        "run.epochs": epochs,
        "run.batch_size": batch_size,
        "augment.crop_size": parse_crop_size(crop_size),
        "optimizer.lr": lr,
        "run.device": device,
        "run.devices": devices,
        "run.precision": precision,
        "run.workers": workers,
        "run.seed": seed,
        "run.out": None if out is None else str(out),
    }
    flags = {name: value for name, value in flags.items() if value is not None}
    with console.report_errors("nothing was started, and nothing written"):
        with console.loading():
            from upscore.errors import RecipeError
            from upscore.training.launch import train as launch_training
            from upscore.training.plan import plan as plan_training
            from upscore.training.progress_bar import TrainingProgressBar
            from upscore.training.recipe import Recipe, parse_settings
            from upscore.training.resume import resume as resume_training

        overrides = parse_settings(settings or [])
        if resume:
            if out is None:
                raise RecipeError("--resume: expected the run in --out, as in: upscore train --resume --out runs/street-fcn8s")
            if recipe is not None:
                raise RecipeError(f"--resume: the run in {out} has its own recipe: leave --recipe out")
            finished = resume_training(out, changes=flags | overrides, listener=functools.partial(TrainingProgressBar, always=True))
        else:
            start = Recipe.load(recipe) if recipe else Recipe()
            start = start.with_values(flags).with_values(overrides, source=f"--set {' '.join(settings or [])}")
            if recipe and out is None:
                start.run.out = None  # the recipe of another run names that run's folder
            with console.progress_bar("reading the data", then="building the network, trying a step") as progress:
                plan = plan_training(start, progress=progress, timed=True)
            results.print_plan(plan, verbose=verbose or dry_run)
            if dry_run:
                return
            finished = launch_training(plan, listener=functools.partial(TrainingProgressBar, estimate=plan.seconds, always=True))
    results.print_run(finished)
