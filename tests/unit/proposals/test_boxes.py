"""Boxes against counting pixels one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.errors import DataError
from upscore.proposals import Boxes, boxes_of_objects, enlarge_boxes, non_maximum_suppression, pairwise_iou, whole_image

SIZE = 24


@st.composite
def some_boxes(draw, most=12, low=-6, high=SIZE + 6):
    count = draw(st.integers(0, most))
    ends = st.tuples(*[st.integers(low, high)] * 4).filter(lambda c: c[0] != c[2] and c[1] != c[3])
    corners = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in draw(st.lists(ends, min_size=count, max_size=count))]
    scores = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, -2.0]), min_size=count, max_size=count))
    return Boxes(np.array(corners, np.int64).reshape(-1, 4), np.array(scores))


def painted(boxes, margin=8):
    """Each box as a mask over a plane that begins at -margin."""
    planes = np.zeros((len(boxes), SIZE + 2 * margin, SIZE + 2 * margin), bool)
    for plane, (left, top, right, bottom) in zip(planes, boxes.corners + margin, strict=True):
        plane[top:bottom, left:right] = True
    return planes


@given(some_boxes(), some_boxes())
def test_overlaps_are_those_of_counted_pixels(some, others):
    a, b = painted(some)[:, None], painted(others)[None]
    expected = (a & b).sum((2, 3)) / np.maximum((a | b).sum((2, 3)), 1)
    np.testing.assert_array_equal(pairwise_iou(some, others), expected)
    np.testing.assert_array_equal(some.areas(), painted(some).sum((1, 2)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_boxes_of_objects_are_tight(seed, count):
    rng = np.random.default_rng(seed)
    instances = rng.choice(np.array([0, *range(3, 3 + count)], np.int32), (SIZE, SIZE), p=[1 - 0.01 * count, *[0.01] * count])
    numbers, boxes = boxes_of_objects(instances)
    assert numbers.tolist() == sorted(set(instances.ravel().tolist()) - {0})
    for number, (left, top, right, bottom) in zip(numbers, boxes.corners, strict=True):
        mask = instances == number
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert all(edge.any() for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]))


@given(some_boxes(), st.sampled_from([1.0, 1.2, 1.5, 3.0, 0.5]))
def test_enlarging_keeps_centres_and_multiplies_sides(boxes, factor):
    larger = enlarge_boxes(boxes, factor)
    before, after = boxes.corners.astype(float), larger.corners.astype(float)
    assert (np.abs((after[:, :2] + after[:, 2:]) - (before[:, :2] + before[:, 2:])) <= 1).all()
    assert (np.abs((after[:, 2:] - after[:, :2]) - factor * (before[:, 2:] - before[:, :2])) <= 1).all()
    if factor == 1:
        np.testing.assert_array_equal(larger.corners, boxes.corners)


@given(some_boxes(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_suppression_keeps_the_best_and_nothing_beside_it(boxes, overlap):
    kept = non_maximum_suppression(boxes, overlap)
    assert (np.diff(kept.objectness) <= 0).all()
    among = pairwise_iou(kept, kept)
    np.fill_diagonal(among, 0)
    assert (among <= overlap).all()
    # Whoever is gone had a better or equal one that stayed.
    shared = pairwise_iou(boxes, kept)
    for box, score, row in zip(boxes.corners, boxes.objectness, shared, strict=True):
        stayed = (kept.corners == box).all(1).any()
        assert stayed or (kept.objectness[row > overlap] >= score).any()
    assert len(non_maximum_suppression(boxes, overlap, max_boxes=2)) == min(2, len(kept))


@given(some_boxes())
def test_clipping_leaves_what_lies_in_the_image(boxes):
    inside = painted(boxes)[:, 8 : 8 + SIZE, 8 : 8 + SIZE]
    clipped = boxes.clipped(SIZE, SIZE)
    np.testing.assert_array_equal(painted(clipped)[:, 8 : 8 + SIZE, 8 : 8 + SIZE], inside[inside.any((1, 2))])
    assert (pairwise_iou(clipped, whole_image(SIZE, SIZE))[:, 0] == clipped.areas() / SIZE**2).all()


@given(some_boxes(), st.integers(0, 4))
def test_the_best_come_first_and_equals_stay_in_order(boxes, most):
    order = sorted(range(len(boxes)), key=lambda i: -boxes.objectness[i])[:most]
    np.testing.assert_array_equal(boxes.best(most).corners, boxes.corners[order])


@pytest.mark.parametrize(
    ("corners", "scores", "says"),
    [
        ([[0, 0, 4, 4], [4, 0, 2, 3]], None, "box 1 is [4, 0, 2, 3]: expected left below right"),
        ([[0, 3, 4, 3]], None, "top below bottom"),
        ([[0, 0, float("nan"), 4]], None, "expected whole numbers"),
        ([[0, 0, float("inf"), 4]], None, "expected whole numbers"),
        ([[0, 0, 2.5, 4]], None, "expected whole numbers"),
        ([[0, 0, 2**40, 4]], None, "expected whole numbers"),
        ([[0, 0, 1]], None, "expected (N, 4)"),
        ([["a", "b", "c", "d"]], None, "expected (N, 4)"),
        ([[0, 0, 1, 1]], [float("nan")], "the objectness of box 0 is nan"),
        ([[0, 0, 1, 1]], [1.0, 2.0], "found 2 objectness values for 1 boxes"),
    ],
)
def test_what_is_no_box_is_refused(corners, scores, says):
    with pytest.raises(DataError, match=r".") as refused:
        Boxes(np.array(corners), None if scores is None else np.array(scores))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_none_are_boxes_too():
    none = Boxes(np.array([]))
    assert len(none) == 0
    assert none.best(3).corners.shape == (0, 4)
    assert len(non_maximum_suppression(enlarge_boxes(none, 1.2), 0.5)) == 0
    assert pairwise_iou(none, whole_image(3, 4)).shape == (0, 1)
