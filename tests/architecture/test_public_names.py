"""What is public is said once, exists, and is documented."""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest

import upscore

MODULES = sorted(name for _, name, _ in pkgutil.walk_packages(upscore.__path__, "upscore.") if not name.endswith(("__main__", "._native")))
BANNED = {"utils", "util", "helpers", "helper", "misc", "common", "base", "manager", "handler"}

NAMED_BY_OTHERS = ("upscore.crf.pydensecrf.utils",)  # users change one import and nothing else


def test_every_public_name_of_the_package_resolves():
    for name in upscore.__all__:
        assert getattr(upscore, name) is not None


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are_and_what_is_public(module):
    loaded = importlib.import_module(module)
    assert (loaded.__doc__ or "").strip() or not (loaded.__file__ or "").endswith(".py") or not inspect.getsource(loaded).strip()
    for name in getattr(loaded, "__all__", []):
        thing = getattr(loaded, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == module:
            assert (thing.__doc__ or "").strip(), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_no_drawers(module):
    assert not set(module.split(".")) & BANNED or module in NAMED_BY_OTHERS
    source = inspect.getsource(importlib.import_module(module))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            words = re.findall("[A-Z][a-z]+", node.name)
            assert not {word.lower() for word in words} & BANNED, f"{module}.{node.name}"
