"""The verbs and their flags.

Only typer is imported at the top: ``upscore --help`` and every verb's help answer without
loading PyTorch. A verb imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from upscore.cli.inference_options import InferenceOptions, inference_options

__all__ = ["app", "main"]

app = typer.Typer(
    name="upscore",
    help="Label every pixel: train, evaluate and use semantic-segmentation networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A first look: [bold]upscore demo[/bold]  ·  Then: [bold]upscore train DATA[/bold],  [bold]upscore evaluate RUN DATA[/bold],  "
    "[bold]upscore predict RUN IMAGES[/bold]",
)

DATA_HELP = (
    "A dataset.yaml (Ultralytics', LibreYOLO's), a folder with images/ and masks/, a PASCAL VOC folder, a folder with a_mask.png beside "
    "a.jpg (Roboflow's), or 'shapes' (made up)."
)
RUN_HELP = "A run folder of 'upscore train', or a bundle in it (best/, last/)."
BUNDLE_HELP = "A run folder of 'upscore train', a bundle in it (best/, last/), or an ensemble."

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@app.callback()
def _upscore(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "upscore train street/dataset.yaml\n\n"
    "upscore train street --backbone resnet18 --weights resnet18.pth --epochs 50\n\n"
    "upscore train VOC2012 --model fcn32s --backbone vgg16 --weights vgg16.pth --set optimizer.name=sgd\n\n"
    "upscore train --resume --out runs/street-fcn8s\n\n"
    "upscore train --recipe runs/street-fcn8s/recipe.toml --seed 1 --out runs/again"
)
def train(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP, show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help="An architecture; 'upscore models' lists them.  [default: fcn8s]", show_default=False)
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="'alexnet', 'googlenet', 'vgg16' or any timm backbone with strides 8, 16, 32; not for networks with their own encoder.",
            show_default="chosen",
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="The backbone's: a FILE, 'imagenet' or 'none'.", show_default="chosen")] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--start-from",
            "--init",
            help="A run to start from, in stages: a coarser FCN's (32s → 16s → 8s), or one of the same network.",
            show_default=False,
        ),
    ] = None,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="With --start-from: keep everything but the score layers, for other classes.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="chosen")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step, over all devices.", show_default="chosen")] = None,
    crop_size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Of training images, in pixels.", show_default="chosen")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="chosen")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="chosen")] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes, one device each.", show_default="chosen")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, or fp16 on cuda.", show_default="chosen")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that read images.", show_default="chosen")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.  [default: 0]", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.", show_default="runs/DATA-MODEL")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out from its last checkpoint, as it was begun.")] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="Start from this recipe; flags change it. 'upscore recipes' lists the papers'.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, show what would be done, and stop.")] = False,
) -> None:
    """Train a network on images and masks; keep the best and the last.

    Settings that are not given are chosen from the data and the machine; the choices and their reasons are printed and kept in the recipe.
    """
    from upscore.cli import console
    from upscore.errors import RecipeError
    from upscore.training.recipe import Recipe, parse_settings

    flags: dict[str, Any] = {
        "data.path": data,
        "model.name": model,
        "model.backbone": backbone,
        "model.weights": weights,
        "model.start_from": start_from,
        "model.new_classes": True if new_classes else None,
        "run.epochs": epochs,
        "run.batch_size": batch_size,
        "augment.crop_size": _crop_size(crop_size),
        "optimizer.lr": lr,
        "run.device": device,
        "run.devices": devices,
        "run.precision": precision,
        "run.workers": workers,
        "run.seed": seed,
        "run.out": None if out is None else str(out),
    }
    given = {name: value for name, value in flags.items() if value is not None}
    also = parse_settings(settings or [])
    with console.errors_on_their_own_line():
        from upscore.training.launch import train as launch_training
        from upscore.training.plan import plan
        from upscore.training.resume import resume as resume_training

        if resume:
            if out is None:
                raise RecipeError("--resume: say which run with --out, as in: upscore train --resume --out runs/street-fcn8s")
            if recipe is not None:
                raise RecipeError(f"--resume: the run in {out} has a recipe of its own: leave --recipe out")
            finished = resume_training(out, changes=given | also, listener=console.TrainingDisplay)
        else:
            asked = Recipe.load(recipe) if recipe else Recipe()
            asked = asked.with_values(given).with_values(also, source=f"--set {' '.join(settings or [])}")
            if recipe and out is None:
                asked.run.out = None  # a recipe from another run's folder names that folder
            with console.checking() as checking:
                ready = plan(asked, progress=checking)
            console.plan(ready)
            if dry_run:
                return
            finished = launch_training(ready, listener=console.TrainingDisplay)
    console.finished(finished, data=data)


@app.command(
    epilog="[bold]Examples[/bold]\n\nupscore evaluate runs/street-fcn8s street/dataset.yaml\n\n"
    "upscore evaluate runs/street-fcn8s street/dataset.yaml --split test --json > scores.json\n\n"
    "upscore evaluate runs/street-fcn8s street/dataset.yaml --crf"
)
@inference_options()
def evaluate(
    *,
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP, show_default=False)],
    data: Annotated[str, typer.Argument(help=DATA_HELP, show_default=False)],
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "val",
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="RUN/evaluation-SPLIT")] = None,
    absent: Annotated[
        str,
        typer.Option(
            help="Classes the mean IoU leaves out: 'union' those in neither truth nor prediction, "
            "'present' those not in the truth, 'all' none."
        ),
    ] = "union",
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, and nothing else, to standard output.")] = False,
    looking: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Evaluate a trained network on a split: four scores, per class, and a report with images.

    The truth is never resized and no image is counted twice; the policy for ignored and absent classes is printed with the scores.
    With the CRF, every score is printed before and after it.
    """
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.data.open_dataset import open_dataset
        from upscore.evaluation.evaluate import evaluate as evaluate
        from upscore.evaluation.report import write_report

        predictor = looking.predictor(bundle, device=device)
        dataset = open_dataset(data, split)
        console.dataset_notes(dataset)
        with console.bar("evaluating", quiet=json) as progress:
            evaluation = evaluate(predictor, dataset, absent=absent, progress=progress, path=data)
        folder = out or _beside(bundle, f"evaluation-{split}")
        flags = [
            *("--split", split),
            *(("--absent", absent) if absent != "union" else ()),
            *looking.words(),
        ]
        page = write_report(
            evaluation, folder, predictor=predictor, dataset=dataset, command=shlex.join(["upscore", "evaluate", bundle, data, *flags])
        )
    console.scores(evaluation, page, as_json=json)


