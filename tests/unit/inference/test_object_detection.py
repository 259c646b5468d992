import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import RecipeError
from upscore.inference.object_detection import ObjectSettings, choose_origin, objects_in_box, segment_objects
from upscore.inference.predictor import Predictor
from upscore.inference.sinks import LabelMapSink
from upscore.inference.sources import ArraySource
from upscore.objects.detected import connected_objects
from upscore.proposals import Boxes
from upscore.types import LabelSpace

LABELS = LabelSpace(("background", "bright", "blue"))


class Colour(nn.Module):
    """Labels each pixel by itself: bright where red is above a half, blue where blue is; how often it ran is counted."""

    geometry = None
    stride = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.crops = 0

    def forward(self, images):
        self.crops += len(images)
        background = torch.full_like(images[:, :1], 0.5)
        return 6 * torch.cat([background, images[:, :1], images[:, 2:]], 1)


def scene():
    """Two bright squares that touch, a bright one apart, and a blue one."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[4:16, 4:16, 0] = 255
    image[4:16, 16:28, 0] = 220
    image[24:36, 4:16, 0] = 255
    image[20:36, 36:52, 2] = 200
    return image


TWO = Boxes([[4, 4, 16, 16], [4, 24, 16, 36], [36, 20, 52, 36]], [0.9, 0.8, 0.7])


def test_components_are_those_of_the_label_map_that_is_written():
    predictor = Predictor(Colour(), labels=LABELS)
    sink = LabelMapSink((40, 60))
    found = segment_objects(predictor, ArraySource(scene()), ObjectSettings(), [sink]).objects
    probs = predictor.predict(scene(), probs=True).probs
    expected = connected_objects(sink.label_map, probs.max(0), classes=[1, 2])
    assert [(each.label_class, each.box) for each in found] == [(each.label_class, each.box) for each in expected]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected])
    assert {each.box for each in found} == {(4, 4, 28, 16), (4, 24, 16, 36), (36, 20, 52, 36)}  # the two that touch are one


def test_small_objects_are_left_out():
    predictor = Predictor(Colour(), labels=LABELS)
    settings = ObjectSettings(min_area=200)
    assert {each.area for each in segment_objects(predictor, ArraySource(scene()), settings).objects} == {256, 288}


def test_proposals_find_objects_and_label_the_image_as_ever_in_one_pass():
    network = Colour()
    predictor = Predictor(network, labels=LABELS, proposals={"crop_side": 48, "max_proposals": 3}, propose=lambda image: TWO)
    assert choose_origin(predictor, ObjectSettings()) == "proposals"
    sink = LabelMapSink((40, 60))
    found = segment_objects(predictor, ArraySource(scene()), ObjectSettings(), [sink]).objects
    assert network.crops == 3
    np.testing.assert_array_equal(sink.label_map, predictor.predict(scene()).label_map)
    boxes = {each.label_class: np.array(each.box) for each in found if each.label_class == 2}
    assert abs(boxes[2] - [36, 20, 52, 36]).max() <= 1
    # The first box's object reaches into its neighbour, where the box cuts it off: it is no object of this box.
    assert [each.label_class for each in found].count(1) == 1


def test_objects_found_twice_are_one():
    boxes = Boxes([[36, 20, 52, 36], [35, 20, 52, 36], [36, 19, 52, 36]])
    predictor = Predictor(Colour(), labels=LABELS, proposals={"crop_side": 48}, propose=lambda image: boxes)
    assert [each.label_class for each in segment_objects(predictor, ArraySource(scene()), ObjectSettings()).objects] == [2]


def test_an_image_without_proposals_gives_components_and_a_warning():
    predictor = Predictor(Colour(), labels=LABELS, proposals={"crop_side": 48}, propose=lambda image: Boxes([]))
    found, segmentation = segment_objects(predictor, ArraySource(scene()), ObjectSettings())
    assert len(found) == 3
    assert "no proposals" in segmentation.warnings[0]


def test_components_can_be_asked_of_a_network_with_proposals_and_not_the_reverse():
    with_proposals = Predictor(Colour(), labels=LABELS, proposals=5)
    assert choose_origin(with_proposals, ObjectSettings("components")) == "components"
    without = Predictor(Colour(), labels=LABELS)
    assert choose_origin(without, ObjectSettings()) == "components"
    with pytest.raises(RecipeError, match="no network that uses any"):
        choose_origin(without, ObjectSettings("proposals"))


@pytest.mark.parametrize("values", [{"origin": "boxes"}, {"min_area": 0}, {"min_area": 1.5}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(RecipeError):
        ObjectSettings(**values)


def scores_of(label_map):
    return 8 * nn.functional.one_hot(torch.from_numpy(label_map).long(), 3).permute(2, 0, 1).float()


@pytest.mark.parametrize(
    ("rows", "columns", "box", "size", "found"),
    [
        (np.s_[2:10], np.s_[2:10], (0, 0, 12, 12), (40, 40), 1),  # the proposal itself, enlarged by 1.2
        (np.s_[2:10], np.s_[2:12], (20, 20, 32, 32), (40, 40), 0),  # it goes on beyond the box
        (np.s_[2:10], np.s_[2:12], (28, 0, 40, 12), (40, 40), 1),  # or ends with the image
        (np.s_[2:10], np.s_[0:10], (-2, 0, 10, 12), (40, 40), 1),  # and where the box reaches beyond it
        (np.s_[5:8], np.s_[5:8], (0, 0, 12, 12), (40, 40), 0),  # a speck in the middle
    ],
)  # fmt: skip
def test_the_object_of_a_box_is_whole_and_about_as_large_as_the_proposal(rows, columns, box, size, found):
    label_map = np.zeros((12, 12), np.uint8)
    label_map[rows, columns] = 1
    assert len(list(objects_in_box(scores_of(label_map), box, size, 1.2, classes=[1, 2]))) == found


def test_the_object_of_a_box_lies_in_the_image():
    label_map = np.zeros((12, 12), np.uint8)
    label_map[1:11, 3:11] = 2
    (each,) = objects_in_box(scores_of(label_map), (-3, 7, 9, 19), (30, 35), 1.2, classes=[1, 2])
    assert (each.box, each.size, each.area) == ((0, 8, 8, 18), (30, 35), 80)
    assert each.score > 0.99
