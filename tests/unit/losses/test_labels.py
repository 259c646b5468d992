"""Every loss on labels of every type: the number that a float64 oracle gives, or one line."""

from functools import partial

import numpy as np
import pytest
import torch

from upscore.data.unet_border_weights import border_weights, number_components, separate_touching
from upscore.distances import distances_to, signed_distances
from upscore.errors import DataError, RecipeError, UpscoreError
from upscore.losses import (
    Objective,
    boundary_loss,
    class_weights,
    count_valid,
    dice_loss,
    focal_loss,
    hard_pixel_cross_entropy,
    lovasz_softmax,
    pixel_cross_entropy,
)

INTEGERS = [torch.uint8, torch.int16, torch.int32, torch.int64]


def softmax(scores):
    weights = np.exp(scores - scores.max(0))
    return weights / weights.sum(0)


def log_losses(scores, label):
    probs = softmax(scores)
    return np.array([-np.log(probs[label[place]][place]) for place in zip(*np.nonzero(label != 255), strict=True)])


def dice(scores, label):
    probs, valid = softmax(scores), label != 255
    overlaps = []
    for k in np.unique(label[valid]):
        p, g = probs[k][valid], label[valid] == k
        overlaps.append(2 * (p * g).sum() / ((p * p).sum() + g.sum()))
    return valid.sum() * (1 - np.mean(overlaps))


def lovasz(scores, label):
    """By the definition: each error weighs what its pixel adds to one less the IoU."""
    probs, valid = softmax(scores), label != 255
    costs = []
    for k in np.unique(label[valid]):
        truth = label[valid] == k
        errors = np.where(truth, 1 - probs[k][valid], probs[k][valid])
        missed, before, cost = np.zeros(truth.shape, bool), 0.0, 0.0
        for pixel in np.argsort(-errors, kind="stable"):
            missed[pixel] = True
            jaccard = 1 - (truth & ~missed).sum() / (truth | missed).sum()
            cost += errors[pixel] * (jaccard - before)
            before = jaccard
        costs.append(cost)
    return valid.sum() * np.mean(costs)


def boundary(scores, label):
    """By all pairs of pixels."""
    probs, places = softmax(scores), np.argwhere(label != 255)
    classes = np.unique(label[label != 255])
    total = 0.0
    for k in classes if len(classes) > 1 else ():
        for place in places:
            inside = label[tuple(place)] == k
            others = places[(label[label != 255] == k) != inside]
            distance = np.sqrt(((others - place) ** 2).sum(1)).min() - 0.5
            total += (-distance if inside else distance) * probs[k][tuple(place)] / len(classes)
    return total


def hardest(scores, label):
    losses = np.sort(log_losses(scores, label))[::-1]
    kept = int(np.ceil(0.25 * len(losses)))
    return losses[:kept].sum() * len(losses) / kept


