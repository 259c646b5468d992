"""Which images are chosen, one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upscore.review.diversity import choose_diverse


def by_hand(uncertainty, descriptors, count):
    chosen = [int(np.argmax(uncertainty))]
    while len(chosen) < min(count, len(uncertainty)):
        best, value = -1, (-1.0, -1.0)
        for i in range(len(uncertainty)):
            if i not in chosen:
                distance = min(float(np.linalg.norm(descriptors[i] - descriptors[j])) for j in chosen)
                if (uncertainty[i] * distance, uncertainty[i]) > value:
                    best, value = i, (uncertainty[i] * distance, uncertainty[i])
        chosen.append(best)
    return chosen


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_each_is_the_best_of_those_left(images, count, seed):
    rng = np.random.default_rng(seed)
    uncertainty, descriptors = rng.random(images), rng.random((images, 3))
    found = choose_diverse(uncertainty, descriptors, count)
    assert [choice.index for choice in found] == by_hand(uncertainty, descriptors, count)
    assert len(found) == min(images, count)


def test_a_copy_is_chosen_last_and_its_original_is_named():
    descriptors = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = choose_diverse(np.array([0.9, 0.8, 0.01]), descriptors, 3)
    assert [(choice.index, choice.distance, choice.nearest) for choice in found] == [(0, np.inf, -1), (2, 1.0, 0), (1, 0.0, 0)]


def test_certain_images_are_chosen_once_each():
    assert sorted(choice.index for choice in choose_diverse(np.zeros(4), np.zeros((4, 2)), 9)) == [0, 1, 2, 3]
