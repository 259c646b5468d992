"""Parquet files of images and masks, as Hugging Face publishes them."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parquet_bytes import png, write_parquet
from upscore.data import parquet_files
from upscore.data.encoded_image import cell_path
from upscore.data.image_files import read_image
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.overlap import dataset_identity, find_shared_images
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mend import mend
from upscore.errors import DataError

pytest.importorskip("pyarrow")


def samples(count: int, first: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(first)
    return [(rng.integers(0, 256, (6, 8, 3), np.uint8), rng.integers(0, 3, (6, 8), np.uint8)) for _ in range(count)]


def columns(pairs: list[tuple[np.ndarray, np.ndarray]], *, named: bool = True, image: str = "image", mask: str = "label") -> dict:
    return {
        image: [{"bytes": png(pixels), "path": f"street {n}ü.png" if named else None} for n, (pixels, _) in enumerate(pairs)],
        mask: [{"bytes": png(label), "path": None} for _, label in pairs],
        "scene": list(range(len(pairs))),
    }


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, dict[str, list]]:
    """Two files of train, one of validation, and the names in id2label.json."""
    pairs = {"train": samples(5), "val": samples(3, 9)}
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", columns(pairs["train"][:3], named=False))
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", columns(pairs["train"][3:], named=False))
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", columns(pairs["val"]))
    (tmp_path / "id2label.json").write_text(json.dumps({"0": "road", "2": "tree", "1": "car"}))
    return tmp_path, pairs


def test_splits_pixels_and_names(published: tuple[Path, dict[str, list]]) -> None:
    root, pairs = published
    assert list_splits(root) == ("train", "val")
    for split, expected in pairs.items():
        dataset = open_dataset(root, split)
        assert dataset.labels.names == ("road", "car", "tree")
        assert "the column image was taken for the images, and label for their masks" in dataset.warnings
        for index in (*range(len(expected)), 0):
            sample = pickle.loads(pickle.dumps(dataset))[index]  # as another process has it
            np.testing.assert_array_equal(sample.image, expected[index][0])
            np.testing.assert_array_equal(sample.label, expected[index][1])
    assert list(dataset.keys) == ["street 0ü", "street 1ü", "street 2ü"]
    assert list(open_dataset(root, "train").keys) == [f"{n:06d}" for n in range(1, 6)]


def test_one_file_is_divided(published: tuple[Path, dict[str, list]]) -> None:
    root, pairs = published
    file = root / "data/train-00000-of-00002.parquet"
    (root / "data/id2label.json").write_bytes((root / "id2label.json").read_bytes())
    train, val = open_dataset(file, "train"), open_dataset(file, "val")
    assert sorted([*train.keys, *val.keys]) == ["000001", "000002", "000003"]
    assert len(val) == 1
    np.testing.assert_array_equal(val[0].label, pairs["train"][int(val.keys[0]) - 1][1])


def test_no_more_than_a_few_groups_are_in_memory_and_threads_share_them(published, monkeypatch) -> None:
    root, pairs = published
    read: list[int] = []
    real = parquet_files._group_of

    def counting(file, metadata, row):
        found = real(file, metadata, row)
        read.append(found[2])
        return found

    monkeypatch.setattr(parquet_files, "_group_of", counting)
    dataset = open_dataset(root, "train")
    assert dataset.input.is_rgb
    groups = parquet_files.row_groups()
    groups._read.clear()
    read.clear()
    for index in range(5):
        assert dataset[index].label is not None
        assert len(groups._read) <= 4
    assert len(read) == 6  # two of the first file, one of the second, of images and of masks
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: dataset[index].label, range(5)))
    for label, (_, expected) in zip(found, pairs["train"], strict=True):
        np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("form", ["card", "features", "classes.txt", "none"])
def test_where_names_come_from(tmp_path: Path, form: str) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "Image", "names": ["a", "b", "c"]}} if form == "features" else None
    write_parquet(tmp_path / "train.parquet", columns(samples(6)), features=features)
    if form == "card":
        (tmp_path / "README.md").write_text("---\nlicense: mit\nid2label:\n  0: a\n  1: b\n  2: c\n---\n# Streets\n")
    elif form == "classes.txt":
        (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.labels.names == (("class0", "class1", "class2") if form == "none" else ("a", "b", "c"))
    assert any(form in warning or form == "none" for warning in dataset.warnings if "classes" in warning)


def test_numbers_that_are_not_consecutive_are_mapped(published: tuple[Path, dict[str, list]]) -> None:
    root, pairs = published
    (root / "id2label.json").write_text(json.dumps({"0": "road", "2": "tree", "255": "void"}))
    dataset = open_dataset(root, "val")
    assert dataset.labels.names == ("road", "tree")
    expected = np.array([0, 255, 1], np.uint8)[pairs["val"][1][1]]
    np.testing.assert_array_equal(dataset[1].label, expected)


def test_palette_masks_hold_their_indices_and_paths_lead_to_files(tmp_path: Path) -> None:
    (pixels, label), *_ = samples(1)
    coloured = Image.fromarray(label)
    coloured.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    coloured.save(tmp_path / "mask.png")
    Image.fromarray(pixels).save(tmp_path / "image.png")
    rows = {"img": [{"bytes": None, "path": "image.png"}] * 2, "seg": [{"bytes": (tmp_path / "mask.png").read_bytes(), "path": "m"}] * 2}
    write_parquet(tmp_path / "data/train.parquet", rows)
    write_parquet(tmp_path / "data/val.parquet", {"img": [png(pixels)], "seg": [png(label)]})  # bytes alone
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for split in ("train", "val"):
        sample = open_dataset(tmp_path, split)[0]
        np.testing.assert_array_equal(sample.image, pixels)
        np.testing.assert_array_equal(sample.label, label)
    inner = tmp_path / "inner"
    rows["img"] = [{"bytes": None, "path": path} for path in ("../../image.png", str(tmp_path / "image.png"))]
    write_parquet(inner / "data/train.parquet", rows)
    for index in range(2):
        with pytest.raises(DataError, match="which is not below"):
            read_image(cell_path(inner / "data/train.parquet", "img", index + 1))


def test_the_doctor_examines_it_and_equal_images_are_found(published: tuple[Path, dict[str, list]], tmp_path: Path) -> None:
    root, pairs = published
    write_parquet(root / "data/validation-00000-of-00001.parquet", columns([pairs["train"][4], *pairs["val"]]))
    diagnosis = diagnose(root)
    assert not [str(finding) for finding in diagnosis.findings if "could not be completed" in finding.what]
    (shared,) = [finding for finding in diagnosis.findings if finding.id == "splits.shared-images"]
    assert shared.keys == ("street 0ü",)
    with pytest.raises(DataError, match="pages of a file"):
        mend(diagnosis, tmp_path / "mended")
    train, val = open_dataset(root, "train"), open_dataset(root, "val")
    assert dataset_identity(train) not in (dataset_identity(val), dataset_identity(open_dataset(root / "data", "train")) + "x")
    assert find_shared_images(train, val) == []  # by files alone: the pixels decide


def test_what_is_not_clear_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    pairs = samples(3)
    file = write_parquet(tmp_path / "train.parquet", columns(pairs) | {"mask": columns(pairs)["label"]})
    with pytest.raises(DataError, match="its columns of images are image, label, mask, expected one called image and one called label"):
        open_dataset(file, "train")
    write_parquet(file, {"number": [1, 2]})
    with pytest.raises(DataError, match="its columns of images are none"):
        open_dataset(file, "train")
    file.write_bytes(b"PAR1" + b"\0" * 40)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_dataset(file, "train")
    write_parquet(tmp_path / "full/train.parquet", columns(pairs))
    write_parquet(tmp_path / "small/train.parquet", columns(pairs))
    with pytest.raises(DataError, match=r"2 configurations of a dataset \(full, small\): name the folder"):
        open_dataset(tmp_path, "train")


def test_without_pyarrow_the_extra_is_named(published, monkeypatch) -> None:
    monkeypatch.setattr(parquet_files, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'upscore\[parquet\]'"):
        open_dataset(published[0], "train")
