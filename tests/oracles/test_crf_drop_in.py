"""pydensecrf's names: its numbers, its published examples' calls, and the mistakes its users make."""

import numpy as np
import pytest

import upscore.crf.pydensecrf.densecrf as dcrf
from authors_crf import PLACES, REFERENCE, reference_scene
from upscore.crf.pydensecrf.utils import (
    compute_unary,
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    softmax_to_unary,
    unary_from_labels,
    unary_from_softmax,
)
from upscore.errors import CRFError

CONSTANTS = {
    "symmetric": dcrf.NORMALIZE_SYMMETRIC,
    "before": dcrf.NORMALIZE_BEFORE,
    "after": dcrf.NORMALIZE_AFTER,
    "none": dcrf.NO_NORMALIZATION,
}


def at_places(q):
    return [np.asarray(q).reshape(5, 13, 17)[:, y, x] for y, x in PLACES]


@pytest.mark.parametrize(("normalization", "iterations"), REFERENCE)
def test_it_gives_pydensecrfs_numbers(normalization, iterations):
    near, alike, expected = REFERENCE[normalization, iterations]
    probs, image = reference_scene()
    crf = dcrf.DenseCRF2D(17, 13, 5)
    crf.setUnaryEnergy(unary_from_softmax(probs))
    crf.addPairwiseGaussian(sxy=3, compat=near, kernel=dcrf.CONST_KERNEL, normalization=CONSTANTS[normalization])
    crf.addPairwiseBilateral((20, 10), (13, 9, 20), image, alike, dcrf.DIAG_KERNEL, CONSTANTS[normalization])
    np.testing.assert_allclose(at_places(crf.inference(iterations)), expected, atol=1.1e-5)


def test_vectors_matrices_features_steps_and_divergence_are_pydensecrfs():
    """Numbers of pydensecrf2 1.1, 2026-11-21."""
    probs, image = reference_scene()
    crf = dcrf.DenseCRF2D(17, 13, 5)
    crf.setUnaryEnergy(unary_from_softmax(probs))
    crf.addPairwiseGaussian(sxy=(3, 2), compat=np.array([-3, -2, -1, -2, -3], np.float32))
    crf.addPairwiseBilateral((20, 10), (13, 9, 20), image, (np.ones((5, 5)) - 3 * np.eye(5) + np.tri(5) * 0.5).astype(np.float32))
    crf.addPairwiseEnergy(create_pairwise_bilateral((4, 4), (30,), image[..., 1], chdim=-1), 1.5)
    q, first, second = crf.startInference()
    course = []
    for _ in range(3):
        course.append(crf.klDivergence(q))
        crf.stepInference(q, first, second)
    assert course == pytest.approx([-17.975, -50.9, -104.679], abs=2e-3)
    expected = [
        [0.82632, 0.0804, 0.03649, 0.03038, 0.0264],
        [0.22627, 0.5154, 0.02837, 0.12642, 0.10354],
        [0.12024, 0.09963, 0.15671, 0.39002, 0.23339],
        [0.32995, 0.19679, 0.05125, 0.01111, 0.4109],
    ]
    np.testing.assert_allclose(at_places(q), expected, atol=1.1e-5)


