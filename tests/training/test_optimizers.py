"""Optimisers beside their papers' formulas, the papers' rules for biases, learning rates by part, and clipped and scaled gradients."""

import pytest
import torch
from torch import nn

from painting import small_recipe
from upscore.errors import RecipeError
from upscore.ops.upsample import BilinearUpsample
from upscore.training.launch import train
from upscore.training.network_parts import freeze
from upscore.training.optimizers import OPTIMIZERS, build_optimizer, update_weights
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import OptimizerSection


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


DOUBLED = {"bias": {"lr": 2.0}, "norm_scale": {"lr": 2.0}, "norm_shift": {"lr": 2.0}}


def settings(**values) -> OptimizerSection:
    return OptimizerSection(**{"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0} | values)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_do_not_decay_and_may_learn_faster(name):
    model = network()
    optimizer = build_optimizer(model, settings(name=name, weight_decay=0.5, multipliers=DOUBLED))
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
    optimizer = build_optimizer(model, settings(lr=0.1, weight_decay=0.5, multipliers=DOUBLED))
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["scale"]
    model(torch.ones(1, 1)).sum().backward()
    update_weights(optimizer)
    assert model.weight.item() == pytest.approx(1 - 0.1 * (1 + 0.5))
    assert model.bias.item() == pytest.approx(1 - 0.2 * 1)
    assert model.weight.grad is None


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw_take_their_papers_steps(name):
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2: the decay is in the gradient, or beside the step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = build_optimizer(model, settings(name=name, lr=0.01, weight_decay=0.1))
    weights = model.weight.detach().clone()
    mean, variance = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(1, 5):
        gradient = torch.randn_like(weights)
        model.weight.grad = gradient.clone()
        update_weights(optimizer)
        if name == "adam":
            gradient = gradient + 0.1 * weights
        mean = 0.9 * mean + 0.1 * gradient
        variance = 0.999 * variance + 0.001 * gradient**2
        decay = 0.01 * 0.1 * weights if name == "adamw" else 0
        weights = weights - decay - 0.01 * (mean / (1 - 0.9**step)) / ((variance / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(model.weight.detach(), weights, rtol=1e-10, atol=1e-12)


def test_memory_counts_the_tensors_that_an_optimizers_state_really_holds():
    for name, record in OPTIMIZERS.items():
        for momentum in (0.0, 0.9):
            model, chosen = nn.Linear(5, 4, bias=False), settings(name=name, momentum=momentum)
            optimizer = build_optimizer(model, chosen)
            model(torch.ones(1, 5)).sum().backward()
            optimizer.step()
            held = [value for state in optimizer.state.values() for value in state.values() if value is not None and value.numel() == 20]
            assert len(held) == record.tensors_per_parameter(chosen), (name, momentum)


def test_parts_of_a_network_learn_at_their_own_rates():
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"stem": nn.Conv2d(3, 4, 1), "body": nn.Conv2d(4, 4, 1)}), "head": nn.Conv2d(4, 2, 1)})
    optimizer = build_optimizer(model, settings(multipliers=DOUBLED, lr_factors={"backbone": 0.1, "backbone.stem": 0.01}))
    scales = {id(p): group["scale"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: scales[id(parameter)] for name, parameter in model.named_parameters()}
    expected = {"backbone.stem": 0.01, "backbone.body": 0.1, "head": 1.0}
    for name, factor in expected.items():
        assert found[f"{name}.weight"] == pytest.approx(factor)
        assert found[f"{name}.bias"] == pytest.approx(2 * factor)
    with pytest.raises(RecipeError, match=r"lr_factors: the network has no part 'backbon' \(did you mean 'backbone'\?\)"):
        build_optimizer(model, settings(lr_factors={"backbon": 0.1}))
    with pytest.raises(RecipeError, match="no part 'back'"):  # names are compared whole
        build_optimizer(model, settings(lr_factors={"back": 0.1}))
    freeze(model, ["backbone.stem"])
    assert sum(len(group["params"]) for group in build_optimizer(model, settings()).param_groups) == 4
    with pytest.raises(RecipeError, match=r"names 'backbone\.stem', which is frozen"):
        build_optimizer(model, settings(lr_factors={"backbone.stem": 0.01}))


def test_a_part_with_a_small_factor_moves_less(painted, tmp_path):
    values = {"run.epochs": 1, "optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}
    values |= {"run.steps": 1, "model.arguments": {"width": 0.03125, "dropout": 0.0}, "optimizer.max_grad_norm": 1.0}
    moved = {}
    for name, factors in (("whole", {}), ("parts", {"decoder": 0.25})):
        ready = plan(small_recipe(painted, tmp_path / name, **values, **{"optimizer.lr_factors": factors}))
        before = {key: tensor.clone() for key, tensor in ready.model.state_dict().items()}
        model = ready.model
        train(ready)
        moved[name] = {key: tensor - before[key] for key, tensor in model.state_dict().items()}
    for key, change in moved["whole"].items():
        factor = 0.25 if key.startswith("decoder.") else 1.0
        torch.testing.assert_close(moved["parts"][key], change * factor, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("length", [0.5, 1.0, 1e6])
def test_gradients_longer_than_the_bound_are_scaled_down_to_it_together(length):
    """The norm is that of all parameters together; shorter gradients stay as they are, bit for bit."""
    torch.manual_seed(0)
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    gradients = [torch.randn_like(parameter) for parameter in model.parameters()]
    norm = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer = build_optimizer(model, settings())
    update_weights(optimizer, max_grad_norm=length * norm if length < 2 else length)
    factor = min(1.0, length)
    for parameter, start, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), start - factor * gradient, rtol=1e-5, atol=1e-6)
        assert length < 2 or torch.equal(parameter.detach(), start - gradient)


def test_a_step_is_clipped_once_whatever_its_parts_and_processes(painted, tmp_path):
    """Clipping each part, or each process's part, would shorten the sum by another factor."""
    values = {"model.arguments": {"width": 0.03125, "dropout": 0.0}, "run.epochs": 1, "run.batch_size": 4, "run.average": 0.0}
    values |= {"optimizer.name": "sgd", "optimizer.lr": 0.5, "optimizer.momentum": 0.0, "optimizer.max_grad_norm": 0.05}
    plain = train(small_recipe(painted, tmp_path / "plain", **values | {"optimizer.max_grad_norm": 0.0}))
    whole = train(small_recipe(painted, tmp_path / "whole", **values))
    assert abs(whole.progress.history[0]["loss"] - plain.progress.history[0]["loss"]) > 1e-4  # or nothing was clipped
    for name, division in (("parts", {"run.accumulate": 2}), ("processes", {"run.devices": 2})):
        divided = train(small_recipe(painted, tmp_path / name, **values, **division))
        assert divided.progress.history[0]["loss"] == pytest.approx(whole.progress.history[0]["loss"], rel=1e-5)


def test_scaled_gradients_are_unscaled_before_they_are_clipped_and_an_overflow_leaves_the_step_out():
    model, plain = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    plain.load_state_dict(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = build_optimizer(model, settings(lr=0.1))
    images = torch.tensor([[3.0, 4.0]])
    scaler.scale(model(images).sum()).backward()
    update_weights(optimizer, max_grad_norm=1.0, scaler=scaler)
    plain(images).sum().backward()
    update_weights(build_optimizer(plain, settings(lr=0.1)), max_grad_norm=1.0)
    torch.testing.assert_close(model.weight, plain.weight)

    before = model.weight.detach().clone()
    scaler.scale(model(torch.tensor([[float("inf"), 1.0]])).sum()).backward()
    update_weights(optimizer, max_grad_norm=1.0, scaler=scaler)
    assert torch.equal(model.weight, before)
    assert scaler.get_scale() == 512.0


def test_each_kind_of_parameter_has_its_own_multipliers():
    kinds = ("weight", "deconvolution", "bias", "norm_scale", "norm_shift")
    multipliers = {kind: {"lr": 2.0 + i, "decay": 0.5 + i} for i, kind in enumerate(kinds)}
    scaled = nn.ParameterDict({"gamma": nn.Parameter(torch.ones(4))})
    layers = {"conv": nn.Conv2d(3, 4, 1), "bn": nn.BatchNorm2d(4), "ln": nn.LayerNorm(4), "up": nn.ConvTranspose2d(4, 4, 2)}
    model = nn.ModuleDict(layers | {"linear": nn.Linear(4, 2), "scale": scaled, "upscore": BilinearUpsample(4, factor=2, learned=True)})
    optimizer = build_optimizer(model, settings(weight_decay=0.1, multipliers=multipliers))
    of = {id(p): (group["scale"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    expected = {"conv": ("weight", "bias"), "bn": ("norm_scale", "norm_shift"), "ln": ("norm_scale", "norm_shift")}
    expected |= {"up": ("deconvolution", "bias"), "linear": ("weight", "bias"), "scale": ("norm_scale",), "upscore": ("deconvolution",)}
    for name, kinds_of_layer in expected.items():
        for kind, parameter in zip(kinds_of_layer, model[name].parameters(), strict=True):
            given = multipliers[kind]
            assert of[id(parameter)] == pytest.approx((given["lr"], 0.1 * given["decay"])), (name, kind)


def test_a_kind_is_given_by_its_name_in_a_recipe():
    recipe = Recipe().with_values({"optimizer.multipliers.bias.lr": 2})
    assert (recipe.optimizer.multipliers.bias.lr, recipe.optimizer.multipliers.bias.decay) == (2, 0)
    assert Recipe.parse(recipe.model_dump()) == recipe
    with pytest.raises(RecipeError, match=r"unknown setting 'optimizer\.multipliers\.biases' \(did you mean 'bias'\?\)"):
        Recipe().with_values({"optimizer.multipliers": {"biases": {"lr": 2}}})
    with pytest.raises(RecipeError, match=r"multipliers\.bias\.lr = -1: input should be greater than or equal to 0"):
        Recipe().with_values({"optimizer.multipliers.bias.lr": -1})
