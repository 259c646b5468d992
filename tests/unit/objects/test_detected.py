import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upscore.objects.detected import connected_objects, object_classes
from upscore.types import LabelSpace

LABEL_MAPS = arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 255]))


def test_background_by_any_of_its_names_has_no_objects():
    assert object_classes(LabelSpace(("road", "Background", "car", "void"))) == (0, 2)


@given(LABEL_MAPS)
def test_objects_divide_the_pixels_of_their_classes(label_map):
    confidence = np.full(label_map.shape, 0.5, np.float32)
    times = np.zeros((3, *label_map.shape), int)
    for each in connected_objects(label_map, confidence, classes=[1, 2]):
        left, top, right, bottom = each.box
        times[each.label_class, top:bottom, left:right] += each.mask
        assert each.mask.any(0)[[0, -1]].all()  # the box is tight
        assert each.mask.any(1)[[0, -1]].all()
        assert each.size == label_map.shape
    for k in (1, 2):
        np.testing.assert_array_equal(times[k], label_map == k)
    assert not times[0].any()


def test_the_score_is_the_mean_over_the_pixels_and_orders_the_objects():
    label_map = np.array([[1, 1, 0, 2], [1, 0, 0, 2]], np.uint8)
    confidence = np.array([[0.5, 0.7, 1, 0.9], [0.9, 1, 1, 0.8]], np.float32)
    first, second = connected_objects(label_map, confidence, classes=[1, 2])
    assert (first.label_class, second.label_class) == (2, 1)
    assert first.score == pytest.approx(0.85)
    assert second.score == pytest.approx(0.7)


def test_small_components_and_corners():
    label_map = np.array([[1, 0, 1, 1], [0, 1, 0, 0]], np.uint8)
    confidence = np.ones((2, 4), np.float32)
    assert sorted(each.area for each in connected_objects(label_map, confidence, classes=[1])) == [1, 1, 2]
    assert [each.area for each in connected_objects(label_map, confidence, classes=[1], min_area=2)] == [2]


def test_a_part_of_an_image_gives_objects_in_the_image():
    label_map = np.array([[0, 1]], np.uint8)
    (found,) = connected_objects(label_map, np.ones((1, 2), np.float32), classes=[1], origin=(5, 10), size=(20, 30))
    assert (found.box, found.size) == ((11, 5, 12, 6), (20, 30))
