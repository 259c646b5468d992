"""Training images that cannot be read are left out when asked for, counted and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.dataset import InFiles, RawLabels
from upscore.data.open_dataset import open_dataset
from upscore.data.pixel_digests import digest_pixels
from upscore.data.readable_images import leave_out_unreadable
from upscore.errors import DataError
from upscore.types import LabelSpace, Sample


@pytest.fixture
def data(painted: Path, tmp_path: Path) -> Path:
    shutil.copytree(painted.parent, tmp_path / "data")
    return tmp_path / "data"


def damage(path: Path) -> None:
    """Flip bytes in the middle of a file, which stays complete."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 - byte for byte in content[middle : middle + 40])
    path.write_bytes(bytes(content))


def test_damaged_images_and_masks_are_left_out_and_named(data: Path) -> None:
    damage(data / "images" / "train" / "001.png")
    (data / "masks" / "train" / "003.png").write_bytes(b"no image")
    train = open_dataset(data / "dataset.yaml", "train")
    steps: list[tuple[int, int]] = []
    readable = leave_out_unreadable(train, progress=lambda *step: steps.append(step))
    assert list(readable.skipped) == ["001", "003"]
    assert "001.png" in readable.skipped["001"]
    assert "masks" in readable.skipped["003"]
    assert list(readable.dataset.keys) == ["000", "002", "004", "005"]
    assert isinstance(readable.dataset, InFiles)
    assert isinstance(readable.dataset, RawLabels)
    assert readable.digests == {key: digest_pixels(sample.image) for key, sample in zip(*samples(readable.dataset), strict=True)}
    assert steps == [(i, 6) for i in range(1, 7)]
    assert readable.finding is not None
    text = readable.finding.text()
    assert text.startswith("[files.unreadable] 2 of 6 training images cannot be read and are left out (001, 003), first ")
    assert readable.skipped["001"] in text
    assert len(train) == 6  # the dataset itself is as it was


def samples(dataset: object) -> tuple[list[str], list[Sample]]:
    return list(dataset.keys), [dataset[index] for index in range(len(dataset))]


def test_where_all_can_be_read_the_dataset_is_the_same(data: Path) -> None:
    train = open_dataset(data / "dataset.yaml", "train")
    readable = leave_out_unreadable(train)
    assert readable.dataset is train
    assert readable.finding is None


def test_masks_of_another_size_are_left_out_and_values_that_are_no_class_are_not(data: Path) -> None:
    masks = data / "masks" / "train"
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(masks / "000.png")
    values = np.array(Image.open(masks / "002.png"))
    values[0] = 77
    Image.fromarray(values).save(masks / "002.png")
    assert list(leave_out_unreadable(open_dataset(data / "dataset.yaml", "train")).skipped) == ["000"]


def test_at_most_half_may_be_left_out(data: Path) -> None:
    for index in range(3):
        (data / "images" / "train" / f"00{index}.png").write_bytes(b"")
    train = open_dataset(data / "dataset.yaml", "train")
    assert len(leave_out_unreadable(train).dataset) == 3
    (data / "images" / "train" / "003.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"4 of 6 images cannot be read, expected at most half even with --skip-bad: .*first .*000\.png"):
        leave_out_unreadable(train)


def test_a_users_own_dataset_is_read_too() -> None:
    class Own:
        name, split, labels, warnings, keys = "own", "train", LabelSpace(("a", "b")), (), ("x", "y", "z")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            if index == 1:
                raise OSError("y: cannot identify image file")
            return Sample(self.keys[index], np.full((2, 2, 3), index, np.uint8), np.zeros((2, 2), np.uint8))

    readable = leave_out_unreadable(Own())
    assert readable.skipped == {"y": "y: cannot identify image file"}
    assert [readable.dataset[index].key for index in range(len(readable.dataset))] == list(readable.dataset.keys) == ["x", "z"]
