"""The verb ``localize``: where the classes of a classifier are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscore.cli.arguments import Device, examples

if TYPE_CHECKING:
    from upscore.localization.localize_files import LocalizedImage

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "upscore localize photos/ --backbone resnet50",
        "upscore localize photos/ --backbone mobilenetv2_100 --weights mobilenet_v2-b0353104.pth",
        "upscore localize birds/ --backbone resnet18 --weights birds.pth --classes birds.txt --truth boxes.csv",
    )
)
def localize(
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES…", help="Files, folders and globs.", show_default=False)],
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="The classifier: alexnet, googlenet, vgg16, or one of timm's.", show_default=False)
    ],
    weights: Annotated[str, typer.Option(metavar="imagenet|FILE", help="Its weights: timm's for ImageNet, or a file.")] = "imagenet",
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of its classes, one a line, in its order.", show_default="ImageNet's 1000"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the overlays and localization.json.")] = Path("localized"),
    overlay: Annotated[bool, typer.Option(help="Also write the heat map and the boxes over each image.")] = True,
    top: Annotated[int, typer.Option(min=1, help="How many classes of an image.")] = 5,
    threshold: Annotated[
        float, typer.Option(help="A box is around the pixels connected to the peak whose heat is at least this fraction of the peak's.")
    ] = 0.2,
    side: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Resize the shorter side of images to this; larger finds smaller objects.",
            show_default="twice what the classifier was made for",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="True boxes: image,class,left,top,right,bottom. Prints the localisation error: the fraction of images of which no class "
            "with a box of IoU 0.5 and more is right.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Find what is in an image and where, with a classifier: its best classes, and a box around the peak of each one's heat map.

    The classifier was trained on whole images. It is made convolutional, and gives a score to every part of an image of any size; see
    docs/detection.md. An image that cannot be read is reported and the others are done; the exit code is then 1.
    """
    from upscore.cli import console, localized

    with console.report_errors("the images that were done are in localization.json"):
        with console.loading():
            from upscore.inference.file_discovery import discover_images
            from upscore.inference.segmenter import choose_device
            from upscore.localization.classifiers import imagenet_names, open_classifier, read_class_names
            from upscore.localization.localize_files import localize_files
            from upscore.localization.localizer import Localizer
            from upscore.localization.truth import read_true_boxes

        found = discover_images(images, exclude=out)
        console.print_aside(found.warnings)
        names, synonyms = imagenet_names() if classes is None else (read_class_names(classes), ())
        numbers = {name.lower(): k for each in ([str(k) for k in range(len(names))], synonyms, names) for k, name in enumerate(each)}
        boxes = None if truth is None else read_true_boxes(truth, numbers)
        with console.loading("the classifier"):
            network, input_size = open_classifier(
                backbone, weights=weights, num_classes=len(names), report=lambda line: console.print_aside([line])
            )
            localizer = Localizer(network.to(choose_device(device)), names, input_size=input_size, side=side, threshold=threshold, top=top)
        with console.progress_bar("localizing") as progress:
            done = itertools.count(1)

            def show(image: LocalizedImage) -> None:
                localized.print_localized(image)
                progress(next(done), len(found.images))

            summary = localize_files(localizer, found, out, truth=boxes, overlay=overlay, show=show)
    localized.print_localization(summary, out)
    if any(image["error"] is not None for image in summary["images"]):
        raise typer.Exit(1)
