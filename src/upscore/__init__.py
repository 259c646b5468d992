"""upscore labels every pixel: train, evaluate and use semantic-segmentation networks.

The verbs, from Python::

    import upscore

    run = upscore.train(upscore.Recipe.parse({"data": {"path": "street/dataset.yaml"}}))
    evaluation = upscore.evaluate(run.best, "street/dataset.yaml")
    tuning = upscore.tune(run.best, "street/dataset.yaml")
    prediction = upscore.Predictor(run.best).predict("image.jpg")
    upscore.write_explanation(upscore.explain_image(run.best, "image.jpg"), "explanation.html")
    upscore.list_models()
    upscore.run_demo("demo")

Names are imported when first used, so that ``import upscore`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscore.data.open_dataset import open_dataset as open_dataset
    from upscore.demo import run_demo as run_demo
    from upscore.errors import UpscoreError as UpscoreError
    from upscore.evaluation.evaluate import evaluate as evaluate
    from upscore.evaluation.report import write_report as write_report
    from upscore.evaluation.result import Evaluation as Evaluation
    from upscore.evaluation.tune import tune as tune
    from upscore.explain.explanation import explain_image as explain_image
    from upscore.explain.page import write_explanation as write_explanation
    from upscore.inference.predictor import Predictor as Predictor
    from upscore.models.bundle import Bundle as Bundle
    from upscore.models.ensemble import Ensemble as Ensemble
    from upscore.models.factory import create_model as create_model
    from upscore.models.factory import list_models as list_models
    from upscore.ops.geometry import Geometry as Geometry
    from upscore.training.launch import train as train
    from upscore.training.recipe import Recipe as Recipe
    from upscore.training.resume import resume as resume
    from upscore.types import LabelSpace as LabelSpace
    from upscore.types import Prediction as Prediction
    from upscore.types import Sample as Sample

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "models.bundle",
    "Ensemble": "models.ensemble",
    "Evaluation": "evaluation.result",
    "Geometry": "ops.geometry",
    "LabelSpace": "types",
    "Prediction": "types",
    "Predictor": "inference.predictor",
    "Recipe": "training.recipe",
    "Sample": "types",
    "UpscoreError": "errors",
    "create_model": "models.factory",
    "evaluate": "evaluation.evaluate",
    "explain_image": "explain.explanation",
    "list_models": "models.factory",
    "open_dataset": "data.open_dataset",
    "resume": "training.resume",
    "run_demo": "demo",
    "train": "training.launch",
    "tune": "evaluation.tune",
    "write_explanation": "explain.page",
    "write_report": "evaluation.report",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"upscore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'upscore' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
