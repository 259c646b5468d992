"""YOLO's polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outlines_by_hand import all_samples, inside, paint, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


def dataset(root: Path, added: int = 1, layout: str = "{part}/{split}") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = {}
    for split in ("train", "val"):
        for number in range(4):
            image = root / layout.format(part="images", split=split) / f"{split}{number}.jpg"
            save_image(image, 30, 20, 8)  # upright it is 20 high and 30 wide
            label = root / layout.format(part="labels", split=split) / f"{split}{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            big, small = rng.uniform(-0.1, 1.1, (6, 2)), rng.uniform(0.3, 0.5, (3, 2))
            if number < 3:
                lines = [" ".join(f"{value:.4f}" for value in ring.ravel()) for ring in (small, big)]
                label.write_text(f"1 {lines[0]}\n\n0 {lines[1]}\n0 0.5 0.5 0.1 0.1\n")
            rings = [(np.round(ring, 4) * (30, 20)).tolist() for ring in (big, small)]
            areas = [abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))) for ring in rings]
            painted = [(inside([ring], 20, 30), added + index) for index, ring in enumerate(rings)]
            painted = painted if areas[0] >= areas[1] else painted[::-1]
            expected[image.relative_to(root).with_suffix("").as_posix()] = paint(painted if number < 3 else [], 20, 30)
    return expected


@pytest.mark.parametrize("names", ["{0: car, 1: tree}", "[background, tree]"])
def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path, names: str) -> None:
    expected = dataset(tmp_path, 0 if "background" in names else 1)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    for path in (tmp_path, tmp_path / "data.yaml"):
        assert list_splits(path) == ("train", "val")
        samples = all_samples(path)
        assert samples.keys() == expected.keys()
        for key, sample in samples.items():
            np.testing.assert_array_equal(sample.label, expected[key])
    assert open_dataset(tmp_path).labels.names == (("background", "tree") if "background" in names else ("background", "car", "tree"))
    said = warnings_of(tmp_path)
    assert "boxes, which do not give the pixels of their objects, were left out" in said
    assert "1 of 4 images have no label file" in said


def test_other_layouts(tmp_path: Path) -> None:
    dataset(tmp_path / "roboflow", layout="{split}/{part}")
    (tmp_path / "roboflow" / "data.yaml").write_text(
        "train: ../train/images\nval: ../val/images\nnames: [car, tree]\nroboflow: {version: 1}\n"
    )
    assert [len(open_dataset(tmp_path / "roboflow", split)) for split in ("train", "val")] == [4, 4]
    dataset(tmp_path / "studio", layout="{part}")
    with pytest.raises(DataError, match=r"write the names of the classes 0, 1, 2, … into .*classes\.txt"):
        open_dataset(tmp_path / "studio")
    (tmp_path / "studio" / "classes.txt").write_text("car\ntree\n")
    assert sorted(len(open_dataset(tmp_path / "studio", split)) for split in ("train", "val")) == [2, 6]


def test_masks_come_before_polygons(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nmasks_dir: truth\nnames: [car, tree]\n")
    with pytest.raises(DataError, match="truth"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "match"),
    [("7 0 0 1 0 1 1", "line 1 has the class 7, expected 0 to 1"), ("0 0 0 1 0 1 x", "line 1 is '0 0 0 1 0 1 x'"), ("-1 0 0 1 0 1 1",
    "line 1 is"),
     ("0 0 0 1 0 1 1 1", "7 numbers"), ("0 nan 0 1 0 1 1", "a coordinate is not a number")],
)  # fmt: skip
def test_what_is_malformed_is_one_line_when_it_is_drawn(tmp_path: Path, line: str, match: str) -> None:
    dataset(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, tree]\n")
    (tmp_path / "labels" / "train" / "train0.txt").write_text(line)
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path)[0]
