"""Examples run: those of docstrings, and those of the pages, which show what they print."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).resolve().parents[2] / "src"
WITH_EXAMPLES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """A folder to write to, a cache of its own, and random numbers that change nobody else's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_docstrings_run(name, apart):
    """Each in its own session, with the names of its module; a warning is an error here as everywhere."""
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module)
    assert tried, "no example was found: is one in a comment, or in a string that is no docstring?"
    assert not failed
