"""The code of README.md and docs/ runs, and every command on a page, in a help text or in a recipe is one that there is."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn

import upscore
from painting import paint, small_recipe
from squares import Squares, make_network, mean_cross_entropy
from upscore.cli.app import UsageError, app
from upscore.cli.inference_options import InferenceOptions
from upscore.data.image_files import read_image
from upscore.data.png_files import write_image
from upscore.errors import UpscoreError
from upscore.training.recipe import Recipe, parse_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = [*sorted((ROOT / "docs" / "results").glob("*.toml")), *sorted((ROOT / "src" / "upscore" / "training" / "recipes").glob("*.toml"))]
FENCE = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = typer.main.get_command(app)


def commands_of(path):
    """Return the command lines of a page's blocks and inline code, or of a recipe's comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        text = "".join(f"{line.lstrip('# ')}\n" for line in text.splitlines() if line.startswith("#"))
        blocks, inline = [text], []
    else:
        blocks, inline = FENCE.findall(text), re.findall(r"`(upscore [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in [*lines, *inline] if line.startswith("upscore ")]


def helped():
    """Return the command lines of the examples in the help."""
    texts = [COMMAND.epilog or "", *(command.epilog or "" for command in COMMAND.commands.values())]
    return [line.replace("\\[", "[") for text in texts for line in re.split(r"\n\n|,  |\[/?bold\]", text) if line.startswith("upscore ")]


def check(line):
    """Parse a command line as it would be run, and its settings."""
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    if words in (["--help"], ["--version"], ["--install-completion"]):
        return
    verb, *words = words
    command = COMMAND.commands[verb]
    if not words:
        return  # the name of a verb
    values = command.make_context(verb, words, resilient_parsing="--help" in words).params
    if verb == "train":
        named = values["recipe"] and not values["recipe"].endswith(".toml")
        (Recipe.load(values["recipe"]) if named else Recipe()).with_values(parse_settings(values["settings"] or []))
    elif "settings" in values:
        InferenceOptions(**{name: values[name] for name in ("scales", "tile", "settings")}).overrides()


@pytest.mark.parametrize("path", [path for path in [*PAGES, *RECIPES] if commands_of(path)], ids=lambda path: path.name)
def test_commands_are_those_that_there_are(path):
    for line in commands_of(path):
        try:
            check(line)
        except Exception as error:
            pytest.fail(f"{path.name}: {line}: {error}")


def test_the_readme_shows_the_verbs():
    assert {line.split()[1] for line in commands_of(ROOT / "README.md")} >= {"train", "evaluate", "predict", "tune", "explain"}


def test_commands_of_the_help_are_those_that_there_are():
    lines = helped()
    assert len(lines) > 20
    for line in lines:
        check(line)


@pytest.mark.parametrize(
    "line", ["upscore fly", "upscore train DATA --epoch 3", "upscore train DATA --set run.epoch=3", "upscore predict RUN"]
)
def test_a_command_that_there_is_not_is_noticed(line):
    with pytest.raises((KeyError, UpscoreError, UsageError)):
        check(line)


def names_for_the_crf():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(21, 12, 14)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(0)
    image = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    return {
        "logits": logits, "probs": probs, "image": image, "label_map": probs.argmax(0), "mask": np.zeros((12, 14), bool),
        "batch": np.stack([probs] * 2), "images": np.stack([image] * 2), "depth": rng.random((12, 14)).astype(np.float32),
    }  # fmt: skip


def names_for_stitching():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(16), nn.Conv2d(4, 2, 2))
    return {"network": network.eval(), "images": torch.rand(1, 3, 96, 96)}


def names_for_the_readme():
    network = nn.Sequential(nn.Conv2d(3, 21, 1))
    crf = names_for_the_crf()
    images, labels = torch.rand(1, 3, 12, 14), torch.zeros(1, 12, 14, dtype=torch.long)
    own = {
        "my_train": Squares(),
        "my_val": Squares(3),
        "my_network": make_network(),
        "my_loss": mean_cross_entropy,
        "MyNetwork": make_network,
    }
    own |= {"rows": [], "pil_image": Image.new("RGB", (50, 40))}
    return {"torch": torch, "network": network, "images": images, "labels": labels, "probs": crf["probs"], "image": crf["image"], **own}


NAMES = {"README.md": names_for_the_readme, "crf.md": names_for_the_crf, "detection.md": dict, "stitching.md": names_for_stitching}


@pytest.mark.parametrize("name", NAMES)
def test_code_of_a_page_runs(name, tmp_path, monkeypatch):
    (path,) = [path for path in PAGES if path.name == name]
    text = path.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "street")
    write_image(tmp_path / "photo.jpg.png", read_image(tmp_path / "street" / "images" / "val" / "000.png"))
    (tmp_path / "photo.jpg.png").rename(tmp_path / "photo.jpg")

    run_training = upscore.train

    def train_briefly(*, train, epochs=1, **own):
        recipe = small_recipe(Path("unused"), tmp_path / ("own" if own else "run"), **{"run.epochs": 1})
        if own:
            recipe = recipe.with_values({"model": {}, "data.path": None})
        return run_training(recipe, train=train, **own)

    monkeypatch.setattr(upscore, "train", train_briefly)
    session = NAMES[name]()
    with torch.random.fork_rng(devices=[]):
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            code = block.group(1) if torch.cuda.is_available() else block.group(1).replace('"cuda"', '"cpu"')
            exec(compile("\n" * text.count("\n", 0, block.start(1)) + code, str(path), "exec"), session)


def test_every_page_with_code_is_run():
    with_code = {path.name for path in PAGES if "```python" in path.read_text(encoding="utf-8")}
    papers = {path.name for path in (ROOT / "docs" / "papers").glob("*.md")} | {"objects.md", "python.md"}  # in test_papers.py
    assert with_code <= {*NAMES, *papers}
