"""The CRF's tensor engines against the NumPy ones, and against numbers of the authors' code."""

import numpy as np
import pytest
import torch

from authors_crf import PLACES, REFERENCE, reference_scene
from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.crf.engines import make_engine
from upscore.crf.engines.numpy_exact import NumpyExactFilter
from upscore.crf.engines.numpy_lattice import NumpyLattice
from upscore.crf.engines.torch_exact import TorchExactFilter
from upscore.crf.engines.torch_lattice import TorchLattice
from upscore.crf.engines.torch_meanfield import TorchEngine, apply_filter, full_precision, require_device
from upscore.errors import CRFError

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")])
DEVICES = ("cpu", GPU)
FILTERS = (TorchLattice, lambda features, dtype=torch.float32: TorchExactFilter(features, dtype, tile=7))


def scene(classes=4, shape=(20, 30), seed=0):
    """Return probabilities (K, H, W) and an image of patches, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), shape).transpose(2, 0, 1).astype(np.float32)
    patches = rng.integers(40, 216, (-(-shape[0] // 5), -(-shape[1] // 5), 3)).repeat(5, 0).repeat(5, 1)
    image = patches[: shape[0], : shape[1]] + rng.normal(0, 6, (*shape, 3))
    return probs, image.round().astype(np.uint8)


def points(dimensions, spread, count=60):
    return np.random.default_rng(dimensions).normal(0, spread, (count, dimensions))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spread", [0.0, 1.5, 40.0, 1e9])
@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 8, 16])
def test_the_lattice_on_tensors_is_the_one_on_arrays(dimensions, spread, device):
    features = points(dimensions, spread)
    values = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    expected = NumpyLattice(features)
    lattice = TorchLattice(torch.from_numpy(features).to(device))
    np.testing.assert_array_equal(lattice.vertices.cpu().ravel(), expected.slicing.indices)
    np.testing.assert_allclose(lattice.multiply(torch.from_numpy(values).to(device)).cpu(), expected(values), atol=1e-5)
    fine = TorchLattice(torch.from_numpy(features).to(device), torch.float64).multiply(torch.from_numpy(values).double().to(device))
    np.testing.assert_allclose(fine.cpu(), expected(values), atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_the_lattice_is_built_in_blocks_that_do_not_show(device, monkeypatch):
    features = torch.from_numpy(points(5, 3.0, 1000)).to(device)
    whole = TorchLattice(features)
    monkeypatch.setattr("upscore.crf.engines.torch_lattice._ROWS", {device: 77})
    parts = TorchLattice(features)
    assert torch.equal(whole.vertices, parts.vertices)
    assert torch.equal(whole.weights, parts.weights)
    assert all(torch.equal(one, other) for one, other in zip(whole.blurs, parts.blurs, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_the_lattice_gives_the_same_bits_every_time(device):
    features, values = torch.from_numpy(points(5, 2.0, 500)).to(device), torch.randn(500, 3, device=device)
    assert torch.equal(TorchLattice(features).multiply(values), TorchLattice(features).multiply(values))


@pytest.mark.parametrize("filter_factory", FILTERS, ids=["lattice", "tiles"])
def test_what_goes_back_is_the_transpose(filter_factory):
    """The lattice's matrix is not symmetric, so that a wrong order of axes on the way back shows."""
    kernel = filter_factory(torch.from_numpy(points(3, 1.0)), torch.float64)
    forth, back = kernel.multiply(torch.eye(60).double()), kernel.multiply(torch.eye(60).double(), transposed=True)
    torch.testing.assert_close(back, forth.T, atol=1e-12, rtol=0)
    assert filter_factory is not TorchLattice or float((forth - forth.T).abs().max()) > 1e-2
    kernel = filter_factory(torch.from_numpy(points(3, 1.0, 12)), torch.float64)
    values = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: apply_filter(kernel, v), (values,))
    assert torch.autograd.gradgradcheck(lambda v: apply_filter(kernel, v), (values,))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("normalization", "iterations"), REFERENCE)
