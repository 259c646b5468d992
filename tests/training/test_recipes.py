"""The recipes that come with upscore: each is whole, says what it claims, and takes a step."""

from pathlib import Path

import pytest

from painting import paint_objects, small_recipe
from upscore.errors import RecipeError
from upscore.training.auto_config import Machine
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipes import find_recipe, list_recipes

MACHINE = Machine(device="cpu", devices=1, cores=1, bf16=False, tensorboard=False)
names = pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes()])


def test_each_paper_has_its_recipes():
    assert {recipe.name for recipe in list_recipes()} == {
        *("fcn32s-voc", "fcn16s-voc", "fcn8s-voc", "fcn8s-atonce-voc", "fcn32s-cvpr", "fcn32s-alexnet-voc", "fcn32s-googlenet-voc"),
        *("fcn32s-fixed-cvpr", "fcn16s-cvpr", "fcn8s-cvpr"),
        *("fcn32s-nyud", "fcn32s-nyud-hha", "fcn32s-nyud-early", "fcn32s-nyud-late"),
        *("fcn32s-siftflow", "fcn16s-siftflow", "fcn8s-siftflow"),
        *("deconvnet-stage1", "deconvnet-stage2", "segnet-camvid", "segnet-basic-camvid", "unet-em", "camvid"),
    }


@names
def test_it_says_what_it_is_and_how_to_start_it(name):
    (recipe,) = [recipe for recipe in list_recipes() if recipe.name == name]
    assert len(recipe.about) > 40
    assert f"--recipe {name}" in recipe.command
    assert bool(recipe.claims) == (name not in ("camvid", "fcn32s-siftflow", "fcn8s-siftflow"))
    assert Recipe.load(name) == Recipe.load(recipe.path)
    assert Recipe.load(name).data.refuse_overlap == (name not in ("camvid", "deconvnet-stage1", "deconvnet-stage2"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return paint_objects(tmp_path_factory.mktemp("objects"), train=2, val=1)


@names
def test_it_takes_a_step(name, tmp_path, painted, objects, monkeypatch):
    """One step as the recipe says, on a narrow network, small images and few of them."""
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.load(name)
    deconvnet = recipe.model.name == "deconvnet"  # its batch normalisation needs two images, its fc6 224 pixels
    values = {
        "data.path": str(painted if recipe.crops.of == "images" else objects),
        "data.train": "train",
        "data.val": "val",
        "input.bands": None,
        "run.out": str(tmp_path / "run"),
        "run.epochs": 1,
        "run.batch_size": 2 if deconvnet else min(2, recipe.run.batch_size),
        "run.accumulate": 1,
        "run.precise_bn": min(1, recipe.run.precise_bn),
        "augment.crop_size": [224, 224] if deconvnet else recipe.augment.crop_size if recipe.run.batch_size == 1 else [64, 64],
        "model.weights": "none",
    }
    if recipe.model.backbone != "mobilenetv2_100":
        # What is painted has one label map: tests/training/test_two_heads.py trains both heads.
        values["model.arguments"] = {k: v for k, v in recipe.model.arguments.items() if k != "second_head"} | {"width": 1 / 32}
    if isinstance(recipe.loss.class_weights, dict):
        values["loss.class_weights"] = {"ground": 0.2, "square": 1.0, "bar": 3.0}
    if recipe.loss.border_of:
        values["loss.border_of"] = ["square"]
    finished = train(plan(recipe.with_values(values), machine=MACHINE))
    assert finished.progress.step >= 3
    assert 0 < finished.progress.history[0]["loss"] < float("inf")


def test_results_name_every_recipe_they_come_from():
    docs = Path(__file__).resolve().parents[2] / "docs"
    trained = sorted((docs / "results").glob("*.toml"))
    assert trained
    pages = (docs / "results.md").read_text() + (docs / "objects.md").read_text()
    for path in trained:
        assert Recipe.load(path).run.seed == 0
        assert f"(results/{path.name})" in pages


def test_the_last_epoch_is_cut_short_at_the_last_step(painted, tmp_path):
    recipe = small_recipe(painted, tmp_path / "run", **{"run.epochs": None, "run.steps": 3, "run.batch_size": 4})
    finished = train(plan(recipe, machine=MACHINE))
    assert finished.progress.step == 3
    assert [row["step"] for row in finished.progress.history] == [2, 3]  # six images are two steps
    assert "miou" in finished.progress.history[-1]


def test_steps_give_the_number_of_epochs(painted):
    recipe = Recipe.parse({"data": {"path": str(painted)}, "run": {"steps": 10, "batch_size": 4}})
    ready = plan(recipe, machine=MACHINE)
    assert ready.recipe.run.epochs == 5  # six images are two steps
    assert "10 steps are asked for" in ready.recipe.chosen["run.epochs"]
    given = plan(recipe.with_values({"run.epochs": 3}), machine=MACHINE)
    assert given.recipe.run.epochs == 3


def test_a_folder_of_that_name_is_no_recipe(tmp_path, monkeypatch):
    (tmp_path / "camvid").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Recipe.load("camvid").model.name == "fcn8s"


def test_an_unknown_name_is_refused():
    with pytest.raises(RecipeError, match=r"no recipe 'segnet-camvit' \(did you mean 'segnet-camvid'\?\)"):
        find_recipe("segnet-camvit")
    with pytest.raises(RecipeError, match="cannot be read as a recipe"):
        Recipe.load("absent.toml")
