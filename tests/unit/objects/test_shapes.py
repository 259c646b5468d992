"""Label maps as shapes, and rings that hold their holes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from outlines_by_hand import inside
from upscore.objects.shapes import group_ids, group_parts, join_holes, trace_shapes

MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 255]))


@given(MAPS)
def test_shapes_drawn_again_are_the_label_map(label_map):
    height, width = label_map.shape
    drawn = np.full(label_map.shape, 99)
    for shape in trace_shapes(label_map, [0, 1, 2, 255]):
        pixels = inside([ring.tolist() for ring in (shape.polygon.outer, *shape.polygon.holes)], height, width)
        assert (drawn[pixels] == 99).all()
        drawn[pixels] = shape.label
    np.testing.assert_array_equal(drawn, label_map)


@given(MAPS)
def test_a_ring_with_joined_holes_has_the_same_inside(label_map):
    height, width = label_map.shape
    for shape in trace_shapes(label_map, [0, 1]):
        joined = join_holes(shape.polygon)
        expected = inside([ring.tolist() for ring in (shape.polygon.outer, *shape.polygon.holes)], height, width)
        np.testing.assert_array_equal(inside([joined.tolist()], height, width), expected)
        assert len(joined) == len(shape.polygon.outer) + sum(len(hole) + 2 for hole in shape.polygon.holes)


def test_larger_shapes_come_first_and_others_are_left_out():
    label_map = np.array([[1, 0, 2, 2], [3, 0, 2, 2]], np.uint8)
    shapes = trace_shapes(label_map, [1, 2])
    assert [(shape.label, shape.component.area) for shape in shapes] == [(2, 4), (1, 1)]


@given(MAPS, arrays(np.int32, (9, 9), elements=st.sampled_from([0, 0, 3, 70000])))
def test_shapes_of_objects_are_of_one_object_each(label_map, numbers):
    height, width = label_map.shape
    instances = numbers[:height, :width]
    drawn = np.full((2, height, width), 99)
    for shape in trace_shapes(label_map, [0, 1, 2, 255], instances=instances):
        pixels = inside([ring.tolist() for ring in (shape.polygon.outer, *shape.polygon.holes)], height, width)
        assert (drawn[0][pixels] == 99).all()
        drawn[:, pixels] = [[shape.label], [shape.instance]]
    np.testing.assert_array_equal(drawn, [label_map, instances])


def test_parts_of_an_object_are_grouped_by_class_and_number():
    label_map, instances = np.array([[1, 0, 1, 0, 2, 1, 1]], np.uint8), np.array([[4, 0, 4, 0, 4, 0, 9]])
    shapes = trace_shapes(label_map, [1, 2], instances=instances)
    assert [(shape.label, shape.instance, shape.component.left) for shape in shapes] == [
        (1, 4, 0), (1, 4, 2), (1, 9, 6), (1, 0, 5), (2, 4, 4),
    ]  # fmt: skip
    assert [len(parts) for parts in group_parts(shapes)] == [2, 1, 1, 1]
    assert group_ids(shapes) == [4, 4, None, None, None]