@app.command(
    epilog="[bold]Examples[/bold]\n\nupscore tune runs/street-fcn8s street/dataset.yaml\n\n"
    "upscore tune runs/street-fcn8s street/dataset.yaml --metric both --trials 60 --out street-tuned"
)
def tune(
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP, show_default=False)],
    data: Annotated[str, typer.Argument(help=DATA_HELP, show_default=False)],
    split: Annotated[str, typer.Option(help="The split to tune on; report scores on another.")] = "val",
    trials: Annotated[int, typer.Option(min=1, help="How many settings to try.")] = 30,
    metric: Annotated[
        str, typer.Option(help="What to make large: mean_iou, boundary_iou, trimap_iou, or both, the mean of the first two.")
    ] = "mean_iou",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Where to write the tuned bundle.", show_default="over the old one")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Tune a bundle that was tuned before.")] = False,
    device: Device = "auto",
) -> None:
    """Find the CRF's numbers for a trained network, and switch it on if it helps.

    They are chosen on the first half of the split and confirmed on the second; only if both gain is the CRF switched on in the bundle.
    """
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.evaluation.tune import tune as search
        from upscore.models.ensemble import check_place, find_model, load_model

        # What would refuse the result at the end is asked before the work.
        network = load_model(bundle)
        place = out or find_model(bundle)
        check_place(place, network)
        with console.tuning() as (say, progress):
            tuned = search(
                network,
                data,
                split=split,
                trials=trials,
                metric=metric,  # type: ignore[arg-type]  # checked there
                seed=seed,
                device=device,
                again=again,
                say=say,
                progress=progress,
            )
        tuned.apply(network).save(place)
    console.tuned(tuned, place)


