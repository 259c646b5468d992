"""A recipe is a value: it survives the file, and refuses what it does not know by the nearest name."""

import contextlib
import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from upscore.data.transforms import MAX_CROP, MAX_STRENGTHS
from upscore.errors import OutputError, RecipeError
from upscore.losses import LOSSES
from upscore.training.recipe import MAX_FILE, Recipe, describe_settings, parse_settings
from upscore.training.recipe_sections import CropsSection, RunSection


@given(
    lr=st.floats(1e-12, 1.0),
    epochs=st.integers(1, 1000),
    crop=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    path=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
)
def test_a_recipe_comes_back_from_its_text(tmp_path_factory, lr, epochs, crop, path):
    recipe = Recipe().with_values({"optimizer.lr": lr, "run.epochs": epochs, "augment.crop_size": list(crop), "data.path": path})
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    recipe.save(file)
    assert Recipe.load(file) == recipe
    assert Recipe.load(file).digest() == recipe.digest()


def test_set_reads_toml_values_and_bare_words():
    settings = ["optimizer.lr=1e-4", "optimizer.name=sgd", "augment.scale=[0.5, 2]", "model.arguments.width=0.125", "run.tensorboard=true"]
    recipe = Recipe().with_values(parse_settings(settings))
    assert recipe.optimizer.lr == 1e-4
    assert recipe.optimizer.name == "sgd"
    assert recipe.augment.scale == [0.5, 2.0]
    assert recipe.model.arguments == {"width": 0.125}
    assert recipe.run.tensorboard is True


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.lrr=1", "did you mean 'lr'"),
        ("optimiser.lr=1", "did you mean 'optimizer'"),
        ("optimizer.lr=fast", "optimizer.lr"),
        ("optimizer.lr=-1", "greater than 0"),
        ("run.epochs=0", "run.epochs"),
        ("augment.scale=[2, 1]", "the smaller first"),
        ("augment.crop_size=[1]", "crop_size"),
        ("loss.terms.dise=1", "'dice'"),
        ("loss.terms.dice=0", "greater than 0"),
        ("loss.terms={}", "at least 1"),
        ("loss.sampling=0", "loss.sampling = 0: found sampling 0, expected a probability above 0"),
        ("loss.label_smoothing=1", "loss.label_smoothing = 1"),
        ("loss.focal_gamma=-1", "loss.focal_gamma = -1"),
        ("loss.ohem_fraction=0", "loss.ohem_fraction = 0"),
        ("loss.ohem_threshold=1", "loss.ohem_threshold = 1"),
        ("loss.class_weights=medain", "found class weighting 'medain'"),
        ("loss.class_weights=[1, -1]", "expected finite numbers"),
        ("loss.class_weights=[0, 0]", "not all 0"),
        ("loss.class_weights=['a']", "or one number for each class"),
        ("loss.class_weights=2", "or one number for each class"),
        ("augment.vertical_flip=1.5", "expected 0 to 1"),
        ("augment.border=grey", "expected one of ignore, black, mirror"),
        ("optimizer.name=adamm", "expected one of adamw, adam, sgd (did you mean"),
        ("optimizer.max_grad_norm=-1", "optimizer.max_grad_norm"),
        ("optimizer.lr_factors.backbone=0", "greater than 0"),
        ("schedule.name=cosin", "did you mean 'cosine'"),
        ("model.freeze=backbone", "list"),
        ("lr=1", "section.key=value"),
        ("optimizer.lr", "section.key=value"),
        ("optimizer.lr=nan", "finite"),
    ],
)
def test_bad_settings_get_one_line_that_names_them(setting, words):
    with pytest.raises(RecipeError, match=r".+") as caught:
        Recipe().with_values(parse_settings([setting]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["data = [", "[data]\npathh = 'x'", "[run]\nepochs = 'many'", "x = 1", "[run]\nepochs = 1e400", "a" * 10])
def test_bad_files_get_one_line(tmp_path, text):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["run.out", "data.path", "model.start_from"])
def test_names_whose_bytes_are_no_text_are_refused(name):
    """A recipe is kept in TOML, which is UTF-8; a run would end as its folder is set up."""
    with pytest.raises(RecipeError, match=rf"{name} = .*expected a name in UTF-8.*rename it") as error:
        Recipe().with_values({name: "caf\udce9"})
    assert str(error.value).isprintable()
    assert Recipe().with_values({name: "Straße"}).value_of(name) == "Straße"


