"""What must hold for the loss and the class weights on all inputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.losses import CLASS_WEIGHTINGS, class_weights, count_valid, pixel_cross_entropy

law = settings(deadline=None, max_examples=60)
probabilities = st.sampled_from([1.0, 0.5])


@st.composite
def batches(draw):
    """Logits, labels with ignored pixels, and positive class weights, all float64."""
    n, classes, h, w = (draw(st.integers(1, top)) for top in (3, 5, 4, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    logits = 3 * torch.randn(n, classes, h, w, dtype=torch.float64, generator=generator)
    labels = torch.randint(classes, (n, h, w), generator=generator)
    labels[torch.rand(n, h, w, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 255
    return logits, labels, 0.1 + torch.rand(classes, dtype=torch.float64, generator=generator)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@law
@given(batches())
def test_images_add(batch):
    logits, labels, weights = batch
    parts = sum(pixel_cross_entropy(logits[i : i + 1], labels[i : i + 1], class_weights=weights) for i in range(len(labels)))
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, class_weights=weights), parts)


@law
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_pixels_and_of_classes_is_irrelevant(batch, random):
    logits, labels, weights = batch
    whole = pixel_cross_entropy(logits, labels, class_weights=weights)
    columns = torch.tensor(random.sample(range(labels.shape[2]), labels.shape[2]))
    torch.testing.assert_close(pixel_cross_entropy(logits[..., columns], labels[..., columns], class_weights=weights), whole)
    order = torch.tensor(random.sample(range(len(weights)), len(weights)))
    renamed = torch.cat([order.argsort(), torch.arange(len(weights), 256)])[labels]
    torch.testing.assert_close(pixel_cross_entropy(logits[:, order], renamed, class_weights=weights[order]), whole)


@law
@given(batches(), probabilities)
def test_what_ignored_pixels_score_is_irrelevant(batch, probability):
    logits, labels, weights = batch
    ignored = (labels == 255)[:, None].expand_as(logits)
    changed = torch.where(ignored, logits + 7, logits).requires_grad_()
    arguments = {"class_weights": weights, "sampling": probability}
    loss = pixel_cross_entropy(changed, labels, generator=drawn(0), **arguments)
    assert loss == pixel_cross_entropy(logits, labels, generator=drawn(0), **arguments)
    loss.backward()
    assert not changed.grad[ignored].any()


@law
@given(batches(), st.floats(-100, 100))
def test_a_constant_on_all_scores_is_irrelevant(batch, constant):
    logits, labels, weights = batch
    torch.testing.assert_close(
        pixel_cross_entropy(logits + constant, labels, class_weights=weights), pixel_cross_entropy(logits, labels, class_weights=weights)
    )


@law
@given(batches(), st.floats(0.1, 10))
def test_weights_scale_the_sum_and_are_not_divided_out(batch, scale):
    logits, labels, weights = batch
    torch.testing.assert_close(
        pixel_cross_entropy(logits, labels, class_weights=scale * weights),
        scale * pixel_cross_entropy(logits, labels, class_weights=weights),
    )
    torch.testing.assert_close(
        pixel_cross_entropy(logits, labels, class_weights=torch.ones_like(weights)), pixel_cross_entropy(logits, labels)
    )


@law
@given(batches())
def test_the_gradient_of_a_pixel_sums_to_zero_over_classes(batch):
    logits, labels, _ = batch
    (gradient,) = torch.autograd.grad(pixel_cross_entropy(logits.requires_grad_(), labels), logits)
    torch.testing.assert_close(gradient.sum(1), torch.zeros_like(gradient[:, 0]), rtol=0, atol=1e-12)


@law
@given(batches())
def test_uninformed_scores_cost_the_logarithm_of_the_number_of_classes(batch):
    logits, labels, _ = batch
    assert float(pixel_cross_entropy(torch.zeros_like(logits), labels)) == pytest.approx(
        int(count_valid(labels)) * math.log(logits.shape[1]), abs=1e-9
    )


@pytest.mark.parametrize("probability", [0.5, 0.3])
def test_loss_and_gradient_of_a_sample_are_unbiased(probability):
    """Exactly: every sample of four pixels is found, and weighted by how probable it is."""
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, generator=drawn(1), requires_grad=True)
    labels = torch.tensor([[[0, 2], [1, 1]]])
    weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    found = {}
    for seed in range(3000):
        loss = pixel_cross_entropy(logits, labels, class_weights=weights, sampling=probability, generator=drawn(seed))
        (gradient,) = torch.autograd.grad(loss, logits)
        found[tuple(gradient.abs().sum(1).flatten().gt(0).tolist())] = (loss.detach(), gradient)
        if len(found) == 16:
            break
    assert len(found) == 16
    chances = {kept: probability ** sum(kept) * (1 - probability) ** (4 - sum(kept)) for kept in found}
    full = pixel_cross_entropy(logits, labels, class_weights=weights)
    (gradient,) = torch.autograd.grad(full, logits)
    torch.testing.assert_close(sum(chances[kept] * loss for kept, (loss, _) in found.items()), full.detach())
    torch.testing.assert_close(sum(chances[kept] * part for kept, (_, part) in found.items()), gradient)


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_pixels_are_kept_with_the_probability_asked_for(probability):
    logits = torch.zeros(1, 2, 200, 200, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.zeros(1, 200, 200, dtype=torch.int64), sampling=probability, generator=drawn(0))
    (gradient,) = torch.autograd.grad(loss, logits)
    kept = int(gradient[:, 0].count_nonzero())
    assert abs(kept - 40000 * probability) < 5 * math.sqrt(40000 * probability * (1 - probability))


@st.composite
def counts(draw):
    pixels = torch.tensor(draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=9)))
    beside = torch.tensor(draw(st.lists(st.integers(0, 10**6), min_size=len(pixels), max_size=len(pixels))))
    return pixels, torch.where(pixels > 0, pixels + beside, 0)


@law
@given(counts(), st.sampled_from(list(CLASS_WEIGHTINGS)))
def test_weights_are_finite_and_absent_classes_weigh_one(counted, method):
    weights = class_weights(*counted, weighting=method)
    assert weights.dtype == torch.float32
    assert weights.isfinite().all()
    assert (weights > 0).all()
    assert (weights[counted[0] == 0] == 1).all()


@law
@given(counts(), st.sampled_from(list(CLASS_WEIGHTINGS)), st.integers(2, 50))
def test_the_size_of_the_training_set_is_irrelevant(counted, method, times):
    pixels, where = counted
    torch.testing.assert_close(
        class_weights(pixels * times, where * times, weighting=method), class_weights(pixels, where, weighting=method)
    )


@law
@given(counts(), st.sampled_from(list(CLASS_WEIGHTINGS)), st.randoms(use_true_random=False))
def test_each_class_is_weighed_alike(counted, method, random):
    order = torch.tensor(random.sample(range(len(counted[0])), len(counted[0])))
    pixels, where = counted
    torch.testing.assert_close(
        class_weights(pixels[order], where[order], weighting=method), class_weights(pixels, where, weighting=method)[order]
    )


@law
@given(counts())
def test_rarer_classes_weigh_more(counted):
    pixels, where = counted
    occurs = pixels > 0
    frequency = pixels[occurs] / where[occurs]
    weights = class_weights(pixels, where, weighting="median")[occurs]
    torch.testing.assert_close(weights * frequency, torch.full_like(weights, frequency.quantile(0.5)) if len(weights) else weights)
    for method in ("enet", "inverse"):
        weights = class_weights(pixels, where, weighting=method)[occurs]
        assert (weights[pixels[occurs].argsort()].diff() <= 0).all()


@law
@given(counts())
def test_bounds_and_means_of_the_weights(counted):
    pixels, where = counted
    if pixels.any():
        share = pixels / pixels.sum()
        inverse = class_weights(pixels, where, weighting="inverse")
        assert float((share * inverse).sum()) == pytest.approx(1, rel=1e-5)
        enet = class_weights(pixels, where, weighting="enet")[pixels > 0]
        assert float(enet.min()) >= 1 / math.log(2.02) - 1e-5
        assert float(enet.max()) <= 1 / math.log(1.02) + 1e-4


@law
@given(batches(), st.floats(0, 0.99))
def test_label_smoothing_mixes_the_true_class_with_all_classes(batch, smoothing):
    """The loss is linear in it: at 0 plain cross-entropy, and ever nearer the mean over all classes as labels."""
    logits, labels, weights = batch
    classes = range(logits.shape[1])
    over_all = sum(pixel_cross_entropy(logits, labels.where(labels == 255, k), class_weights=weights) for k in classes) / len(classes)
    plain = pixel_cross_entropy(logits, labels, class_weights=weights)
    smoothed = pixel_cross_entropy(logits, labels, class_weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(smoothed, (1 - smoothing) * plain + smoothing * over_all)