def test_the_torch_engine_gives_the_numbers_of_the_authors_code(normalization, iterations, device):
    near, alike, expected = REFERENCE[normalization, iterations]
    kernels = (Gaussian(3.0, near, normalization), Bilateral((10, 20), (13, 9, 20), alike, normalization))
    refined = DenseCRF(kernels, iterations=iterations, engine="torch_lattice", device=device).refine(*reference_scene())
    np.testing.assert_allclose([refined[:, y, x] for y, x in PLACES], expected, atol=1.1e-5)


MATRIX = np.array([[0, 2.0, 5.0, 1.0], [2.0, 0, 1.0, 3.0], [5.0, 1.0, 0, 2.0], [1.0, 3.0, 2.0, 0]])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("engine", "peer", "atol"), [("torch_lattice", "lattice", 1e-5), ("torch_exact", "numpy_exact", 1e-4)])
@pytest.mark.parametrize(
    ("settings", "kernels"),
    [
        ({}, (Gaussian(), Bilateral())),
        ({"self_message": False}, (Gaussian(2.0, [1.0, 2.0, 3.0, 4.0], "before"), Bilateral(9.0, 20.0, 3.0, "after"))),
        ({}, (Bilateral(5.0, 30.0, 0.05 * MATRIX, "none"),)),
    ],
    ids=["usual", "one-sided", "matrix"],
)
def test_mean_field_on_tensors_is_the_one_on_arrays(settings, kernels, engine, peer, atol, device):
    probs, image = scene()
    one = DenseCRF(kernels, engine=engine, device=device, **settings).start(probs, image)
    other = DenseCRF(kernels, engine=peer, **settings).start(probs, image)
    for _ in range(3):
        np.testing.assert_allclose(one.step().probabilities(), other.step().probabilities(), atol=atol)
    assert one.divergence() == pytest.approx(other.divergence(), rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tile", [1, 7, 64, 300, 1000])
@pytest.mark.parametrize("kind", ["near", "colours", "far", "lonely", "wide", "pairs", "pairs far apart"])
def test_all_pairs_in_tiles_are_all_pairs(kind, tile, device):
    probs, image = scene(shape=(17, 23) if tile > 1 else (6, 7))
    shape = image.shape[:2]
    features = {
        "near": Gaussian(3.0).features(shape),
        "colours": Bilateral(20.0, 13.0).features(shape, image),
        "far": Gaussian(0.4).features(shape),
        "lonely": Gaussian(0.01).features(shape),
        "wide": points(16, 0.5, probs[0].size),
        # Each with a companion near by, and all others far: in a product of such numbers the companion is lost.
        "pairs": np.repeat(points(3, 100.0, 40), 2, 0) + points(3, 0.5, 80),
        "pairs far apart": np.repeat(points(3, 1e8, 40), 2, 0) + points(3, 0.5, 80),
    }[kind]
    values = np.random.default_rng(1).normal(size=(len(features), 3))
    expected = np.exp(-((features[:, None] - features) ** 2).sum(2) / 2) @ values
    if not kind.startswith("pairs"):
        np.testing.assert_allclose(NumpyExactFilter(features)(values), expected, atol=1e-9)
    for dtype, atol in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        kernel = TorchExactFilter(torch.from_numpy(features).to(device), dtype, tile=tile, entries=3000)
        result = kernel.multiply(torch.from_numpy(values).to(device, dtype))
        assert result.dtype == dtype
        # Of numbers about 1e8 the features themselves have eight digits behind the point.
        np.testing.assert_allclose(result.cpu(), expected, atol=max(atol, 1e-7 if "apart" in kind else 0))


def test_tiles_too_far_apart_are_left_out_and_near_ones_are_not():
    features = np.concatenate([points(3, 1.0, 64), points(3, 1.0, 64) + 60])
    kernel = TorchExactFilter(torch.from_numpy(features), torch.float64, tile=64)
    assert [near.tolist() for near in kernel.near] == [[0], [1]]
    # 5 apart: exp(-25/2) is 4e-6, which counts.
    features = np.concatenate([np.zeros((64, 1)), np.full((64, 1), 5.0)])
    result = TorchExactFilter(torch.from_numpy(features), torch.float64, tile=64).multiply(torch.ones(128, 1).double())
    np.testing.assert_allclose(result, 64 * (1 + np.exp(-12.5)), rtol=1e-14)


def test_exact_mean_field_in_double_precision_is_the_oracles():
    probs, image = scene(shape=(11, 13))
    engine, crf = TorchEngine("cpu", TorchExactFilter, torch.float64), DenseCRF(engine="numpy_exact")
    inference = crf.start(probs, image).step(5)
    pairwise = [
        engine.pairwise(kernel.features((11, 13), image), np.full(4, -kernel.compatibility), kernel.normalization) for kernel in crf.kernels
    ]
    mean_field = engine.mean_field(inference._unary, pairwise, self_message=True)
    np.testing.assert_allclose(mean_field.to_array(mean_field.advance(None, 5)), inference._marginals, atol=1e-9)


def test_a_precision_that_was_lowered_is_full_inside_and_lowered_after():
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            with full_precision():
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
                assert getattr(torch.backends.cuda.matmul, "fp32_precision", "ieee") == "ieee"
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_around_it_changes_nothing():
    values = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    for filter_factory in FILTERS:
        kernel = filter_factory(torch.from_numpy(points(3, 1.0)))
        with torch.autocast("cpu", torch.bfloat16):
            under = filter_factory(torch.from_numpy(points(3, 1.0))).multiply(values)
        assert torch.equal(under, kernel.multiply(values))
    probs, image = scene()
    kernels = (Bilateral(5.0, 30.0, MATRIX),)
    for settings in ({"engine": "torch_lattice"}, {"engine": "torch_exact", "device": "cpu"}):
        expected = DenseCRF(kernels, **settings).refine(probs, image)
        with torch.autocast("cpu", torch.bfloat16):
            np.testing.assert_array_equal(DenseCRF(kernels, **settings).refine(probs, image), expected)


def refused(words, call):
    with pytest.raises(CRFError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_devices_are_one_line():
    probs, image = scene()
    refused("only torch_lattice and torch_exact", lambda: DenseCRF(device="cpu"))
    refused("only torch_lattice and torch_exact", lambda: make_engine("lattice", device="cuda"))
    for engine in ("torch_lattice", "torch_exact"):
        for device in ("cuda:99", "nowhere", "meta"):
            refused(f"device '{device}'", lambda e=engine, d=device: DenseCRF(engine=e, device=d).refine(probs, image))
    assert require_device("cpu") == torch.device("cpu")


def test_bad_features_and_values_are_one_line():
    features = torch.from_numpy(points(3, 1.0))
    for filter_factory in FILTERS:
        kernel = filter_factory(features)
        refused("(60, C)", lambda k=kernel: k.multiply(torch.ones(59, 2)))
        refused("(60, C)", lambda k=kernel: k.multiply(torch.ones(60)))
        refused("torch.float64 values", lambda k=kernel: k.multiply(torch.ones(60, 2).double()))
        refused("on meta", lambda k=kernel: k.multiply(torch.ones(60, 2, device="meta")))
        refused("not numbers", lambda f=filter_factory: f(torch.full((4, 2), torch.nan).double()))
    refused("2^52", lambda: TorchLattice(features * 1e18))
    refused("raise the sigmas", lambda: TorchLattice(torch.cat([features * 1e14] * 4000)))
    refused("tiles of 0", lambda: TorchExactFilter(features, tile=0))
    refused("not numbers", lambda: DenseCRF((Features(np.full((20, 30), np.nan), 1.0),), engine="torch_lattice").refine(scene()[0]))