@app.command(
    epilog="[bold]Examples[/bold]\n\nupscore predict runs/street-fcn8s photo.jpg\n\n"
    "upscore predict runs/street-fcn8s photos/ 'more/*.png' --out labelled --flips --scales 0.75,1,1.25\n\n"
    "upscore predict runs/street-fcn8s mosaic.tif --tile 1024\n\n"
    "upscore predict runs/deconvnet photos/ --proposals 50 --ensemble runs/fcn8s --crf"
)
@inference_options()
def predict(
    *,
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP, show_default=False)],
    images: Annotated[list[str], typer.Argument(help="Files, folders and globs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the label maps, overlays and predictions.json.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option(help="Also lay the labels over the image.")] = True,
    probs: Annotated[bool, typer.Option("--probs", help="Also keep each class's probabilities (.npy, float16).")] = False,
    looking: InferenceOptions,
    device: Device = "auto",
) -> None:
    """Label images: palette PNGs of exactly their size, overlays and a JSON summary.

    One bad image among many is reported and the rest are done; the exit code is then 1.
    """
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.inference.predict_files import discover_images, predict_files

        found = discover_images(images, exclude=out)
        console.left_out(found)
        predictor = looking.predictor(bundle, device=device)
        with console.bar("labelling") as progress:
            results = []
            for result in predict_files(predictor, found, out, overlay=overlay, probs=probs):
                results.append(result)
                progress(len(results), len(found.images))
                console.bad_image(result)
    console.predicted(results, found, out, predictor.settings)
    if any(result.error for result in results):
        raise typer.Exit(1)


@app.command(
    epilog="[bold]Examples[/bold]\n\nEDeconvNet, as its authors have it:\n\n"
    "upscore ensemble runs/deconvnet runs/fcn8s --proposals 50 --crf --out edeconvnet\n\nupscore predict edeconvnet photos/"
)
@inference_options(leave_out=("boxes", "edges", "ensemble"))
def ensemble(
    *,
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE…", help="Runs, bundles or ensembles.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to save the ensemble.", show_default=False)],
    looking: InferenceOptions,
) -> None:
    """Put trained networks together in one folder, which every command takes like a bundle.

    Their classes must be the same. How they label is saved with them: of proposals each has its own, the rest is the first one's, changed
    by the flags.
    """
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.inference.settings import settled
        from upscore.models.ensemble import check_place, load_model

        together = settled([load_model(bundle) for bundle in bundles], **looking.overrides())
        check_place(out, together)
        together.save(out)
    console.put_together(together, out)


@app.command(
    epilog="[bold]Examples[/bold]\n\nupscore explain runs/street-fcn8s photo.jpg\n\n"
    "upscore explain runs/street-fcn8s photo.jpg --at 285,294 --out road.html\n\n"
    "upscore explain runs/street-segnet photo.jpg --channel decoder.conv3_D=11 --grid 0x0"
)
def explain(
    bundle: Annotated[str, typer.Argument(help=RUN_HELP, show_default=False)],
    image: Annotated[str, typer.Argument(help="One image.", show_default=False)],
    at: Annotated[
        str | None, typer.Option(metavar="ROW,COL", help="The pixel to look at.", show_default="deep inside the second largest class")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER=N", help="The channel to show of a layer; may be repeated.", show_default="what fires at the object"),
    ] = None,
    grid: Annotated[str, typer.Option(metavar="RxC", help="Rows and columns of further points that can be clicked on.")] = "5x7",
    pixels: Annotated[int, typer.Option(min=1, help="Shrink larger images to this many pixels.")] = 480 * 640,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The page.", show_default="IMAGE-explained.html, here")] = None,
    device: Device = "auto",
) -> None:
    """See why a network labels an image as it does: one page to open in a browser.

    It shows each class's probability, what a pixel's score depends on, every layer from coarse to fine, and what an FCN's skips add.
    """
    from upscore.cli import console

    place = out or Path(f"{Path(image).stem}-explained.html")
    pixel = None if at is None else _two_numbers(at, ",", "--at", "a row and a column, such as 120,200")
    points = _two_numbers(grid, "x", "--grid", "rows and columns of points, such as 5x7, or 0x0 for none")
    channels = _channels(channel or [])
    flags = [*(("--at", at) if at else ()), *(word for one in channel or [] for word in ("--channel", one))]
    with console.errors_on_their_own_line():
        from upscore.explain import explain_image, write_explanation

        with console.bar("looking") as progress:
            explanation = explain_image(
                bundle, image, at=pixel, channels=channels, grid=points, pixels=pixels, device=device, progress=progress
            )
        write_explanation(explanation, place, command=shlex.join(["upscore", "explain", bundle, image, *flags]))
    console.explained(explanation, place)


@app.command(epilog="[bold]Example[/bold]\n\nupscore models --backbone resnet34 --backbone efficientnet_b0")
def models(
    backbone: Annotated[
        list[str] | None, typer.Option(help="A backbone to show the networks on; may be repeated.", show_default="some common ones")
    ] = None,
) -> None:
    """List the networks: parameters, stride and receptive field."""
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.models.factory import list_models

        rows = list_models(backbones=tuple(backbone)) if backbone else list_models()
    console.models(rows)


@app.command(epilog="[bold]Examples[/bold]\n\nupscore recipes\n\nupscore recipes segnet-camvid > mine.toml")
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one as it is.", show_default="list all")] = None,
) -> None:
    """List the papers' recipes: what they train, what their authors report, and how to start them."""
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.training.recipes import find_recipe, list_recipes

        if name is not None:
            print(find_recipe(name).read_text(encoding="utf-8"), end="")
            return
        listed = list_recipes()
    console.recipes(listed)


