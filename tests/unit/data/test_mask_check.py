"""The check of masks: exact counts, and findings on the mistakes people make with masks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from upscore.data.mask_check import check_dataset, inspect_dataset
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.readers.shapes import open_shapes
from upscore.errors import DataError
from upscore.types import LabelSpace, Sample


class Given:
    """A user's own dataset, which has samples and nothing else."""

    name, split, warnings = "given", "train", ()

    def __init__(self, masks: list[np.ndarray | None], classes: int) -> None:
        self.masks = masks
        self.labels = LabelSpace(tuple(f"c{i}" for i in range(classes)))
        self.keys = [f"k{i}" for i in range(len(masks))]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Sample:
        mask = self.masks[index]
        size = (1, 1) if mask is None else mask.shape
        return Sample(self.keys[index], np.zeros((*size, 3), np.uint8), mask)


def files(folder: Path, masks: list[np.ndarray], classes: int, mapping: dict[int, int] | None = None) -> PairedFiles:
    pairs = []
    for i, mask in enumerate(masks):
        Image.fromarray(np.zeros((*mask.shape[:2], 3), np.uint8)).save(folder / f"{i}.jpg")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{i}.png")
        pairs.append(Pair(f"k{i}", folder / f"{i}.jpg", folder / f"{i}.png"))
    return PairedFiles(pairs, LabelSpace(tuple(f"c{i}" for i in range(classes))), split="train", name="set", mapping=mapping)


