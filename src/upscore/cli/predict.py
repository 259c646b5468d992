"""The verbs ``predict``, ``ensemble`` and ``explain``: those that need no masks."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from upscore.cli.arguments import (
    PRELABEL_FORMATS,
    Device,
    MinArea,
    ObjectsFrom,
    Run,
    check_object_flags,
    complete_prelabel_formats,
    examples,
    given_command,
    parse_channels,
    parse_pair,
)
from upscore.cli.inference_options import InferenceOptions, inference_options

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "upscore predict runs/street-fcn8s photo.jpg",
        "upscore predict runs/street-fcn8s photos/ 'more/*.png' --out labelled --flips --scales 0.75,1,1.25",
        "upscore predict runs/street-fcn8s mosaic.tif --tile 1024",
        "upscore predict runs/street-fcn8s photos/ --objects --min-area 50",
        "upscore predict runs/street-fcn8s photos/ --as label-studio",
        "upscore predict runs/deconvnet photos/ --max-proposals 50 --ensemble runs/fcn8s --crf",
    )
)
@inference_options()
def predict(
    context: typer.Context,
    *,
    run: Run,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES…", help="Files, folders and globs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the label maps, overlays and predictions.json.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option(help="Also write the classes laid over the image, with a legend.")] = True,
    probs: Annotated[bool, typer.Option("--probs", help="Also write each class's probabilities (.npy, float16).")] = False,
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Also find single objects, and write their boxes, scores and polygons to objects.json, in COCO's format.",
        ),
    ] = False,
    objects_from: ObjectsFrom = None,
    min_area: MinArea = None,
    prelabels: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="FORMAT",
            help=f"Also write the labels as shapes to be corrected in an annotation tool: {', '.join(PRELABEL_FORMATS[:-1])} or "
            f"{PRELABEL_FORMATS[-1]}.",
            autocompletion=complete_prelabel_formats,
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PIXELS",
            show_default="1",
            help="By which polygons of --as may differ from the edges of the labels; 0 is exact.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after an interruption: leave out the images that predictions.json in --out lists.")
    ] = False,
    options: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Predict the class of every pixel: palette PNGs of exactly the images' size, overlays and a JSON summary.

    An image that cannot be read is reported and the others are predicted; the exit code is then 1.
    """
    from upscore.cli import console, results

    check_object_flags(objects, objects_from, min_area)
    if tolerance is not None and prelabels is None:
        raise typer.BadParameter("it needs --as", param_hint="--tolerance")
    with console.report_errors("no image was labelled", memory="give fewer images at a time, or another --device"):
        with console.loading():
            from upscore.errors import RunInterrupted
            from upscore.inference.object_detection import ObjectSettings
            from upscore.inference.predict_files import count_pixels, discover_images, expand_pages, list_labelled, predict_files
            from upscore.inference.prelabels import PreLabelSettings

        shapes = None if prelabels is None else PreLabelSettings(prelabels, 1.0 if tolerance is None else tolerance)
        settings = ObjectSettings(objects_from, min_area or 1) if objects else None  # type: ignore[arg-type]  # checked there
        found = discover_images(images, exclude=out)
        with console.loading("the network"):
            predictor = options.predictor(run, device=device)
        found = expand_pages(found, predictor.input)
        console.print_aside(found.warnings)
        done = list_labelled(out) if resume else set()
        sizes = {str(image.path): count_pixels(image, predictor.input) for image in found.images if str(image.path) not in done}
        predictions = []
        try:
            with (
                console.image_bar("predicting", sizes) as bar,
                contextlib.closing(
                    predict_files(
                        predictor,
                        found,
                        out,
                        overlay=overlay,
                        probs=probs,
                        objects=settings,
                        prelabels=shapes,
                        resume=resume,
                        progress=bar.inside,
                    )
                ) as labelled,
            ):
                for prediction in labelled:
                    predictions.append(prediction)
                    bar.advance(prediction.file)
                    results.print_image(prediction)
        except KeyboardInterrupt:
            count, rest = len(list_labelled(out)), given_command(context, "--resume", leave_out=["resume"])
            raise RunInterrupted(
                f"interrupted: {count} of {len(found.images)} images are labelled, {out / 'predictions.json'} lists them; "
                f"label the rest with {rest}",
                number=signal.SIGINT,
            ) from None
    results.print_predictions(predictions, found, out, predictor.settings, shapes)
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(1)


