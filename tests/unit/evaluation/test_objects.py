import numpy as np
import pytest
import torch
from torch import nn

from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.objects import ObjectEvaluation, true_objects
from upscore.inference.object_detection import ObjectSettings
from upscore.inference.predictor import Predictor
from upscore.proposals import Boxes
from upscore.types import IGNORE, LabelSpace, Sample

pytest.importorskip("pycocotools")
LABELS = LabelSpace(("background", "bright"))


class Bright(nn.Module):
    geometry = None
    stride = 1

    def forward(self, images):
        return 6 * torch.cat([torch.full_like(images[:, :1], 0.5), images[:, :1]], 1)


def sample(*, ignored=False, instances=True):
    """Three objects: two that touch, and one apart, of which a column may be ignored."""
    numbers = np.zeros((20, 40), np.int32)
    numbers[2:8, 2:8], numbers[2:8, 8:14], numbers[12:18, 20:26] = 5, 6, 9
    label = (numbers > 0).astype(np.uint8)
    image = np.repeat(np.where(label[..., None], np.uint8(255), np.uint8(0)), 3, axis=2)
    if ignored:
        label[12:18, 25] = IGNORE
    return Sample("a", image, label, numbers if instances else None)


class Images:
    name, split, labels, warnings = "images", "val", LABELS, ()

    def __init__(self, *samples):
        self.samples = samples
        self.keys = [str(number) for number in range(len(samples))]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def evaluated(predictor, dataset, **settings):
    counted = ObjectEvaluation(predictor, ObjectSettings(**settings))
    evaluate(predictor, dataset, sinks=counted.sinks, show=lambda sample, metrics, prediction: counted.add(sample))
    return counted.as_dict()


def test_objects_that_touch_are_merged_and_counted():
    numbers = evaluated(Predictor(Bright(), labels=LABELS), Images(sample()))
    assert (numbers["true"], numbers["found"], numbers["merged"]) == (3, 2, 2)
    assert numbers["boxes"]["ap50"] < 1


def test_proposals_separate_what_a_network_labels_alone():
    class Centre(nn.Module):
        """Labels the middle of a crop, whatever it holds."""

        def forward(self, images):
            scores = torch.zeros(len(images), 2, *images.shape[2:])
            inner = images.shape[-1] // 12 + 1
            scores[:, 1, inner:-inner, inner:-inner] = 9
            scores[:, 0] = 4
            return scores

    boxes = Boxes([[2, 2, 8, 8], [8, 2, 14, 8], [20, 12, 26, 18]])
    predictor = Predictor(Centre(), labels=LABELS, proposals={"crop_side": 48, "enlarge": 1.4}, propose=lambda image: boxes)
    numbers = evaluated(predictor, Images(sample()))
    assert (numbers["origin"], numbers["found"], numbers["merged"]) == ("proposals", 3, 0)
    assert numbers["boxes"]["ap50"] == pytest.approx(1)


def test_ignored_pixels_belong_to_no_object():
    perfect = evaluated(Predictor(Bright(), labels=LABELS), Images(sample(ignored=True)))
    cut = sample(ignored=True)
    cut.image[12:18, 25] = 0  # predicting what is ignored changes nothing but the box
    other = evaluated(Predictor(Bright(), labels=LABELS), Images(cut))
    assert perfect["masks"] == other["masks"]
    true = true_objects(sample(), LABELS)
    assert sorted(each.area for each in true) == [36, 36, 36]


def test_data_without_instances_is_refused():
    with pytest.raises(DataError, match="no instance mask"):
        evaluated(Predictor(Bright(), labels=LABELS), Images(sample(instances=False)))


def test_true_objects_are_the_instances_that_are_no_background():
    dataset = open_dataset("shapes", "val", size=(64, 80), count=1)
    shapes = dataset[0]
    found = true_objects(shapes, dataset.labels)
    drawn = [number for number in np.unique(shapes.instances) if number]
    assert len(found) == len(drawn)
    for each, number in zip(found, drawn, strict=True):
        left, top, right, bottom = each.box
        np.testing.assert_array_equal(each.mask, (shapes.instances == number)[top:bottom, left:right])
        assert each.area == (shapes.instances == number).sum()
        assert each.label_class > 0
