"""A demonstration in a few minutes on synthetic images: train, evaluate, predict, report."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image
from upscore.errors import OutputError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.gallery import Gallery
from upscore.evaluation.report import write_report
from upscore.inference.predict_files import predict_files
from upscore.inference.predictor import Predictor
from upscore.input_spec import RGB
from upscore.models.bundle import Bundle
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.progress_listener import ProgressListener, SilentListener
from upscore.training.recipe import Recipe

__all__ = ["Demonstration", "demo_recipe", "run_demo"]

IMAGES = 6  # test images that the demo predicts


@dataclass(frozen=True)
class Demonstration:
    """Where the results of the demo are, and the mean IoU on the validation split, in [0, 1]."""

    report: Path  #: the HTML report, to open first
    run: Path
    predictions: Path
    images: Path  #: those that were predicted
    miou: float

    def paths(self) -> dict[str, Path]:
        """Return the results by name, the report first."""
        return {"report": self.report, "predictions": self.predictions, "images": self.images, "run": self.run}


def demo_recipe(out: Path, *, seed: int = 0) -> Recipe:
    """Return the demo's recipe: FCN-8s on a ten-layer ResNet, trained from scratch in two or three minutes on two cores."""
    return Recipe().with_values(
        {
            "data.path": "shapes",
            "model.name": "fcn8s",
            "model.backbone": "resnet10t",
            "model.weights": "none",
            "augment.scale": [1.0, 1.0],  # the scenes contain objects of every size
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
    listener: Callable[[], ProgressListener] = SilentListener,
    report_step: Callable[[str], None] = lambda line: None,
) -> Demonstration:
    """Train on synthetic images, evaluate, predict new ones and write a report.

    ``out`` is a folder that is empty or does not exist, else OutputError is raised; ``seed`` is that of everything random.
    ``listener`` returns the listener of the training progress; ``report_step`` is called with a line for each step.
    """
    out = Path(out)
    if os.path.exists(out) and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: the folder is not empty: choose another --out, or remove it")
    report_step("1/4  training FCN-8s on synthetic images of textured shapes")
    run = train(plan(demo_recipe(out, seed=seed)), listener=listener)
    report_step("2/4  evaluating it on other images")
    bundle = Bundle.load(run.best)
    predictor = Predictor(bundle, device="cpu")
    val = open_dataset("shapes", "val")
    gallery = Gallery(val.labels)
    evaluation = evaluate(predictor, val, show=gallery.add)
    report_step(f"     mean IoU {100 * evaluation.metrics.mean_iou:.1f} %, pixel accuracy {100 * evaluation.metrics.pixel_accuracy:.1f} %")
    report_step("3/4  predicting new images")
    test = open_dataset("shapes", "test")
    images = [out / "images" / f"{Path(test[i].key).name}.png" for i in range(IMAGES)]
    for i, path in enumerate(images):
        write_image(path, RGB.display(test[i].image))
    failed = [result for result in predict_files(predictor, images, out / "predictions", overlay=True) if result.error]
    assert not failed
    report_step("4/4  writing the report")
    page = write_report(
        evaluation, out / "report", predictor=predictor, dataset=val, card=bundle.card, history=run.progress.history, gallery=gallery
    )
    return Demonstration(page, run.folder, out / "predictions", out / "images", evaluation.metrics.mean_iou)
