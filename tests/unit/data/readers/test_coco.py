"""COCO's instances, beside a decoding written plainly here."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlines_by_hand import all_samples, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers import coco
from upscore.errors import DataError

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 44, "name": "bottle"}, {"id": 90, "name": "Müll"}]


def flat(ring: list) -> list[float]:
    return [number for point in ring for number in point]


def runs(mask: np.ndarray) -> list[int]:
    counts, last = [0], 0
    for value in mask.T.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def write(root: Path, count: int = 6, name: str = "annotations.json", **changed: Any) -> dict[str, np.ndarray]:
    """Write a dataset of random objects; return its masks by key."""
    rng = np.random.default_rng(len(name))
    content: dict[str, Any] = {"images": [], "categories": CATEGORIES, "annotations": []}
    expected = {}
    for number in range(count):
        height, width = (int(side) for side in rng.integers(20, 40, 2))
        file = f"straße {number}.JPG"
        save_image(root / "images" / file, height, width)
        content["images"].append({"id": f"i{number}", "file_name": file, "height": height, "width": width})
        drawn = []
        for position in range(number):  # the first image has no annotation
            label, crowd = int(rng.integers(0, 3)), position == 3
            rings = [rng.uniform(-5, 45, (5, 2)).tolist() for _ in range(2)]
            region = inside([rings[0]], height, width) | inside([rings[1]], height, width)
            segmentation: Any = [flat(ring) for ring in rings]
            area = sum(abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))) / 2 for ring in rings)
            if position % 2:
                segmentation, area = {"size": [height, width], "counts": runs(region)}, region.sum()
            annotation = {
                "image_id": f"i{number}",
                "category_id": CATEGORIES[label]["id"],
                "segmentation": segmentation,
                "iscrowd": int(crowd),
            }
            content["annotations"].append({"id": 10 * number + position, **annotation})
            drawn.append((area, region, 255 if crowd else label + 1))
        drawn.sort(key=lambda item: -item[0])
        expected[f"images/straße {number}"] = paint([item[1:] for item in drawn], height, width)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content | changed))
    return expected


def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path) -> None:
    expected = write(tmp_path)
    for path in (tmp_path, tmp_path / "annotations.json"):
        assert list_splits(path) == ("train", "val")
        samples = all_samples(path)
        assert samples.keys() == expected.keys()
        for key, sample in samples.items():
            np.testing.assert_array_equal(sample.label, expected[key])
    assert open_dataset(tmp_path).labels.names == ("background", "car", "bottle", "Müll")
    said = warnings_of(tmp_path)
    for words in (
        "whose ids are 3, 44, 90", "the class 'background'", "1 of 6 images in annotations.json have no annotation",
        "smaller one is on top", "of crowd regions are ignored", "are val", "beyond the image and were clipped",
    ):  # fmt: skip
        assert words in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_sees_the_same_masks(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    write(tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    for annotation in content["annotations"]:
        image = next(image for image in content["images"] if image["id"] == annotation["image_id"])
        if isinstance(annotation["segmentation"], dict):
            encoded = coco.frPyObjects(annotation["segmentation"], image["height"], image["width"])
            annotation["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    before = all_samples(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    for key, sample in all_samples(tmp_path).items():
        np.testing.assert_array_equal(sample.label, before[key].label)


def test_numbers_are_packed_while_the_collector_is_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 2, "b.json")
    content = json.loads((tmp_path / "b.json").read_text())
    numbers = np.random.default_rng(0).uniform(0, 20, (100, 800)).round(3).tolist()
    content["annotations"] = [{"id": n, "image_id": "i1", "category_id": 3, "segmentation": [ring]} for n, ring in enumerate(numbers)]
    (tmp_path / "b.json").write_text(json.dumps(content))
    seen, collect = [], coco._collect

    def collecting(*arguments: Any) -> int:
        seen.append(gc.isenabled())
        return collect(*arguments)

    monkeypatch.setattr(coco, "_collect", collecting)
    tracemalloc.start()
    try:
        dataset = open_dataset(tmp_path / "b.json")
        in_memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [False]
    assert gc.isenabled()
    assert len(dataset) == 1
    assert 8 * 80_000 < in_memory < 2 * 8 * 80_000  # lists of numbers take four times as much


def test_files_of_splits_and_roboflow_s_parent_category(tmp_path: Path) -> None:
    parent = [{"id": 0, "name": "things", "supercategory": "none"}, *({**category, "supercategory": "things"} for category in CATEGORIES)]
    for split in ("train", "valid"):
        write(tmp_path / split, 3, "_annotations.coco.json", categories=parent)
    assert list_splits(tmp_path) == ("train", "val")
    dataset = open_dataset(tmp_path, "val")
    assert (dataset.labels.names[1], len(dataset), dataset.split) == ("car", 3, "val")
    assert "'things' (id 0)" in " ".join(dataset.warnings)
    both = tmp_path / "coco"
    for name in ("instances_train2017", "instances_val2017", "person_keypoints_val2017", "captions_train2017"):
        write(both, 2, f"annotations/{name}.json")
    (both / "images").rename(both / "val2017")
    (both / "train2017").mkdir()
    for image in (both / "val2017").iterdir():
        (both / "train2017" / image.name).write_bytes(image.read_bytes())
    assert [list(open_dataset(both, split).keys) for split in list_splits(both)] == [
        [f"{split}2017/straße {number}" for number in range(2)] for split in ("train", "val")
    ]


def test_stuff_ignores_the_rest(tmp_path: Path) -> None:
    write(tmp_path, name="stuff_all.json")
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("car", "bottle", "Müll")
    assert (all_samples(tmp_path)["images/straße 0"].label == 255).all()  # type: ignore[union-attr]


def annotation(**changed: Any) -> dict[str, Any]:
    return {"annotations": [{"id": 5, "image_id": "i1", "category_id": 3, "segmentation": [flat(rectangle(1, 1, 9, 9))], **changed}]}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (annotation(image_id="i9"), "annotation 5 has the image_id 'i9', which is none of the 6 images"),
        (annotation(image_id=[1]), "image_id"),
        (annotation(category_id=1), "category_id 1, which is none of the 3 categories"),
        (annotation(segmentation=["x"]), "annotation 5 has the segmentation"),
        (annotation(segmentation=[[1, "2"]]), "annotation 5 has the segmentation"),
        (annotation(segmentation={"counts": [1]}), "annotation 5 has the segmentation"),
        (annotation(segmentation=None), "its 1 annotations hold boxes and no segmentation"),
        ({"annotations": [3]}, "found 3 among the annotations"),
        ({"annotations": {}}, "has no list 'annotations'"),
        ({"images": [{"id": {}}]}, "has the id {}"),
        ({"categories": [{"id": 1}]}, "the category"),
        ({"images": [{"id": "i1", "file_name": "a.jpg"}], "annotations": []}, r"none of the 1 images that it names \(a\.jpg\) is below"),
        ({"images": [{"id": 1, "file_name": None}], "annotations": []}, "an image has no name"),
        ({"images": [{"id": 1, "file_name": "straße 1.JPG", "height": "x", "width": 1}], "annotations": []}, "has the height 'x'"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_one_line(tmp_path: Path, changed: dict[str, Any], match: str) -> None:
    write(tmp_path, **changed)
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path)


def test_images_that_are_missing_or_named_twice(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "straße 4.JPG").unlink()
    assert "1 of 6 images that annotations.json names are not below" in warnings_of(tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    content["images"].append({**content["images"][0], "id": 99})
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names the image .* twice"):
        open_dataset(tmp_path)


def test_a_turned_image_and_a_wrong_size(tmp_path: Path) -> None:
    expected = write(tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    for number, image in enumerate(content["images"]):
        height, width = image["height"], image["width"]
        if number == 5:
            image["height"] = height + 1
        elif number % 2:  # stored on its side: the stated size is the upright one
            save_image(tmp_path / "images" / image["file_name"], width, height, 6)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    failures = 0
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        for index, key in enumerate(dataset.keys):
            if key.endswith("5"):
                with pytest.raises(DataError, match=r"states .* annotate the image as it is now"):
                    dataset[index]
                failures += 1
            else:
                np.testing.assert_array_equal(dataset[index].label, expected[key])
    assert failures == 1


def test_each_annotation_but_crowds_is_an_object(tmp_path: Path) -> None:
    boxes = [((0, 0, 2, 4), 0), ((2, 0, 3, 4), 0), ((4, 0, 6, 4), 1), ((6, 0, 7, 4), 0)]
    content: dict[str, Any] = {"images": [], "categories": CATEGORIES, "annotations": []}
    for image in (1, 2):
        save_image(tmp_path / "images" / f"{image}.jpg", 4, 8)
        content["images"].append({"id": image, "file_name": f"{image}.jpg", "height": 4, "width": 8})
        content["annotations"] += [
            {"id": i, "image_id": image, "category_id": 3, "iscrowd": crowd, "segmentation": [flat(rectangle(*sides))]}
            for i, (sides, crowd) in enumerate(boxes)
        ]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    for crowd, label in (("ignore", 255), ("class", 1)):
        sample = open_dataset(tmp_path, crowd=crowd)[0]
        assert sample.instances is not None
        assert sample.label is not None
        assert sample.label[0, 4] == label
        assert sample.instances[0].tolist() == [1, 1, 2, 0, 0, 0, 3, 0]
