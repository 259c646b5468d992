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


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """Six images of 20 rows and 30 columns, whose first annotation, by person 1, is of the class x, and whose second, by 2, of y."""
    tasks = []
    for number in range(6):
        save_image(tmp_path / "studio" / f"a{number}.png", 20, 30)
        box = {"x": 0, "y": 0, "width": 50, "height": 100}
        annotations = [
            {"completed_by": person, "ground_truth": person == 2, "result": [
                {"original_width": 30, "original_height": 20, "value": {**box, "rectanglelabels": [label]}}
            ]} for person, label in ((1, "x"), (2, "y"))
        ]  # fmt: skip
        tasks.append({"id": number, "data": {"image": f"a{number}.png"}, "annotations": annotations})
    (tmp_path / "studio/tasks.json").write_text(json.dumps(tasks))
    return tmp_path / "studio"


@pytest.mark.parametrize(("annotation", "label"), [(None, "x"), ("ground-truth", "y"), ("annotator:1", "x"), ("annotator:2", "y")])
def test_the_annotation_that_counts_reaches_every_verb(
    studio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], annotation: str | None, label: str
) -> None:
    given = ["--annotation", annotation] if annotation else []
    assert _run(["doctor", str(studio), *given, "--json", "--only", "balance"], debug=False) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["background", label]
    assert _run(["convert", str(studio), *given, "--out", str(tmp_path / "new")], debug=False) == 0
    assert open_dataset(tmp_path / "new").labels.names == ("background", label)
    recipe = Recipe().with_values({"data.path": str(studio), **({"data.annotation": annotation} if annotation else {})})
    assert _open_splits(recipe, OwnObjects())[0].labels.names == ("background", label)
    assert recipe.data.reading == ({"annotation": annotation} if annotation else {})
    with pytest.raises(RecipeError, match="annotation"):
        recipe.with_values({"data.annotation": "annotator:"})
