"""SIFT Flow with both of its label maps: from the files to the metrics of each head."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import upscore
from mat_bytes import mat_bytes
from small_files import image, write
from upscore.cli.app import app
from upscore.data.dataset import second_labels_of
from upscore.data.loading import collate
from upscore.data.open_dataset import open_dataset
from upscore.data.transforms import Augmentation
from upscore.errors import DataError, RecipeError
from upscore.losses import pixel_cross_entropy
from upscore.models.bundle import Bundle
from upscore.training.auto_config import Machine
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.types import Sample

MACHINE = Machine(device="cpu", devices=1, cores=1, bf16=False, tensorboard=False)
SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


@pytest.fixture
def sift_flow(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "sift"
    for key in ("a", "b", "c"):
        image(folder / "Images" / SCENES / f"{key}.jpg", rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
        for kind, low, high in (("SemanticLabels", 0, 34), ("GeoLabels", -1, 4)):
            write(folder / kind / SCENES / f"{key}.mat", mat_bytes({"S": rng.integers(low, high, (32, 40)).astype("f8")}))
    write(folder / "trainval.txt", "a\nb\n")
    write(folder / "test.txt", "c\n")
    return folder


def small(name, data, out, **values):
    recipe = Recipe.load(name)
    arguments = recipe.model.arguments | {"width": 1 / 32, "dropout": 0.0}
    values = {"model.arguments": arguments, "model.weights": "none", "run.steps": 2, "optimizer.lr": 1e-6} | values
    return plan(recipe.with_values({"data.path": str(data), "run.out": str(out), **values}), machine=MACHINE)


def test_the_loss_is_the_sum_of_both_cross_entropies(sift_flow, tmp_path):
    ready = small("fcn32s-siftflow", sift_flow, tmp_path / "run", **{"run.steps": 1, "run.seed": 3, "optimizer.lr": 1e-9})
    images = open_dataset(sift_flow, "trainval")
    model = small("fcn32s-siftflow", sift_flow, tmp_path / "run", **{"run.seed": 3}).take_model().eval()
    losses = []
    for index in range(2):
        batch = collate([images[index]])
        with torch.no_grad():
            first, second = model(batch.images, both=True)
        losses.append(float(pixel_cross_entropy(first, batch.labels) + pixel_cross_entropy(second, batch.second_labels)))
    finished = train(ready, progress=False)
    assert any(finished.progress.history[0]["loss"] == pytest.approx(loss, rel=1e-5) for loss in losses)
    scores = Bundle.load(finished.best).weights["decoder.score_fr.weight"]
    assert scores[:33].any()
    assert scores[33:].any()


def test_a_mean_loss_divides_each_head_by_its_own_pixels(sift_flow, tmp_path):
    values = {"run.steps": 1, "loss.normalize": "valid", "run.batch_size": 2, "run.accumulate": 2, "run.sampling": "epoch"}
    finished = train(small("fcn32s-siftflow", sift_flow, tmp_path / "run", **values), progress=False)
    assert finished.progress.history[0]["loss"] == pytest.approx(np.log(33) + np.log(3), rel=1e-5)  # scores begin with zeros


def test_both_heads_are_evaluated_and_predicted(sift_flow, tmp_path):
    run = tmp_path / "run"
    train(small("fcn8s-siftflow", sift_flow, run), progress=False)
    geometric = None
    for data, flags, classes in (
        (sift_flow, [], 33),
        (sift_flow, ["--second-head"], 3),
        (sift_flow / "GeoLabels", ["--second-head"], 3),
    ):
        found = CliRunner().invoke(app, ["evaluate", str(run), str(data), "--split", "test", "--json", "--device", "cpu", *flags])
        assert found.exit_code == 0, found.output
        assert ("a second head, which --second-head evaluates" in found.stderr) == (not flags)
        metrics = json.loads(found.stdout)
        assert len(metrics["classes"]) == classes
        assert ("--second-head" in json.loads(Path(metrics["report"]).with_suffix(".json").read_text())["repeat"]) == bool(flags)
        if classes == 3:
            assert geometric in (None, metrics["pixel_accuracy"])
            geometric = metrics["pixel_accuracy"]
    file = sift_flow / "Images" / SCENES / "c.jpg"
    found = CliRunner().invoke(app, ["predict", str(run), str(file), "--out", str(tmp_path / "out"), "--second-head", "--device", "cpu"])
    assert found.exit_code == 0, found.output
    assert "vertical" in (tmp_path / "out/predictions.json").read_text()


def test_the_stages_go_on_from_one_another(sift_flow, tmp_path):
    start = train(small("fcn32s-siftflow", sift_flow, tmp_path / "32s"), progress=False).best
    finer = small("fcn16s-siftflow", sift_flow, tmp_path / "16s", **{"model.start_from": str(start)}).take_model()
    earlier = Bundle.load(start).weights["decoder.score_fr.weight"]
    assert earlier.shape[0] == 36
    assert torch.equal(finer.decoder.score_fr.weight, earlier)


def test_the_second_label_moves_with_the_first(sift_flow):
    sample = open_dataset(sift_flow, "trainval")[0]
    assert second_labels_of(open_dataset(sift_flow, "trainval")).names == ("sky", "horizontal", "vertical")
    twin = Sample("k", sample.image, sample.second_label, second_label=sample.second_label)
    augmented = Augmentation(crop=(40, 30), scale=(0.5, 2), flip=0.5, rotation=30, elastic=2)(twin, rng=np.random.default_rng(1))
    assert np.array_equal(augmented.label, augmented.second_label)
    assert augmented.second_label.shape == (40, 30)
    batch = collate([sample, Sample("k", np.zeros((48, 20, 3), np.uint8))])
    assert batch.second_labels.shape == (2, 48, 40)
    assert np.array_equal(batch.second_labels[0, :32], sample.second_label)
    assert (batch.second_labels[0, 32:] == 255).all()
    assert (batch.second_labels[1] == 255).all()
    with pytest.raises(DataError, match=r"k: the label is \(3, 4\) and the image \(32, 40\)"):
        collate([Sample("k", sample.image, second_label=np.zeros((3, 4), np.uint8))])


def test_data_without_the_second_masks_is_refused(sift_flow, tmp_path, painted):
    with pytest.raises(DataError, match=r"has no second masks, expected some for model.arguments.second_head = 'sky, horizontal"):
        small("fcn32s-siftflow", painted, tmp_path / "run", **{"data.train": "train", "data.val": "val"})
    other = {"model.arguments": {"width": 1 / 32, "second_head": "sky, flat, vertical"}}
    with pytest.raises(DataError, match="are not those of its second masks: class 1 is 'flat' against 'horizontal'"):
        small("fcn32s-siftflow", sift_flow, tmp_path / "run", **other)
    broken = sift_flow / "GeoLabels" / SCENES / "b.mat"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"b\.mat"):
        small("fcn32s-siftflow", sift_flow, tmp_path / "run")
    broken.unlink()
    assert "there are no second labels" in open_dataset(sift_flow, "trainval").warnings[0]
    with pytest.raises(DataError, match="has no second masks"):
        small("fcn32s-siftflow", sift_flow, tmp_path / "run")


class Scenes:
    """A dataset of the caller's own, with two label maps."""

    labels, second_labels = ("ground", "thing"), ("low", "high")

    def __init__(self, *, complete=True):
        self.complete = complete

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        label = (image[..., 0] > 128).astype(np.uint8)
        return Sample(str(index), image, label, second_label=1 - label if self.complete else None)


def test_a_dataset_of_ones_own_trains_two_heads(tmp_path):
    settings = {"model": "fcn32s", "backbone": "vgg16", "arguments": {"width": 1 / 32, "second_head": "low, high"}, "weights": "none"}
    settings |= {"epochs": 1, "batch_size": 2, "crop_size": [32, 32], "device": "cpu", "progress": False}
    run = upscore.train(train=Scenes(), val=Scenes(), out=str(tmp_path / "run"), **settings)
    assert upscore.Predictor(run.best, second_head=True, device="cpu").labels.names == ("low", "high")
    with pytest.raises(DataError, match="found no second_label, expected one in each sample, since the dataset has second_labels"):
        upscore.train(train=Scenes(complete=False), val=Scenes(), out=str(tmp_path / "other"), **settings)
    with pytest.raises(RecipeError, match=r"data\.classes has no effect on a dataset of your own"):
        upscore.train(train=Scenes(), val=Scenes(), classes="voc", out=str(tmp_path / "third"), **settings)
