"""The cross-entropy's precision, emptiness and refusals."""

import pytest
import torch

from upscore.errors import DataError, RecipeError
from upscore.losses import count_valid, pixel_cross_entropy
from upscore.losses.pixelwise import apply_weights


@pytest.fixture
def logits():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_nothing_valid_costs_nothing(logits, probability):
    logits.requires_grad_()
    labels = torch.full((2, 4, 5), 255)
    loss = pixel_cross_entropy(logits, labels, class_weights=torch.ones(3), sampling=probability)
    assert loss == 0
    loss.backward()
    assert not logits.grad.any()
    assert count_valid(labels) == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5)])
def test_nothing_at_all_costs_nothing(shape):
    logits = torch.zeros(shape, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.zeros(shape[0], *shape[2:], dtype=torch.int64))
    assert loss == 0
    loss.backward()


def test_half_precision_scores_are_computed_with_in_float32(logits, labels):
    half = logits.bfloat16().requires_grad_()
    loss = pixel_cross_entropy(half, labels, class_weights=torch.tensor([1.0, 2.0, 3.0]))
    assert loss.dtype == torch.float32
    assert loss == pixel_cross_entropy(half.float(), labels, class_weights=torch.tensor([1.0, 2.0, 3.0]))
    loss.backward()
    assert half.grad.dtype == torch.bfloat16


def test_double_precision_is_kept(logits, labels):
    assert pixel_cross_entropy(logits.double(), labels, class_weights=torch.ones(3)).dtype == torch.float64


def test_channels_last_scores(logits, labels):
    lasting = logits.to(memory_format=torch.channels_last)
    torch.testing.assert_close(pixel_cross_entropy(lasting, labels), pixel_cross_entropy(logits, labels))


def test_huge_scores_stay_finite(labels):
    logits = 1e30 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    assert pixel_cross_entropy(logits, labels).isfinite()


def test_a_generator_repeats_its_sample(logits, labels):
    a, b = (pixel_cross_entropy(logits, labels, sampling=0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert a == b
    torch.manual_seed(3)
    assert pixel_cross_entropy(logits, labels, sampling=0.5) == a


def test_labels_are_left_alone(logits, labels):
    before = labels.clone()
    pixel_cross_entropy(logits, labels, sampling=0.5)
    assert torch.equal(labels, before)


@pytest.mark.parametrize("bad", [3, 254, 256, -1, -100])
def test_a_label_that_is_no_class_is_refused(logits, labels, bad):
    labels[1, 2, 3] = bad
    with pytest.raises(DataError, match=f"found label {bad}, expected 0 to 2 or 255"):
        pixel_cross_entropy(logits, labels)


def test_misfits_are_refused(logits, labels):
    with pytest.raises(DataError, match=r"expected \(N, K, H, W\) and \(N, H, W\)"):
        pixel_cross_entropy(logits, labels[:, :3])
    with pytest.raises(DataError, match="expected"):
        pixel_cross_entropy(logits[0], labels[0])
    with pytest.raises(RecipeError, match=r"found class weights of shape \(2,\), expected \(3,\)"):
        pixel_cross_entropy(logits, labels, class_weights=torch.ones(2))
    with pytest.raises(DataError, match=r"found pixel weights \(2, 4, 4\), expected \(2, 4, 5\)"):
        pixel_cross_entropy(logits, labels, pixel_weights=torch.ones(2, 4, 4))


@pytest.mark.parametrize("probability", [0.0, -0.5, 1.5, float("nan")])
def test_impossible_probabilities_are_refused(logits, labels, probability):
    with pytest.raises(RecipeError, match="expected a probability above 0 and at most 1"):
        pixel_cross_entropy(logits, labels, sampling=probability)


def test_valid_pixels_are_counted():
    count = count_valid(torch.tensor([[0, 255], [7, 255]]))
    assert count == 2
    assert count.dtype == torch.int64
    assert count.shape == ()
    assert count_valid(torch.zeros(0, 3, 3, dtype=torch.int64)) == 0


def test_what_is_said_of_ignored_pixels_is_not_read():
    losses = torch.tensor([[[1.0, 2.0]]], requires_grad=True)
    summed = apply_weights(losses, torch.tensor([[[0, 255]]]), pixel_weights=torch.tensor([[[3.0, float("nan")]]])).sum()
    assert summed == 3
    assert torch.autograd.grad(summed, losses)[0].tolist() == [[[3.0, 0.0]]]
