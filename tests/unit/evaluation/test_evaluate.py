from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from speckles import LABELS as RED_AND_BLUE
from speckles import Scenes, Speckled
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image, write_label_map
from upscore.errors import BundleError, DataError, RecipeError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.result import merge_evaluations
from upscore.inference.predictor import Predictor
from upscore.metrics import BoundaryF1Counts, ConfusionMatrix
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace, Prediction, Sample

LABELS = LabelSpace(("a", "b"))
PLAIN = np.zeros((2, 3, 3), np.uint8)


class Fixed:
    """A dataset of given samples."""

    name, split, warnings = "fixed", "val", ()

    def __init__(self, *samples: Sample, labels: LabelSpace = LABELS) -> None:
        self.samples, self.labels = samples, labels
        self.keys = [sample.key for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class Always:
    """Labels everything as one class."""

    def __init__(self, label: int = 0, labels: LabelSpace = LABELS) -> None:
        self.label, self.labels = label, labels

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(np.full(image.shape[:2], self.label, np.uint8), self.labels)


def sample(key: str = "k", truth: object = ((0, 0, 1), (0, 255, 1))) -> Sample:
    return Sample(key, PLAIN, np.array(truth, np.uint8))


def test_rows_and_policy():
    evaluation = evaluate(Always(), Fixed(sample()))
    assert evaluation.matrix.counts.tolist() == [[3, 0], [2, 0]]
    (row,) = evaluation.images
    assert (row.key, row.height, row.width) == ("k", 2, 3)
    assert row.pixel_accuracy == pytest.approx(3 / 5)
    assert row.mean_iou == pytest.approx((3 / 5 + 0) / 2)
    assert row.ignored == pytest.approx(1 / 6)
    assert "1 of 6 pixels" in evaluation.policy
    assert (evaluation.dataset, evaluation.split, evaluation.model) == ("fixed", "val", "Always")


def test_absent_classes_follow_the_policy():
    data = Fixed(sample(truth=((0, 0, 0), (0, 0, 0))))
    assert evaluate(Always(), data).metrics.mean_iou == 1
    assert evaluate(Always(), data, absent="all").metrics.mean_iou == 0.5
    with pytest.raises(RecipeError, match="some"):
        evaluate(Always(), data, absent="some")


def test_progress_counts_this_shards_images():
    data, seen = Fixed(*(sample(str(i)) for i in range(5))), []
    evaluate(Always(), data, shard=(1, 2), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_an_ignored_image_has_no_score_and_no_rank():
    evaluation = evaluate(Always(), Fixed(sample(), sample("void", np.full((2, 3), 255))))
    assert math.isnan(evaluation.images[1].mean_iou)
    assert [row.key for row in evaluation.ranked()] == ["k"]
    assert evaluation.as_dict()["images"][1]["mean_iou"] is None


def test_other_classes_are_refused_with_the_difference():
    with pytest.raises(BundleError, match="class 1 is 'c' against 'b'"):
        evaluate(Always(labels=LabelSpace(("a", "c"))), Fixed(sample()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Fixed(sample(), sample()), "'k' occurs twice"),
        (Fixed(), "no image"),
        (Fixed(Sample("k", PLAIN)), "k: the image has no truth"),
        (Fixed(sample(truth=((0, 1),))), r"fixed\[0\]: found an array of shape \(1, 2\) .* as mask of an image of 2×3"),
        (Fixed(sample(truth=((0, 7, 1), (0, 0, 0)))), "k: found label 7"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused(data: Fixed, message: str):
    with pytest.raises(DataError, match=message):
        evaluate(Always(), data)


def test_labellers_that_resize_are_found_out():
    class Halves(Always):
        def predict(self, image: np.ndarray) -> Prediction:
            return super().predict(image[::2])

    with pytest.raises(BundleError, match="same size"):
        evaluate(Halves(), Fixed(sample()))


def test_impossible_shards_and_merges_are_refused():
    with pytest.raises(DataError, match="shard 2 of 2"):
        evaluate(Always(), Fixed(sample()), shard=(2, 2))
    one = evaluate(Always(), Fixed(sample()))
    with pytest.raises(DataError, match="twice"):
        merge_evaluations([one, one])
    with pytest.raises(DataError, match="at least one"):
        merge_evaluations([])
    with pytest.raises(DataError, match="cannot merge"):
        merge_evaluations([one, evaluate(Always(), Fixed(sample("j")), absent="all")])


def test_a_bundle_and_a_folder_by_path(tmp_path: Path):
    for i in range(2):
        write_image(tmp_path / "data/images/val" / f"{i}.png", PLAIN)
        write_label_map(tmp_path / "data/masks/val" / f"{i}.png", np.full((2, 3), i, np.uint8), LABELS)
    (tmp_path / "data/dataset.yaml").write_text("path: .\nval: images/val\ntrain: images/val\nmasks_dir: masks\nnames: [a, b]\n")
    arguments = {"backbone": "vgg16", "width": 1 / 32}
    model = create_model("fcn32s", num_classes=2, **arguments)
    with torch.no_grad():
        model.decoder.score_fr.bias.copy_(torch.tensor([0.0, 1.0]))
    Bundle.of("fcn32s", arguments, model, LABELS).save(tmp_path / "bundle")
    evaluation = evaluate(tmp_path / "bundle", tmp_path / "data" / "dataset.yaml")
    assert evaluation.matrix.counts.tolist() == [[0, 6], [0, 6]]
    assert evaluation.model == str(tmp_path / "bundle")
    assert evaluation.settings.tile == "auto"
    same = evaluate(Bundle.load(tmp_path / "bundle"), open_dataset(tmp_path / "data", "val"))
    assert same.fingerprint == evaluation.fingerprint


def refining(**settings: object) -> Predictor:
    return Predictor(Speckled(), labels=RED_AND_BLUE, **({"crf": {"iterations": 2}} | settings))


def test_before_the_crf_is_the_network_alone_and_after_it_the_predictor():
    scenes = Scenes(range(1), count=3)
    both, alone = evaluate(refining(), scenes), evaluate(refining(crf=False), scenes)
    assert alone.before is None
    assert (both.before.matrix, both.before.borders) == (alone.matrix, alone.borders)
    assert both.before.images == alone.images
    assert both.before.fingerprint == both.fingerprint == alone.fingerprint
    assert both.settings.crf.enabled is True
    assert both.before.settings.crf is None
    counted = ConfusionMatrix(2)
    for i in range(3):
        counted.add(scenes[i].label, refining().predict(scenes[i].image).label_map)
    assert both.matrix == counted
    assert both.seconds > both.before.seconds > 0


def test_gains_go_from_the_greatest_to_the_greatest_loss():
    evaluation = evaluate(refining(), Scenes(range(1), count=3))
    gains = [after.mean_iou - before.mean_iou for before, after in evaluation.gains()]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0.05 > -0.05 > gains[-1]
    assert evaluation.gains()[-1][0].key == evaluation.gains()[-1][1].key == "k0"
    assert evaluation.before.gains() == []


def test_numbers_hold_both():
    evaluation = evaluate(refining(), Scenes(count=2))
    numbers = json.loads(json.dumps(evaluation.numbers(), allow_nan=False))
    assert numbers["mean_iou"] == evaluation.metrics.mean_iou > numbers["before"]["mean_iou"]
    assert numbers["borders"]["boundary_iou"] == evaluation.border_metrics.boundary_iou
    assert numbers["before"]["borders"]["classes"]["red"]["trimap_iou"] == evaluation.before.border_metrics.class_trimap_iou[1]
    assert "before" not in numbers["before"]


def test_shards_with_a_crf_add_up_and_do_not_mix():
    scenes = Scenes(count=3)
    whole = evaluate(refining(), scenes)
    merged = merge_evaluations([evaluate(refining(), scenes, shard=(rank, 2)) for rank in range(2)])
    assert (merged.matrix, merged.borders, merged.images) == (whole.matrix, whole.borders, whole.images)
    assert (merged.before.matrix, merged.before.images) == (whole.before.matrix, whole.before.images)
    with pytest.raises(DataError, match="with and without"):
        merge_evaluations([evaluate(refining(), scenes, shard=(0, 2)), evaluate(refining(crf=False), scenes, shard=(1, 2))])


def test_absent_classes_are_told_beside_the_scores():
    three = LabelSpace(("a", "b", "c"))
    (few,) = evaluate(Always(labels=three), Fixed(sample(), labels=three)).warnings
    assert few == "[balance.class-not-shown] no mask of fixed val contains c: not measured, and left out of the mean IoU unless predicted"
    (counted,) = evaluate(Always(labels=three), Fixed(sample(), labels=three), absent="all").warnings
    assert counted.endswith("0 in the mean IoU")
    alone = evaluate(Always(), Fixed(sample(truth=((0, 0, 0), (0, 255, 0)))))
    assert alone.metrics.mean_iou == 1
    (warning,) = alone.warnings
    assert warning.startswith("[balance.one-class] the masks of fixed val contain only a: the mean IoU of one class does not measure")
    assert warning.endswith("; not measured: b")
    assert alone.numbers()["warnings"] == alone.as_dict()["warnings"] == alone.warnings
    assert [finding.id for finding in alone.findings] == ["balance.one-class"]
    assert evaluate(Always(), Fixed(sample())).warnings == []
    assert evaluate(Always(), Fixed(sample(truth=np.full((2, 3), 255)))).warnings == []
    halves = [evaluate(Always(), Fixed(sample("k"), sample("l", np.zeros((2, 3)))), shard=(rank, 2)) for rank in (0, 1)]
    assert [len(half.warnings) for half in halves] == [0, 1]
    assert merge_evaluations(halves).warnings == []


def test_the_bf_score_is_counted_where_it_is_asked_for():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8), rng.integers(0, 2, (12, 16)).astype(np.uint8)) for _ in range(4)]
    network = torch.nn.Conv2d(3, 2, 1)
    found = evaluate(network, pairs, labels=["a", "b"], boundary_f1=True)
    counts = BoundaryF1Counts(2)
    predictor = Predictor(network, labels=["a", "b"])
    for image, truth in pairs:
        counts.add(truth, predictor.predict(image).label_map)
    assert found.as_dict()["boundary_f1"] == found.numbers()["boundary_f1"] == counts.metrics().as_dict(found.labels)
    assert found.totals["BF score"] == counts.metrics().mean
    shards = [evaluate(network, pairs, labels=["a", "b"], boundary_f1=True, shard=(rank, 2)) for rank in range(2)]
    assert merge_evaluations(shards).as_dict()["boundary_f1"] == found.as_dict()["boundary_f1"]
    plain = evaluate(network, pairs, labels=["a", "b"], shard=(1, 2))
    assert plain.as_dict()["boundary_f1"] is None
    assert "BF score" not in plain.totals
    with pytest.raises(DataError, match="a BF score"):
        merge_evaluations([shards[0], plain])
