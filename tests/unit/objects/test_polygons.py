import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from upscore.objects.polygons import Polygon, outline

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def rasterise(polygon: Polygon, height: int, width: int) -> np.ndarray:
    """Return the pixels whose centre is inside, by the even-odd rule: how many vertical edges are to the left of it."""
    inside = np.zeros((height, width), bool)
    for ring in (polygon.outer, *polygon.holes):
        for (x, y), (next_x, next_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            if x == next_x:
                inside[min(y, next_y) : max(y, next_y), x:] ^= True
    return inside


def signed_area(ring: np.ndarray) -> float:
    """Positive where the ring runs clockwise on the screen."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def components(mask: np.ndarray) -> list[np.ndarray]:
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [numbers == number for number in range(1, count)]


@given(MASKS)
def test_a_polygon_rasterised_by_pixel_centres_is_the_mask(mask):
    for component in components(mask):
        polygon = outline(component)
        np.testing.assert_array_equal(rasterise(polygon, *mask.shape), component)


@given(MASKS)
def test_rings_run_around_the_mask_on_their_right_and_have_corners_alone(mask):
    for component in components(mask):
        polygon = outline(component)
        areas = [signed_area(ring) for ring in (polygon.outer, *polygon.holes)]
        assert areas[0] > 0
        assert all(area < 0 for area in areas[1:])
        assert sum(areas) == component.sum()
        for ring in (polygon.outer, *polygon.holes):
            before = ring - np.roll(ring, 1, axis=0)
            after = np.roll(before, -1, axis=0)
            assert ((before != 0).sum(1) == 1).all()  # along one axis
            assert ((before != 0) != (after != 0)).all()  # and then along the other


@given(MASKS)
def test_as_many_holes_as_parts_of_the_outside_that_touch_no_edge(mask):
    for component in components(mask):
        outside = cv2.connectedComponents(np.pad(~component, 1, constant_values=True).astype(np.uint8), connectivity=8)[0] - 1
        assert len(outline(component).holes) == outside - 1


@given(MASKS, st.integers(0, 50), st.integers(0, 50))
def test_a_part_is_moved_to_its_position(mask, left, top):
    for component in components(mask):
        alone, moved = outline(component), outline(component, left=left, top=top)
        for ring, other in zip((alone.outer, *alone.holes), (moved.outer, *moved.holes), strict=True):
            np.testing.assert_array_equal(ring + np.array([left, top]), other)


def test_two_components_are_a_mistake_of_the_caller():
    with pytest.raises(AssertionError, match="one connected component"):
        outline(np.array([[True, False], [False, True]]))
