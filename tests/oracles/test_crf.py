"""The CRF against double loops in plain Python, and against numbers of the authors' code."""

import math

import numpy as np
import pytest

from authors_crf import PLACES, REFERENCE, reference_scene
from upscore.crf import Bilateral, DenseCRF, Features, Gaussian


def scene(classes=3, shape=(7, 9), seed=0):
    """Return probabilities (K, H, W) and an image of two halves, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), shape).transpose(2, 0, 1)
    image = rng.normal(90, 8, (*shape, 3))
    image[:, shape[1] // 2 :] += 80
    return probs, np.clip(image, 0, 255).astype(np.uint8)


def by_hand(probs, image, kernels, *, iterations, self_message):
    """Mean field as the paper's algorithm 1, one pair of pixels at a time."""
    classes, height, width = probs.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    energy = {i: [-math.log(max(float(p), 1e-5)) for p in probs[:, i[0], i[1]]] for i in pixels}

    def normalized(costs):
        weights = [math.exp(min(costs) - c) for c in costs]
        return [w / sum(weights) for w in weights]

    q = {i: normalized(energy[i]) for i in pixels}
    between = []
    for kernel in kernels:
        k = {}
        for i in pixels:
            for j in pixels:
                distance = ((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / kernel.sigma**2
                if isinstance(kernel, Bilateral):
                    distance += sum((float(a) - float(b)) ** 2 for a, b in zip(image[i], image[j], strict=True)) / kernel.sigma_colour**2
                k[i, j] = math.exp(-distance / 2)
        rows = {i: sum(k[i, j] for j in pixels) for i in pixels}
        one = dict.fromkeys(pixels, 1.0)
        inverse, root = {i: 1 / rows[i] for i in pixels}, {i: rows[i] ** -0.5 for i in pixels}
        sides = {"symmetric": (root, root), "before": (one, inverse), "after": (inverse, one), "none": (one, one)}[kernel.normalization]
        between.append((kernel, k, *sides))
    for _ in range(iterations):
        new = {}
        for i in pixels:
            costs = list(energy[i])
            for kernel, k, after, before in between:
                messages = [
                    after[i] * sum(k[i, j] * before[j] * q[j][label] for j in pixels if self_message or j != i) for label in range(classes)
                ]
                weights = np.broadcast_to(kernel.compatibility, (classes,)) if np.ndim(kernel.compatibility) < 2 else None
                for label in range(classes):
                    if weights is not None:
                        costs[label] -= weights[label] * messages[label]
                    else:
                        costs[label] += sum(kernel.compatibility[other][label] * messages[other] for other in range(classes))
            new[i] = normalized(costs)
        q = new
    return np.array([[[q[y, x][label] for x in range(width)] for y in range(height)] for label in range(classes)])


MATRIX = np.array([[0, 2.0, 5.0], [2.0, 0, 1.0], [5.0, 1.0, 0]])


@pytest.mark.parametrize("self_message", [True, False])
@pytest.mark.parametrize(
    "kernels",
    [
        (Gaussian(2.0, 3.0), Bilateral(6.0, 20.0, 8.0)),
        (Gaussian(1.5, 2.0, "after"), Bilateral(5.0, 15.0, (4.0, 8.0, 6.0), "before")),
        (Bilateral(4.0, 30.0, MATRIX, "none"),),
    ],
    ids=["usual", "one-sided", "matrix"],
)
def test_exact_inference_is_the_papers_algorithm(kernels, self_message):
    probs, image = scene()
    crf = DenseCRF(kernels, iterations=3, self_message=self_message, engine="numpy_exact")
    inference = crf.start(probs, image)
    for _ in range(3):
        inference.step()
    expected = by_hand(probs, image, kernels, iterations=3, self_message=self_message)
    np.testing.assert_allclose(inference._marginals.T.reshape(probs.shape), expected, atol=1e-9)
    np.testing.assert_allclose(crf.refine(probs, image), expected, atol=1e-6)


@pytest.mark.parametrize(("normalization", "iterations"), REFERENCE)
def test_the_lattice_gives_the_numbers_of_the_authors_code(normalization, iterations):
    near, alike, expected = REFERENCE[normalization, iterations]
    kernels = (Gaussian(3.0, near, normalization), Bilateral((10, 20), (13, 9, 20), alike, normalization))
    refined = DenseCRF(kernels, iterations=iterations).refine(*reference_scene())
    np.testing.assert_allclose([refined[:, y, x] for y, x in PLACES], expected, atol=1.1e-5)


def test_the_lattice_is_near_the_exact_kernel_in_two_dimensions():
    probs, image = scene(shape=(20, 30))
    kernels = (Gaussian(3.0, 3.0),)
    near = DenseCRF(kernels).refine(probs, image)
    exact = DenseCRF(kernels, engine="numpy_exact").refine(probs, image)
    assert np.abs(near - exact).max() < 0.06


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 8, 16])
def test_the_lattice_filter_is_the_one_of_its_definition(dimensions):
    """Against the definition with dictionaries, a point at a time."""
    from upscore.crf.engines.numpy_lattice import NumpyLattice

    rng = np.random.default_rng(dimensions)
    features = rng.normal(0, 1.5, (60, dimensions)).astype(np.float32)
    values = rng.normal(size=(60, 4)).astype(np.float32)
    np.testing.assert_allclose(NumpyLattice(features)(values), lattice_by_definition(features, values), atol=2e-4)


