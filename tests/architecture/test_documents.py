"""Documents that are made from the code are up to date, and the files they point to are there."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from upscore.cli.app import app
from upscore.settings import InferenceSettings
from upscore.training.recipe import Recipe, describe_settings
from upscore.training.recipes import find_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_page_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_recipe", ROOT / "docs" / "make_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text() == module.recipe_page(), "run: python docs/make_recipe.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target, _, place in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", page.read_text()):
        if not target.startswith("http"):
            led_to = page.parent / target if target else page
            assert led_to.exists(), f"{page.name} points to {target}"
            if place and led_to.suffix == ".md":
                assert place in anchors(led_to), f"{page.name} points to {place} in {led_to.name}"


def anchors(page):
    """What headings are called in links to them: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["fcn32s-voc", "fcn16s-voc", "fcn8s-voc", "fcn8s-atonce-voc"])
def test_the_releases_recipes_learn_as_the_release_did(name):
    recipe = Recipe.load(find_recipe(name))
    assert (recipe.optimizer.name, recipe.optimizer.momentum, recipe.optimizer.bias_lr) == ("sgd", 0.99, 2.0)
    assert (recipe.loss.normalize, recipe.run.batch_size) == ("none", 1)


VERBS = typer.main.get_command(app).commands
COMMAND = re.compile(r"^upscore ([a-z][a-z-]*)((?:\\\n|[^#\n])*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_are_those_of_the_command_line(page):
    for verb, arguments in commands(page.read_text()):
        assert verb in VERBS, f"{page.name}: upscore {verb}"
        options = {name for option in VERBS[verb].params for name in (*option.opts, *option.secondary_opts)}
        missing = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", arguments)) - options - {"--help"}
        assert not missing, f"{page.name}: upscore {verb} has no {missing}"
        for setting in re.findall(r"--set ([a-z_]+\.[a-z_]+)", arguments):
            assert setting in SETTINGS or setting.startswith("model.arguments"), f"{page.name}: no setting {setting}"


def commands(text):
    """Commands in blocks and in quotation marks, each with its arguments; ``upscore`` in running text is a name."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fence.findall(text) if not language]
    inline = re.findall(r"`(upscore [^`]+)`", fence.sub("", text))
    return [match.groups() for part in (*blocks, *inline) for match in re.finditer(COMMAND, part)]


def settings_of_inference():
    for section, field in InferenceSettings.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            yield from (f"{section}.{name}" for name in getattr(kind, "model_fields", ()))


SETTINGS = {name for name, _, _ in describe_settings()} | set(settings_of_inference())


def test_the_readme_has_commands():
    assert {verb for verb, _ in commands((ROOT / "README.md").read_text())} >= {"train", "evaluate", "predict", "tune", "explain"}