def test_losses_are_added_by_name():
    assert Recipe().loss.terms == {"cross_entropy": 1.0}
    recipe = Recipe().with_values(parse_settings(["loss.terms.dice=0.5"]))
    assert recipe.loss.terms == {"cross_entropy": 1.0, "dice": 0.5}
    assert Recipe().with_values(parse_settings(["loss.terms={lovasz = 1.0}"])).loss.terms == {"lovasz": 1.0}
    assert Recipe.parse(tomllib.loads(recipe.dumps())) == recipe
    for name in LOSSES:
        assert Recipe().with_values({"loss.terms": {name: 1.0}}).loss.terms == {name: 1.0}


def test_what_the_core_values_accept_a_recipe_accepts_and_no_more():
    """Ranges stand with the values that a recipe's sections build."""
    for name, largest in MAX_STRENGTHS.items():
        assert Recipe().with_values({f"augment.{name}": largest}).value_of(f"augment.{name}") == largest
        with pytest.raises(RecipeError, match=rf"augment\.{name}"):
            Recipe().with_values({f"augment.{name}": largest * 1.001})
    for side, accepted in ((MAX_CROP, True), (MAX_CROP + 1, False)):
        with contextlib.nullcontext() if accepted else pytest.raises(RecipeError, match=r"augment\.crop_size"):
            Recipe().with_values({"augment.crop_size": [side, side]})
    for settings in ({"optimizer.lr_factors.backbone": 0.1}, {"optimizer.lr_factors": {"backbone.layer1": 0.1, "decoder": 10}}):
        recipe = Recipe().with_values(settings)
        assert Recipe.parse(tomllib.loads(recipe.dumps())) == recipe


def test_reading_a_recipe_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Recipe().with_values({"loss.sampling": 0.5})
    assert torch.equal(torch.rand(1), expected)


def test_a_file_too_large_is_not_read(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(RecipeError, match="bytes"):
        Recipe.load(file)
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path / "none.toml")


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        Recipe().save(tmp_path / "file" / "recipe.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_digest_names_what_determines_the_result():
    recipe = Recipe()
    for same in ({"run.out": "x"}, {"run.workers": 4}, {"run.tensorboard": True}, {"data.path": "moved"}, {"run.devices": 2}):
        assert recipe.with_values(same).digest() == recipe.digest()
    for other in ({"run.seed": 1}, {"optimizer.lr": 0.1}, {"run.batch_size": 3}, {"augment.flip": 0.0}, {"data.fingerprint": "0"}):
        assert recipe.with_values(other).digest() != recipe.digest()


def test_digests_are_those_of_earlier_versions():
    """A run that was begun with one is resumed by the next: change this only where what a recipe means has changed."""
    values = {"model": {"name": "unet"}, "optimizer": {"lr": 0.01}, "run": {"epochs": 40, "validate_every": 5, "average": 0.9}}
    assert Recipe.parse(values).digest() == "643e603bdfba505a"


def test_a_setting_of_a_later_version_leaves_digests_alone():
    class LaterRun(RunSection):
        colour: str = "blue"

    class Later(Recipe):
        run: LaterRun = Field(default_factory=LaterRun)
        weather: CropsSection = Field(default_factory=CropsSection)

    values = {"optimizer.lr": 0.1, "run.seed": 3, "model.arguments.width": 0.5}
    assert Later().with_values(values).digest() == Recipe().with_values(values).digest() != Recipe().digest()
    assert Later().with_values({"run.colour": "red"}).digest() != Later().digest()


def test_every_setting_is_described():
    names = [name for name, _, _ in describe_settings()]
    assert len(names) == len(set(names)) > 30
    assert {"data.path", "optimizer.lr", "run.seed"} <= set(names)


def test_a_part_of_an_epoch_or_whole_ones_but_nothing_between():
    assert Recipe.parse({"run": {"validate_every": 3.0}}).dumps() == Recipe.parse({"run": {"validate_every": 3}}).dumps()
    assert Recipe.parse({"run": {"validate_every": 0.25}}).run.rows_per_epoch(1000) == 4
    assert Recipe.parse({"run": {"validate_every": 0.25}}).run.rows_per_epoch(3) == 3
    assert Recipe.parse({"run": {"validate_every": 0.9}}).run.rows_per_epoch(1000) == 1
    assert Recipe.parse({"run": {"validate_every": 5}}).run.rows_per_epoch(1000) == 1
    for value in (2.5, 0, -0.5, float("inf"), float("nan")):
        with pytest.raises(RecipeError, match=r"run\.validate_every = \S+: [a-z]"):
            Recipe.parse({"run": {"validate_every": value}})
    with pytest.raises(RecipeError, match=r"validate_every = 2\.5: expected whole epochs, or a fraction of one below 1"):
        Recipe.parse({"run": {"validate_every": 2.5}})
