"""The mean IoU that training logs, that the card holds and that an evaluation of the bundle finds: one number, in one precision."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from painting import small_recipe
from upscore.cli.app import app
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.inference.settings import InferenceSettings, settled
from upscore.models.bundle import Bundle
from upscore.training.run import train

NETWORKS = {
    "vgg16": {},
    "normalised": {"model.backbone": "test_resnet", "model.arguments": {}, "run.average": 0.9},
    "measured": {"model.backbone": "test_resnet", "model.arguments": {}, "run.precise_bn": 2},
    "segnet": {"model.name": "segnet", "model.backbone": None, "model.arguments": {"width": 0.0625}},
}


@pytest.mark.parametrize(
    ("network", "precision", "channels_last"),
    [
        ("vgg16", "fp32", False),
        ("vgg16", "bf16", False),
        ("normalised", "fp32", True),
        ("normalised", "bf16", True),
        ("normalised", "bf16", False),
        ("measured", "bf16", True),
        ("segnet", "bf16", False),
    ],
)
def test_logged_kept_and_evaluated_scores_are_the_same(painted, tmp_path, network, precision, channels_last):
    values = {"run.precision": precision, "run.channels_last": channels_last, "run.epochs": 1, "optimizer.lr": 1e-2}
    run = train(small_recipe(painted, tmp_path / "run", **values, **NETWORKS[network]))
    logged = max(float(row["miou"]) for row in csv.DictReader((run.folder / "log.csv").read_text().splitlines()))
    bundle = Bundle.load(run.folder)
    assert bundle.inference == {"precision": precision}
    assert InferenceSettings.of(bundle.inference).precision == precision
    evaluation = evaluate(Predictor(bundle, device="cpu"), str(painted))
    assert bundle.card["scores"]["mean_iou"] == logged == evaluation.scores.mean_iou
    assert bundle.card["scores"]["pixel_accuracy"] == evaluation.scores.pixel_accuracy
    assert bundle.card["scores"]["policy"] == evaluation.policy
    assert evaluation.policy.endswith(f"The network computed in {precision}.")


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
    assert settled([half, old], precision="fp32").inference["precision"] == "fp32"


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
