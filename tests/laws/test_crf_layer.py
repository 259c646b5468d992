"""The CRF as a layer: the numbers of DenseCRF, the gradients of its numbers, and training with it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from upscore.crf import Bilateral, DenseCRF, Features, Gaussian
from upscore.crf.layer import CRFLayer
from upscore.errors import CRFError

CLASSES = 4


def batch(count=2, shape=(10, 13), seed=0):
    """Return logits (N, K, H, W) and images (N, 3, H, W) uint8 of patches."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (count, CLASSES, *shape))).float()
    patches = rng.integers(40, 216, (count, 3, -(-shape[0] // 5), -(-shape[1] // 5))).repeat(5, 2).repeat(5, 3)[..., : shape[0], : shape[1]]
    return logits, torch.from_numpy((patches + rng.integers(-9, 10, (count, 3, *shape))).astype(np.uint8))


@pytest.mark.parametrize("engine", ["torch_lattice", "torch_exact"])
@pytest.mark.parametrize(
    "kernels",
    [None, (Gaussian(2.0, [1.0, 2.0, 3.0, 4.0]), Bilateral(9.0, 20.0, 3.0, "after")), (Bilateral(5.0, 30.0, [4.0]),), ()],
    ids=["usual", "vectors", "one", "none"],
)
def test_before_it_learns_it_is_the_dense_crf(kernels, engine):
    logits, images = batch()
    scores = CRFLayer(CLASSES, kernels, engine=engine)(logits, images)
    crf = DenseCRF(engine="numpy_exact" if engine == "torch_exact" else "lattice", **({} if kernels is None else {"kernels": kernels}))
    for refined, given, image in zip(scores.softmax(1).detach().numpy(), logits.numpy(), images.numpy(), strict=True):
        np.testing.assert_allclose(refined, crf.refine(given, image.transpose(1, 2, 0), kind="logits"), atol=1e-5)


def test_images_of_bytes_and_of_fractions_are_the_same():
    logits, images = batch()
    layer = CRFLayer(CLASSES)
    for fractions in (images / 255, images.double() / 255):
        assert torch.equal(layer(logits, images), layer(logits, fractions))


def test_a_batch_is_its_images_one_by_one():
    logits, images = batch(3)
    layer = CRFLayer(CLASSES)
    torch.testing.assert_close(layer(logits, images), torch.cat([layer(logits[i : i + 1], images[i : i + 1]) for i in range(3)]))
    assert layer(logits[:0], images[:0]).shape == (0, CLASSES, 10, 13)


def test_without_iterations_the_logits_come_back():
    logits, images = batch()
    torch.testing.assert_close(CRFLayer(CLASSES, iterations=0)(logits, images), logits)


@pytest.mark.parametrize("engine", ["torch_lattice", "torch_exact"])
@pytest.mark.parametrize("self_message", [True, False])
def test_gradients_are_those_of_the_numbers(engine, self_message):
    logits, images = batch(1, (2, 4))
    kernels = (Gaussian(1.5, 0.6), Bilateral(5.0, 25.0, 0.8, "before"))
    layer = CRFLayer(CLASSES, kernels, iterations=2, engine=engine, self_message=self_message).double()
    with torch.no_grad():
        layer.compatibility += 0.1 * torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(0)).double()

    def refined(logits, weights, compatibility):
        return torch.func.functional_call(layer, {"weights": weights, "compatibility": compatibility}, (logits, images))

    inputs = (logits.double().requires_grad_(), layer.weights, layer.compatibility)
    slowly = engine == "torch_lattice" and self_message  # every entry; the others along one direction drawn at random
    assert torch.autograd.gradcheck(refined, inputs, fast_mode=not slowly)


def test_a_few_steps_lower_the_loss():
    _, images = batch(2, (15, 20))
    labels = (images[:, 0] > 128).long() + 2 * (images[:, 1] > 128).long()
    logits = F.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float() + torch.randn(
        2, CLASSES, 15, 20, generator=torch.Generator().manual_seed(0)
    )
    logits.requires_grad_()
    layer = CRFLayer(CLASSES, (Gaussian(2.0, 0.1), Bilateral(10.0, 20.0, 0.1)), iterations=3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.2)
    course = []
    for _ in range(6):
        loss = F.cross_entropy(layer(logits, images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    assert course == sorted(course, reverse=True)
    assert course[-1] < 0.9 * course[0]
    assert all(tensor.grad.abs().max() > 0 for tensor in (logits, layer.weights, layer.compatibility))


def test_what_is_infer_makes_a_column_pay():
    """One step by hand, with a compatibility that is not symmetric."""
    logits, images = batch(1, (4, 5))
    layer = CRFLayer(CLASSES, (Gaussian(1.5, [1.0, 2.0, 3.0, 4.0], "none"),), iterations=1, engine="torch_exact")
    with torch.no_grad():
        layer.compatibility.copy_(torch.arange(16.0).reshape(4, 4) / 8)
    features = torch.from_numpy(Gaussian(1.5).features((4, 5))).float()
    kernel = torch.exp(-(torch.cdist(features, features) ** 2) / 2)
    alone = logits[0].flatten(1).T
    expected = alone - (kernel @ alone.softmax(1) * torch.tensor([1.0, 2.0, 3.0, 4.0])) @ layer.compatibility
    torch.testing.assert_close(layer(logits, images)[0].flatten(1).T, expected, atol=1e-4, rtol=1e-4)


def test_cross_entropy_on_it_is_minus_the_logarithm_of_what_is_infer():
    logits, images = batch()
    labels = logits.argmax(1)
    infer = torch.stack(
        [
            torch.from_numpy(DenseCRF().refine(one.numpy(), image.permute(1, 2, 0).numpy(), kind="logits"))
            for one, image in zip(logits, images, strict=True)
        ]
    )
    expected = -infer.gather(1, labels[:, None]).log().mean()
    torch.testing.assert_close(F.cross_entropy(CRFLayer(CLASSES)(logits, images), labels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_computes_in_full_precision_under_autocast(dtype):
    logits, images = batch()
    layer = CRFLayer(CLASSES, (Gaussian(2.0, 0.5), Bilateral(9.0, 20.0, 0.5)))
    half = logits.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        scores = layer(half, images)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, layer(half.detach().float(), images))
    scores.square().mean().backward()
    assert half.grad.dtype == dtype
    assert torch.isfinite(half.grad).all()


def test_its_state_is_what_it_learnt():
    layer = CRFLayer(CLASSES)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {"weights": (2, 4), "compatibility": (4, 4)}
    torch.testing.assert_close(layer.weights.detach(), torch.tensor([[3.0], [10.0]]).expand(2, 4))
    torch.testing.assert_close(layer.compatibility.detach(), 1 - torch.eye(4))
    assert "Gaussian, Bilateral" in repr(layer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_it_is_the_same():
    logits, images = batch()
    layer = CRFLayer(CLASSES)
    scores = layer(logits.requires_grad_(), images)
    scores.square().mean().backward()
    there = logits.detach().cuda().requires_grad_()
    elsewhere = CRFLayer(CLASSES).cuda()(there, images.cuda())
    elsewhere.square().mean().backward()
    torch.testing.assert_close(elsewhere.softmax(1).cpu(), scores.softmax(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(there.grad.cpu(), logits.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z, p: (z[0], p), "expected floats (N, 4, H, W)"),
        (lambda z, p: (z[:, :3], p), "expected floats (N, 4, H, W)"),
        (lambda z, p: (z.long(), p), "expected floats (N, 4, H, W)"),
        (lambda z, p: (z, p[:1]), "on one grid"),
        (lambda z, p: (z, p[..., 1:]), "on one grid"),
        (lambda z, p: (z, p[0]), "on one grid"),
        (lambda z, p: (z[..., :0], p[..., :0]), "nothing to refine"),
        (lambda z, p: (z * torch.nan, p), "not numbers"),
        (lambda z, p: (z, p.float()), "floats in [0, 1]"),
        (lambda z, p: (z, p / 50 - 2), "normalisation"),
        (lambda z, p: (z, p * torch.nan), "floats in [0, 1]"),
        (lambda z, p: (z, p.int()), "expected uint8"),
        (lambda z, p: (z, p.to("meta")), "one device"),
    ],
)
def test_bad_input_is_one_line(change, words):
    with pytest.raises(CRFError) as caught:
        CRFLayer(CLASSES)(*change(*batch()))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 1}, "at least 2"),
        ({"classes": 4, "iterations": -1}, "iterations"),
        ({"classes": 4, "engine": "lattice"}, "torch_lattice, torch_exact"),
        ({"classes": 4, "kernels": (Gaussian(compatibility=np.eye(4)),)}, "its kernels share"),
        ({"classes": 4, "kernels": (Gaussian(compatibility=[1.0, 2.0]),)}, "(4,)"),
        ({"classes": 4, "kernels": (Gaussian(compatibility=float("nan")),)}, "not a number"),
        ({"classes": 4, "kernels": (Gaussian(normalization="both"),)}, "normalization"),
    ],
)
def test_bad_settings_are_one_line(arguments, words):
    with pytest.raises(CRFError) as caught:
        CRFLayer(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kernels_of_what_was_measured_are_taken():
    logits, images = batch(1)
    depth = images[0, 0].numpy().astype(np.float32)
    kernels = (Features(depth, 20.0, 6.0),)
    refined = CRFLayer(CLASSES, kernels)(logits, images).softmax(1)[0].detach()
    np.testing.assert_allclose(refined, DenseCRF(kernels).refine(logits[0].numpy(), kind="logits"), atol=1e-5)
