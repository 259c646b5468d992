"""Numbers of objects: those that a file holds, and maps of the same objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from upscore.errors import DataError
from upscore.objects.numbers import numbered_to, renumbered

MAPS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.sampled_from([0, 1, 5, 254, 255, 256, 99999]))


def objects(instances: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(instances == number).tolist()) for number in set(instances.ravel().tolist()) - {0}}


@given(MAPS, st.sampled_from([0, 255]))
def test_objects_are_the_same_and_their_numbers_possible(instances, without):
    numbered = numbered_to(instances, 256, without=without)
    assert objects(numbered) == objects(instances)
    assert numbered.max() <= 256
    assert not without or not (numbered == without).any()
    possible = instances.max() <= 256 and not (without and (instances == without).any())
    assert (numbered is instances) == possible


def test_more_objects_than_numbers_are_an_error():
    instances = np.arange(1, 6)[None]
    np.testing.assert_array_equal(numbered_to(instances * 100, 5), instances)
    with pytest.raises(DataError, match="found 5 objects in one image, expected at most 4"):
        numbered_to(instances * 100, 5, without=3)


def test_the_highest_number_is_possible_and_the_next_is_not():
    possible, too_high = np.array([[0, 255]]), np.array([[0, 256]])
    assert numbered_to(possible, 255) is possible
    assert numbered_to(too_high, 255).tolist() == [[0, 1]]


def test_negative_numbers_are_objects_too():
    assert numbered_to(np.array([[-1, 0, -7]]), 255).tolist() == [[2, 0, 1]]


@given(MAPS, st.permutations([1, 5, 254, 255, 256, 99999]))
def test_maps_of_the_same_objects_are_numbered_alike(instances, others):
    table = dict(zip([1, 5, 254, 255, 256, 99999], others, strict=True)) | {0: 0}
    exchanged = np.vectorize(table.get)(instances)
    np.testing.assert_array_equal(renumbered(exchanged), renumbered(instances))
    assert objects(renumbered(instances)) == objects(instances)
    numbers = renumbered(instances).ravel().tolist()
    assert sorted(set(numbers) - {0}) == list(range(1, len(objects(instances)) + 1))
    firsts = [numbers.index(number) for number in sorted(set(numbers) - {0})]
    assert firsts == sorted(firsts)
