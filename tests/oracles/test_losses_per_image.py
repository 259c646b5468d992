"""Focal, OHEM, Dice, Lovász and boundary loss against their papers' equations, written out pixel by pixel in float64."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from upscore.losses import (
    boundary_loss,
    count_valid,
    dice_loss,
    focal_loss,
    hard_pixel_cross_entropy,
    lovasz_softmax,
    pixel_cross_entropy,
)


def drawn(seed, *, shape=(3, 4, 5, 6), spread=2.0, ignored=0.2):
    n, classes, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n, h, w), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return spread * torch.randn(shape, dtype=torch.float64, generator=generator), labels


@pytest.fixture(params=range(4))
def batch(request):
    logits, labels = drawn(request.param)
    labels[0][labels[0] == 2] = 1  # an image lacks a class
    if request.param == 3:
        labels[1] = 255
    return logits, labels


def make_image(logits, labels):
    """Yield (probabilities of the valid pixels (n, K), their classes (n,), their (row, column)) of each image, in NumPy."""
    for scores, label in zip(logits.detach().numpy(), labels.numpy(), strict=True):
        places = [(r, c) for r in range(label.shape[0]) for c in range(label.shape[1]) if label[r, c] != 255]
        probs = np.array([np.exp(scores[:, r, c]) / np.exp(scores[:, r, c]).sum() for r, c in places]).reshape(len(places), len(scores))
        yield probs, np.array([label[r, c] for r, c in places], int), places


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal(batch, gamma):
    weights, pixels = np.array([0.5, 1.0, 2.0, 3.0]), np.random.default_rng(0).random((3, 5, 6))
    total = 0.0
    for i, (probs, truth, places) in enumerate(make_image(*batch)):
        for p, label, place in zip(probs, truth, places, strict=True):
            total -= pixels[i][place] * weights[label] * (1 - p[label]) ** gamma * math.log(p[label])
    loss = focal_loss(*batch, gamma=gamma, class_weights=torch.tensor(weights), pixel_weights=torch.tensor(pixels))
    assert float(loss) == pytest.approx(total, rel=1e-9)


def test_pixel_weights_of_cross_entropy(batch):
    weights, pixels = np.array([0.5, 1.0, 2.0, 3.0]), np.random.default_rng(0).random((3, 5, 6))
    total = 0.0
    for i, (probs, truth, places) in enumerate(make_image(*batch)):
        total -= sum(pixels[i][place] * weights[t] * math.log(p[t]) for p, t, place in zip(probs, truth, places, strict=True))
    loss = pixel_cross_entropy(*batch, class_weights=torch.tensor(weights), pixel_weights=torch.tensor(pixels))
    assert float(loss) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(("share", "threshold"), [(0.25, 0.0), (0.01, 0.3), (0.5, 0.05), (1.0, 0.0), (0.2, 0.999)])
def test_ohem(batch, share, threshold):
    weights = np.array([0.5, 1.0, 2.0, 3.0])
    total = 0.0
    for probs, truth, _ in make_image(*batch):
        if len(truth) == 0:
            continue
        of_truth = np.array([p[t] for p, t in zip(probs, truth, strict=True)])
        hardest_first = np.argsort(of_truth)
        kept = max(math.ceil(share * len(truth)), int((of_truth < threshold).sum()))
        chosen = hardest_first[:kept]
        total += len(truth) * np.mean([-weights[truth[i]] * math.log(of_truth[i]) for i in chosen])
    loss = hard_pixel_cross_entropy(*batch, fraction=share, threshold=threshold, class_weights=torch.tensor(weights))
    assert float(loss) == pytest.approx(total, rel=1e-9)


def test_dice(batch):
    total = 0.0
    for probs, truth, _ in make_image(*batch):
        found = []
        for label in sorted(set(truth)):
            g = (truth == label).astype(float)
            p = probs[:, label]
            found.append(2 * sum(p * g) / (sum(p**2) + sum(g**2)))
        total += len(truth) * (1 - np.mean(found)) if found else 0
    assert float(dice_loss(*batch)) == pytest.approx(total, rel=1e-9)


def jaccard_loss(mispredicted, members):
    """Δ(M) = |M| / |{y = c} ∪ M|, eq. 7, on sets of pixel numbers."""
    return len(mispredicted) / len(members | mispredicted) if members | mispredicted else 0.0


def lovasz_extension(errors, members):
    """Definition 1: errors in falling order, each times what its pixel adds to Δ."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    return sum(
        errors[pixel] * (jaccard_loss(set(order[: i + 1]), members) - jaccard_loss(set(order[:i]), members))
        for i, pixel in enumerate(order)
    )


def choquet_integral(errors, members):
    """The same extension without any order: the mean of Δ over the sets of pixels whose error exceeds a level in [0, 1]."""
    levels = sorted({0.0, *errors})
    return sum((high - low) * jaccard_loss({i for i, error in enumerate(errors) if error > low}, members) for low, high in pairwise(levels))