ORACLES = {
    pixel_cross_entropy: lambda scores, label: log_losses(scores, label).sum(),
    focal_loss: lambda scores, label: ((1 - np.exp(-log_losses(scores, label))) ** 2 * log_losses(scores, label)).sum(),
    hard_pixel_cross_entropy: hardest,
    dice_loss: dice,
    lovasz_softmax: lovasz,
    boundary_loss: boundary,
}
EVERY = Objective(dict.fromkeys(("cross_entropy", "focal", "ohem", "dice", "lovasz", "boundary"), 1.0))
LOSSES = [*ORACLES, EVERY]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (2, 6, 7), generator=generator)
    labels[0, :2], labels[1, 4] = 255, 255
    return logits, labels


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("loss", ORACLES, ids=lambda loss: loss.__name__)
def test_labels_of_every_integer_type_give_the_oracles_number(loss, dtype, batch):
    logits, labels = batch
    expected = sum(ORACLES[loss](scores.numpy(), label.numpy()) for scores, label in zip(logits, labels, strict=True))
    assert float(loss(logits, labels.to(dtype))) == pytest.approx(
        expected, rel=1e-7 if loss is boundary_loss else 1e-12
    )  # its distances are float32
    assert float(loss(logits.float(), labels.to(dtype))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", "Objective"))
def test_gradients_do_not_depend_on_the_type_of_the_labels(loss, batch):
    logits, labels = batch
    gradients = []
    for dtype in INTEGERS:
        scores = logits.clone().requires_grad_()
        loss(scores, labels.to(dtype)).backward()
        gradients.append(scores.grad)
    assert gradients[0].abs().sum() > 0
    assert all(torch.equal(gradient, gradients[-1]) for gradient in gradients)


def as_type(dtype):
    return lambda logits, labels: (logits, labels.to(dtype))


WRONG = {
    "float": (as_type(torch.float32), "labels of type torch.float32, expected uint8 to int64"),
    "half": (as_type(torch.float16), "labels of type torch.float16"),
    "bool": (as_type(torch.bool), "labels of type torch.bool"),
    "complex": (as_type(torch.complex64), "labels of type torch.complex64"),
    "minus one": (lambda logits, labels: (logits, labels.where(labels != 2, -1)), "label -1, expected 0 to 2 or 255"),
    "minus one in int8": (lambda logits, labels: (logits, labels.to(torch.int8)), "label -1"),  # 255 that was cast
    "a class too many": (lambda logits, labels: (logits[:, :2], labels), "label 2, expected 0 to 1 or 255"),
    "256": (lambda logits, labels: (logits, labels.where(labels != 1, 256)), "label 256"),
    "far": (lambda logits, labels: (logits, labels.where(labels != 1, 2**62)), f"label {2**62}"),
    "a channel": (lambda logits, labels: (logits, labels[:, None]), r"labels \(2, 1, 6, 7\).*squeeze\(1\)"),
    "one-hot": (lambda logits, labels: (logits, torch.zeros(2, 3, 6, 7, dtype=torch.int64)), r"argmax\(1\)"),
    "another size": (lambda logits, labels: (logits, labels[:, 1:]), r"labels \(2, 5, 7\)"),
    "one image of two": (lambda logits, labels: (logits, labels[0]), r"labels \(6, 7\)"),
    "no batch": (lambda logits, labels: (logits[0], labels[0]), r"logits \(3, 6, 7\)"),
    "integer logits": (lambda logits, labels: (logits.long(), labels), "logits of type torch.int64"),
    "complex logits": (lambda logits, labels: (logits.to(torch.complex64), labels), "logits of type torch.complex64"),
    "256 classes": (lambda logits, labels: (logits.repeat(1, 86, 1, 1), labels), "logits of 258 classes, expected 1 to 255"),
    "no class": (lambda logits, labels: (logits[:, :0], labels), "logits of 0 classes"),
    "another device": (lambda logits, labels: (logits, labels.to("meta")), "logits on cpu and labels on meta"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", "Objective"))
def test_labels_that_are_none_are_one_line(loss, wrong, batch):
    change, said = WRONG[wrong]
    with pytest.raises(DataError, match=said):
        loss(*change(*batch))


@pytest.mark.parametrize(
    "loss",
    [pixel_cross_entropy, focal_loss, hard_pixel_cross_entropy, Objective()],
    ids=lambda loss: getattr(loss, "__name__", "Objective"),
)
@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
def test_weights_that_are_no_factors_are_one_line(loss, value, batch):
    logits, labels = batch
    weights = torch.ones(2, 6, 7)
    weights[0, 0, 0] = value  # ignored there, and not read
    loss(logits, labels, pixel_weights=weights)
    weights[0, 3, 0] = value
    with pytest.raises(DataError, match=r"found pixel weights from .*, expected finite numbers of at least 0"):
        loss(logits, labels, pixel_weights=weights)
    with pytest.raises(DataError, match=r"pixel weights \(2, 7, 6\)"):
        loss(logits, labels, pixel_weights=torch.ones(2, 7, 6))
    with pytest.raises(DataError, match=r"pixel weights of type torch.int64"):
        loss(logits, labels, pixel_weights=torch.ones(2, 6, 7, dtype=torch.int64))
    for factors, said in (
        (torch.tensor([1.0, value, 1.0]), "class weights from"),
        (torch.ones(2), r"shape \(2,\)"),
        (torch.ones(3) + 0j, "complex"),
    ):
        weighing = Objective(class_weights=factors) if isinstance(loss, Objective) else partial(loss, class_weights=factors)
        with pytest.raises(RecipeError, match=said):
            weighing(logits, labels)


def test_valid_pixels_are_counted_in_every_integer_type_and_no_other(batch):
    labels = batch[1]
    assert {int(count_valid(labels.to(dtype))) for dtype in INTEGERS} == {int((labels != 255).sum())}
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(DataError, match="labels of type"):
            count_valid(labels.to(dtype))
    assert int(count_valid(torch.tensor([-1, 0, 1], dtype=torch.int8))) == 3  # -1 is not 255 in 8 bits


@pytest.mark.parametrize("counts", [torch.tensor([True, False]), torch.tensor([1.0, float("nan")]), torch.tensor([1j, 2])], ids=str)
def test_class_counts_that_are_none_are_one_line(counts):
    with pytest.raises(DataError, match="expected whole numbers"):
        class_weights(counts, torch.tensor([3, 3]))
    with pytest.raises(DataError, match="expected whole numbers"):
        class_weights(torch.tensor([3, 3]), counts)


def test_class_counts_of_any_integer_type_give_the_same_weights():
    pixels, where = np.array([3, 200, 0]), np.array([100, 210, 0])
    expected = class_weights(pixels, where)
    for dtype in (np.uint8, np.int16, np.uint64, np.float64):
        torch.testing.assert_close(class_weights(pixels.astype(dtype), where.astype(dtype)), expected)


OBJECTS = np.array([[1, 1, 0, 2, 2]] * 3)
CALLS = {
    "a mask of bytes": lambda: distances_to(np.ones((3, 3), np.uint8)),
    "a mask of one axis": lambda: distances_to(np.ones(3, bool)),
    "float labels": lambda: signed_distances(np.zeros((3, 3)), 0),
    "float objects": lambda: border_weights(OBJECTS.astype(float)),
    "objects of one axis": lambda: border_weights(OBJECTS[0]),
    "a sigma of nothing": lambda: border_weights(OBJECTS, sigma=float("nan")),
    "a sigma beyond everything": lambda: border_weights(OBJECTS, sigma=1e300),
    "a weight below nothing": lambda: border_weights(OBJECTS, weight=-1),
    "float labels to number": lambda: number_components(np.zeros((3, 3)), [0]),
    "objects of another size": lambda: separate_touching(np.zeros((3, 4), np.uint8), OBJECTS, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_maps_that_weights_cannot_be_made_of_are_one_line(call):
    with pytest.raises(UpscoreError, match="found"):
        CALLS[call]()