@app.command(
    epilog="[bold]Examples[/bold]\n\nupscore proposals runs/deconvnet street/dataset.yaml --proposals 50\n\n"
    "upscore proposals edeconvnet VOC2012 --images 20 --counts 1,5,10,20,50"
)
@inference_options(leave_out=("no_proposals",))
def proposals(
    *,
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP, show_default=False)],
    data: Annotated[str, typer.Argument(help=DATA_HELP, show_default=False)],
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "val",
    images: Annotated[int, typer.Option(min=0, help="How many get a page of their own, evenly spread; all are evaluated.")] = 8,
    counts: Annotated[str, typer.Option(metavar="N,N,…", help="After how many boxes to look.")] = "1,5,10,20,50",
    out: Annotated[Path | None, typer.Option(help="Folder for the pages.", show_default="RUN/proposals-SPLIT")] = None,
    looking: InferenceOptions,
    device: Device = "auto",
) -> None:
    """See what proposals do: a labelling as boxes are added to it, beside each network alone, all together, the CRF and the truth.

    It writes a page for some images, and one with the curve of mean IoU over the number of boxes.
    """
    from upscore.cli import console

    numbers = [part.strip() for part in counts.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < len(part) < 6 for part in numbers):
        raise typer.BadParameter(f"found '{counts}', expected whole numbers such as 1,5,10,20,50", param_hint="--counts")
    with console.errors_on_their_own_line():
        from upscore.data.open_dataset import open_dataset
        from upscore.evaluation.proposal_sweep import sweep_proposals
        from upscore.evaluation.proposal_sweep_page import ProposalSweepPages

        predictor = looking.predictor(bundle, device=device)
        dataset = open_dataset(data, split)
        console.dataset_notes(dataset)
        few = {round(place * (len(dataset) - 1) / max(1, images - 1)) for place in range(min(images, len(dataset)))}
        flags = ["--split", split, "--counts", counts, "--images", str(images), *looking.words()]
        pages = ProposalSweepPages(
            out or _beside(bundle, f"proposals-{split}"),
            labels=dataset.labels,
            settings=predictor.settings,
            shown=sorted(few),
            command=shlex.join(["upscore", "proposals", bundle, data, *flags]),
        )
        with console.bar("looking") as progress:
            growth = sweep_proposals(predictor, dataset, counts=[int(part) for part in numbers], show=pages.show, progress=progress)
        page = pages.write_index(growth, dataset=dataset.name, split=dataset.split, model=predictor.source)
    console.grown(growth, page)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """See it all work, on images made on the spot: train, evaluate, predict, and a report to open."""
    from upscore.cli import console

    with console.errors_on_their_own_line():
        from upscore.demo import run_demo

        made = run_demo(out, seed=seed, display=console.TrainingDisplay, say=console.say)
    console.demonstrated(made)


