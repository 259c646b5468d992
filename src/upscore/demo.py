"""The main job, seen working in a few minutes on images made on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upscore.data.image_files import write_image
from upscore.data.open_dataset import open_dataset
from upscore.errors import OutputError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.report import write_report
from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.progress_listener import ProgressListener, SilentListener
from upscore.training.recipe import Recipe

__all__ = ["Demonstration", "demo_recipe", "run_demo"]

IMAGES = 6
"""New images that the demo labels."""


@dataclass(frozen=True)
class Demonstration:
    """Where the demo put things.

    Parameters
    ----------
    report : Path
        The page to open first.
    run, predictions, images : Path
        The run folder; the labelled images; the images as they were.
    miou : float
        On the validation split, in [0, 1].
    """

    report: Path
    run: Path
    predictions: Path
    images: Path
    miou: float

    def places(self) -> dict[str, Path]:
        """Return what there is to look at, by name, the page to open first."""
        return {"report": self.report, "predictions": self.predictions, "images": self.images, "run": self.run}


def demo_recipe(out: Path, *, seed: int = 0) -> Recipe:
    """Return the demo's recipe: FCN-8s on a ten-layer residual backbone, trained from nothing in two or three minutes on two cores."""
    return Recipe().with_values(
        {
            "data.path": "shapes",
            "model.name": "fcn8s",
            "model.backbone": "resnet10t",
            "model.weights": "none",
            "augment.scale": [1.0, 1.0],  # the scenes hold every size already
            "augment.hue": 0.0,
            "optimizer.lr": 3e-3,
            "run.epochs": 3,
            "run.batch_size": 8,
            "run.device": "cpu",
            "run.devices": 1,
            "run.precision": "fp32",
            "run.seed": seed,
            "run.out": str(out / "run"),
        }
    )


def run_demo(
    out: str | Path = "demo",
    *,
    seed: int = 0,
    display: Callable[[], ProgressListener] = SilentListener,
    say: Callable[[str], None] = lambda line: None,
) -> Demonstration:
    """Make images, train on them, evaluate, label new ones and write a report.

    Parameters
    ----------
    out : path
        A folder that is empty or not there yet.
    seed : int
        Of everything random.
    display : callable
        Makes the training display.
    say : callable
        Told each step in a line.

    Raises
    ------
    OutputError
        The folder already holds something.
    """
    out = Path(out)
    if os.path.exists(out) and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: already holds something: choose another --out, or remove it")
    say("1/4  training FCN-8s on images of textured shapes, made as they are needed")
    run = train(plan(demo_recipe(out, seed=seed)), listener=display)
    say("2/4  evaluating it on images it has not seen")
    bundle = Bundle.load(run.best)
    predictor = Predictor(bundle, device="cpu")
    val = open_dataset("shapes", "val")
    evaluation = evaluate(predictor, val)
    say(f"     mean IoU {100 * evaluation.metrics.mean_iou:.1f}, pixel accuracy {100 * evaluation.metrics.pixel_accuracy:.1f}")
    say("3/4  labelling new images")
    test = open_dataset("shapes", "test")
    images = [out / "images" / f"{Path(test[i].key).name}.png" for i in range(IMAGES)]
    for i, path in enumerate(images):
        write_image(path, test[i].image)
    failed = [result for result in predict_files(predictor, images, out / "predictions", overlay=True) if result.error]
    assert not failed
    say("4/4  writing the report")
    report = write_report(evaluation, out / "report", predictor=predictor, dataset=val, card=bundle.card, history=run.progress.history)
    return Demonstration(report, run.folder, out / "predictions", out / "images", evaluation.metrics.mean_iou)
