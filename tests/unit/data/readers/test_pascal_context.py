"""PASCAL-Context: 459 labels, of which the dataset's lists name the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mat_bytes import mat_bytes
from small_files import image, mask, write
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root, voc = tmp_path / "pascal-context", tmp_path / "VOC2010"
    for key in ("2008_1", "2008_2"):
        image(voc / "JPEGImages" / f"{key}.jpg")
        write(root / "trainval" / f"{key}.mat", mat_bytes({"LabelMap": mask(2, 397, 431, 458, dtype="u2")}))
    write(voc / "ImageSets/Main/train.txt", "2008_2\n")
    write(voc / "ImageSets/Main/val.txt", "2008_1\n")
    names = {2: "aeroplane", 19: "bedclothes", 80: "cloth", 397: "table", 431: "unknown", 458: "wood", 459: "wool"}
    write(root / "labels.txt", "".join(f"{number}: {names.get(number, f'label {number}')}\n" for number in range(1, 460)))
    write(root / "59_labels.txt", "1: aeroplane\n2: diningtable\n3: clothes\n4: bedcloth\n5: wood\n")
    return root


def test_pascal_contexts_labels_become_classes(context: Path) -> None:
    assert list_splits(context) == ("train", "val")
    dataset = open_dataset(context, "train")
    assert dataset.keys == ["2008_2"]
    assert dataset.labels.names == ("background", "aeroplane", "diningtable", "clothes", "bedcloth", "wood")
    assert np.array_equal(dataset[0].label, mask(1, 2, 0, 5))
    assert check_dataset(dataset).class_pixels.tolist() == [12, 12, 12, 0, 0, 12]
    (context / "59_labels.txt").rename(context / "33_labels.txt")
    assert len(open_dataset(context, "val").labels) == 6


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("59_labels.txt", "1: aeroplane\n2: unicorn\n", "names the class 'unicorn', which labels.txt has not"),
        ("59_labels.txt", None, r"found neither 59_labels\.txt nor 33_labels\.txt"),
        ("labels.txt", "aeroplane\n", "found the line 'aeroplane', expected lines such as '1: accordion'"),
        ("labels.txt", "1: aeroplane\n1: boat\n", "is there twice"),
        ("../VOC2010/ImageSets/Main/train.txt", "2008_9\n", r"2008_9\.jpg: no such file; VOC 2010's list train\.txt names 1 of 1 images"),
        ("../VOC2010/JPEGImages", None, "found no VOC2010 in it or beside it"),
    ],
)
def test_faults_of_pascal_context_are_one_line(context: Path, file: str, content: str | None, message: str) -> None:
    path = context / file
    if content is not None:
        write(path, content)
    else:
        path.rename(path.with_name("elsewhere"))
    with pytest.raises(DataError, match=message) as error:
        open_dataset(context, "train")
    assert "\n" not in str(error.value)