@commands.command(
    epilog=examples(
        "EDeconvNet, as in its paper:",
        "upscore ensemble runs/deconvnet runs/fcn8s --max-proposals 50 --crf --out edeconvnet",
        "upscore predict edeconvnet photos/",
    )
)
@inference_options(leave_out=("boxes", "edges", "ensemble", "second_head"))
def ensemble(
    *,
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs, bundles or ensembles.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to save the ensemble.", show_default=False)],
    options: InferenceOptions,
) -> None:
    """Combine trained networks into one folder, which verbs take like a run.

    Their classes must be the same. The inference settings are saved with the ensemble: each network has proposal settings of its own, the
    other settings are those of the first network, overridden by the flags.
    """
    from upscore.cli import console, results

    with console.report_errors():
        with console.loading():
            from upscore.models.ensemble import Ensemble, check_output_folder, load_model

        combined = Ensemble.of([load_model(run) for run in runs]).resolve_settings(**options.overrides())
        check_output_folder(out, combined)
        combined.save(out)
    results.print_ensemble(combined, out)


@commands.command(
    epilog=examples(
        "upscore explain runs/street-fcn8s photo.jpg",
        "upscore explain runs/street-fcn8s photo.jpg --pixel 285,294 --out road.html",
        "upscore explain runs/street-fcn8s photo.jpg --truth mask.png",
        "upscore explain runs/street-segnet photo.jpg --channel decoder.conv3_D=11 --grid 0x0",
    )
)
def explain(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run folder of 'upscore train', or a bundle in it (best/, last/).", show_default=False),
    ],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="One image.", show_default=False)],
    pixel: Annotated[
        str | None, typer.Option(metavar="ROW,COL", help="The pixel to explain.", show_default="deep inside the second largest class")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="MASK", help="The image's mask of class indices: shows where the prediction is wrong.", show_default=False),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=N", help="The channel of a layer to show; may be repeated.", show_default="the most active on the object"
        ),
    ] = None,
    grid: Annotated[str, typer.Option(metavar="RxC", help="Rows and columns of further points that can be clicked on.")] = "5x7",
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images are shrunk to this many pixels.")] = 480 * 640,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The page.", show_default="IMAGE-explained.html, here")] = None,
    device: Device = "auto",
) -> None:
    """Explain why a network labels an image as it does, in one HTML page.

    The page shows each class's probability, the receptive field of a pixel, the feature maps of every layer, and the contribution of each
    skip of an FCN.
    """
    from upscore.cli import console, results

    page = out or Path(f"{Path(image).stem}-explained.html")
    at = None if pixel is None else parse_pair(pixel, ",", "--pixel", "a row and a column, such as 120,200")
    points = parse_pair(grid, "x", "--grid", "rows and columns of points, such as 5x7, or 0x0 for none")
    channels = parse_channels(channel or [])
    with console.report_errors(
        "no page was written", memory=f"lower --max-pixels (now {max_pixels}), or choose another --device (now {device})"
    ):
        with console.loading():
            from upscore.explain import explain_image, write_explanation

        with console.progress_bar("explaining") as progress:
            explanation = explain_image(
                run,
                image,
                truth=truth,
                pixel=at,
                channels=channels,
                grid=points,
                max_pixels=max_pixels,
                device=device,
                progress=progress,
            )
        write_explanation(explanation, page, command=given_command(context))
    results.print_explanation(explanation, page)