def _crop_size(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise typer.BadParameter(f"found '{text}', expected N or HxW in pixels, such as 352 or 352x480", param_hint="--crop-size")
    numbers = [int(part) for part in parts]
    return numbers * 2 if len(numbers) == 1 else numbers


def _two_numbers(text: str, between: str, flag: str, expected: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(between)]
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise typer.BadParameter(f"found '{text}', expected {expected}", param_hint=flag)
    return int(parts[0]), int(parts[1])


def _channels(given: list[str]) -> dict[str, int]:
    channels = {}
    for text in given:
        layer, _, number = text.rpartition("=")
        if not layer or not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise typer.BadParameter(f"found '{text}', expected a layer and a number, such as decoder.conv3_D=11", param_hint="--channel")
        channels[layer] = int(number)
    return channels


def _beside(bundle: str, name: str) -> Path:
    """Return where a bundle's report goes: in its run folder, or here when it stands alone."""
    path = Path(bundle)
    for folder in (path, path.parent):
        if os.path.isfile(folder / "recipe.toml"):
            return folder / name
    return Path(name)


UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong flag raises; its module's name differs between versions of typer."""


def main() -> NoReturn:
    """Run the command line; an error a user can mend is one line on standard error and exit code 1."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:  # it is closed, and the next file that is opened would take its place and what is printed
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what a terminal's encoding, or any, has not
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    code = _run(arguments, debug=len(arguments) < len(sys.argv) - 1)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail once more at the end
        if not isinstance(error, BrokenPipeError) and code == 0:
            _say(f"standard output cannot be written ({error.strerror})")
        code = code or 1
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Return the exit code of a command line, having said what went wrong."""
    from upscore.errors import UpscoreError
    from upscore.text import one_line, reason

    try:
        code = app(args=arguments, standalone_mode=False)
        code = code if isinstance(code, int) else 0
    except BrokenPipeError:  # who reads has seen enough
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except UsageError as error:
        from typer.rich_utils import rich_format_error

        error.message = one_line(error.message)  # type: ignore[attr-defined]
        rich_format_error(error)  # type: ignore[arg-type]
        return 2
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except UpscoreError as error:
        if debug:
            raise
        _say(str(error))
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.strerror:  # a full disk, a name too long: the system's words say what to mend
            where = f"{error.filename}: " if error.filename else ""
            _say(one_line(f"{where}{error.strerror}: check the path, the rights and the space on the disk"))
        else:
            words = reason(error, 1000)
            _say(one_line(f"unexpected {type(error).__name__}: {words} (run it with --debug for the traceback, and please report it)"))
        return 1
    if code == 130:
        _say("interrupted")
    return code


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"upscore: {line}", file=sys.stderr)
