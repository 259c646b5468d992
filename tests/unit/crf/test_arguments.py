"""What a CRF cannot be given is one line, the same for every engine; what it can is the right answer in every type and order."""

import sys

import numpy as np
import pytest
import torch

import upscore.crf.pydensecrf.densecrf as dcrf
from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.crf.engines import make_engine
from upscore.crf.layer import CRFLayer
from upscore.crf.pairwise import MAX_SIGMAS, build_pairwise
from upscore.crf.pydensecrf import utils
from upscore.errors import CRFError

ENGINES = ("lattice", "numpy_lattice", "torch_lattice", "numpy_exact", "torch_exact")
RNG = np.random.default_rng(5)
H, W, K = 11, 14, 3
IMAGE = RNG.integers(0, 256, (H, W, 3), np.uint8)
LOGITS = RNG.normal(size=(K, H, W)).astype(np.float32)
PROBS = (np.exp(LOGITS) / np.exp(LOGITS).sum(0)).astype(np.float32)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def with_nan(array, place=(0, 0)):
    changed = np.array(array, np.float64)
    changed[place] = np.nan
    return changed


IMAGES = {
    "normalised": ((IMAGE / 255 - MEAN) / STD, "before normalisation"),
    "less the mean": (IMAGE - np.float32(128), "before normalisation"),
    "from -1 to 1": (IMAGE / 127.5 - 1, "before normalisation"),
    "from 0 to 1": (IMAGE / 255, "multiply it by 255"),
    "a little beyond 1": (np.clip(IMAGE / 255, 0, 1) * 1.05, "before normalisation"),
    "bool": (IMAGE > 100, "type bool"),
    "16 bits": (IMAGE.astype(np.uint16) * 257, "divide 16 bits by 257"),
    "16 bits in floats": (IMAGE.astype(np.float32) * 257, "from 0 to|before normalisation"),
    "int64": (IMAGE.astype(np.int64), "give 8 bits as uint8"),
    "signed": (IMAGE.astype(np.int8), "type int8"),
    "complex": (IMAGE * 1j, "type complex128"),
    "text": (IMAGE.astype(str), "type"),
    "objects": (IMAGE.astype(object), "type object"),
    "not a number": (with_nan(IMAGE), "from nan to nan"),
    "infinite": (np.where(IMAGE > 250, np.inf, IMAGE), "to inf"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", IMAGES)
def test_images_in_other_numbers_are_one_line(engine, name):
    image, words = IMAGES[name]
    with pytest.raises(CRFError, match=words):
        DenseCRF(engine=engine).refine(PROBS, image)


SAME = {
    "float64": IMAGE.astype(np.float64),
    "float16": IMAGE.astype(np.float16),
    "by columns": np.asfortranarray(IMAGE),
    "upside down twice": IMAGE[::-1][::-1],
    "strided": np.repeat(IMAGE, 2, 1)[:, ::2],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SAME)
def test_the_same_image_in_another_type_or_order_gives_the_same_answer(engine, name):
    crf = DenseCRF(engine=engine)
    np.testing.assert_array_equal(crf.refine(PROBS, SAME[name]), crf.refine(PROBS, IMAGE))


def test_remedies_that_messages_give_work():
    crf = DenseCRF()
    right = crf.refine(PROBS, IMAGE)
    for remedied in (
        IMAGE / 255 * 255,
        (IMAGE.astype(np.uint16) * 257 // 257).astype(np.uint8),
        IMAGE.astype(np.int64).astype(np.uint8),
    ):
        np.testing.assert_allclose(crf.refine(PROBS, remedied), right, atol=1e-4)
    assert np.array_equal(crf.refine(PROBS, np.zeros((H, W, 3))), crf.refine(PROBS, np.zeros((H, W, 3), np.uint8)))  # black is black
    one = PROBS[:1]
    assert crf.refine(np.concatenate([1 - one, one]), IMAGE).shape == (2, H, W)
    as_features = DenseCRF((Features(IMAGE.astype(np.uint16) * 257, 13 * 257, sigma=80.0), Gaussian()))
    np.testing.assert_allclose(as_features.refine(PROBS), right, atol=1e-4)


NEGATIVE, HALF, TWICE = PROBS.copy(), PROBS * 0.5, PROBS * 2
NEGATIVE[:2, 0, 0] += [-1, 1]
SCORES = {
    "logits": LOGITS,
    "not a number": with_nan(PROBS, (0, 0, 0)),
    "infinite": np.where(PROBS > 0.9, np.inf, PROBS),
    "negative": NEGATIVE,
    "sums of a half": HALF,
    "sums of two": TWICE,
    "energies": -np.log(PROBS),
    "transposed": PROBS.transpose(0, 2, 1),
    "one label": np.ones((1, H, W), np.float32),
    "one label, last": np.ones((H, W, 1), np.float32),
    "labels": PROBS.argmax(0),
    "one-hot integers": (PROBS.max(0) == PROBS).astype(np.uint8),
    "one-hot bools": PROBS.max(0) == PROBS,
    "complex": PROBS + 0j,
    "text": PROBS.astype(str),
    "nothing": PROBS[:, :0],
    "no label": PROBS[:0],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SCORES)
def test_what_is_no_probability_is_one_line(engine, name):
    with pytest.raises(CRFError, match="found"):
        DenseCRF(engine=engine).refine(SCORES[name], IMAGE)


SETTINGS = {
    "sigma 0": lambda: Gaussian(0.0),
    "sigma below 0": lambda: Gaussian(-3.0),
    "sigma nan": lambda: Gaussian(float("nan")),
    "sigma inf": lambda: Bilateral(sigma_colour=float("inf")),
    "sigma so small that pixels are infinitely far": lambda: Gaussian(1e-320),
    "sigma so small that pixels are too far": lambda: Gaussian(1e-13),
    "sigma of text": lambda: Gaussian("3"),
    "sigma none": lambda: Gaussian(None),
    "sigmas of another number": lambda: Bilateral(sigma_colour=(1.0, 2.0)),
    "compatibility nan": lambda: Gaussian(compatibility=float("nan")),
    "compatibility inf": lambda: Gaussian(compatibility=[1.0, np.inf, 1.0]),
    "compatibility beyond single precision": lambda: Gaussian(compatibility=1e38),
    "compatibility of text": lambda: Gaussian(compatibility="ten"),
    "compatibility of another number of labels": lambda: Gaussian(compatibility=[1.0, 2.0]),
    "compatibility turned": lambda: Gaussian(compatibility=np.triu(np.ones((K, K)), 1)),
    "normalization": lambda: Gaussian(normalization="both"),
    "values that are not numbers": lambda: Features(np.full((H, W), np.nan), 1.0),
    "values without a channel": lambda: Features(np.zeros((H, W, 0)), 1.0),
    "values of 40 channels": lambda: Features(np.zeros((H, W, 40)), 1.0),
    "values of text": lambda: Features(np.full((H, W), "a"), 1.0),
    "no kernel": lambda: 3,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SETTINGS)
def test_impossible_kernels_are_one_line(engine, name):
    with pytest.raises(CRFError, match="found"):
        DenseCRF((SETTINGS[name](),), engine=engine).refine(PROBS, IMAGE)


class Odd:
    compatibility, normalization = 1.0, "none"

    def __init__(self, made):
        self.made = made

    def features(self, shape, image):
        return self.made


@pytest.mark.parametrize("made", [np.zeros((H * W - 1, 2)), np.zeros(H * W), np.zeros((H * W, 2), complex), None], ids=str)
def test_kernels_of_ones_own_that_do_not_fit_are_one_line(made):
    with pytest.raises(CRFError, match="found features"):
        DenseCRF((Odd(made),)).refine(PROBS)


@pytest.mark.parametrize("steps", [-1, 1001, 10**9, 2.5, float("nan"), True, None, "5"])
def test_impossible_numbers_of_steps_are_one_line(steps):
    for call in (
        lambda: DenseCRF(iterations=steps),
        lambda: DenseCRF().start(PROBS, IMAGE).step(steps),
        lambda: CRFLayer(3, iterations=steps),
        lambda: drop_in().inference(steps),
    ):
        with pytest.raises(CRFError, match="iterations, expected 0 to 1000"):
            call()


def test_other_impossible_settings_are_one_line():
    for call in (
        lambda: DenseCRF(threads=2.5),
        lambda: DenseCRF().refine(PROBS, IMAGE, ignored=np.zeros((H, W), np.uint8)),
        lambda: DenseCRF().refine_labels(np.zeros((H, W), int), IMAGE, classes=1),
        lambda: DenseCRF().refine_labels(np.zeros((H, W), bool), IMAGE, classes=2),
        lambda: DenseCRF().refine_labels(np.zeros((0, W), int), classes=2),
        lambda: DenseCRF().refine_labels(np.zeros((H, W), int), IMAGE, classes=2.5),
    ):
        with pytest.raises(CRFError, match="found"):
            call()


@pytest.mark.parametrize("engine", ENGINES)
def test_features_at_the_bound_are_each_their_own(engine):
    """At the farthest that is taken, no two pixels exchange messages: every engine returns the unary probabilities."""
    values = np.linspace(-MAX_SIGMAS, MAX_SIGMAS, H * W).reshape(H, W)
    refined = DenseCRF((Features(values, 1.0),), engine=engine).refine(PROBS)
    np.testing.assert_allclose(refined.argmax(0), PROBS.argmax(0))
    with pytest.raises(CRFError, match="too far apart"):
        DenseCRF((Features(values * 1.01, 1.0),), engine=engine).refine(PROBS)


def test_pixels_a_milliard_sigmas_away_are_as_near_to_one_another_for_the_exact_engine():
    """Squares of such features have no digits left for what is between neighbours."""
    near = np.random.default_rng(0).integers(0, 128, (H, W)) / 64
    refined = []
    for apart in (1e3, 1e9):
        values = near.copy()
        values[:, W // 2 :] += apart
        kernel = Features(values, 1.0, normalization="none", compatibility=0.02)
        refined.append(DenseCRF((kernel,), engine="numpy_exact").refine(PROBS))
    np.testing.assert_allclose(*refined, atol=1e-6)


def test_too_little_memory_is_one_line(monkeypatch):
    native = pytest.importorskip("upscore._native")
    monkeypatch.setattr(native, "lattice", lambda *arguments: (_ for _ in ()).throw(MemoryError("none")))
    with pytest.raises(CRFError, match="154 pixels takes more memory than is available: refine the image in overlapping tiles"):
        DenseCRF().refine(PROBS, IMAGE)
    with pytest.raises(CRFError, match="more memory"):
        drop_in()


# ---- as a layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        torch.from_numpy(IMAGES["normalised"][0]),
        torch.from_numpy(IMAGE).float(),
        torch.from_numpy(IMAGE) > 100,
        torch.from_numpy(IMAGE).long(),
        torch.from_numpy(with_nan(IMAGE / 255)),
        torch.from_numpy(IMAGE) * 1j,
    ],
    ids=lambda image: str(image.dtype),
)
def test_images_in_other_numbers_are_one_line_for_the_layer(images):
    with pytest.raises(CRFError, match="found images of type"):
        CRFLayer(3)(torch.from_numpy(LOGITS)[None], images.permute(2, 0, 1)[None])


@pytest.mark.parametrize("classes", [1, 0, -3, 2.5, True])
def test_a_layer_of_one_label_is_one_line(classes):
    with pytest.raises(CRFError, match="expected at least 2"):
        CRFLayer(classes)


# ---- under another package's names --------------------------------------------------------------------------------


def drop_in(energies=None, image=IMAGE, **bilateral):
    crf = dcrf.DenseCRF2D(W, H, K)
    crf.setUnaryEnergy(utils.unary_from_softmax(PROBS) if energies is None else energies)
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(**{"sxy": 80, "srgb": 13, "rgbim": image, "compat": 10, **bilateral})
    return crf


ENERGY = utils.unary_from_softmax(PROBS)
LABELS = PROBS.argmax(0)
DROP_IN = {
    "logits": lambda: utils.unary_from_softmax(LOGITS),
    "labels last": lambda: utils.unary_from_softmax(PROBS.transpose(1, 2, 0)),
    "one label": lambda: utils.unary_from_softmax(PROBS[:1]),
    "sums of a half": lambda: utils.unary_from_softmax(HALF),
    "integers": lambda: utils.unary_from_softmax(PROBS.astype(str)),
    "clip nan": lambda: utils.unary_from_softmax(PROBS, clip=float("nan")),
    "zeros without a clip": lambda: utils.unary_from_softmax(np.eye(2), clip=None),
    "energies of integers as text": lambda: drop_in(ENERGY.astype(str)),
    "energies that are not numbers": lambda: drop_in(with_nan(ENERGY)),
    "energies beyond single precision": lambda: drop_in(ENERGY.astype(np.float64) * 1e300),
    "complex energies": lambda: drop_in(ENERGY + 0j),
    "a CRF of one label": lambda: dcrf.DenseCRF2D(W, H, 1),
    "a CRF of half a pixel": lambda: dcrf.DenseCRF2D(W, 2.5, 2),
    "a CRF of a million million": lambda: dcrf.DenseCRF(10**12, 2),
    "a bool image": lambda: drop_in(image=IMAGE > 100),
    "a float image": lambda: drop_in(image=IMAGE / 255),
    "sxy 0": lambda: drop_in(sxy=0),
    "sxy nan": lambda: drop_in(sxy=float("nan")),
    "srgb of text": lambda: drop_in(srgb="13"),
    "compat nan": lambda: drop_in(compat=float("nan")),
    "compat of text": lambda: drop_in(compat="10"),
    "float labels": lambda: utils.unary_from_labels(LABELS.astype(float), 3, 0.7, zero_unsure=False),
    "labels of one": lambda: utils.unary_from_labels(LABELS * 0, 1, 0.7, zero_unsure=False),
    "sigmas of nothing": lambda: utils.create_pairwise_gaussian((0, 3), (H, W)),
    "sigmas that are none": lambda: utils.create_pairwise_gaussian((float("nan"), 3), (H, W)),
    "a grid beyond memory": lambda: utils.create_pairwise_gaussian((3, 3), (10**6, 10**6)),
    "channels of no sigma": lambda: utils.create_pairwise_bilateral((3, 3), (0, 0, 0), IMAGE, chdim=2),
    "an axis that is not there": lambda: utils.create_pairwise_bilateral((3, 3), 13, IMAGE, chdim=7),
    "Q of another shape": lambda: drop_in().stepInference(PROBS.copy()),
    "Q that is no number": lambda: drop_in().stepInference(with_nan(PROBS.reshape(K, -1)).astype(np.float32)),
    "Q of another shape for the divergence": lambda: drop_in().klDivergence(PROBS[:2].reshape(2, -1)),
}


@pytest.mark.parametrize("name", DROP_IN)
def test_mistakes_under_the_other_names_are_one_line(name):
    with pytest.raises(CRFError, match="found"):
        DROP_IN[name]()


# ---- the compiled module's own checks -------------------------------------------------------------------------------


def test_costs_beyond_single_precision_are_refused_by_the_compiled_module_too():
    native = pytest.importorskip("upscore._native")
    lattice = native.lattice(np.zeros((1, 9), np.float32), 1)
    energy, out = np.zeros((9, 2), np.float32), np.empty((9, 2), np.float32)
    with pytest.raises(OverflowError, match="lower the costs"):
        native.mean_field(energy, "energies", [(lattice, None, None, np.full((2, 2), 3e38, np.float32))], True, None, out, 3, 1)
    engine = make_engine("lattice")
    with pytest.raises(CRFError, match="expected at most 1e"):
        build_pairwise(engine, np.zeros((9, 1)), 1e30, "none", 2)


def test_energies_of_any_size_give_numpys_answer(monkeypatch):
    energies = np.array([[2e30, 3e30, 1e38], [5e30, 4e30, 5e30]], np.float32).T.reshape(3, 2, 1)
    compiled = DenseCRF((Gaussian(),)).refine(energies, kind="energies")
    monkeypatch.setitem(sys.modules, "upscore._native", None)
    np.testing.assert_array_equal(compiled, DenseCRF((Gaussian(),), engine="numpy_lattice").refine(energies, kind="energies"))
    assert compiled.sum(0) == pytest.approx(1)
