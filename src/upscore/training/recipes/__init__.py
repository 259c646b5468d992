"""The recipes that come with upscore: the papers', with the numbers they claim, each a TOML file in this folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from upscore.errors import RecipeError, nearest_name

__all__ = ["ShippedRecipe", "find_recipe", "list_recipes"]


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe that comes with upscore."""

    name: str  #: what --recipe takes
    path: Path
    about: str  #: what it trains, and how: the comment at the file's beginning, as one paragraph
    claims: str  #: the numbers its source reports; "" where it has none
    command: str  #: how to start it, with what must be put where


def list_recipes() -> list[ShippedRecipe]:
    """Return every shipped recipe, by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe: the one at this path, or the shipped one of this name; raises RecipeError where there is neither."""
    path = Path(name)
    if path.suffix == ".toml" or os.path.isfile(path):
        return path
    shipped = {recipe.name: recipe.path for recipe in list_recipes()}
    if str(name) not in shipped:
        near = nearest_name(str(name), list(shipped))
        raise RecipeError(f"no recipe '{name}'{near}: give a .toml file, or a name that 'upscore recipes' lists")
    return shipped[str(name)]


def _read(path: Path) -> ShippedRecipe:
    lines = [line.removeprefix("#") for line in path.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()]
    command = " ".join(line.strip() for line in lines if line.startswith("   "))
    words = " ".join(line.strip() for line in lines if not line.startswith("   "))
    about, _, claims = words.partition(" Claims")
    return ShippedRecipe(path.stem, path, about, f"Claims{claims}" if claims else "", command)
