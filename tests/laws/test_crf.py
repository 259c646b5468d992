"""What a CRF must do whatever it is given."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.errors import CRFError

ENGINES = ("lattice", "numpy_lattice", "torch_lattice", "numpy_exact", "torch_exact")


def scene(classes=4, shape=(12, 15), seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), shape).transpose(2, 0, 1).astype(np.float32)
    return probs, rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


@given(
    classes=st.integers(2, 6),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 1000),
    engine=st.sampled_from(ENGINES),
    normalization=st.sampled_from(["symmetric", "before", "after", "none"]),
)
@settings(max_examples=60)
def test_probabilities_sum_to_one(classes, shape, seed, engine, normalization):
    kernels = (Gaussian(normalization=normalization), Bilateral(normalization=normalization))
    refined = DenseCRF(kernels, engine=engine).refine(*scene(classes, shape, seed), channels="first")
    assert refined.shape == (classes, *shape)
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)
    assert (refined >= 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_kernels_that_cost_nothing_change_nothing(engine):
    probs, image = scene()
    refined = DenseCRF((Gaussian(compatibility=0), Bilateral(compatibility=0)), engine=engine).refine(probs, image)
    np.testing.assert_allclose(refined, probs / probs.sum(0), atol=2e-5)
    np.testing.assert_allclose(DenseCRF((), engine=engine).refine(probs), probs / probs.sum(0), atol=2e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_labels_does_not_matter(engine):
    probs, image = scene()
    order = [2, 0, 3, 1]
    costs = np.array([3.0, 5.0, 7.0, 9.0])
    one = DenseCRF((Bilateral(compatibility=costs),), engine=engine).refine(probs, image)
    other = DenseCRF((Bilateral(compatibility=costs[order]),), engine=engine).refine(probs[order], image)
    np.testing.assert_allclose(one[order], other, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_number_a_vector_and_a_matrix_mean_the_same(engine):
    probs, image = scene()
    refined = [
        DenseCRF((Bilateral(compatibility=cost, normalization="after"),), engine=engine).refine(probs, image)
        for cost in (10.0, [10.0] * 4, 10 * (1 - np.eye(4)))
    ]
    np.testing.assert_allclose(refined[0], refined[1], atol=1e-6)
    np.testing.assert_allclose(refined[0], refined[2], atol=1e-4)


def test_turning_the_image_turns_the_result():
    probs, image = scene()
    crf = DenseCRF(engine="numpy_exact")
    upright = crf.refine(probs, image)
    np.testing.assert_allclose(crf.refine(probs.transpose(0, 2, 1), image.transpose(1, 0, 2)), upright.transpose(0, 2, 1), atol=1e-6)
    np.testing.assert_allclose(crf.refine(probs[..., ::-1], image[:, ::-1]), upright[..., ::-1], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_layouts_and_types_do_not_matter(dtype):
    probs, image = scene()
    expected = DenseCRF().refine(probs, image)
    last = np.asfortranarray(probs.transpose(1, 2, 0).astype(dtype))
    refined = DenseCRF().refine(last, np.asfortranarray(image))
    assert refined.dtype == np.float32
    # Half a unit of a float16 in a probability can be hundredths in the answer, where two labels are level.
    np.testing.assert_allclose(refined.transpose(2, 0, 1), expected, atol=0.1 if dtype == np.float16 else 1e-6)
    logits = np.log(probs) + 7
    np.testing.assert_allclose(DenseCRF().refine(logits, image, kind="logits"), expected, atol=1e-4)


def test_where_the_layout_is_ambiguous_labels_come_first_or_where_channels_tells():
    probs, _ = scene(classes=5, shape=(5, 5))
    crf = DenseCRF((Gaussian(),))
    np.testing.assert_array_equal(crf.refine(probs), crf.refine(probs, channels="first"))
    np.testing.assert_allclose(crf.refine(probs.transpose(1, 2, 0), channels="last").transpose(2, 0, 1), crf.refine(probs), atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_ignored_pixels_neither_send_nor_receive(engine):
    probs, image = scene()
    ignored = np.zeros(image.shape[:2], bool)
    ignored[:, 10:] = True
    other = probs.copy()
    other[:, :, 10:] = np.roll(other[:, :, 10:], 1, 0)
    crf = DenseCRF(engine=engine)
    one, two = crf.refine(probs, image, ignored=ignored), crf.refine(other, image, ignored=ignored)
    np.testing.assert_array_equal(one[..., :10], two[..., :10])
    np.testing.assert_allclose(one[..., :10], crf.refine(probs[..., :10], image[:, :10]), atol=1e-5)
    np.testing.assert_allclose(one[..., 10:], probs[..., 10:], atol=2e-5)
    np.testing.assert_allclose(crf.refine(probs, image, ignored=np.ones_like(ignored)), probs, atol=2e-5)


@pytest.mark.parametrize("shape", [(40,), (4, 5, 6), (2, 3, 4, 3)])
def test_grids_of_any_number_of_axes(shape):
    rng = np.random.default_rng(0)
    probs, values = rng.dirichlet(np.ones(3), shape), rng.normal(100, 30, shape)
    crf = DenseCRF((Features(values, 20.0, sigma=4.0, compatibility=2.0),), iterations=1, engine="numpy_exact")
    positions = np.stack([*(axis.ravel() / 4.0 for axis in np.indices(shape)), values.ravel() / 20.0], 1)
    kernel = np.exp(-((positions[:, None] - positions) ** 2).sum(-1) / 2)
    root = kernel.sum(1) ** -0.5
    scores = np.log(probs.reshape(-1, 3)) + 2.0 * root[:, None] * (kernel @ (root[:, None] * probs.reshape(-1, 3)))
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(crf.refine(probs, channels="last"), expected.reshape(probs.shape), atol=1e-6)
    assert DenseCRF(crf.kernels).refine(probs, channels="last").shape == probs.shape


def test_sequential_descent_of_the_divergence_on_a_weak_field():
    """Where pixels influence one another little, parallel steps lower what mean field lowers."""
    probs, image = scene()
    inference = DenseCRF((Gaussian(1.0, 0.3),), engine="numpy_exact").start(probs, image)
    course = [inference.divergence()]
    for _ in range(5):
        course.append(inference.step().divergence())
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(course))
    assert inference.steps == 5


def test_labels_that_are_infer_lose_their_specks():
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 1
    image = np.where(labels[..., None] == 1, 200, 30).astype(np.uint8).repeat(3, 2)
    noisy = labels.copy()
    noisy[5, 5], noisy[14, 15], noisy[0, 0] = 1, 0, 255
    refined = DenseCRF().refine_labels(noisy, image, classes=2)
    np.testing.assert_array_equal(refined.argmax(0), labels)


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_very_far_apart_do_not_meet(engine):
    """Keys of the lattice beyond any machine integer, where 16 bits once overflowed in silence."""
    probs, _ = scene(shape=(6, 6))
    far = np.zeros((6, 6, 5))
    far[:, 3:] = 4e8
    kernels = (Features(far, 1e-3, compatibility=6.0),)
    whole = DenseCRF(kernels, engine=engine).refine(probs)
    half = DenseCRF((Features(far[:, :3], 1e-3, compatibility=6.0),), engine=engine).refine(probs[..., :3])
    np.testing.assert_allclose(whole[..., :3], half, atol=1e-5)


GOOD = scene()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.full((4, 12, 15), np.nan), GOOD[1]), "not numbers"),
        ((GOOD[0] - 1, GOOD[1]), "logits"),
        ((np.full((4, 12, 15), 1e38, np.float32), GOOD[1]), "logits"),
        ((GOOD[0] * 3, GOOD[1]), "sums over the labels"),
        ((GOOD[0], GOOD[1][:-1]), "one grid"),
        ((GOOD[0],), "no image"),
        ((GOOD[0], GOOD[1].astype(np.uint16)), "257"),
        ((GOOD[0], GOOD[1] / 255), "255"),
        ((GOOD[0][0], GOOD[1]), "expected"),
        ((GOOD[0].argmax(0), GOOD[1]), "floats"),
        ((np.zeros((4, 0, 15), np.float32), np.zeros((0, 15, 3), np.uint8)), "nothing to refine"),
    ],
)
def test_bad_scores_and_images_are_one_line(arguments, words):
    with pytest.raises(CRFError) as caught:
        DenseCRF().refine(*arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (Gaussian(0), "above 0"),
        (Gaussian(-1), "above 0"),
        (Gaussian(float("nan")), "above 0"),
        (Gaussian((1, 2, 3)), "one for each axis"),
        (Bilateral(sigma_colour=(1, 2)), "one for each channel"),
        (Gaussian(compatibility=[1, 2]), "(4,)"),
        (Gaussian(compatibility=np.triu(np.ones((4, 4)))), "symmetric"),
        (Gaussian(compatibility=float("inf")), "not a number"),
        (Gaussian(normalization="both"), "normalization"),
        (Features(np.zeros((3, 3)), 1.0), "one value or vector for each pixel"),
        (Features(np.full((12, 15), np.nan), 1.0), "not numbers"),
    ],
)
def test_bad_kernels_are_one_line(kernel, words):
    with pytest.raises(CRFError) as caught:
        DenseCRF((kernel,)).refine(*GOOD)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_one_line():
    for values, words in (({"engine": "magic"}, "lattice"), ({"threads": 0}, "1 to 64"), ({"iterations": -1}, "iterations")):
        with pytest.raises(CRFError, match=words):
            DenseCRF(**values)
    with pytest.raises(CRFError, match="kind"):
        DenseCRF().refine(*GOOD, kind="odds")
    with pytest.raises(CRFError, match="mask of shape"):
        DenseCRF().refine(*GOOD, ignored=np.zeros((3, 3), bool))
    with pytest.raises(CRFError, match="0 to 1"):
        DenseCRF().refine_labels(np.full((4, 4), 7), GOOD[1][:4, :4], classes=2)
    with pytest.raises(CRFError, match="confidence"):
        DenseCRF().refine_labels(np.zeros((4, 4), int), GOOD[1][:4, :4], classes=2, confidence=1.0)


@given(probs=arrays.arrays(np.float32, (3, 4, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
@settings(max_examples=40)
def test_any_numbers_are_refined_or_refused(probs):
    for kind in ("probabilities", "logits"):
        try:
            refined = DenseCRF().refine(probs, np.zeros((4, 4, 3), np.uint8), kind=kind)
        except CRFError:
            continue
        assert np.isfinite(refined).all()


def test_a_batch_is_its_images_one_by_one():
    scenes = [scene(seed=seed) for seed in range(3)]
    probs, images = np.stack([probs for probs, _ in scenes]), np.stack([image for _, image in scenes])
    crf = DenseCRF(iterations=2)
    for refined, one, image in zip(crf.refine_batch(probs, images), probs, images, strict=True):
        np.testing.assert_array_equal(refined, crf.refine(one, image))
    with pytest.raises(CRFError, match="expected as many"):
        crf.refine_batch(probs, images[:2])
    with pytest.raises(CRFError, match="image 1 of the batch: found probabilities"):
        crf.refine_batch([probs[0], probs[1] * np.nan], images[:2])


def test_more_pixels_than_memory_holds_are_refused_before_any_is_read():
    many = np.broadcast_to(np.float32(0.5), (2, 10_000, 10_001))
    with pytest.raises(CRFError, match="overlapping tiles"):
        DenseCRF().refine(many, np.broadcast_to(np.uint8(0), (10_000, 10_001, 3)))
    with pytest.raises(CRFError, match="overlapping tiles"):
        DenseCRF((Gaussian(),)).refine_labels(np.broadcast_to(np.uint8(0), (10_000, 10_001)), classes=2)


@pytest.mark.parametrize(("engine", "missing"), [("torch_lattice", "torch"), ("torch_exact", "torch"), ("numpy_lattice", "scipy")])
def test_what_an_engine_lacks_is_one_line(engine, missing, monkeypatch):
    monkeypatch.delitem(sys.modules, "upscore.crf.engines.torch_meanfield", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CRFError, match=f"pip install {missing}"):
        DenseCRF(engine=engine).refine(*GOOD)


def test_importing_it_takes_numpy_alone():
    probe = "import sys; from upscore.crf import DenseCRF; sys.stdout.write(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "scipy", "cv2", "PIL", "pydantic", "timm"}
