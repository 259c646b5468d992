"""Crops against pixels looked up one by one, and what a paper's stage keeps of them."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.data.object_crops import CroppedObjects, CroppedProposals, find_objects
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError, RecipeError
from upscore.proposals import Boxes, EdgeBoxes, boxes_of_objects, enlarge_boxes, pairwise_iou
from upscore.types import IGNORE, LabelSpace, Sample

LABELS = LabelSpace(("background", "cat", "dog"))


@dataclass
class Given:
    """A dataset of the samples it is given."""

    samples: list
    labels: LabelSpace = LABELS
    name: str = "given"
    split: str = "train"
    warnings: tuple = ()
    keys: list = field(init=False)

    def __post_init__(self):
        self.keys = [sample.key for sample in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def painted(key="one", size=(40, 60), objects=((1, (5, 6, 20, 30)), (2, (30, 10, 60, 25)))):
    """An image of noise with rectangles (class, box), numbered from 1; a void line at the bottom."""
    rng = np.random.default_rng(len(key))
    label, instances = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    for number, (kind, (left, top, right, bottom)) in enumerate(objects, 1):
        label[top:bottom, left:right], instances[top:bottom, left:right] = kind, number
    label[-2:] = IGNORE
    return Sample(key, rng.integers(0, 256, (*size, 3), np.uint8), label, instances)


def looked_up(plane, box, side, fill):
    """``plane`` in ``box``, resized by the nearest pixel, one at a time."""
    left, top, right, bottom = box
    out = np.empty((side, side), plane.dtype)
    for y in range(side):
        for x in range(side):
            row, column = top + int((y + 0.5) * (bottom - top) / side), left + int((x + 0.5) * (right - left) / side)
            inside = 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]
            out[y, x] = plane[row, column] if inside else fill
    return out


def between_pixels(box, side):
    """Where the nearest pixel is either of two: the place that is looked up lies on their common edge."""
    rows, columns = ([(2 * i + 1) * size % (2 * side) == 0 for i in range(side)] for size in (box[3] - box[1], box[2] - box[0]))
    return np.logical_or.outer(rows, columns)


@given(
    st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(1, 40), st.integers(1, 30)),
    st.sampled_from([1.0, 1.2, 2.0]),
    st.sampled_from([1, 7, 24, 33]),
)
@settings(max_examples=40)
def test_a_crop_is_its_object_enlarged_and_all_else_background(place, enlarge, side):
    left, top = place[0], place[1]
    box = (left, top, min(60, left + place[2]), min(38, top + place[3]))
    sample = painted(objects=((1, box),))
    (crop,) = CroppedObjects(Given([sample]), enlarge=enlarge, side=side)
    (corners,) = enlarge_boxes(Boxes([box]), enlarge).corners.tolist()
    sure = ~between_pixels(corners, side)
    np.testing.assert_array_equal(crop.label[sure], looked_up(sample.label, corners, side, IGNORE)[sure])
    np.testing.assert_array_equal(crop.instances[sure], looked_up(sample.instances, corners, side, 0)[sure])
    assert crop.image.shape == (side, side, 3)
    if side == corners[2] - corners[0] == corners[3] - corners[1]:
        np.testing.assert_array_equal(crop.image[..., 1], looked_up(sample.image[..., 1], corners, side, 0))


def test_other_objects_are_background_in_stage_1_and_themselves_in_stage_2():
    sample = painted(objects=((1, (5, 5, 25, 25)), (2, (20, 10, 30, 20)), (1, (26, 5, 40, 20))))
    first = CroppedObjects(Given([sample]), enlarge=1.5, side=30, balanced=False)
    assert len(first) == 3
    assert set(np.unique(first[1].label)) == {0, 2}
    (corners,) = enlarge_boxes(boxes_of_objects(sample.instances)[1][1:2], 1.5).corners.tolist()
    np.testing.assert_array_equal(first[1].label == 2, looked_up(sample.instances, corners, 30, 0) == 2)
    second = CroppedProposals(Given([sample]), lambda image: Boxes([[19, 9, 27, 21], [0, 0, 4, 4]]), enlarge=1.5, side=30)
    assert len(second) == 1
    assert set(np.unique(second[0].label)) == {0, 1, 2}


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=20)
def test_stage_2_takes_the_proposals_that_meet_an_object(seed, overlap):
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(0, 40, (60, 2, 2)), axis=1)
    corners = ends.reshape(60, 4)
    corners[:, 2:] += 1
    sample = painted()
    boxes = Boxes(corners)
    _, objects = boxes_of_objects(sample.instances)
    meeting = pairwise_iou(boxes, objects).max(1) >= overlap
    if not meeting.any():
        with pytest.raises(DataError, match="no proposal overlaps an object"):
            CroppedProposals(Given([sample]), lambda image: boxes, min_overlap=overlap)
        return
    view = CroppedProposals(Given([sample]), lambda image: boxes, min_overlap=overlap, side=8, balanced=False)
    assert len(view) == meeting.sum()
    for index, place in enumerate(np.flatnonzero(meeting)):
        corners = enlarge_boxes(boxes[place : place + 1], 1.2).corners[0].tolist()
        np.testing.assert_array_equal(view[index].label, looked_up(sample.label, corners, 8, IGNORE))
        assert view[index].key == view.keys[index] == f"one proposal {place}"


@pytest.mark.parametrize("min_side", [1, 15, 16, 18, 19])
def test_slivers_are_left_out_of_both_stages(min_side):
    sample = painted(objects=((1, (5, 6, 20, 30)), (2, (30, 10, 60, 28))))
    numbers, boxes = boxes_of_objects(sample.instances)
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    large = [int(number) for number, side in zip(numbers, sides, strict=True) if min(side) >= min_side]
    if not large:
        with pytest.raises(DataError, match="hold no object of 19 pixels and more"):
            CroppedObjects(Given([sample]), min_side=min_side)
        with pytest.raises(DataError, match="no proposal overlaps an object"):
            CroppedProposals(Given([sample]), lambda image: boxes, min_side=min_side)
        return
    assert list(CroppedObjects(Given([sample]), min_side=min_side, balanced=False).keys) == [f"one object {n}" for n in large]
    assert len(CroppedProposals(Given([sample]), lambda image: boxes, min_side=min_side, balanced=False)) == len(large)


def test_rare_classes_are_repeated_up_to_the_median():
    objects = [(1, (i * 5, 2, i * 5 + 4, 10)) for i in range(9)] + [(2, (2, 20, 12, 30))]
    labels = LabelSpace(("background", "cat", "dog", "cow"))
    data = Given(
        [painted("one", objects=objects), painted("two", objects=[(3, (1, 1, 9, 9))] * 1 + [(3, (20, 1, 29, 9)), (3, (1, 20, 9, 29))])],
        labels,
    )
    view = CroppedObjects(data, side=8)
    counts = {kind: sum((crop.label == kind).any() for crop in view) for kind in (1, 2, 3)}
    assert counts == {1: 9, 2: 3, 3: 3}
    assert len(set(view.keys)) == len(view) == 15
    assert view.keys[9:12] == ["one object 10", "one object 10 again 1", "one object 10 again 2"]
    assert len(CroppedObjects(data, side=8, balanced=False)) == 13


def test_shapes_become_crops_that_are_the_same_every_time():
    shapes = open_dataset("shapes", "train", size=(96, 128), count=4)
    read = []
    view = CroppedObjects(shapes, side=40, progress=read.append)
    assert read == [1, 2, 3, 4]
    assert view.labels == shapes.labels
    again = CroppedObjects(open_dataset("shapes", "train", size=(96, 128), count=4), side=40)
    assert list(view.keys) == list(again.keys)
    for index in range(0, len(view), 7):
        one, other = view[index], again[index]
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)
        assert set(np.unique(one.label)) - {0, IGNORE} <= {int(view._table.label_class[index])}
    proposals = CroppedProposals(shapes, EdgeBoxes(300), side=40)
    assert len(proposals) > len(shapes)
    assert proposals[0].image.shape == (40, 40, 3)


def test_a_mask_without_instances_is_an_error_where_they_are_needed():
    sample = painted()
    bare = Sample("bare", sample.image, sample.label)
    for view in (CroppedObjects, lambda data: CroppedProposals(data, EdgeBoxes(10))):
        with pytest.raises(DataError, match="bare: has no instance mask"):
            view(Given([sample, bare]))


@pytest.mark.parametrize(
    ("sample", "settings", "says"),
    [
        (painted(objects=[(IGNORE, (1, 1, 9, 9))]), {}, "object 1 has no class"),
        (painted(objects=[]), {}, "hold no object"),
        (painted(objects=[(0, (1, 1, 9, 9))]), {}, "hold no object"),
        (painted(), {"background": "ground"}, "has no class 'ground'"),
    ],
)
def test_data_that_cannot_be_cut_is_one_line(sample, settings, says):
    with pytest.raises(DataError) as refused:
        CroppedObjects(Given([sample]), **settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("settings", [{"side": 0}, {"side": 2.5}, {"enlarge": 0.0}, {"enlarge": float("nan")}, {"min_side": 0}])
def test_impossible_crops_are_refused(settings):
    with pytest.raises(RecipeError, match="expected"):
        CroppedObjects(Given([painted()]), **settings)


def test_an_object_has_the_class_that_most_of_its_pixels_have():
    sample = painted(objects=[(1, (0, 0, 10, 10))])
    sample.label[:3, :10] = 2
    sample.label[3:6, :10] = IGNORE
    numbers, boxes, classes = find_objects(sample, LABELS)
    assert (numbers.tolist(), boxes.corners.tolist(), classes.tolist()) == ([1], [[0, 0, 10, 10]], [1])
