"""Simplified outlines stay within the tolerance and never cross themselves."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from upscore.objects import simplify as module
from upscore.objects.components import find_components
from upscore.objects.polygons import Polygon, outline
from upscore.objects.simplify import is_simple, simplify

MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.integers(0, 1))
TOLERANCES = st.sampled_from([0.3, 0.8, 1.0, 1.5, 2.0, 4.0])


def polygons(label_map: np.ndarray) -> list[Polygon]:
    return [outline(each.mask, left=each.left, top=each.top) for each in find_components(label_map, [0, 1])]


def smooth(seed: int, size: int = 60) -> np.ndarray:
    """Return blobs with holes and peninsulas."""
    noise = np.random.default_rng(seed).random((size, size)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 1.5) > 0.5).astype(np.uint8)


def distance(point: np.ndarray, ring: np.ndarray) -> float:
    """Return the distance of a point to a ring."""
    begin, end = ring.astype(float), np.roll(ring, -1, axis=0).astype(float)
    edge = end - begin
    along = np.clip(((point - begin) * edge).sum(1) / np.maximum((edge**2).sum(1), 1), 0, 1)
    return float(np.sqrt(((begin + along[:, None] * edge - point) ** 2).sum(1)).min())


def densely(ring: np.ndarray) -> np.ndarray:
    """Return points on a ring, four to a pixel."""
    points = []
    for begin, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        count = max(2, int(4 * np.abs(end - begin).max()))
        points += list(begin + np.linspace(0, 1, count, endpoint=False)[:, None] * (end - begin))
    return np.array(points)


def rings_of(polygon: Polygon) -> list[np.ndarray]:
    return [polygon.outer, *polygon.holes]


@given(MAPS, TOLERANCES)
def test_each_ring_is_within_the_tolerance_of_its_original_both_ways(label_map, tolerance):
    for polygon in polygons(label_map):
        simplified = simplify(polygon, tolerance)
        assert len(simplified.holes) == len(polygon.holes)
        for before, after in zip(rings_of(polygon), rings_of(simplified), strict=True):
            assert {*map(tuple, after.tolist())} <= {*map(tuple, before.tolist())}
            assert max(distance(point, after) for point in densely(before)) <= tolerance + 1e-9
            assert max(distance(point, before) for point in densely(after)) <= tolerance + 1e-9


def crosses(rings: list[np.ndarray]) -> bool:
    """Return whether two edges cross in the inside of both, edge by edge."""
    edges = [(ring[k], ring[(k + 1) % len(ring)]) for ring in rings for k in range(len(ring))]

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for number, (a, b) in enumerate(edges)
        for c, d in edges[:number]
    )


@given(MAPS, TOLERANCES)
def test_no_ring_crosses_itself_or_another_or_vanishes(label_map, tolerance):
    for polygon in polygons(label_map):
        simplified = simplify(polygon, tolerance)
        assert is_simple(rings_of(polygon))
        assert is_simple(rings_of(simplified))
        assert not crosses(rings_of(simplified))
        for before, after in zip(rings_of(polygon), rings_of(simplified), strict=True):
            assert module._doubled_area(before) * module._doubled_area(after) > 0


@pytest.mark.parametrize("seed", range(3))
def test_smooth_shapes_lose_most_corners_and_little_area(seed):
    for polygon in polygons(smooth(seed)):
        simplified = simplify(polygon, 1.0)
        assert is_simple(rings_of(simplified))
        assert not crosses(rings_of(simplified))
        if len(polygon.outer) > 40:
            assert len(simplified.outer) < 0.6 * len(polygon.outer)


def test_a_tolerance_of_zero_changes_nothing():
    (polygon, *_) = polygons(smooth(0))
    assert simplify(polygon, 0) is polygon


def test_a_thin_ring_keeps_its_hole_inside():
    mask = np.ones((9, 9), np.uint8)
    mask[1:8, 1:8] = 0
    (_, ring) = polygons(mask)
    for tolerance in (0.5, 1, 3, 9):
        simplified = simplify(ring, tolerance)
        assert is_simple(rings_of(simplified))
        assert len(simplified.holes) == 1


SQUARE = [[0, 0], [6, 0], [6, 6], [0, 6]]


@pytest.mark.parametrize(
    ("rings", "simple"),
    [
        ([SQUARE], True),
        ([[[0, 0], [6, 6], [6, 0], [0, 6]]], False),  # a bow
        ([[[0, 0], [6, 0], [3, 0]]], False),  # no area
        ([[[0, 0], [6, 0], [6, 6], [6, 3], [6, 9]]], False),  # a spike on its own edge
        ([[[0, 0], [6, 0], [6, 6], [3, 0], [0, 6]]], False),  # a corner on an edge
        ([[[0, 0], [4, 0], [4, 2], [2, 2], [2, 4], [4, 4], [4, 2], [6, 2], [6, 6], [0, 6]]], True),  # touches itself at a corner
        ([[[0, 0], [4, 4], [8, 0], [8, 8], [4, 4], [0, 8]]], True),
        ([[[0, 0], [4, 4], [8, 8], [8, 0], [4, 4], [1, 7]]], False),  # passes through its own corner
        ([[[0, 3], [4, 4], [0, 0], [8, 0], [4, 4], [1, 7]]], True),
        ([[[0, 3], [4, 4], [0, 0], [8, 0], [4, 4], [2, 3]]], False),  # between the arms of a bend
        ([SQUARE, [[1, 1], [1, 2], [2, 2], [2, 1]]], True),
        ([SQUARE, [[7, 1], [7, 2], [8, 2], [8, 1]]], False),  # a hole beside
        ([SQUARE, [[1, 1], [1, 9], [2, 9], [2, 1]]], False),  # a hole across the border
        ([SQUARE, [[1, 1], [1, 5], [5, 5], [5, 1]], [[2, 2], [2, 3], [3, 3], [3, 2]]], False),  # a hole in a hole
        ([SQUARE, [[1, 1], [1, 2], [2, 2], [2, 1]], [[3, 3], [3, 4], [4, 4], [4, 3]]], True),
    ],
)
def test_what_is_simple(rings, simple):
    assert is_simple([np.array(ring) for ring in rings]) is simple


def test_too_many_edges_to_compare_leave_the_outline_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "_MAX_PAIRS", 3)
    (polygon, *_) = polygons(smooth(1))
    simplified = simplify(polygon, 1.0)
    np.testing.assert_array_equal(simplified.outer, polygon.outer)


def test_a_hole_that_would_meet_the_outer_ring_keeps_its_corners():
    noise = np.random.default_rng(9).random((24, 24)).astype(np.float32)
    label_map = (cv2.GaussianBlur(noise, (0, 0), 1.5) > 0.5).astype(np.uint8)
    alone = 0
    for polygon in polygons(label_map):
        alone += not is_simple([module._simplified_ring(ring, 3.0) for ring in rings_of(polygon)])
        assert is_simple(rings_of(simplify(polygon, 3.0)))
    assert alone, "each ring by itself would do"
