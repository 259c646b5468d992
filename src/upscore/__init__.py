"""upscore labels every pixel: train, evaluate and use semantic-segmentation networks.

The verbs, from Python::

    import upscore

    run = upscore.train(train="street/dataset.yaml", epochs=20)
    evaluation = upscore.evaluate(run.best, "street/dataset.yaml")
    tuning = upscore.tune(run.best, "street/dataset.yaml")
    prediction = upscore.Predictor(run.best).predict("image.jpg")
    upscore.convert("street-labelme", "street", to="coco")
    upscore.mend(upscore.diagnose("street"), "street-mended")
    upscore.write_next(upscore.choose_next(upscore.Predictor(run.best), "unlabelled/", 50), "to-label")
    upscore.write_explanation(upscore.explain_image(run.best, "image.jpg"), "explanation.html")
    upscore.list_models()
    upscore.run_demo("demo")

Names are imported when first used, so that ``import upscore`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscore.data.convert import convert as convert
    from upscore.data.dataset import Dataset as Dataset
    from upscore.data.open_dataset import open_dataset as open_dataset
    from upscore.data.own_dataset import ImagesWithMasks as ImagesWithMasks
    from upscore.data.own_dataset import as_dataset as as_dataset
    from upscore.demo import run_demo as run_demo
    from upscore.doctor.diagnosis import diagnose as diagnose
    from upscore.doctor.mend import mend as mend
    from upscore.errors import UpscoreError as UpscoreError
    from upscore.evaluation.evaluate import evaluate as evaluate
    from upscore.evaluation.report import write_report as write_report
    from upscore.evaluation.result import Evaluation as Evaluation
    from upscore.evaluation.tune import tune as tune
    from upscore.explain.explanation import explain_image as explain_image
    from upscore.explain.page import write_explanation as write_explanation
    from upscore.inference.object_detection import ObjectSettings as ObjectSettings
    from upscore.inference.object_detection import segment_objects as segment_objects
    from upscore.inference.predict_files import predict_files as predict_files
    from upscore.inference.predictor import Predictor as Predictor
    from upscore.localization.classifiers import open_classifier as open_classifier
    from upscore.localization.localizer import Localizer as Localizer
    from upscore.models.backbone import FeatureLevel as FeatureLevel
    from upscore.models.backbone import measure_levels as measure_levels
    from upscore.models.bundle import Bundle as Bundle
    from upscore.models.ensemble import Ensemble as Ensemble
    from upscore.models.factory import create_model as create_model
    from upscore.models.factory import list_models as list_models
    from upscore.ops.geometry import Geometry as Geometry
    from upscore.review.label_review import review_labels as review_labels
    from upscore.review.next_images import choose_next as choose_next
    from upscore.review.next_images import write_next as write_next
    from upscore.training.launch import Run as Run
    from upscore.training.launch import train as train
    from upscore.training.plan import Plan as Plan
    from upscore.training.plan import plan as plan
    from upscore.training.recipe import Recipe as Recipe
    from upscore.training.resume import resume as resume
    from upscore.types import LabelSpace as LabelSpace
    from upscore.types import Prediction as Prediction
    from upscore.types import Sample as Sample

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "models.bundle",
    "Dataset": "data.dataset",
    "Ensemble": "models.ensemble",
    "Evaluation": "evaluation.result",
    "FeatureLevel": "models.backbone",
    "Geometry": "ops.geometry",
    "ImagesWithMasks": "data.own_dataset",
    "LabelSpace": "types",
    "Localizer": "localization.localizer",
    "ObjectSettings": "inference.object_detection",
    "Plan": "training.plan",
    "Prediction": "types",
    "Predictor": "inference.predictor",
    "Recipe": "training.recipe",
    "Run": "training.launch",
    "Sample": "types",
    "UpscoreError": "errors",
    "as_dataset": "data.own_dataset",
    "choose_next": "review.next_images",
    "convert": "data.convert",
    "create_model": "models.factory",
    "diagnose": "doctor.diagnosis",
    "evaluate": "evaluation.evaluate",
    "explain_image": "explain.explanation",
    "list_models": "models.factory",
    "measure_levels": "models.backbone",
    "mend": "doctor.mend",
    "open_classifier": "localization.classifiers",
    "open_dataset": "data.open_dataset",
    "plan": "training.plan",
    "predict_files": "inference.predict_files",
    "resume": "training.resume",
    "review_labels": "review.label_review",
    "run_demo": "demo",
    "segment_objects": "inference.object_detection",
    "train": "training.launch",
    "tune": "evaluation.tune",
    "write_explanation": "explain.page",
    "write_next": "review.next_images",
    "write_report": "evaluation.report",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"upscore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'upscore' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
