"""Documents that are made from the code are up to date, and the files they point to are there."""

import importlib.util
import re
from pathlib import Path

import pytest

from upscore.training.recipe import Recipe
from upscore.training.recipes import find_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_page_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_recipe", ROOT / "docs" / "make_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text() == module.recipe_page(), "run: python docs/make_recipe.py"


def test_the_page_of_checks_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_doctor", ROOT / "docs" / "make_doctor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "doctor.md").read_text() == module.doctor_page(), "run: python docs/make_doctor.py"


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
    assert (recipe.optimizer.name, recipe.optimizer.momentum, recipe.optimizer.multipliers.bias.lr) == ("sgd", 0.99, 2.0)
    assert (recipe.loss.normalize, recipe.run.batch_size) == ("none", 1)
