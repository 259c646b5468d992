"""The loss of a validation: the objective of training over the validation images, by another way."""

import csv

import pytest
import torch
import torch.nn.functional as F

from painting import small_recipe
from upscore.data.open_dataset import open_dataset
from upscore.losses import Objective
from upscore.models.bundle import Bundle
from upscore.training.launch import train

VALUES = {"model.name": "unet", "model.backbone": None, "model.arguments": {"width": 0.0625}, "run.epochs": 1, "optimizer.lr": 1e-4}


def logits_and_labels(run, painted):
    """Yield the bundle's logits of each validation image, in double precision, and its labels."""
    network = Bundle.load(run.best).build().double().eval()
    dataset = open_dataset(str(painted), "val")
    for index in range(len(dataset)):
        sample = dataset[index]
        image = torch.tensor(sample.image).permute(2, 0, 1)[None].double() / 255
        with torch.no_grad():
            yield network(image), torch.tensor(sample.label)[None].long()


def test_it_is_the_cross_entropy_of_every_labelled_pixel(painted, tmp_path):
    weights = [1.0, 2.0, 0.5]
    run = train(small_recipe(painted, tmp_path / "run", **VALUES, **{"loss.class_weights": weights, "loss.sampling": 0.5}))
    total, pixels = 0.0, 0
    for logits, labels in logits_and_labels(run, painted):
        total += float(F.cross_entropy(logits, labels, ignore_index=255, weight=torch.tensor(weights).double(), reduction="sum"))
        pixels += int((labels != 255).sum())
    assert run.progress.history[0]["val_loss"] == pytest.approx(total / pixels, rel=1e-4)
    row = next(csv.DictReader((run.folder / "log.csv").read_text().splitlines()))
    assert float(row["val_loss"]) == run.progress.history[0]["val_loss"]
    assert Bundle.load(run.best).card["history"][0]["val_loss"] == run.progress.history[0]["val_loss"]


def test_it_is_the_sum_of_all_terms_and_divided_as_in_training(painted, tmp_path):
    terms = {"cross_entropy": 1.0, "dice": 0.5, "ohem": 0.25}
    values = {"loss.terms": terms, "loss.label_smoothing": 0.1, "loss.normalize": "none", "optimizer.lr": 1e-8}
    run = train(small_recipe(painted, tmp_path / "run", **VALUES | values))
    objective, total, images = Objective(terms, label_smoothing=0.1), 0.0, 0
    for logits, labels in logits_and_labels(run, painted):
        total, images = total + float(objective(logits, labels)), images + 1
    assert run.progress.history[0]["val_loss"] == pytest.approx(total / images, rel=1e-4)


def test_two_processes_add_up_to_one(painted, tmp_path):
    values = VALUES | {"run.batch_size": 4, "optimizer.name": "sgd", "optimizer.lr": 0.01, "model.arguments.dropout": 0.0}
    one, two = (train(small_recipe(painted, tmp_path / str(n), **values, **{"run.devices": n})) for n in (1, 2))
    assert two.progress.history[0]["val_loss"] == pytest.approx(one.progress.history[0]["val_loss"], rel=1e-5)


def test_unets_weights_of_pixels_are_left_out_and_those_of_classes_are_not(painted, tmp_path):
    values = {"loss.border_weight": 10.0, "loss.border_of": ["square"], "loss.class_weights": [1.0, 3.0, 3.0]}
    run = train(small_recipe(painted, tmp_path / "run", **VALUES, **values))
    total, pixels = 0.0, 0
    for logits, labels in logits_and_labels(run, painted):
        weights = torch.tensor([1.0, 3.0, 3.0]).double()
        total += float(F.cross_entropy(logits, labels, ignore_index=255, weight=weights, reduction="sum"))
        pixels += int((labels != 255).sum())
    assert run.progress.history[0]["val_loss"] == pytest.approx(total / pixels, rel=1e-4)
