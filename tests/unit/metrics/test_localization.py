import math

import pytest

from upscore.errors import DataError
from upscore.metrics.localization import localization_error

RIGHT, HALF, OTHER = (0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4)


def test_a_class_needs_a_box_and_a_box_its_class():
    truth = [[(3, RIGHT)]]
    assert localization_error([[(3, RIGHT)]], truth) == 0
    assert localization_error([[(3, HALF)]], truth) == 0  # an IoU of exactly one half
    assert localization_error([[(3, OTHER)]], truth) == 1
    assert localization_error([[(2, RIGHT)]], truth) == 1
    assert localization_error([[(2, RIGHT), (3, OTHER)]], truth) == 1


def test_only_the_best_count():
    predicted = [[(1, RIGHT), (3, RIGHT)]]
    assert localization_error(predicted, [[(3, RIGHT)]], top=1) == 1
    assert localization_error(predicted, [[(3, RIGHT)]], top=2) == 0


def test_any_true_box_of_the_class_will_do():
    assert localization_error([[(3, (20, 20, 30, 30))]], [[(3, RIGHT), (3, (20, 21, 30, 30))]]) == 0
    assert localization_error([[(3, (20, 20, 30, 30))]], [[(3, RIGHT), (2, (20, 20, 30, 30))]]) == 1


def test_it_is_a_fraction_of_the_images():
    assert localization_error([[(1, RIGHT)], [(1, RIGHT)], [], [(1, RIGHT)]], [[(1, RIGHT)]] * 4) == 1 / 4
    assert math.isnan(localization_error([], []))


def test_images_without_truth_are_refused():
    with pytest.raises(DataError, match="without a true box"):
        localization_error([[]], [[]])
    with pytest.raises(DataError, match="expected the same"):
        localization_error([[]], [])
