"""The papers' rules for biases, the courses of the learning rate, and the mean of the weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from upscore.training.optimizers import build_optimizer
from upscore.training.recipe_sections import OptimizerSection, ScheduleSection
from upscore.training.schedules import lr_factor
from upscore.training.weight_average import average_weights


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_do_not_decay_and_may_learn_faster(name):
    model = network()
    optimizer = build_optimizer(model, OptimizerSection(name=name, lr=0.1, weight_decay=0.5, bias_lr=2.0))
    by_parameter = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(by_parameter) == len(list(model.parameters()))
    for parameter in model.parameters():
        group = by_parameter[id(parameter)]
        assert (group["weight_decay"], group["scale"]) == ((0.5, 1.0) if parameter.ndim > 1 else (0.0, 2.0))


def test_sgd_takes_the_papers_step():
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(1.0)
    optimizer = build_optimizer(model, OptimizerSection(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.5, bias_lr=2.0))
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["scale"]
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert model.weight.item() == pytest.approx(1 - 0.1 * (1 + 0.5))
    assert model.bias.item() == pytest.approx(1 - 0.2 * 1)


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    groups = build_optimizer(model, OptimizerSection(name="adamw", lr=0.1, weight_decay=0.0)).param_groups
    assert sum(len(group["params"]) for group in groups) == 4


def course(**settings) -> list[float]:
    return [lr_factor(ScheduleSection(**settings), step=i, steps=100, steps_per_epoch=10) for i in range(100)]


def test_courses_of_the_lr_factor():
    poly = course(name="poly", power=0.9)
    assert poly[0] == 1
    assert poly[50] == pytest.approx(0.5**0.9)
    assert all(a > b > 0 for a, b in pairwise(poly))
    falls = course(name="step", step_epochs=4, gamma=0.1)
    assert [falls[i] for i in (0, 39, 40, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    falls = course(name="step", step_every=7, step_epochs=4, gamma=0.5)
    assert falls == pytest.approx([0.5 ** (i // 7) for i in range(100)])
    assert set(course(name="constant")) == {1.0}
    warm = course(name="constant", warmup_steps=4)
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_mean_of_the_weights_follows_them_and_copies_counters():
    model = network()
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = {name: tensor.double().clone() for name, tensor in average.items()}
    for step in range(1, 6):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = expected[name] * decay + tensor.double() * (1 - decay) if tensor.is_floating_point() else tensor.double()
        average_weights(average, model, decay=0.9, step=step)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)
