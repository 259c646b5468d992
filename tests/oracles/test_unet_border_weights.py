"""U-Net's weights against its equation over all pairs of pixels; distances against SciPy's; an image worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, label

from upscore.data.unet_border_weights import BorderWeighting, border_weights, number_components, separate_touching
from upscore.distances import distances_to, signed_distances
from upscore.types import Sample


def scattered(seed, size, objects, *, largest=6):
    """Rectangles at random places, later ones over earlier ones; numbers with gaps."""
    rng = np.random.default_rng(seed)
    instances = np.zeros(size, np.int32)
    for number in range(1, objects + 1):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        instances[y : y + rng.integers(1, largest), x : x + rng.integers(1, largest)] = 3 * number
    return instances


def by_all_pairs(instances, weight, sigma):
    """Eq. 2's second term: for each ground pixel the distance to every pixel of every object."""
    weights = np.zeros(instances.shape)
    objects = [np.argwhere(instances == number) for number in np.unique(instances) if number != 0]
    for place in np.argwhere(instances == 0):
        away = sorted(min(math.dist(place, pixel) for pixel in pixels) for pixels in objects)
        if len(away) >= 2:
            weights[tuple(place)] = weight * math.exp(-((away[0] + away[1]) ** 2) / (2 * sigma**2))
    return weights


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    objects=st.integers(0, 6),
    sigma=st.sampled_from([0.5, 2.0, 5.0]),
)
def test_the_weights_are_unets_equation(seed, size, objects, sigma):
    instances = scattered(seed, size, objects)
    weights = border_weights(instances, weight=10, sigma=sigma)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, by_all_pairs(instances, 10, sigma), rtol=1e-5, atol=1.01e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), objects=st.integers(0, 8))
def test_the_numbers_of_objects_are_irrelevant(seed, objects):
    instances = scattered(seed, (30, 40), objects)
    weights = border_weights(instances)
    for renamed in (np.where(instances, 2**31 - 1 - instances, 0), np.where(instances, -instances, 0), instances.astype(np.uint16)):
        np.testing.assert_array_equal(border_weights(renamed), weights)
    np.testing.assert_array_equal(border_weights(instances[:, ::-1]), weights[:, ::-1])


def test_many_objects_in_a_large_image_are_as_exact():
    instances = scattered(0, (200, 220), 250, largest=20)
    numbers = [number for number in np.unique(instances) if number]
    away = np.sort([distance_transform_edt(instances != number) for number in numbers], axis=0)
    expected = np.where(instances == 0, 10 * np.exp(-((away[0] + away[1]) ** 2) / 50), 0)
    np.testing.assert_allclose(border_weights(instances), expected, rtol=1e-4, atol=1.01e-5)


def test_a_gap_between_two_cells_by_hand():
    instances = np.array([[1, 1, 0, 0, 0, 2, 2, 0]])
    wanted = [0, 0, *[10 * math.exp(-(4**2) / 50)] * 3, 0, 0, 10 * math.exp(-((1 + 6) ** 2) / 50)]
    np.testing.assert_allclose(border_weights(instances)[0], wanted, rtol=1e-6)
    assert not border_weights(np.where(instances == 2, 0, instances)).any()  # fewer than two


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (300, 300), (700, 740), (3, 1500)])
def test_distances_are_scipys_to_the_last_digit(size):
    pixels = np.zeros(size, bool)
    pixels[size[0] // 3, size[1] // 3] = True
    assert np.array_equal(distances_to(pixels), distance_transform_edt(~pixels).astype(np.float32))
    pixels |= np.random.default_rng(0).random(size) < 0.002
    assert np.array_equal(distances_to(pixels), distance_transform_edt(~pixels).astype(np.float32))
    assert np.isinf(distances_to(np.zeros(size, bool))).all()


def test_a_contour_runs_between_pixels_and_not_towards_ignored_ones():
    line = np.array([[3, 3, 1, 1, 1, 255, 255, 3]])
    assert signed_distances(line, 1)[0, [0, 1, 2, 3, 4, 7]].tolist() == [1.5, 0.5, -0.5, -1.5, -2.5, 2.5]
    assert not signed_distances(line, 2).any()
    assert not signed_distances(np.array([[1, 255, 1]]), 1).any()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999))
def test_objects_are_scipys_pieces_of_each_class(seed):
    classes = np.random.default_rng(seed).choice([0, 1, 2, 255], (12, 15)).astype(np.uint8)
    instances = number_components(classes, (2, 1))
    assert ((instances > 0) == np.isin(classes, (1, 2))).all()
    for label_class in (1, 2):
        pieces, count = label(classes == label_class)
        pairs = {(int(a), int(b)) for a, b in zip(pieces[pieces > 0], instances[pieces > 0], strict=True)}
        assert len(pairs) == count == len({b for _, b in pairs})
    assert sorted(set(instances[instances > 0])) == list(range(1, instances.max() + 1))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), size=st.tuples(st.integers(1, 14), st.integers(1, 14)))
def test_touching_objects_are_parted_and_others_left_alone(seed, size):
    instances = scattered(seed, size, 7)
    classes = np.where(instances > 0, 1, 0).astype(np.uint8)
    classes[0, 0] = 255
    before = classes.copy(), instances.copy()
    parted, ground = separate_touching(classes, instances, 0)
    assert np.array_equal(classes, before[0])
    assert np.array_equal(instances, before[1])
    for y, x in np.ndindex(size):
        around = instances[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        touches = instances[y, x] != 0 and bool(((around != 0) & (around != instances[y, x])).any())
        assert ground[y, x] == (0 if touches else instances[y, x])
        assert parted[y, x] == (255 if classes[y, x] == 255 else 0 if touches else classes[y, x])
    assert ground.dtype == instances.dtype
    again = separate_touching(parted, ground, 0)
    assert np.array_equal(again[0], parted)  # nothing touches any more


def test_the_map_is_the_weight_of_the_class_and_the_separation_added():
    classes = np.array([[1, 1, 0, 0, 1, 255]], np.uint8)
    sample = Sample("k", np.zeros((1, 6, 3), np.uint8), classes)
    weighting = BorderWeighting(weight=10, sigma=5, object_classes=(1,), class_weights=(0.5, 2.0))
    term = 10 * math.exp(-(3**2) / 50)
    weighed = weighting.add_weights(weighting.find_objects(sample))
    np.testing.assert_allclose(weighed.weights[0, :5], [2, 2, 0.5 + term, 0.5 + term, 2], rtol=1e-6)
    plain = BorderWeighting(weight=10, sigma=5, object_classes=(1,))
    np.testing.assert_allclose(plain.add_weights(plain.find_objects(sample)).weights[0, :5], [1, 1, 1 + term, 1 + term, 1], rtol=1e-6)
    given_weights = Sample("k", sample.image, classes, weights=np.full((1, 6), 3, np.float32))
    np.testing.assert_allclose(weighting.add_weights(weighting.find_objects(given_weights)).weights[0, :2], [6, 6], rtol=1e-6)


def test_instances_of_the_sample_come_before_pieces_of_classes():
    instances = np.array([[5, 6, 0]], np.int32)
    sample = Sample("k", np.zeros((1, 3, 3), np.uint8), np.array([[1, 1, 0]], np.uint8), instances)
    assert BorderWeighting(object_classes=(1,)).find_objects(sample) is sample
    parted = BorderWeighting(weight=0, border_class=0).add_weights(sample)
    assert parted.label.tolist() == [[0, 0, 0]]
    assert parted.weights is None
