"""What a run does about images that cannot be read, and about images that are in both splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painting import small_recipe
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError, TrainingError
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.result import merge_evaluations
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.resume import resume


@pytest.fixture
def data(painted: Path, tmp_path: Path) -> Path:
    shutil.copytree(painted.parent, tmp_path / "data")
    return tmp_path / "data"


def recipe_for(data: Path, out: Path, **values: object) -> Recipe:
    return small_recipe(data / "dataset.yaml", out, **{"run.epochs": 1, **values})


def damage(path: Path) -> None:
    """Flip bytes in the middle of a file, which stays complete."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 - byte for byte in content[middle : middle + 40])
    path.write_bytes(bytes(content))


def put_into_val(data: Path, key: str, name: str) -> None:
    """Save a training image again, in another format, among the validation images."""
    with Image.open(data / "images" / "train" / f"{key}.png") as image:
        image.save(data / "images" / "val" / f"{name}.bmp")
    shutil.copy(data / "masks" / "train" / f"{key}.png", data / "masks" / "val" / f"{name}.png")


def test_a_recipe_may_refuse_images_in_both_splits_and_lists_them(data: Path, tmp_path: Path) -> None:
    refusing = recipe_for(data, tmp_path / "run", **{"data.refuse_overlap": True})
    assert plan(refusing).warnings == []
    put_into_val(data, "003", "renamed")
    put_into_val(data, "001", "again")
    with pytest.raises(DataError, match=r"2 of 5 images of the validation data \(val\) .*: again, renamed$") as refused:
        plan(refusing)
    assert "\n" not in str(refused.value)
    assert "data.val" in str(refused.value)
    assert not (tmp_path / "run").exists()
    assert plan(recipe_for(data, tmp_path / "run")).warnings


def test_an_image_that_cannot_be_decoded_is_found_before_training_and_the_error_names_the_flag(data: Path, tmp_path: Path) -> None:
    damage(data / "images" / "train" / "002.png")
    with pytest.raises(DataError, match=r"002\.png.*--skip-bad"):
        plan(recipe_for(data, tmp_path / "run"))
    (data / "images" / "train" / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 6 images or masks cannot be used: .*001\.png.*--skip-bad") as refused:
        plan(recipe_for(data, tmp_path / "run"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_run_without_its_bad_images_is_the_run_on_the_others(data: Path, tmp_path: Path) -> None:
    damage(data / "images" / "train" / "002.png")
    ready = plan(recipe_for(data, tmp_path / "run", **{"data.skip_bad": True}))
    (warning,) = ready.warnings
    assert warning.startswith("[files.unreadable] 1 of 6 training images cannot be read and are left out (002), first ")
    finished = train(ready)
    skipped = (finished.folder / "skipped.txt").read_text()
    assert skipped.startswith("002\t")
    assert skipped.count("\n") == 1
    card = Bundle.load(finished.best).card
    assert (card["data"]["skipped"], card["data"]["images"], card["data"]["pixels"]["known"]) == (1, 5, 5)
    assert card["warnings"] == [warning]

    for part in ("images", "masks"):
        (data / part / "train" / "002.png").unlink()
    clean = train(recipe_for(data, tmp_path / "clean"))
    assert not (clean.folder / "skipped.txt").exists()
    theirs = Bundle.load(clean.best).card["data"]
    for fact in ("fingerprint", "identity", "images", "pixels"):
        assert card["data"][fact] == theirs[fact]
    weights = [folder / "last" / "weights.safetensors" for folder in (finished.folder, clean.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_goes_on_without_the_same_images_and_not_without_others(data: Path, tmp_path: Path) -> None:
    damage(data / "images" / "train" / "002.png")
    finished = train(recipe_for(data, tmp_path / "run", **{"data.skip_bad": True}))
    assert resume(finished.folder, changes={"run.epochs": 2}).progress.best_epoch
    damage(data / "images" / "train" / "004.png")
    with pytest.raises(TrainingError, match="the images or masks have changed"):
        resume(finished.folder)


def test_a_validation_image_that_cannot_be_read_stays_an_error(data: Path, tmp_path: Path) -> None:
    damage(data / "images" / "val" / "001.png")
    with pytest.raises(DataError, match=r"001\.png") as refused:
        plan(recipe_for(data, tmp_path / "run", **{"data.skip_bad": True}))
    assert "--skip-bad" not in str(refused.value)


def test_a_training_image_saved_again_among_those_of_validation_is_the_first_warning(data: Path, tmp_path: Path) -> None:
    put_into_val(data, "003", "renamed")
    for path in (data / "masks" / "val").iterdir():  # another warning
        values = np.array(Image.open(path))
        Image.fromarray(np.where(values == 2, 0, values).astype(np.uint8)).save(path)
    steps: list[tuple[int, int]] = []
    ready = plan(recipe_for(data, tmp_path / "run"), progress=lambda *step: steps.append(step))
    assert len(ready.warnings) == 2
    assert ready.warnings[0].startswith(
        "[splits.shared-images] 1 of 4 images of the validation data (val) are also in the training data (renamed, there 003)"
    )
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_an_evaluation_knows_what_the_network_was_trained_on_when_the_training_data_is_gone(data: Path, tmp_path: Path) -> None:
    run = train(recipe_for(data, tmp_path / "run"))
    put_into_val(data, "003", "renamed")
    shutil.rmtree(data / "images" / "train")
    shutil.rmtree(data / "masks" / "train")
    val = open_dataset(data / "images" / "val" / ".." / ".." / "dataset.yaml", "val")
    predictor = Predictor(run.best, device="cpu")
    evaluation = evaluate(predictor, val)
    assert evaluation.trained_on == (("renamed", "renamed"),)
    warning = "[splits.shared-images] 1 of 4 images of val are also in the network's training data (renamed)"
    assert evaluation.warnings[0].startswith(warning)
    for numbers in (evaluation.numbers(), evaluation.as_dict()):
        assert numbers["warnings"][0].startswith(warning)
        assert numbers["trained_on"] == ["renamed"]
    shards = [evaluate(predictor, val, shard=(rank, 2)) for rank in range(2)]
    assert [len(shard.trained_on) for shard in shards] == [0, 1]
    assert merge_evaluations(shards).trained_on == evaluation.trained_on


def test_other_images_are_not_taken_for_those_of_training(data: Path, tmp_path: Path) -> None:
    run = train(recipe_for(data, tmp_path / "run"))
    evaluation = evaluate(run.best, data / "dataset.yaml")
    assert evaluation.trained_on == ()
    assert json.loads(json.dumps(evaluation.numbers()))["warnings"] == []
