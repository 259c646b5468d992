"""The recipe: everything a run needs, as a value that a TOML file holds.

A setting left out is chosen from the data and the machine (:mod:`upscore.training.auto_config`)
before the run starts; the complete recipe, with the reason of every choice in its
``[chosen]`` table, is saved in the run folder and can be run again as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, Field, ValidationError

from upscore.documents import parse_toml, parse_value
from upscore.errors import RecipeError, nearest_name
from upscore.files import read_text, write_atomically
from upscore.text import literal
from upscore.training import recipe_sections as sections
from upscore.training.recipes import find_recipe

__all__ = ["MAY_CHANGE", "Recipe", "describe_settings", "parse_settings", "read_recipe"]

MAY_CHANGE = ("data.path", "run.device", "run.devices", "run.workers", "run.checkpoint_minutes", "run.tensorboard")
"""Settings a resumed run may be given anew: where its data is and how it is computed, not what is computed."""

MAX_FILE = 1 << 20  # bytes; a recipe is a page of text, and a larger file is something else

NEVER_CHOSEN = ("data.path", "data.fingerprint", "input.mean", "input.std", "model.start_from", "run.steps")
"""Settings that stay as they are when left out: they are given, found or absent."""


class Recipe(sections.Section):
    """Everything a run needs; settings that are ``None`` are still to be chosen.

    A value: read it from TOML with :meth:`load`, change it with :meth:`with_values`,
    write it with :meth:`save`. Unknown names are refused with the nearest known one.
    """

    data: sections.DataSection = sections.DataSection()
    input: sections.InputSection = sections.InputSection()
    crops: sections.CropsSection = sections.CropsSection()
    model: sections.ModelSection = sections.ModelSection()
    augment: sections.AugmentSection = sections.AugmentSection()
    loss: sections.LossSection = sections.LossSection()
    optimizer: sections.OptimizerSection = sections.OptimizerSection()
    schedule: sections.ScheduleSection = sections.ScheduleSection()
    run: sections.RunSection = sections.RunSection()
    own: dict[str, str] = Field({}, description="where objects are defined that a caller gave from Python, in place of what is named here")
    chosen: dict[str, str] = Field(default_factory=dict, description="why each setting that was left open is what it is")

    @classmethod
    def parse(cls, values: dict[str, Any], *, source: str = "recipe") -> Recipe:
        """Return the recipe that nested ``values`` describe.

        Raises RecipeError where a name is unknown (the nearest one is offered), or a value has the wrong type or range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(f"{source}: {_first_fault(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a TOML file, or one that comes with upscore by its name.

        Raises RecipeError where none has that name, or the file is missing, too large, not TOML, or holds what a recipe does not.
        """
        path = find_recipe(path)
        text = read_text(path, max_bytes=MAX_FILE, what="a recipe", error=RecipeError)
        try:
            values = parse_toml(text)
        except ValueError as error:
            raise RecipeError(f"{path}: not valid TOML: {error}") from None
        return cls.parse(values, source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the recipe as TOML, atomically; settings still open are left out."""
        write_atomically(Path(path), self.dumps().encode())

    def dumps(self) -> str:
        """Return the recipe as TOML text."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))

    def with_values(self, values: Mapping[str, Any], *, source: str = "flags") -> Recipe:
        """Return a copy with the values of dotted setting names changed; the rest stays as it is.

        Raises RecipeError where a name is unknown or a value does not fit; ``source`` is what the error calls them.
        """
        changed = self.model_dump()
        for name, value in values.items():
            *tables, key = name.split(".")
            table: dict[str, Any] = changed
            for section in tables:
                if not isinstance(table.get(section), dict):
                    known = [k for k, v in table.items() if isinstance(v, dict) and k != "chosen"]
                    raise RecipeError(f"{source}: no section '{section}'{nearest_name(section, known)}; there are {', '.join(known)}")
                table = table[section]
            table[key] = value
            changed["chosen"].pop(name, None)
        if values.keys() & {"run.epochs", "run.steps"} and "run.lengthened" not in values:
            changed["run"]["lengthened"] = []  # it belongs to the length before
        return type(self).parse(changed, source=source)

    def value_of(self, name: str) -> Any:
        """Return the value of a dotted setting name, such as ``optimizer.lr``; None where it is not set."""
        value: Any = self.model_dump()
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def open_settings(self) -> Iterator[str]:
        """Yield the dotted names of settings still to be chosen, in order."""
        for section, values in self.model_dump(exclude={"chosen"}).items():
            yield from (f"{section}.{key}" for key, value in values.items() if value is None)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name what determines the result: all but :data:`MAY_CHANGE`, ``run.out`` and ``chosen``.

        Settings that have their default do not count: a setting that a later version adds does not change the digests of earlier runs.
        """
        excluded = {*MAY_CHANGE, "run.out"}
        defaults = type(self)().model_dump(mode="json")
        values = {
            f"{section}.{key}": value
            for section, values in self.model_dump(mode="json", exclude={"chosen"}).items()
            for key, value in values.items()
            if f"{section}.{key}" not in excluded and value != defaults[section].get(key)
        }
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()

    def digests(self) -> tuple[str, ...]:
        """Return the digest, and those the recipe had before the run was lengthened."""
        return (self.digest(), *(before.recipe for before in self.run.lengthened))


def read_recipe(recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a caller gives in one of many forms, with settings by the last part of their names.

    Raises RecipeError where it is no recipe, or a setting's name is unknown, or that of several.

    >>> read_recipe({"model": {"name": "unet"}}, {"epochs": 3}).run.epochs
    3
    """
    if isinstance(recipe, str | os.PathLike):
        if Path(recipe).suffix in (".yaml", ".yml") or os.path.isdir(recipe):
            raise RecipeError(f"found the data '{os.fspath(recipe)}' as recipe: give it as train=")
        recipe = Recipe.load(Path(recipe))
        recipe.run.out = None  # it names the folder of another run
    elif isinstance(recipe, Mapping):
        recipe = Recipe.parse(dict(recipe))
    elif recipe is None:
        recipe = Recipe()
    elif not isinstance(recipe, Recipe):
        raise RecipeError(f"found {type(recipe).__name__} as recipe, expected a Recipe, a mapping, or a TOML file")
    by_key: dict[str, list[str]] = {}
    for name, _, _ in describe_settings():
        by_key.setdefault(name.rpartition(".")[2], []).append(name)
    for key in settings:
        names = by_key.get(key, [])
        if len(names) != 1:
            near = nearest_name(key, list(by_key))
            raise RecipeError(
                f"no setting '{key}'{near}"
                if not names
                else f"'{key}' may be {' or '.join(names)}: give a recipe, such as {{'model': {{...}}}}"
            )
    values = {by_key[key][0]: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    return recipe.with_values(values, source="upscore.train")


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``section.key=value`` settings by dotted name; values are TOML, bare words strings. Raises RecipeError for any other form."""
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or "." not in name:
            raise RecipeError(f"--set {setting}: expected section.key=value, such as optimizer.lr=1e-4")
        values[name.strip()] = parse_value(text)
    return values


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        section: type[BaseModel] = Recipe
        for part in fault["loc"][:-1]:
            inner = section.model_fields[str(part)].annotation
            assert isinstance(inner, type)
            section = inner
        known = list(section.model_fields)
        return f"unknown setting '{name}'{nearest_name(str(fault['loc'][-1]), known)}; known there: {', '.join(known)}{more}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{name} = {literal(fault['input'])}: {message[:1].lower()}{message[1:]}{more}"


def describe_settings() -> list[tuple[str, str, str]]:
    """Return (dotted name, default, meaning) of every setting, for help texts and documents."""
    rows = []
    for section, field in Recipe.model_fields.items():
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            continue
        for key, setting in inner.model_fields.items():
            default, name = setting.get_default(call_default_factory=True), f"{section}.{key}"
            unset = "none" if name in NEVER_CHOSEN else "chosen"
            written = json.dumps(default, default=lambda section: section.model_dump())
            rows.append((name, unset if default is None else written, setting.description or ""))
    return rows
