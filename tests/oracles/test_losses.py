"""The loss against torch's, against the sum written out, and against weights worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from upscore.losses import class_weights, count_valid, pixel_cross_entropy
from upscore.losses.pixelwise import sample_labels


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (2, 6, 7), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return 2 * torch.randn(2, 5, 6, 7, generator=generator), labels


def test_equals_torchs_summed_cross_entropy(batch):
    logits, labels = batch
    assert pixel_cross_entropy(logits, labels) == F.cross_entropy(logits, labels, reduction="sum", ignore_index=255)


def test_divided_by_the_valid_pixels_it_is_torchs_mean(batch):
    logits, labels = batch
    assert int(count_valid(labels)) == int((labels != 255).sum()) < labels.numel()
    torch.testing.assert_close(pixel_cross_entropy(logits, labels) / count_valid(labels), F.cross_entropy(logits, labels, ignore_index=255))


def test_equals_the_sum_written_out(batch):
    logits, labels = (x.tolist() for x in batch)
    weights = [0.2, 1.0, 3.0, 0.7, 2.0]
    total = 0.0
    for n in range(2):
        for row in range(6):
            for column in range(7):
                label = labels[n][row][column]
                if label != 255:
                    scores = [logits[n][k][row][column] for k in range(5)]
                    total -= weights[label] * math.log(math.exp(scores[label]) / sum(math.exp(s) for s in scores))
    assert float(pixel_cross_entropy(*batch, class_weights=torch.tensor(weights))) == pytest.approx(total, rel=1e-5)


def test_weighting_is_segnets_and_not_torchs_mean(batch):
    """Divided by the valid pixels; torch's mean divides by the sum of the weights."""
    logits, labels = batch
    weights = torch.tensor([0.2, 1.0, 3.0, 0.7, 2.0])
    ours = pixel_cross_entropy(logits, labels, class_weights=weights) / count_valid(labels)
    torchs = F.cross_entropy(logits, labels, weight=weights, ignore_index=255)
    valid = labels[labels != 255]
    torch.testing.assert_close(ours, torchs * weights[valid].sum() / len(valid))
    assert (ours - torchs).abs() > 0.01


def test_gradient_is_softmax_less_truth(batch):
    logits, labels = batch
    (gradient,) = torch.autograd.grad(pixel_cross_entropy(logits.requires_grad_(), labels), logits)
    valid = (labels != 255)[:, None]
    truth = F.one_hot(labels.where(labels != 255, 0), 5).movedim(-1, 1)
    torch.testing.assert_close(gradient, (logits.softmax(1) - truth) * valid, rtol=1e-5, atol=1e-6)


def test_median_frequency_counts_only_images_that_contain_the_class():
    """Three images of 100 valid pixels: class 0 is in all, class 1 in one, class 2 in two."""
    pixels = torch.tensor([210, 10, 80])
    where = torch.tensor([300, 100, 200])
    frequencies = [210 / 300, 10 / 100, 80 / 200]
    wanted = torch.tensor([0.4 / frequency for frequency in frequencies])
    torch.testing.assert_close(class_weights(pixels, where, weighting="median"), wanted)
    over_all = torch.tensor([(80 / 300) / (n / 300) for n in (210, 10, 80)])
    assert (wanted - over_all).abs().max() > 0.5  # the known mistake differs


def test_the_median_of_an_even_number_of_classes_lies_between():
    pixels, where = torch.tensor([10, 20, 40, 80]), torch.tensor([100, 100, 100, 100])
    torch.testing.assert_close(class_weights(pixels, where), torch.tensor([3.0, 1.5, 0.75, 0.375]))


def test_enet_weights():
    pixels = torch.tensor([900, 100, 0])
    wanted = [1 / math.log(1.02 + 0.9), 1 / math.log(1.02 + 0.1), 1.0]
    assert class_weights(pixels, torch.tensor([1000, 1000, 0]), weighting="enet").tolist() == pytest.approx(wanted, rel=1e-6)


def test_inverse_weights():
    weights = class_weights(torch.tensor([900, 100, 0]), torch.tensor([1000, 1000, 0]), weighting="inverse")
    assert weights.tolist() == pytest.approx([1 / 0.9 / 2, 1 / 0.1 / 2, 1.0], rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75])
@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 0.0, 0.7, 2.0]])
def test_smoothed_loss_is_torchs_sum_and_its_mean_with_torchs_divisor(batch, smoothing, weights):
    """Torch's mean divides by the weights of the true classes, smoothed or not."""
    logits, labels = batch
    factors = None if weights is None else torch.tensor(weights)
    ours = pixel_cross_entropy(logits, labels, class_weights=factors, label_smoothing=smoothing)
    settings = {"weight": factors, "ignore_index": 255, "label_smoothing": smoothing}
    assert ours == F.cross_entropy(logits, labels, reduction="sum", **settings)
    divisor = count_valid(labels) if factors is None else factors[labels[labels != 255]].sum()
    torch.testing.assert_close(ours / divisor, F.cross_entropy(logits, labels, **settings))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75])
def test_smoothed_loss_is_the_cross_entropy_to_the_smoothed_target_written_out(batch, smoothing):
    """Each class's term carries its class weight, each pixel's sum the pixel's weight."""
    logits, labels = (x.double().numpy() for x in batch)
    weights = np.array([0.2, 1.0, 3.0, 0.7, 2.0])
    pixels = np.random.default_rng(0).random(labels.shape)
    total = 0.0
    for n, row, column in np.argwhere(labels != 255):
        scores = logits[n, :, row, column]
        target = (1 - smoothing) * (np.arange(5) == labels[n, row, column]) + smoothing / 5
        total -= pixels[n, row, column] * (weights * target * (scores - np.log(np.exp(scores).sum()))).sum()
    loss = pixel_cross_entropy(
        batch[0].double(),
        batch[1],
        class_weights=torch.tensor(weights),
        pixel_weights=torch.tensor(pixels).where(batch[1] != 255, math.nan),
        label_smoothing=smoothing,
    )
    assert float(loss) == pytest.approx(total, rel=1e-12)


def test_sampled_smoothed_loss_is_that_of_the_sampled_pixels(batch):
    logits, labels = batch
    sampled = sample_labels(labels, 0.5, generator=torch.Generator().manual_seed(5))
    assert (sampled != labels).any()
    loss = pixel_cross_entropy(logits, labels, sampling=0.5, label_smoothing=0.2, generator=torch.Generator().manual_seed(5))
    assert loss == 2 * pixel_cross_entropy(logits, sampled, label_smoothing=0.2)