def lattice_by_definition(features, values):
    d = features.shape[1]
    basis = np.zeros((d + 1, d))  # columns span the plane of zero sum; see Adams and others (2010), §3.1
    for i in range(d):
        basis[: i + 1, i], basis[i + 1, i] = 1, -(i + 1)
        basis[:, i] *= math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2))
    corners = []
    table = {}
    for point, value in zip(features.astype(np.float64), values.astype(np.float64), strict=True):
        raised = basis @ point
        best = None
        # The enclosing simplex has a corner of each remainder; the nearest point of remainder 0 gives it.
        start = np.rint(raised / (d + 1)) * (d + 1)
        excess = round(start.sum() / (d + 1))
        order = np.argsort(-(raised - start), kind="stable")
        for step in range(abs(excess)):
            start[order[::-1][step] if excess > 0 else order[step]] -= math.copysign(d + 1, excess)
        order = np.argsort(-(raised - start), kind="stable")
        ahead = (raised - start)[order] / (d + 1)
        weights = np.empty(d + 1)
        weights[0] = 1 - ahead[0] + ahead[-1]
        for r in range(1, d + 1):
            weights[r] = ahead[d - r] - ahead[d + 1 - r]
        best = []
        for r in range(d + 1):
            corner = start + r
            corner[order[d + 1 - r :]] -= d + 1
            best.append((tuple(int(c) for c in corner), weights[r]))
        assert min(weights) > -1e-9
        corners.append(best)
        for corner, weight in best:
            table[corner] = table.get(corner, 0) + weight * value
    for axis in range(d + 1):
        step = -np.ones(d + 1, int)
        step[axis] = d
        nothing = np.zeros(values.shape[1])
        table = {
            corner: value + 0.5 * (table.get(tuple(np.add(corner, step)), nothing) + table.get(tuple(np.subtract(corner, step)), nothing))
            for corner, value in table.items()
        }
    scale = 1 / (1 + 2.0**-d)
    return np.array([scale * sum(weight * table[corner] for corner, weight in best) for best in corners])


def test_features_of_depth_do_what_a_bilateral_kernel_of_it_does():
    probs, image = scene()
    depth = image[..., :1].astype(np.float32)
    one = DenseCRF((Bilateral(6.0, 20.0, 8.0),), engine="numpy_exact").refine(probs, depth)
    other = DenseCRF((Features(depth[..., 0], 20.0, 6.0, 8.0),), engine="numpy_exact").refine(probs)
    np.testing.assert_allclose(one, other, atol=1e-6)