def test_lovasz(batch):
    total = 0.0
    for probs, truth, _ in make_image(*batch):
        found = []
        for label in sorted(set(truth)):
            members = set(np.flatnonzero(truth == label))
            errors = [abs(float(t == label) - p[label]) for p, t in zip(probs, truth, strict=True)]
            assert lovasz_extension(errors, members) == pytest.approx(choquet_integral(errors, members), abs=1e-12)
            found.append(lovasz_extension(errors, members))
        total += len(truth) * np.mean(found) if found else 0
    assert float(lovasz_softmax(*batch)) == pytest.approx(total, rel=1e-9)


def test_lovasz_and_dice_are_iou_and_f1_at_every_labelling_of_four_pixels():
    for truth in [(0, 0, 1, 1), (0, 1, 1, 1), (2, 0, 1, 1), (1, 1, 1, 1)]:
        labels = torch.tensor(truth).reshape(1, 2, 2)
        for code in range(3**4):
            said = np.array([code // 3**i % 3 for i in range(4)])
            logits = 1e4 * torch.eye(3, dtype=torch.float64)[said].T.reshape(1, 3, 2, 2)
            ious, f1s = [], []
            for label in set(truth):
                meant, got = set(np.flatnonzero(np.array(truth) == label)), set(np.flatnonzero(said == label))
                ious.append(len(meant & got) / len(meant | got))
                f1s.append(2 * len(meant & got) / (len(meant) + len(got)))
            assert float(lovasz_softmax(logits, labels)) / 4 == pytest.approx(1 - np.mean(ious), abs=1e-12)
            assert float(dice_loss(logits, labels)) / 4 == pytest.approx(1 - np.mean(f1s), abs=1e-12)


def test_lovasz_weights_lie_in_the_base_polytope_of_the_jaccard_loss():
    """Submodularity: the extension's slope g has Σ_M g ≤ Δ(M) on every set, equality on all pixels; its maximum over g is the loss."""
    logits, labels = drawn(5, shape=(1, 2, 2, 3), ignored=0)
    truth = labels.flatten().numpy()
    for label in (0, 1):
        members = set(np.flatnonzero(truth == label))
        order = np.argsort(-np.abs((truth == label) - logits.softmax(1)[0, label].flatten().numpy()))
        slope = np.zeros(6)
        for i, pixel in enumerate(order):
            slope[pixel] = jaccard_loss(set(order[: i + 1]), members) - jaccard_loss(set(order[:i]), members)
        for size in range(7):
            for chosen in combinations(range(6), size):
                assert slope[list(chosen)].sum() <= jaccard_loss(set(chosen), members) + 1e-12


def signed(places, truth, label):
    """Distance to the nearest valid pixel of the other side less a half, negative inside: every pair of pixels is looked at."""
    found = []
    for place, own in zip(places, truth, strict=True):
        inside = own == label
        away = [math.dist(place, other) for other, theirs in zip(places, truth, strict=True) if (theirs == label) != inside]
        found.append((0.5 - min(away) if inside else min(away) - 0.5) if away else 0.0)
    return np.array(found)


def test_boundary(batch):
    total = 0.0
    for probs, truth, places in make_image(*batch):
        classes = sorted(set(truth))
        total += sum(float(signed(places, truth, label) @ probs[:, label]) for label in classes) / max(1, len(classes))
    assert float(boundary_loss(*batch)) == pytest.approx(total, rel=1e-6)


def test_boundary_loss_grows_by_the_area_between_two_borders_times_their_distance():
    """A border that lies d columns off costs the integral of the distance over what lies between: d²/2 a row (eq. 3)."""
    labels = (torch.arange(24).expand(1, 5, 24) >= 12).long()

    def cost(border):
        said = (torch.arange(24).expand(5, 24) >= border).long()
        return float(boundary_loss(1e4 * torch.eye(2, dtype=torch.float64)[said].movedim(-1, 0)[None], labels))

    for off in range(-6, 7):
        assert cost(12 + off) - cost(12) == pytest.approx(5 * off**2 / 2, rel=1e-6, abs=1e-6)


def test_float32_keeps_up_on_a_large_image():
    """Of a quarter of a million pixels the Jaccard increments are near float32's last digit: they must not come from differences."""
    logits, labels = drawn(7, shape=(1, 3, 512, 512), ignored=0.05)
    labels[labels == 2] = torch.where(torch.rand(int((labels == 2).sum()), generator=torch.Generator().manual_seed(0)) < 0.01, 2, 0)
    for loss in (lovasz_softmax, dice_loss, focal_loss, hard_pixel_cross_entropy):
        exact, slope = value_and_slope(loss, logits, labels)
        single, single_slope = value_and_slope(loss, logits.float(), labels)
        assert float(single) == pytest.approx(float(exact), rel=1e-5)
        assert single.dtype == torch.float32
        difference = (single_slope - slope).norm() / slope.norm()
        assert difference < (1e-3 if loss is lovasz_softmax else 1e-5)  # equal errors sort either way


def value_and_slope(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels) / count_valid(labels)
    return value.detach(), torch.autograd.grad(value, logits)[0]
