"""Decisions on reading the data are settings of a recipe, flags, and in the command that is printed to run next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from outlines_by_hand import save_image
from upscore.cli.app import _run
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import dataset_identity
from upscore.errors import DataError, RecipeError
from upscore.evaluation.evaluate import _find_in_splits
from upscore.training.own_objects import OwnObjects
from upscore.training.plan import _open_splits
from upscore.training.recipe import Recipe


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    images, annotations = [], []
    for number in range(6):
        save_image(tmp_path / "coco" / f"p{number // 2}_{number}.png", 20, 30)
        images.append({"id": number, "file_name": f"p{number // 2}_{number}.png", "height": 20, "width": 30})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]})
    (tmp_path / "coco/a.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]})
    )
    return tmp_path / "coco"


def test_a_recipe_s_options_reach_the_reader(coco: Path) -> None:
    recipe = Recipe().with_values({"data.path": str(coco), "data.split_by": "(p[0-9])_", "data.unlabelled": "ignore"})
    train, val = _open_splits(recipe, OwnObjects())
    assert (len(train), len(val)) == (4, 2)
    assert len({key.partition("_")[0] for key in val.keys}) == 1
    assert set(np.unique(val[0].label)) == {0, 255}
    assert Recipe.model_validate(recipe.model_dump()).data.reading == {"split_by": "(p[0-9])_", "unlabelled": "ignore"}
    with pytest.raises(RecipeError, match="crowd"):
        recipe.with_values({"data.crowd": "perhaps"})
    with pytest.raises(DataError, match="found the options drawing, expected split_by, unlabelled, crowd"):
        _open_splits(recipe.with_values({"data.drawing": "tool"}), OwnObjects())


def test_images_that_were_trained_on_are_found_in_the_splits_of_the_run(coco: Path) -> None:
    identity = dataset_identity(open_dataset(coco, "train", split_by="(p[0-9])_"))
    evaluated = open_dataset(coco, "val", split_by="_([0-9])$")
    card = {"data": {"identity": identity, "split": "train"}, "recipe": {"data": {"split_by": "(p[0-9])_"}}}
    assert [key for key, _ in _find_in_splits([card], evaluated, str(coco))] == list(evaluated.keys)
    assert _find_in_splits([card | {"recipe": {}}], evaluated, str(coco)) == []


def test_the_doctor_takes_them(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", str(coco), "--split-by", "(p[0-9])_", "--unlabelled", "ignore", "--json", "--only", "balance"]
    assert _run(arguments, debug=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 4, "val": 2}
    assert found["classes"] == ["x"]
    assert any("of 3 groups by (p[0-9])_" in message for message in found["messages"])
