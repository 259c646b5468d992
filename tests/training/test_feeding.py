"""What the papers' recipes feed: whole images, one at a time and drawn with replacement; a mean for each part; weights by class name."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from painting import small_recipe
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.png_files import write_image, write_label_map
from upscore.data.transforms import Augmentation
from upscore.errors import RecipeError
from upscore.input_spec import RGB
from upscore.training import loop, run_state, trial
from upscore.training.auto_config import Machine
from upscore.training.batches import BatchPlan, batches_from
from upscore.training.launch import train
from upscore.training.memory import step_memory
from upscore.training.objective import build_class_weights, count_units, divisors
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import LossSection
from upscore.training.resume import resume
from upscore.types import LabelSpace, Sample

SIZES = [(48, 56), (33, 70), (64, 40), (50, 50)]
WHOLE = {"augment.crop_size": "image", "augment.scale": [1.0, 1.0], "augment.flip": 0.0, "run.batch_size": 1, "run.epochs": 1}
WHOLE |= {"augment.brightness": 0.0, "augment.contrast": 0.0, "augment.saturation": 0.0, "augment.hue": 0.0}
CPU = Machine(device="cpu", devices=1, cores=1, bf16=False, tensorboard=False)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Images of four sizes."""
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    labels = LabelSpace(("ground", "square"))
    for split in ("train", "val"):
        for i, size in enumerate(SIZES):
            label = np.zeros(size, np.uint8)
            label[5:25, 5:25] = 1
            write_image(
                folder / "images" / split / f"{i}.png",
                np.repeat(label[..., None] * 90 + rng.integers(90, 110, (*size, 1)), 3, 2).astype(np.uint8),
            )
            write_label_map(folder / "masks" / split / f"{i}.png", label, labels)
    (folder / "dataset.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: [ground, square]\n")
    return folder / "dataset.yaml"


def test_whole_images_come_one_at_a_time_at_their_own_size(mixed, tmp_path):
    ready = plan(small_recipe(mixed, tmp_path / "run", **WHOLE), machine=CPU)
    batches = list(batches_from(ready.train, ready.recipe, first_step=0, steps=4))
    assert {tuple(batch.images.shape[-2:]) for batch in batches} == set(SIZES)
    for batch in batches:
        sample = next(ready.train[i] for i in range(4) if ready.train.keys[i] == batch.keys[0])
        assert torch.equal(batch.images[0], torch.from_numpy(sample.image).permute(2, 0, 1) / 255)
        assert not (batch.labels == 255).any()


def test_whole_images_side_by_side_are_refused_unless_their_sizes_agree(mixed, painted, tmp_path):
    with pytest.raises(RecipeError, match=r"images of 4 sizes, 33×70 and others, and 4 of them .* raise run\.accumulate to 4"):
        plan(small_recipe(mixed, tmp_path / "run", **WHOLE | {"run.batch_size": 4}), machine=CPU)
    plan(small_recipe(mixed, tmp_path / "run", **WHOLE | {"run.batch_size": 4, "run.accumulate": 4}), machine=CPU)
    plan(small_recipe(painted, tmp_path / "run", **WHOLE | {"run.batch_size": 4}), machine=CPU)  # all of one size
    with pytest.raises(RecipeError, match=r"found augment\.scale 0\.5 to 2, and 4 of them"):
        plan(small_recipe(painted, tmp_path / "run", **WHOLE | {"run.batch_size": 4, "augment.scale": [0.5, 2.0]}), machine=CPU)
    chosen = plan(small_recipe(mixed, tmp_path / "run", **WHOLE | {"run.batch_size": None}), machine=CPU).recipe
    assert chosen.run.batch_size == 1
    assert "one at a time" in chosen.chosen["run.batch_size"]


def test_the_largest_image_is_tried(mixed, tmp_path, monkeypatch):
    ready = plan(small_recipe(mixed, tmp_path / "run", **WHOLE | {"augment.scale": [0.5, 2.0]}), machine=CPU)
    assert ready.census.largest == (48, 56)
    model, seen = ready.take_model(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    trial.try_step(model, ready.recipe, classes=2, largest=ready.census.largest)
    assert set(seen) == {(1, 3, 96, 112)}
    cropped = ready.recipe.with_values({"augment.crop_size": [96, 112]})
    assert step_memory(model, ready.recipe, largest=(48, 56)) == step_memory(model, cropped)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 12), st.integers(1, 3), st.integers(1, 3))