masks_of_four = st.lists(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.sampled_from([0, 1, 2, 3, 255])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(masks=masks_of_four)
def test_counts_are_those_of_counting_one_by_one(masks: list[np.ndarray]) -> None:
    steps: list[tuple[int, int]] = []
    statistics = inspect_dataset(Given(list(masks), 4), progress=lambda done, total: steps.append((done, total)))
    for label in range(4):
        showing = [mask for mask in masks if (mask == label).any()]
        assert statistics.class_pixels[label] == sum(int((mask == label).sum()) for mask in masks)
        assert statistics.pixels_with_class[label] == sum(int((mask != 255).sum()) for mask in showing)
        assert statistics.images_with_class[label] == len(showing)
    assert statistics.ignored_pixels == sum(int((mask == 255).sum()) for mask in masks)
    assert statistics.class_pixels.sum() + statistics.ignored_pixels == sum(mask.size for mask in masks)
    assert statistics.sizes.tolist() == [list(mask.shape) for mask in masks]
    assert statistics.class_pixels.dtype == statistics.pixels_with_class.dtype == np.int64
    assert steps == [(i + 1, len(masks)) for i in range(len(masks))]
    assert statistics.faults == {}


def test_sizes_are_summed_up() -> None:
    statistics = inspect_dataset(Given([np.zeros(size, np.uint8) for size in [(2, 9), (4, 5), (7, 7)]], 1))
    assert statistics.median == (4, 7)


def refusal(dataset: object) -> str:
    with pytest.raises(DataError) as error:
        check_dataset(dataset)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def array(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


@pytest.mark.parametrize(
    ("masks", "classes", "message"),
    [
        (
            [array(0, 255), array(0, 0, 255)],
            2,
            r"all 2 masks hold only 0 and 255 \(2 pixels\): 0/255 masks.*label_mapping: \{0: 0, 255: 1\}",
        ),
        ([array(0, 255)], 5, r"0/255 masks"),
        ([array(1, 2), array(3, 255)], 3, r"numbered from 1 to 3; .*\{1: 0, 2: 1, 3: 2\}"),
        ([array(0, 1, 11, 11), array(0, 1)], 11, r"1 of 2 masks \(k0\).*\(11: 2 px\), expected 0 to 10.*probably a void class"),
        ([array(0, 128)], 2, r"as many values as classes, spread out.*\{0: 0, 128: 1\}"),
        ([array(*range(0, 256, 3))], 2, "resized with interpolation"),
        ([array(0, 1, 5, 6, 7)], 2, r"\(5: 1 px, 6: 1 px, 7: 1 px\).*add the classes to names"),
        ([array(255), array(255, 255)], 3, "every pixel of all 2 masks is ignored"),
        ([None], 2, "k0: the sample has no label"),
    ],
)
def test_common_mistakes_are_named(masks: list[np.ndarray | None], classes: int, message: str) -> None:
    dataset = Given(masks, classes)
    assert re.search(message, refusal(dataset))
    assert inspect_dataset(dataset).fatal_finding.text() == refusal(dataset)


def test_faults_name_each_file() -> None:
    statistics = inspect_dataset(Given([array(0, 1), array(2, 2, 7), None, array(1)], 2))
    assert list(statistics.faults) == ["k1", "k2"]
    assert "3 pixels hold 2, 7" in statistics.faults["k1"]


def test_good_masks_pass() -> None:
    for masks, classes in (([array(0, 1, 255)], 2), ([array(0, 1), array(255, 255)], 2), ([array(*range(255))], 255)):
        assert check_dataset(Given(masks, classes)).fatal_finding is None  # type: ignore[arg-type]
    assert check_dataset(Given([array(0, 0)], 2), training=False).fatal_finding is None  # type: ignore[arg-type]


def test_a_mapping_that_names_255_is_respected(tmp_path: Path) -> None:
    masks = [array(0, 255, 255)]
    assert check_dataset(files(tmp_path, masks, 2, {0: 0, 255: 1})).class_pixels.tolist() == [1, 2]
    assert check_dataset(files(tmp_path, masks, 2, {0: 0, 255: 255}), training=False).ignored_pixels == 2
    assert "if 255 is c1" in refusal(files(tmp_path, masks, 2, {0: 0, 255: 255}))
    assert "0/255 masks" in refusal(files(tmp_path, masks, 2, {0: 0, 1: 1}))
    assert "0/255 masks" in refusal(files(tmp_path, masks, 2))
    assert "every pixel" in refusal(files(tmp_path, masks, 2, {7: 0}))


def test_a_mapping_counts_classes_not_stored_values(tmp_path: Path) -> None:
    statistics = check_dataset(files(tmp_path, [array(0, 7, 7, 9, 11)], 2, {0: 0, 7: 1, 9: 1}))
    assert statistics.class_pixels.tolist() == [1, 3]
    assert statistics.ignored_pixels == 1


def test_files_that_cannot_be_used_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    dataset = files(tmp_path, [array(0, 1)] * 4, 2)
    (tmp_path / "1.png").write_bytes(b"junk")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "2.png")
    Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)).save(tmp_path / "3.png")
    assert re.search(
        r"1 of 4 images or masks cannot be used: .*1\.png: not an image.* \(2 more cannot be used for other reasons\)", refusal(dataset)
    )
    findings = inspect_dataset(dataset).findings
    assert {finding.id: finding.keys for finding in findings} == {
        "files.unreadable": ("k1",), "sizes.off-by-one": ("k2",), "values.colours": ("k3",),
    }  # fmt: skip
    assert [file.name for finding in findings for file in finding.files] == ["1.png", "2.png", "3.png"]
    assert {finding.severity for finding in findings} == {"error"}
    messages = list(inspect_dataset(dataset).faults.values())
    assert "the mask is 3×3" in messages[1]
    assert "a colour mask" in messages[2]


def test_the_statistics_of_files_is_that_of_their_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = files(tmp_path, [rng.choice([0, 1, 2, 255], (5, 6)).astype(np.uint8) for _ in range(6)], 3)
    statistics = check_dataset(dataset)
    own = Given([dataset[i].label for i in range(6)], 3)
    assert np.array_equal(statistics.class_pixels, inspect_dataset(own).class_pixels)  # type: ignore[arg-type]


def test_shapes_pass() -> None:
    statistics = check_dataset(open_shapes("val", size=(48, 64), count=30))
    assert statistics.images == 30
    assert statistics.class_pixels.all()
