"""The loss against torch's, against the sum written out, and against weights worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from upscore.losses import class_weights, count_valid, pixel_cross_entropy


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
    torch.testing.assert_close(class_weights(pixels, where, method="median"), wanted)
    over_all = torch.tensor([(80 / 300) / (n / 300) for n in (210, 10, 80)])
    assert (wanted - over_all).abs().max() > 0.5  # the known mistake differs


def test_the_median_of_an_even_number_of_classes_lies_between():
    pixels, where = torch.tensor([10, 20, 40, 80]), torch.tensor([100, 100, 100, 100])
    torch.testing.assert_close(class_weights(pixels, where), torch.tensor([3.0, 1.5, 0.75, 0.375]))


def test_enet_weights():
    pixels = torch.tensor([900, 100, 0])
    wanted = [1 / math.log(1.02 + 0.9), 1 / math.log(1.02 + 0.1), 1.0]
    assert class_weights(pixels, torch.tensor([1000, 1000, 0]), method="enet").tolist() == pytest.approx(wanted, rel=1e-6)


def test_inverse_weights():
    weights = class_weights(torch.tensor([900, 100, 0]), torch.tensor([1000, 1000, 0]), method="inverse")
    assert weights.tolist() == pytest.approx([1 / 0.9 / 2, 1 / 0.1 / 2, 1.0], rel=1e-6)
