"""Arguments and options of several verbs, and the parsing of texts such as ``352x480``."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Annotated, Any

import typer

__all__ = [
    "FORMATS",
    "PRELABEL_FORMATS",
    "Data",
    "Device",
    "MinArea",
    "ObjectsFrom",
    "Run",
    "check_object_flags",
    "complete_devices",
    "complete_formats",
    "complete_models",
    "complete_prelabel_formats",
    "complete_recipes",
    "examples",
    "given_command",
    "given_words",
    "parse_channels",
    "parse_crop_size",
    "parse_pair",
]

# The readers' own words: importing them here would load NumPy and OpenCV for every help text, so a test holds them equal.
DATA_HELP = (
    "The word shapes, YOLO polygons, a dataset.yaml or a folder with one, SBD, SIFT Flow, PASCAL-Context, NYUDv2, a PASCAL "
    "VOC folder, Cityscapes, ADE20K, the full ADE20K, nnU-Net, COCO panoptic, Supervisely, a CSV of pairs, a folder with "
    "images/ and masks/, scene folders, a folder of images with masks beside them, COCO, labelme, Label Studio, CVAT for "
    "images, VGG Image Annotator, GeoJSON in pixels, or Hugging Face's Parquet files."
)
MODELS = (
    "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "fcn32s-late", "deconvnet", "segnet", "segnet-basic", "unet", "unet-backbone",
    "sliding-window", "full-resolution",
)  # fmt: skip
"""The architectures, for shell completion; a test holds them equal too."""

FORMATS = ("folder", "coco", "labelme", "label-studio", "cvat", "yolo", "voc", "geojson")
"""The formats in which datasets are written, for help and shell completion; a test holds them equal too."""

PRELABEL_FORMATS = tuple(name for name in FORMATS if name not in ("folder", "voc"))
"""Those in which predictions are written."""

RUN_HELP = "A run folder of 'upscore train', a bundle in it (best/, last/), or an ensemble."


def complete_formats(incomplete: str) -> list[str]:
    """Return the formats of datasets that begin so, for a shell."""
    return [name for name in FORMATS if name.startswith(incomplete)]


def complete_prelabel_formats(incomplete: str) -> list[str]:
    """Return the formats of pre-labels that begin so, for a shell."""
    return [name for name in PRELABEL_FORMATS if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Return the architectures that begin so, for a shell."""
    return [name for name in MODELS if name.startswith(incomplete)]


def complete_recipes(incomplete: str) -> list[str]:
    """Return the shipped recipes that begin so, for a shell."""
    from upscore.training.recipes import list_recipes

    return [recipe.name for recipe in list_recipes() if recipe.name.startswith(incomplete)]


def complete_devices(incomplete: str) -> list[str]:
    """Return the kinds of device that begin so, for a shell."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, show_default=False)]
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=complete_devices)]
ObjectsFrom = Annotated[
    str | None,
    typer.Option(
        metavar="components|proposals",
        show_default="proposals where the run uses them",
        help="An object is a connected component of the label map, or what the network finds in one of its proposals. Objects of one class "
        "that touch are one component.",
    ),
]
MinArea = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Leave out smaller objects.", show_default="1")]


def check_object_flags(objects: bool, objects_from: str | None, min_area: int | None) -> None:
    """Refuse flags about objects where there are none, and an unknown origin of objects."""
    if not objects and (objects_from is not None or min_area is not None):
        raise typer.BadParameter("it needs --objects", param_hint="--objects-from" if min_area is None else "--min-area")
    if objects_from not in (None, "components", "proposals"):
        raise typer.BadParameter(f"found '{objects_from}', expected components or proposals", param_hint="--objects-from")


def examples(*lines: str) -> str:
    """Return the epilog of a verb's help that shows command lines."""
    return "\n\n".join(["[bold]Examples[/bold]" if len(lines) > 1 else "[bold]Example[/bold]", *lines])


def given_command(context: typer.Context, *added: str, leave_out: Collection[str] = ()) -> str:
    """Return the command line of a verb with every argument and option that was given but ``leave_out``, quoted for a shell."""
    names = {str(parameter.name) for parameter in context.command.params} - set(leave_out)
    return shlex.join(["upscore", str(context.info_name), *given_words(context, names), *added])


def given_words(context: typer.Context, names: Collection[str]) -> list[str]:
    """Return the words of a command line that gave the parameters of these names, the arguments first."""
    arguments: list[str] = []
    options: list[str] = []
    for parameter in context.command.params:
        value: Any = context.params.get(str(parameter.name))
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in names or value is None or source is None or source.name != "COMMANDLINE":
            continue
        values = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        if parameter.param_type_name == "argument":
            arguments += values
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            options += [word for item in values for word in (parameter.opts[0], item)]
    return [*arguments, *options]


def parse_crop_size(text: str | None) -> list[int] | str | None:
    """Return [H, W] of ``352`` or ``352x480``; ``image``, for whole images, and None as they are."""
    if text is None or text == "image":
        return text
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(_is_whole(part) for part in parts):
        raise typer.BadParameter(f"found '{text}', expected N or HxW in pixels, such as 352 or 352x480, or image", param_hint="--crop-size")
    numbers = [int(part) for part in parts]
    return numbers * 2 if len(numbers) == 1 else numbers


def parse_pair(text: str, separator: str, flag: str, expected: str) -> tuple[int, int]:
    """Return the two whole numbers of a text such as ``120,200``."""
    parts = [part.strip() for part in text.split(separator)]
    if len(parts) != 2 or not all(_is_whole(part) for part in parts):
        raise typer.BadParameter(f"found '{text}', expected {expected}", param_hint=flag)
    return int(parts[0]), int(parts[1])


def parse_channels(texts: list[str]) -> dict[str, int]:
    """Return the channel of each layer in texts such as ``decoder.conv3_D=11``."""
    channels = {}
    for text in texts:
        layer, _, number = text.rpartition("=")
        if not layer or not _is_whole(number):
            raise typer.BadParameter(f"found '{text}', expected a layer and a number, such as decoder.conv3_D=11", param_hint="--channel")
        channels[layer] = int(number)
    return channels


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
