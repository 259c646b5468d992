"""What is left open is chosen from the data and the machine, with a reason; what is set stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.data.dataset_statistics import DatasetStatistics
from upscore.training.auto_config import Machine, configure
from upscore.training.recipe import Recipe
from upscore.types import LabelSpace

CPU = Machine(device="cpu", devices=1, cores=2, bf16=False, tensorboard=True)
GPU = Machine(device="cuda", devices=2, cores=16, bf16=True, tensorboard=False)


def census(images: int = 367, size: tuple[int, int] = (360, 480)) -> DatasetStatistics:
    counts = np.array([100, 50, 10], np.int64)
    return DatasetStatistics(
        labels=LabelSpace(("a", "b", "c")),
        images=images,
        class_pixels=counts,
        pixels_with_class=counts * 2,
        images_with_class=np.ones(3, np.int64),
        ignored_pixels=0,
        sizes=np.tile(np.array(size, np.int64), (images, 1)),
    )


@pytest.mark.parametrize("machine", [CPU, GPU])
@given(images=st.integers(1, 5000), height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_every_choice_has_a_reason_and_makes_a_run_that_can_start(machine, images, height, width):
    recipe, choices = configure(Recipe().with_values({"run.out": "x"}), census(images, (height, width)), machine)
    assert set(recipe.open_settings()) <= {"data.path", "data.fingerprint", "input.mean", "input.std", "model.start_from", "run.steps"}
    assert all(choice.why and recipe.chosen[choice.setting] == choice.why for choice in choices)
    assert Recipe.parse(recipe.model_dump()) == recipe
    assert recipe.run.batch_size % recipe.run.devices == 0
    assert all(side % 32 == 0 and side >= 32 for side in recipe.augment.crop_size)
    again, none = configure(recipe, census(images, (height, width)), machine)
    assert again == recipe
    assert not none


def test_what_a_user_sets_is_never_touched():
    given_values = {
        "run.batch_size": 7,
        "run.epochs": 3,
        "optimizer.lr": 0.5,
        "augment.crop_size": [100, 90],
        "model.backbone": "vgg16",
        "run.devices": 1,
    }
    recipe, choices = configure(Recipe().with_values(given_values), census(), CPU)
    values = recipe.model_dump()
    for name, value in given_values.items():
        section, key = name.split(".")
        assert values[section][key] == value
    assert not set(given_values) & {choice.setting for choice in choices}


def test_choices_follow_the_machine_and_the_papers():
    on_cpu, _ = configure(Recipe(), census(), CPU)
    on_gpu, _ = configure(Recipe(), census(), GPU)
    assert (on_cpu.run.precision, on_gpu.run.precision) == ("fp32", "bf16")
    assert (on_cpu.run.tensorboard, on_gpu.run.tensorboard) == (True, False)
    stage, _ = configure(Recipe().with_values({"optimizer.name": "sgd", "model.start_from": "coarser"}), census(), CPU)
    whole, _ = configure(Recipe().with_values({"optimizer.name": "sgd"}), census(), CPU)
    assert whole.optimizer.lr == pytest.approx(100 * stage.optimizer.lr)
    layouts = {
        name: configure(Recipe.parse({"model": {"name": name}}), census(), CPU)[0].run.channels_last for name in ("fcn8s", "segnet", "unet")
    }
    assert layouts == {"fcn8s": True, "segnet": False, "unet": False}
    assert configure(Recipe.parse({"model": {"name": "segnet"}}), census(), GPU)[0].run.channels_last
    few, _ = configure(Recipe(), census(images=3), CPU)
    assert few.run.batch_size <= 3


def test_images_seen_often_are_varied_more():
    once, _ = configure(Recipe().with_values({"run.epochs": 20}), census(), CPU)
    often, _ = configure(Recipe().with_values({"run.epochs": 200}), census(), CPU)
    assert often.augment.scale[0] < once.augment.scale[0] < 1 < once.augment.scale[1] < often.augment.scale[1]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert 0 < getattr(once.augment, name) < getattr(often.augment, name)


@pytest.mark.parametrize(
    ("model", "weights", "why"),
    [
        ({"name": "fcn8s"}, "imagenet", "pretrained backbone"),
        ({"name": "segnet"}, "imagenet", "pretrained backbone"),
        ({"name": "deconvnet", "arguments": {"width": 0.5}}, "none", "another width"),
        ({"name": "unet"}, "none", "none for this network"),
        ({"name": "fcn32s", "backbone": "vgg16", "arguments": {"normalization": "caffe"}}, "none", "normalized for caffe weights"),
        ({"name": "segnet", "start_from": "runs/earlier"}, "none", "starts from"),
    ],
)
def test_weights_fit_the_network_and_its_images(model, weights, why):
    chosen, choices = configure(Recipe.parse({"model": model}), census(4, (64, 64)), CPU)
    assert chosen.model.weights == weights
    assert why in next(choice.why for choice in choices if choice.setting == "model.weights")
    assert (chosen.model.backbone is None) == (model["name"] in ("segnet", "deconvnet", "unet"))


@pytest.mark.parametrize(
    ("images", "run", "every"),
    [
        (367, {}, 2),  # 92 steps an epoch, 44 epochs
        (40, {}, 15),  # 300 epochs
        (4_000, {"run.epochs": 3}, 0.5),  # 1000 steps an epoch: not oftener than each 500
        (3_996, {"run.epochs": 1}, 1),
        (1_000, {"run.epochs": 3}, 1),
        (400_000, {"run.epochs": 1}, 0.05),  # 100,000 steps, each twentieth
        (400_000, {"run.steps": 40_000}, 0.02),  # the run is 0.4 of an epoch
        (400_000, {"run.validate_every": 2, "run.epochs": 4}, 2),
    ],
)
def test_a_run_is_evaluated_about_twenty_times_but_not_oftener_than_pays(images, run, every):
    recipe, _ = configure(Recipe().with_values(run | {"run.batch_size": 4}), census(images), CPU)
    assert recipe.run.validate_every == every
