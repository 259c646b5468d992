"""What crowd regions are, and pixels that no shape covers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from outlines_by_hand import save_image
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images with a crowd of x in columns 0 to 2, and a single x in column 3, of 4 rows and 6 columns."""
    images, annotations = [], []
    for number in range(2):
        save_image(tmp_path / f"a{number}.png", 4, 6)
        images.append({"id": number, "file_name": f"a{number}.png", "height": 4, "width": 6})
        for crowd, counts in ((1, [0, 12, 12]), (0, [12, 4, 8])):
            segmentation = {"size": [4, 6], "counts": counts}
            annotations.append(
                {"id": 2 * number + crowd, "image_id": number, "category_id": 1, "iscrowd": crowd, "segmentation": segmentation}
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "row", "names", "notes"),
    [
        (
            {},
            [255, 255, 255, 1, 0, 0],
            ("background", "x"),
            ("12 pixels of crowd regions are ignored", "8 pixels that no shape covers are background"),
        ),
        ({"crowd": "class"}, [1, 1, 1, 1, 0, 0], ("background", "x"), ("12 pixels of crowd regions are of their class",)),
        ({"unlabelled": "ignore"}, [255, 255, 255, 0, 255, 255], ("x",), ("8 pixels that no shape covers are ignored",)),
        ({"unlabelled": "background"}, [255, 255, 255, 1, 0, 0], ("background", "x"), ()),
    ],
)
def test_coco(coco: Path, options: dict[str, str], row: list[int], names: tuple[str, ...], notes: tuple[str, ...]) -> None:
    dataset = open_dataset(coco, "train", **options)
    assert dataset.labels.names == names
    np.testing.assert_array_equal(dataset[0].label, [row] * 4)
    dataset.raw_label(0)  # type: ignore[attr-defined]
    for note in notes:
        assert any(warning.startswith(note) for warning in dataset.warnings), dataset.warnings


def test_stuff_may_have_a_background(coco: Path) -> None:
    (coco / "a.json").rename(coco / "stuff.json")
    assert open_dataset(coco, "train").labels.names == ("x",)
    assert open_dataset(coco, "train", unlabelled="background").labels.names == ("background", "x")


def test_unknown_choices_are_refused(coco: Path) -> None:
    for name, value, expected in (("crowd", "no", "ignore or class"), ("unlabelled", "0", "format or background or ignore")):
        with pytest.raises(DataError, match=f"found {name} '{value}', expected {expected}"):
            open_dataset(coco, "train", **{name: value})
