"""The loop of docs/labelling.md: train, choose images, correct the predictions, train on them."""

import json
from pathlib import Path

import numpy as np
import pytest

from painting import paint, small_recipe
from upscore.data.open_dataset import open_dataset
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage, WriterOptions
from upscore.training.launch import train
from upscore.training.plan import plan


def correct(folder: Path, truth: dict[str, np.ndarray], labels) -> None:
    """Be the person: put the true shapes into the files that hold the predictions."""
    for file in folder.glob("*.json"):
        image = next(path for path in folder.glob(f"{file.stem}.*") if path.suffix == ".png")
        drawn = folder.parent / "drawn"
        writer = find_writer("labelme").open(drawn, labels, WriterOptions())
        writer.add(AnnotatedImage(image.name, truth=truth[file.stem], file=image))
        content = json.loads(file.read_text())
        content["shapes"] = json.loads((drawn / file.name).read_text())["shapes"]
        file.write_text(json.dumps(content))


@pytest.mark.filterwarnings("ignore")
def test_the_loop_closes(tmp_path, upscore):
    data = paint(tmp_path / "data", train=6, val=3)
    run = train(plan(small_recipe(data, tmp_path / "run")))
    pool = open_dataset(paint(tmp_path / "pool", train=14, val=1), "train")
    truth = {Path(key).name: pool[i].label for i, key in enumerate(pool.keys)}
    code, out, err = upscore(
        "next", run.folder, tmp_path / "pool" / "images" / "train", "--count", 4, "--labelled", data, "--out", tmp_path / "next"
    )
    assert code == 0, err
    assert "4 of 5 images to label" in out  # the first nine are those of the dataset
    assert "9 images have masks already" in err
    folder = tmp_path / "next" / "labelme"
    correct(folder, truth, pool.labels)
    corrected = open_dataset(folder, "train")
    sample = corrected[0]
    expected = truth[Path(sample.key).name]
    names = np.array([*corrected.labels.names, *[""] * 256])[:256]
    assert (names[sample.label] == np.array([*pool.labels.names, *[""] * 256])[:256][expected]).mean() > 0.97
    again = train(plan(small_recipe(folder, tmp_path / "again")))
    assert (again.folder / "best").is_dir()
    assert upscore("next", run.folder, tmp_path / "pool" / "images" / "train", "--out", tmp_path / "next")[0] == 1
    assert upscore("next", run.folder, tmp_path / "pool" / "images" / "train", "--out", tmp_path / "x", "--as", "paper")[0] == 1
