"""Documents that are made from the code are up to date, and the files they point to are there."""

import importlib.util
import re
from pathlib import Path

import pytest

from upscore.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_page_of_settings_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_recipe", ROOT / "docs" / "make_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text() == module.recipe_page(), "run: python docs/make_recipe.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_are_recipes(path):
    recipe = Recipe.load(path)
    if not path.stem.endswith("-voc"):
        return
    # The papers' own.
    assert recipe.optimizer.name == "sgd"
    assert recipe.optimizer.bias_lr == 2.0
    assert recipe.loss.normalize == "none"
