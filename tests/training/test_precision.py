"""The mean IoU that training logs, that the card holds and that an evaluation of the bundle finds: one number, in one precision."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from painting import small_recipe
from upscore.cli.app import app
from upscore.data.open_dataset import open_dataset
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import InferenceSettings
from upscore.training import validation
from upscore.training.launch import train
from upscore.training.run_state import RunState

ON_RESNET = {"model.name": "unet-backbone", "model.backbone": "test_resnet", "model.arguments": {}}
NETWORKS = {
    "plain": {"model.name": "unet", "model.backbone": None, "model.arguments": {"width": 0.0625}},
    "averaged": {**ON_RESNET, "run.average": 0.9, "run.seed": 1},
    "measured": {**ON_RESNET, "run.precise_bn": 2},
    "unpooled": {"model.name": "segnet", "model.backbone": None, "model.arguments": {"width": 0.0625}},
}
"""Those of which a few steps make no constant."""


@pytest.mark.parametrize(
    ("network", "precision", "channels_last"),
    [
        ("plain", "fp32", False),
        ("plain", "bf16", False),
        ("averaged", "fp32", True),
        ("averaged", "bf16", True),
        ("measured", "bf16", True),
        ("unpooled", "bf16", False),
    ],
)
def test_logged_kept_and_evaluated_scores_are_the_same(painted, tmp_path, network, precision, channels_last):
    values = {"run.precision": precision, "run.channels_last": channels_last, "run.epochs": 1, "optimizer.lr": 1e-4}
    run = train(small_recipe(painted, tmp_path / "run", **values, **NETWORKS[network]))
    logged = max(float(row["miou"]) for row in csv.DictReader((run.folder / "log.csv").read_text().splitlines()))
    bundle = Bundle.load(run.folder)
    assert bundle.inference == InferenceSettings(precision=precision)
    evaluation = evaluate(Predictor(bundle, device="cpu"), str(painted))
    assert bundle.card["metrics"]["mean_iou"] == logged == evaluation.metrics.mean_iou
    assert bundle.card["metrics"]["pixel_accuracy"] == evaluation.metrics.pixel_accuracy
    assert bundle.card["metrics"]["policy"] == evaluation.policy
    other = evaluate(Predictor(bundle, device="cpu", precision="bf16" if precision == "fp32" else "fp32"), str(painted))
    assert precision == "fp32" or (other.matrix.counts != evaluation.matrix.counts).any()  # or this would show nothing
    assert evaluation.policy.endswith(f"The network computed in {precision}.")


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("network", ["plain", "measured"])
def test_validation_sees_the_bundles_own_probabilities_bit_for_bit(painted, tmp_path, monkeypatch, network, channels_last):
    """Memory orders differ in rounding: whichever training has and keeps, validation has that of bundles."""
    image, seen, states, begin = open_dataset(str(painted), "val")[0].image, [], [], RunState.begin
    monkeypatch.setattr(RunState, "begin", lambda *args: states.append(begin(*args)) or states[0])

    def watched(predictor, *args, **values):
        seen.append(predictor.predict(image, probs=True).probs)
        return evaluate(predictor, *args, **values)

    monkeypatch.setattr(validation, "evaluate", watched)
    wide = {} if network == "measured" else {"model.arguments": {"width": 0.25}}  # where orders differ in the last bits
    values = {"run.channels_last": channels_last, "run.epochs": 1, **NETWORKS[network], **wide}
    bundle = Bundle.load(train(small_recipe(painted, tmp_path / "run", **values)).best)
    assert np.array_equal(seen[0], Predictor(bundle, device="cpu").predict(image, probs=True).probs)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert all(weight.is_contiguous(memory_format=order) for weight in states[0].model.parameters() if weight.ndim == 4)


def test_the_precision_is_named_wherever_scores_are_and_can_be_given(painted, tmp_path):
    run = train(small_recipe(painted, tmp_path / "run", **{"run.precision": "bf16", "run.epochs": 1}))
    said = CliRunner().invoke(app, ["evaluate", str(run.folder), str(painted), "--device", "cpu", "--json"])
    numbers = json.loads(said.stdout)
    assert numbers["settings"]["precision"] == "bf16"
    assert numbers["policy"].endswith("The network computed in bf16.")
    assert "The network computed in bf16." in Path(numbers["report"]).read_text()
    for words in (["--precision", "fp32"], ["--set", "precision=fp32"]):
        said = CliRunner().invoke(app, ["evaluate", str(run.folder), str(painted), "--device", "cpu", *words])
        assert "The network computed in fp32." in " ".join(said.output.split())


def test_bundles_of_earlier_versions_and_the_first_of_several_decide(painted, tmp_path):
    bundle = train(small_recipe(painted, tmp_path / "run", **{"run.precision": "bf16", "run.epochs": 1})).best
    half = Bundle.load(bundle)
    old = Bundle(half.architecture, half.arguments, half.labels, half.weights)
    assert Predictor(old, device="cpu").settings.precision == "fp32"
    assert Predictor([half, old], device="cpu").settings.precision == "bf16"
    assert Predictor([old, half], device="cpu").settings.precision == "fp32"
    assert Ensemble.of([half, old]).resolve_settings(precision="fp32").inference.precision == "fp32"


def test_emulated_bfloat16_is_said_once_to_be_slow(painted, tmp_path, monkeypatch):
    import upscore.inference.segmenter as segmenter

    run = train(small_recipe(painted, tmp_path / "run", **{"run.precision": "bf16", "run.epochs": 1}))
    for native, said in ((False, 1), (True, 0)):
        monkeypatch.setattr(segmenter, "bf16_is_native", lambda device, native=native: native)
        words = [
            "predict",
            str(run.folder),
            str(painted.parent / "images" / "val"),
            "--out",
            str(tmp_path / str(native)),
            "--device",
            "cpu",
        ]
        output = CliRunner().invoke(app, words).output
        assert output.count("--precision fp32 is faster") == said, output
