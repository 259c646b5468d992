"""The pages about the papers stay true: their code runs and prints what they say, and their links lead to what they name."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest
import torch

from upscore.training.recipes import list_recipes

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "papers").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)

OBJECTS, PYTHON = ROOT / "docs" / "objects.md", ROOT / "docs" / "python.md"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def make_links():
    spec = importlib.util.spec_from_file_location("make_links", ROOT / "docs" / "make_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_four_papers_have_pages():
    assert [page.stem for page in PAGES] == ["deconvnet", "fcn", "segnet", "unet"]


@pytest.mark.parametrize("page", [ROOT / "docs" / "faithfulness.md", *PAGES], ids=lambda path: path.stem)
def test_links_lead_to_the_lines_they_name(page):
    links = make_links()
    assert page.read_text() == links.renumbered(page), "run: python docs/make_links.py"
    for name, target, number in links.LINK.findall(page.read_text()):
        line = (page.parent / target).read_text().splitlines()[int(number) - 1]
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", line), f"{name} is not in: {line}"


@every_page
def test_every_link_to_code_names_its_line(page):
    to_code = re.findall(r"\]\([^)]+\.py[^)]*\)", page.read_text())
    assert to_code
    assert len(to_code) == len(make_links().LINK.findall(page.read_text()))


@pytest.mark.parametrize(
    ("name", "line"),
    [("make", 2), ("Net", 4), ("Net.forward", 9), ("Net.layer", 6), ("Net.size", 5), ("LIMIT", 1), ("make.width", 3)],
)
def test_names_are_found_where_they_are_defined(name, line):
    source = (
        "LIMIT: int = 3\n"
        "def make(forward):\n"
        "    width = LIMIT\n"
        "class Net:\n"
        "    size = make(layer=1)\n"
        "    def __init__(self): self.layer, _ = make(forward=2), 0\n"
        "\n"
        "    # forward\n"
        "    def forward(self): return self.layer\n"
    )
    assert make_links().line_of(source, name) == line


@pytest.mark.parametrize("name", ["missing", "Net.missing", "Missing.forward"])
def test_a_name_that_is_gone_is_said(name):
    with pytest.raises(LookupError, match="issing"):
        make_links().line_of("class Net:\n    def forward(self): pass\n", name)


every_page_and_objects = pytest.mark.parametrize("page", [*PAGES, OBJECTS], ids=lambda path: path.stem)


@pytest.mark.parametrize("page", [*PAGES, OBJECTS, PYTHON], ids=lambda path: path.stem)
def test_code_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    """From top to bottom in one session, as a reader would; errors point into the page."""
    monkeypatch.chdir(tmp_path)
    text, session = page.read_text(), {"__name__": "page"}
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    with torch.random.fork_rng(devices=[]):
        for block in blocks:
            code, said = block.groups()
            above = text.count("\n", 0, block.start(1))
            assert "assert" in code or said is not None, f"{page.name}, line {above}: the code shows nothing"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * above + code, page, "exec"), session)
            assert printed.getvalue() == (said or ""), f"{page.name}, line {above}"


@every_page_and_objects
def test_recipes_are_named_as_they_are_shipped(page):
    named = re.findall(r"--recipe (\S+)", page.read_text())
    assert named
    assert set(named) <= {recipe.name for recipe in list_recipes()}