def test_draws_with_replacement_are_a_function_of_the_step(images, unit, first, parts, world):
    size = unit * parts * world

    def draws(first_step, **values):
        return list(BatchPlan(images, size, seed=3, first_step=first_step, steps=12, replacement=True, **values))

    whole = draws(0)
    assert draws(first) == whole[first:]
    shards = [draws(0, parts=parts, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        for part in range(parts):
            of_part = [item for shard in shards for item in shard[step * parts + part]]
            assert sorted(of_part) == sorted(batch[part::parts]), "a part's images do not depend on the number of processes"
    numbers = [number for batch in whole for number, _ in batch]
    assert numbers == list(range(12 * size)), "each draw is augmented by a number of its own"
    assert all(0 <= index < images for batch in whole for _, index in batch)


def test_draws_are_uniform_and_repeat_images():
    drawn = [index for batch in BatchPlan(10, 1, seed=0, first_step=0, steps=4000, replacement=True) for _, index in batch]
    counts = np.bincount(drawn, minlength=10)
    assert 330 < counts.min() <= counts.max() < 470  # 400 and 3.7 deviations
    assert len(set(drawn[:10])) < 10
    assert drawn != [index for batch in BatchPlan(10, 1, seed=1, first_step=0, steps=4000, replacement=True) for _, index in batch]


def test_a_run_on_whole_images_with_replacement_is_resumed_bit_for_bit(mixed, tmp_path, monkeypatch):
    values = WHOLE | {"run.sampling": "replacement", "run.epochs": 2, "run.patience": 0, "loss.normalize": "none", "optimizer.lr": 1e-6}
    whole = train(small_recipe(mixed, tmp_path / "whole", **values))
    assert whole.progress.step == 8, "an epoch is as many draws as there are images"
    monkeypatch.setattr(loop, "MIN_INTERVAL", 0)
    with monkeypatch.context() as patch:
        steps, plain = iter(range(100)), run_state.lr_factor

        def broken(*args, **values):
            if next(steps) > 5:
                raise MemoryError
            return plain(*args, **values)

        patch.setattr(run_state, "lr_factor", broken)
        with pytest.raises(Exception, match="memory"):
            train(small_recipe(mixed, tmp_path / "broken", **values))
    again = resume(tmp_path / "broken")
    ours, theirs = (load_file(run.folder / "checkpoint.safetensors") for run in (whole, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_each_part_has_its_own_mean_as_with_caffes_iter_size():
    """Parts of 10 and 30 labelled pixels: the mean of two means, or one mean over forty."""
    units = torch.tensor([10, 30])
    assert divisors(LossSection(normalize="part"), units).tolist() == [20, 60]
    assert divisors(LossSection(normalize="valid"), units).tolist() == [40, 40]
    assert divisors(LossSection(normalize="none"), torch.tensor([1, 1])).tolist() == [2, 2]
    assert divisors(LossSection(normalize="part"), torch.tensor([0, 30])).tolist() == [2, 60]
    labels = torch.tensor([[[0, 255, 1]]])
    assert [int(count_units(LossSection(normalize=how), labels)) for how in ("valid", "part", "none")] == [2, 2, 1]


def test_a_step_of_parts_with_their_own_means_is_their_mean(painted, tmp_path):
    """With scores of zero, a pixel's loss is its class's weight times log 3, whatever the network."""
    weights = torch.tensor([0.1, 1.0, 10.0])
    values = {"run.batch_size": 2, "run.accumulate": 2, "run.epochs": 1, "optimizer.lr": 1e-12, "augment.scale": [0.3, 0.9]}
    for how in ("part", "valid"):
        values |= {"loss.normalize": how, "loss.class_weights": weights.tolist()}
        ready = plan(small_recipe(painted, tmp_path / how, **values), machine=CPU)
        sums, counts = [], []
        for batch in batches_from(ready.train, ready.recipe, first_step=0, steps=3):
            known = batch.labels[batch.labels != 255]
            sums.append(float(weights[known].sum()) * math.log(3))
            counts.append(len(known))
        of_parts, of_counts = torch.tensor(sums).view(3, 2), torch.tensor(counts).view(3, 2)
        expected = (of_parts / of_counts).mean() if how == "part" else (of_parts.sum(1) / of_counts.sum(1)).mean()
        other = (of_parts.sum(1) / of_counts.sum(1)).mean() if how == "part" else (of_parts / of_counts).mean()
        assert abs(float(expected - other)) > 1e-3
        assert train(ready).progress.history[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_mean_for_each_part_is_never_computed_in_more_parts(painted, tmp_path, monkeypatch):
    asked = []
    from upscore.training import plan as planning

    monkeypatch.setattr(planning, "find_parts", lambda *args, adjustable, **values: asked.append(adjustable) or (1, trial.Trial(1.0, None)))
    for how in ("part", "valid"):
        plan(small_recipe(painted, tmp_path / "run", **{"run.batch_size": None, "loss.normalize": how}), machine=CPU)
    assert asked == [False, True]


def test_black_lies_beyond_the_image_where_a_recipe_asks_for_it():
    image = np.full((4, 4, 3), 200, np.uint8)
    sample = Sample(image=image, label=np.zeros((4, 4), np.uint8), key="a")
    crops = {
        border: Augmentation(crop=(4, 8), border=border, input=RGB)(sample, rng=np.random.default_rng(0)) for border in ("ignore", "black")
    }
    for border, colour in (("ignore", [124, 116, 104]), ("black", [0, 0, 0])):
        beyond = crops[border].label == 255
        assert beyond.sum() == 16
        assert (crops[border].image[beyond] == colour).all()


def census(names):
    ones = np.ones(len(names), np.int64)
    return DatasetStatistics(LabelSpace(names), 1, ones, ones, ones, 0, np.array([[8, 8]]))


def test_class_weights_are_given_by_name_in_any_order():
    settings = LossSection(class_weights={"pole": 4.5, "sky": 0.25})
    assert build_class_weights(settings, census(("sky", "pole"))).tolist() == [0.25, 4.5]
    with pytest.raises(
        RecipeError, match=r"^loss\.class_weights: no weight for poles and no class 'pole' \(did you mean 'poles'\?\): expected"
    ):
        build_class_weights(settings, census(("sky", "poles")))
    with pytest.raises(RecipeError, match=r"^loss\.class_weights: no weight for tree: expected a number for each of sky, pole, tree$"):
        build_class_weights(settings, census(("sky", "pole", "tree")))


def test_segnets_weights_are_those_printed_in_the_release():
    """SegNet-Tutorial@63b77a9, Models/segnet_train.prototxt and segnet_basic_train.prototxt, in the order of CamVid's eleven classes."""
    printed = [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614]
    names = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
    for name in ("segnet-camvid", "segnet-basic-camvid"):
        weights = build_class_weights(Recipe.load(name).loss, census(names))
        torch.testing.assert_close(weights, torch.tensor(printed))


@pytest.mark.parametrize("name", ["fcn32s-voc", "fcn16s-voc", "fcn8s-voc", "fcn8s-atonce-voc", "fcn32s-alexnet-voc"])
def test_the_releases_recipes_feed_as_the_release(name):
    recipe = Recipe.load(name)
    assert (recipe.augment.crop_size, recipe.run.sampling, recipe.run.patience) == ("image", "replacement", 0)
    assert recipe.run.batch_size == recipe.run.accumulate


def test_only_the_score_layer_of_the_fixed_fcn_changes(painted, tmp_path):
    values = {"data.path": str(painted), "run.out": str(tmp_path / "run"), "model.weights": "none", "run.epochs": 1}
    values |= {"run.batch_size": 2, "run.accumulate": 2, "model.arguments": {"width": 1 / 32}, "optimizer.lr": 0.1, "run.device": "cpu"}
    ready = plan(Recipe.load("fcn32s-fixed-cvpr").with_values(values), machine=CPU)
    model = ready.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(ready)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"decoder.score_fr.weight", "decoder.score_fr.bias"}
