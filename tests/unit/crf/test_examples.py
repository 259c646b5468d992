"""The examples in the CRF's docstrings run, and everything public has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import upscore.crf

MODULES = ["upscore.crf", *(name for _, name, _ in pkgutil.walk_packages(upscore.crf.__path__, "upscore.crf."))]
OLDER_NAMES = ("compute_unary", "softmax_to_unary")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("upscore.crf.engines.")])
def test_everything_public_has_an_example(name):
    module = importlib.import_module(name)
    public = [(public, getattr(module, public)) for public in getattr(module, "__all__", ()) if public not in OLDER_NAMES]
    documented = [(public, value) for public, value in public if inspect.isfunction(value) or inspect.isclass(value)]
    without = [public for public, value in documented if not getattr(value, "_is_protocol", False) and ">>>" not in (value.__doc__ or "")]
    assert without == []