def test_the_calls_of_the_published_examples_run():
    """The README's, ``examples/inference.py``'s and the notebooks' calls, on a small image."""
    probs, image = reference_scene()
    labels = np.where(probs.max(0) > 0.3, probs.argmax(0) + 1, 0)
    crf = dcrf.DenseCRF2D(image.shape[1], image.shape[0], 5)
    crf.setUnaryEnergy(unary_from_labels(labels, 5, gt_prob=0.7, zero_unsure=True))
    crf.addPairwiseGaussian(sxy=(3, 3), compat=3, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
    crf.addPairwiseBilateral(
        sxy=(80, 80), srgb=(13, 13, 13), rgbim=image, compat=10, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC
    )
    by_methods = np.argmax(crf.inference(5), axis=0)

    crf = dcrf.DenseCRF(image.shape[1] * image.shape[0], 5)
    crf.setUnaryEnergy(unary_from_labels(labels, 5, gt_prob=0.7))
    crf.addPairwiseEnergy(create_pairwise_gaussian(sdims=(3, 3), shape=image.shape[:2]), compat=3)
    features = create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2)
    crf.addPairwiseEnergy(features, compat=10, kernel=dcrf.FULL_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
    q, tmp1, tmp2 = crf.startInference()
    for _ in range(5):
        crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_array_equal(np.argmax(np.array(q), axis=0), by_methods)
    assert np.array(q).shape == (5, 221)

    crf = dcrf.DenseCRF(221, 5)
    crf.setUnary(dcrf.ConstUnary(unary_from_softmax(probs, scale=0.8)))
    crf.setUnary(dcrf.LogisticUnary(np.ones((5, 2)), np.ones((2, 221))))
    assert np.asarray(crf.inference(1)).shape == (5, 221)
    with pytest.warns(DeprecationWarning, match="unary_from_labels"):
        compute_unary(labels, 5)
    with pytest.warns(DeprecationWarning, match="unary_from_softmax"):
        softmax_to_unary(probs)


def test_one_reward_given_three_ways():
    probs, image = reference_scene()
    results = []
    for compat in (4, -4 * np.ones(5), -4 * np.eye(5)):
        crf = dcrf.DenseCRF2D(17, 13, 5)
        crf.setUnaryEnergy(unary_from_softmax(probs))
        crf.addPairwiseBilateral(20, 13, image, compat)
        results.append(crf.inference(5))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    np.testing.assert_allclose(results[0], results[2], atol=1e-6)


def test_types_and_memory_orders_that_were_refused_work():
    probs, image = reference_scene()
    energy = unary_from_softmax(probs)
    expected = None
    for given in (energy, energy.astype(np.float64), np.asfortranarray(energy), energy.reshape(5, 13, 17), energy.tolist()):
        crf = dcrf.DenseCRF2D(17, 13, 5)
        crf.setUnaryEnergy(given)
        crf.addPairwiseBilateral(20, 13, np.asfortranarray(image), 4)
        expected = crf.inference(2) if expected is None else expected
        np.testing.assert_allclose(crf.inference(2), expected, atol=1e-6)


def crf2d():
    return dcrf.DenseCRF2D(17, 13, 5)


PROBS, IMAGE = reference_scene()
ENERGY = unary_from_softmax(PROBS)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: crf2d().setUnaryEnergy(PROBS.reshape(5, -1)), "unary_from_softmax"),
        (lambda: crf2d().setUnaryEnergy(ENERGY.T), "transpose it"),
        (lambda: crf2d().setUnaryEnergy(ENERGY.reshape(5, 13, 17).transpose(1, 2, 0)), "transpose it"),
        (lambda: crf2d().setUnaryEnergy(ENERGY[:, 1:]), "(5, 221)"),
        (lambda: crf2d().setUnaryEnergy(np.full((5, 221), np.inf)), "unary_from_softmax"),
        (lambda: crf2d().addPairwiseBilateral(80, 13, IMAGE.transpose(1, 0, 2), 10), "width first"),
        (lambda: crf2d().addPairwiseBilateral(80, 13, IMAGE / 255, 10), "uint8"),
        (lambda: crf2d().addPairwiseBilateral(80, 13, IMAGE[..., 0], 10), "(13, 17, 3)"),
        (lambda: crf2d().addPairwiseGaussian(0, 10), "above 0"),
        (lambda: crf2d().addPairwiseGaussian(3, [1, 2]), "(5,)"),
        (lambda: crf2d().addPairwiseGaussian(3, 3, 7), "DIAG_KERNEL"),
        (lambda: crf2d().addPairwiseGaussian(3, 3, dcrf.DIAG_KERNEL, 9), "NORMALIZE_SYMMETRIC"),
        (lambda: crf2d().addPairwiseEnergy(np.zeros((2, 5)), 3), "(D, 221)"),
        (lambda: crf2d().inference(5), "setUnaryEnergy first"),
        (lambda: dcrf.DenseCRF2D(0, 13, 5), "at least one"),
        (lambda: unary_from_softmax(np.array([[3.0], [-2.0]])), "softmax of logits"),
        (lambda: unary_from_labels(np.array([5]), 5, 0.7, zero_unsure=False), "0 to 4"),
        (lambda: unary_from_labels(np.array([6]), 5, 0.7), "zero_unsure=False"),
        (lambda: unary_from_labels(np.array([1]), 5, 1.0), "below 1"),
        (lambda: create_pairwise_bilateral((80, 80), (13,), IMAGE), "chdim=2"),
        (lambda: create_pairwise_bilateral((80, 80), (13, 13), IMAGE, chdim=2), "3 channels"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(mistake, words):
    with pytest.raises(CRFError) as caught:
        mistake()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
