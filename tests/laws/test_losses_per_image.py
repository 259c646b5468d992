"""What must hold for every loss, whatever it is made of."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.losses import LOSSES, Objective, count_valid, losses_reading, pixel_cross_entropy

law = settings(deadline=None, max_examples=40)
objectives = st.sampled_from(
    [
        *(Objective({name: 1.0}) for name in LOSSES),
        Objective({"focal": 2.0, "dice": 0.5, "boundary": 0.01}),
        Objective({"ohem": 1.0}, ohem_threshold=0.5),
        Objective({"cross_entropy": 1.0, "dice": 1.0}, label_smoothing=0.2),
    ]
)


@st.composite
def batches(draw):
    n, classes, h, w = (draw(st.integers(low, high)) for low, high in ((1, 3), (1, 4), (1, 5), (1, 5)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    labels = torch.randint(classes, (n, h, w), generator=generator)
    labels[torch.rand(n, h, w, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 255
    return 2 * torch.randn(n, classes, h, w, dtype=torch.float64, generator=generator), labels


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@law
@given(batches(), objectives)
def test_images_add_so_that_accumulation_and_ranks_change_nothing(batch, objective):
    logits, labels = batch
    parts = sum(objective(logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels)))
    torch.testing.assert_close(objective(logits, labels), parts)


@law
@given(batches(), objectives)
def test_ignored_pixels_have_no_say_and_no_gradient(batch, objective):
    logits, labels = batch
    ignored = (labels == 255)[:, None].expand_as(logits)
    weights = torch.where(labels == 255, math.nan, 1.5)
    changed = torch.where(ignored, logits + 7 * torch.arange(logits.shape[1])[:, None, None], logits).requires_grad_()
    loss = objective(changed, labels, pixel_weights=weights)
    assert loss == objective(logits, labels, pixel_weights=weights)
    loss.backward()
    assert changed.grad.isfinite().all()
    assert not changed.grad[ignored].any()


@law
@given(objectives, st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_nothing_valid_costs_nothing_and_moves_nothing(objective, dtype):
    for shape in [(2, 3, 4, 5), (0, 3, 4, 5), (2, 3, 0, 5)]:
        logits = torch.zeros(shape, dtype=dtype, requires_grad=True)
        loss = objective(logits, torch.full((shape[0], *shape[2:]), 255))
        assert loss == 0
        assert loss.dtype == (dtype if dtype == torch.float64 else torch.float32)
        loss.backward()
        assert logits.grad is not None
        assert not logits.grad.any()


@law
@given(batches(), objectives)
def test_it_is_computed_in_float32(batch, objective):
    logits, labels = batch
    half = logits.bfloat16().requires_grad_()
    assert objective(half, labels) == objective(half.float(), labels)
    objective(half, labels).backward()
    assert half.grad.dtype == torch.bfloat16


@law
@given(batches(), objectives, st.floats(-50, 50))
def test_a_constant_on_all_scores_is_irrelevant(batch, objective, constant):
    torch.testing.assert_close(objective(batch[0] + constant, batch[1]), objective(*batch), rtol=1e-6, atol=1e-9)


@law
@given(batches(), objectives)
def test_mirroring_is_irrelevant(batch, objective):
    logits, labels = batch
    torch.testing.assert_close(objective(logits.flip(-1), labels.flip(-1)), objective(logits, labels))


@law
@given(batches(), objectives, st.randoms(use_true_random=False))
def test_the_names_of_classes_are_irrelevant(batch, objective, random):
    logits, labels = batch
    order = torch.tensor(random.sample(range(logits.shape[1]), logits.shape[1]))
    renamed = torch.cat([order.argsort(), torch.arange(logits.shape[1], 256)])[labels]
    torch.testing.assert_close(objective(logits[:, order], renamed), objective(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_finite_differences(name, seed):
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=drawn(seed), requires_grad=True)
    labels = torch.randint(3, (2, 3, 4), generator=drawn(seed))
    labels[0, 0] = 255
    weights = torch.rand(2, 3, 4, dtype=torch.float64, generator=drawn(seed))
    values = {"class_weights": torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), "focal_gamma": 0.7, "ohem_fraction": 0.4}
    objective = Objective({name: 1.3}, **{setting: value for setting, value in values.items() if setting in LOSSES[name].settings})
    assert torch.autograd.gradcheck(lambda scores: objective(scores, labels, pixel_weights=weights), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_huge_scores_stay_finite(name):
    logits = (1e4 * torch.randn(1, 3, 8, 8, generator=drawn(2))).requires_grad_()
    objective = Objective({name: 1.0}, **({"focal_gamma": 0.5} if name == "focal" else {}))
    loss = objective(logits, torch.randint(3, (1, 8, 8), generator=drawn(3)))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_following_the_gradient_labels_every_pixel_rightly(name):
    labels = torch.zeros(1, 6, 8, dtype=torch.int64)
    labels[:, 2:5, 3:6], labels[:, 0] = 1, 255
    logits = 0.1 * torch.randn(1, 2, 6, 8, generator=drawn(0))
    logits.requires_grad_()
    objective = Objective({name: 1.0}, focal_gamma=2.0)
    steps = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        steps.zero_grad()
        objective(logits, labels).backward()
        steps.step()
    assert torch.equal(logits.argmax(1)[labels != 255], labels[labels != 255])


@law
@given(batches(), st.floats(0, 4), st.floats(0, 4))
def test_focal_fades_as_gamma_grows(batch, one, other):
    low, high = sorted((one, other))
    assert Objective({"focal": 1.0}, focal_gamma=high)(*batch) <= Objective({"focal": 1.0}, focal_gamma=low)(*batch) + 1e-9


@law
@given(batches())
def test_at_their_ends_focal_and_ohem_are_cross_entropy(batch):
    plain = pixel_cross_entropy(*batch)
    torch.testing.assert_close(Objective({"focal": 1.0}, focal_gamma=0)(*batch), plain)
    torch.testing.assert_close(Objective({"ohem": 1.0}, ohem_fraction=1.0)(*batch), plain)


@law
@given(batches(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_fewer_hard_pixels_are_harder(batch, one, other):
    low, high = sorted((one, other))
    assert Objective({"ohem": 1.0}, ohem_fraction=high)(*batch) <= Objective({"ohem": 1.0}, ohem_fraction=low)(*batch) + 1e-9


@law
@given(batches(), st.sampled_from(["dice", "lovasz"]))
def test_losses_of_regions_lie_between_none_and_one_for_each_valid_pixel(batch, name):
    assert -1e-9 <= Objective({name: 1.0})(*batch) <= int(count_valid(batch[1])) + 1e-9


@pytest.mark.parametrize("name", losses_reading("sampling"))
@pytest.mark.parametrize("sampling", [0.5, 0.2])
def test_the_mean_over_all_samples_of_loss_and_gradient_is_the_whole(name, sampling):
    """Exactly: all 2^n masks of n valid pixels, each as probable as p^k (1-p)^(n-k)."""
    logits = torch.randn(1, 3, 2, 4, dtype=torch.float64, generator=drawn(0), requires_grad=True)
    labels = torch.tensor([[[0, 2, 1, 1], [255, 0, 2, 255]]])
    weights = {"class_weights": torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)}
    pixels = torch.rand(1, 2, 4, dtype=torch.float64, generator=drawn(1))
    whole = Objective({name: 1.0}, **weights)(logits, labels, pixel_weights=pixels)
    (slope,) = torch.autograd.grad(whole, logits)
    value, mean_slope, chances = torch.zeros_like(whole), torch.zeros_like(slope), 0.0
    places = (labels != 255).nonzero()
    for kept in product([True, False], repeat=len(places)):
        masked = labels.clone()
        for place, keep in zip(places.tolist(), kept, strict=True):
            if not keep:
                masked[tuple(place)] = 255
        chance = sampling ** sum(kept) * (1 - sampling) ** (len(kept) - sum(kept))
        loss = Objective({name: 1.0}, **weights)(logits, masked, pixel_weights=pixels) / sampling
        (part,) = torch.autograd.grad(loss, logits)
        value, mean_slope, chances = value + chance * loss.detach(), mean_slope + chance * part, chances + chance
    assert chances == pytest.approx(1)
    torch.testing.assert_close(value, whole.detach())
    torch.testing.assert_close(mean_slope, slope)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", losses_reading("sampling"))
@pytest.mark.parametrize("sampling", [0.5, 0.1])
def test_the_mean_of_many_draws_of_loss_and_gradient_nears_the_whole(name, sampling, weighed):
    """The function itself: within five standard errors, worked out from the Bernoulli variance of each pixel."""
    logits = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=drawn(0), requires_grad=True)
    labels = torch.randint(3, (1, 4, 4), generator=drawn(1))
    weights = torch.rand(1, 4, 4, generator=drawn(3)) if weighed else None
    whole = Objective({name: 1.0})
    (slope,) = torch.autograd.grad(whole(logits, labels, pixel_weights=weights), logits)
    times = 2000
    many = logits.detach().expand(times, -1, -1, -1).clone().requires_grad_()
    loss = Objective({name: 1.0}, sampling=sampling)(
        many,
        labels.expand(times, -1, -1),
        pixel_weights=None if weights is None else weights.expand(times, -1, -1),
        generator=drawn(2),
    )
    (slopes,) = torch.autograd.grad(loss, many)
    places = [np.s_[..., row : row + 1, column : column + 1] for row, column in product(range(4), range(4))]
    with torch.no_grad():
        alone = torch.stack([whole(logits[p], labels[p], pixel_weights=None if weights is None else weights[p]) for p in places])
    spread = math.sqrt((1 - sampling) / sampling / times)
    assert abs(float(loss.detach() / times - alone.sum())) < 5 * spread * float(alone.norm())
    assert ((slopes.mean(0) - slope[0]).abs() <= 5 * spread * slope[0].abs() + 1e-12).all()
    assert (slopes.mean(0) != slope[0]).any()
