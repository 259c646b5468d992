"""The full ADE20K, in the layouts of both releases."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mat_bytes import cell, mat_bytes, structs
from outlines_by_hand import save_image
from small_files import write
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

NAMES = [f"thing {number}" for number in range(1, 601)]
NAMES[299] = "wall, brick"


def release(root: Path, folder: str, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Write two images a split with masks, parts and an instance; return the classes of each mask, from 1."""
    rng = np.random.default_rng(0)
    stored = {}
    for split, word, scene in (("training", "train", "urban/street"), ("validation", "val", "home/attic")):
        for number in range(2):
            key = f"{scene}/ADE_{word}_{number:08}"
            image = root / folder / split / f"{key}.jpg"
            save_image(image, 7, 9)
            numbers = rng.choice([0, 1, 2, 255, 256, 300, 600], (7, 9))
            blue = rng.integers(0, 256, (7, 9))
            colours = np.stack([numbers // 256 * 10 + rng.integers(0, 10, (7, 9)), numbers % 256, blue], axis=-1).astype(np.uint8)
            Image.fromarray(colours).save(image.with_name(f"{image.stem}_seg.png"))
            Image.fromarray(colours).save(image.with_name(f"{image.stem}_parts_1.png"))
            save_image(image.parent / image.stem / f"instance_000_{image.stem}.png", 7, 9)
            image.with_suffix(".json").write_text("{}")
            stored[key] = numbers
    counts = np.ones(600) if counts is None else counts
    index = structs([{"objectnames": cell(NAMES), "objectcounts": counts.reshape(-1, 1), "filename": cell(["a.jpg"])}])
    write(root / "index_ade20k.mat", mat_bytes({"index": index}))
    write(root / "index_ade20k.pkl", b"never read")
    return stored


@pytest.mark.parametrize("folder", ["images/ADE", "images"])
def test_classes_are_those_of_classes_txt(tmp_path: Path, folder: str) -> None:
    stored = release(tmp_path, folder)
    write(tmp_path / "classes.txt", "wall\nthing 256\nthing 1\n")
    assert list_splits(tmp_path) == ("train", "val")
    seen = {}
    for split in ("train", "validation"):
        dataset = pickle.loads(pickle.dumps(open_dataset(tmp_path, split)))
        assert dataset.labels.names == ("wall", "thing 256", "thing 1")
        assert dataset.warnings == ("the 3 classes are those of classes.txt; all others are ignored",)
        seen |= {key: dataset[index].label for index, key in enumerate(dataset.keys)}
    assert seen.keys() == stored.keys()
    for key, label in seen.items():
        expected = np.select([stored[key] == 300, stored[key] == 256, stored[key] == 1], [0, 1, 2], 255)
        np.testing.assert_array_equal(label, expected)


def test_without_it_they_are_the_most_frequent_150(tmp_path: Path) -> None:
    counts = np.zeros(600)
    counts[[0, 299, *range(400, 548)]] = 5
    stored = release(tmp_path, "images/ADE", counts)
    dataset = open_dataset(tmp_path, "train")
    assert (len(dataset.labels), dataset.labels.names[:3]) == (150, ("thing 1", "wall, brick", "thing 401"))
    np.testing.assert_array_equal(dataset[0].label, np.select([stored[dataset.keys[0]] == 1, stored[dataset.keys[0]] == 300], [0, 1], 255))
    assert "those of 600 with the most objects in index_ade20k.mat" in dataset.warnings[0]


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    release(tmp_path, "images/ADE")
    write(tmp_path / "classes.txt", "wal\n")
    with pytest.raises(DataError, match=r"'wal' is no class of index_ade20k.mat \(did you mean 'wall'\?\)"):
        open_dataset(tmp_path, "train")
    (tmp_path / "classes.txt").unlink()
    for mask in tmp_path.rglob("*val*_seg.png"):
        mask.unlink()
    with pytest.raises(DataError, match="holds no image with a mask beside it"):
        open_dataset(tmp_path, "val")
    write(tmp_path / "index_ade20k.mat", mat_bytes({"index": structs([{"objectnames": cell(["a"])}])}))
    with pytest.raises(DataError, match="is no index of ADE20K"):
        open_dataset(tmp_path, "train")
    (tmp_path / "index_ade20k.mat").unlink()
    with pytest.raises(DataError, match="cannot be read as ADE20K's index, which names the classes: no such file"):
        open_dataset(tmp_path, "train")
