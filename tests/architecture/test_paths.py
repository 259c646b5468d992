"""The paths of ARCHITECTURE.md lead through functions that exist, and enter no file more than twice."""

import ast
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "upscore"


def paths():
    section = (ROOT / "ARCHITECTURE.md").read_text().partition("## Five paths")[2].partition("\n## ")[0]
    chains = re.findall(r"\*\*(.+?)\*\*\n\n```\n(.+?)```", section, flags=re.DOTALL)
    return {title: [re.split(r"  +", line, maxsplit=2) for line in chain.splitlines()] for title, chain in chains}


def names_in(file):
    """Functions, classes, and methods as Class.method."""
    names = set()
    for node in ast.parse((SRC / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return names


def test_there_are_five_paths():
    assert len(paths()) == 5


@pytest.mark.parametrize("title", paths())
def test_a_path_leads_through_code_that_exists(title):
    for file, functions, what in paths()[title]:
        assert set(functions.split(", ")) <= names_in(file), f"{file}: {functions}"
        assert what


@pytest.mark.parametrize("title", paths())
def test_a_path_enters_no_file_more_than_twice(title):
    entered = Counter(file for file, _ in groupby(file for file, *_ in paths()[title]))
    assert entered.most_common(1)[0][1] <= 2, entered.most_common(3)
