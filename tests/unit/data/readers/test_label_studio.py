"""Label Studio's exports, JSON and JSON-MIN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlines_by_hand import all_samples, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

HEIGHT, WIDTH = 30, 50


def brush(mask: np.ndarray) -> list[int]:
    """Pack a mask as four channels, all bytes by themselves."""
    values = np.zeros((*mask.shape, 4), np.uint8)
    values[..., 3] = 255 * mask
    flat = values.ravel()
    bits = f"{len(flat):032b}{7:05b}" + "1111" * 4
    for start in range(0, len(flat), 2**16):
        part = flat[start : start + 2**16]
        bits += f"000{len(part) - 1:016b}" + "".join(f"{value:08b}" for value in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def of(value: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"type": kind, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "value": value}


def dataset(root: Path, form: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tasks, expected = [], {}
    for number in range(6):
        save_image(root / "images" / f"b ü{number}.jpg", HEIGHT, WIDTH)
        points, mask = rng.uniform(-5, 105, (5, 2)), rng.random((HEIGHT, WIDTH)) < 0.2
        results = [
            of({"points": points.tolist(), "closed": True, "polygonlabels": ["road"]}, "polygonlabels"),
            of({"x": 20, "y": 10, "width": 20, "height": 40, "rotation": 90, "rectanglelabels": ["sign"]}, "rectanglelabels"),
            of({"format": "rle", "rle": brush(mask), "brushlabels": ["car"]}, "brushlabels"),
            of({"x": 1, "y": 1, "width": 2, "keypointlabels": ["nose"]}, "keypointlabels"),
        ]
        expected[f"images/b ü{number}"] = paint(
            [
                (inside([(points * (WIDTH, HEIGHT) / 100).tolist()], HEIGHT, WIDTH), 2),
                (inside([rectangle(10 - 12, 3, 10, 3 + 10)], HEIGHT, WIDTH), 3),
                (mask, 1),
            ], HEIGHT, WIDTH,
        )  # fmt: skip
        image = f"/data/upload/3/0f1e2d3c-b%20%C3%BC{number}.jpg" if number % 2 else f"/data/local-files/?d=images/b%20ü{number}.jpg"
        if form == "JSON":
            cancelled = {"was_cancelled": True, "result": results[:1]}
            given = [cancelled, {"was_cancelled": False, "result": results}, {"result": []}]
            tasks.append({"id": number, "data": {"image": image}, "annotations": given, "predictions": [{"result": results[:1]}]})
        else:
            flat = [{**result["value"], "original_width": WIDTH, "original_height": HEIGHT} for result in results]
            tasks.append({"id": number, "image": image, "label": flat, "annotator": 1, "updated_at": "2026-01-01T00:00:00.000Z"})
    if form == "JSON":
        tasks.append({"id": 9, "data": {"image": "/data/upload/3/c.jpg"}, "annotations": []})
    (root / "project-1.json").write_text(json.dumps(tasks))
    return expected


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path, form: str) -> None:
    expected = dataset(tmp_path, form)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    said = warnings_of(tmp_path)
    assert open_dataset(tmp_path).labels.names == ("background", "car", "road", "sign")
    assert "which are no labelled areas, were left out" in said
    assert ("1 tasks in project-1.json have no annotation" in said) == (form == "JSON")
    assert ("6 tasks in project-1.json have several annotations" in said) == (form == "JSON")


ANN, BOB = {"id": 7, "email": "ann@site.org", "first_name": "Ann"}, 1
EARLY, LATE = "2026-01-02T10:00:00.000Z", "2026-11-02T10:00:00.000Z"


def several(root: Path, form: str, *, marked: bool = True) -> None:
    """Four tasks: annotated by Bob, Ann and Bob again; by Ann; by Bob and Ann at one time; by nobody but in a cancelled annotation.

    The shape is called by its annotator, task and number.
    """
    given = [[(BOB, EARLY), (ANN, LATE), (BOB, EARLY)], [(ANN, EARLY)], [(BOB, LATE), (ANN, LATE)], []]
    tasks: list[dict[str, Any]] = []
    for number, people in enumerate(given):
        save_image(root / f"{number}.png", HEIGHT, WIDTH)
        annotations = []
        for index, (person, changed) in enumerate(people):
            name = f"{'Bob' if person == BOB else 'Ann'} {number}{index}"
            value = {"points": [[0, 0], [90, 0], [0, 90]], "polygonlabels": [name]}
            about = {"created_at": "2026-12-01T10:00:00.000Z", "updated_at": changed}
            annotations.append(
                {"was_cancelled": False, "ground_truth": marked and (number, index) == (0, 2), "completed_by": person, **about,
                 "result": [of(value, "polygonlabels")]}
                if form == "JSON"
                else {"id": number, "image": f"{number}.png", "annotation_id": index, "annotator": 1 if person == BOB else "ann@site.org",
                      **about, "label": [{**value, "original_width": WIDTH, "original_height": HEIGHT}]}
            )  # fmt: skip
        if form == "JSON":
            cancelled = {"was_cancelled": True, "completed_by": 99, "result": [], "updated_at": "2027"}
            tasks.append({"id": number, "data": {"image": f"{number}.png"}, "annotations": [cancelled, *annotations]})
        else:
            tasks += annotations
    (root / "a.json").write_text(json.dumps(tasks[::-1] if form == "JSON" else sorted(tasks, key=lambda entry: entry["annotation_id"])))


def chosen_in(root: Path, **options: str) -> tuple[list[str], list[str]]:
    """Return which annotations are read, and the warnings."""
    datasets = [open_dataset(root, split, **options) for split in ("train", "val")]
    return sorted(name for name in datasets[0].labels.names if name != "background"), list(datasets[0].warnings)


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
@pytest.mark.parametrize(
    ("annotation", "chosen", "words"),
    [
        ("first", ["Ann 10", "Bob 00", "Bob 20"], "2 tasks in a.json have several annotations (of 1, ann@site.org), of which the first "
         "counts: the option annotation chooses another (latest, ground-truth, annotator:WHO)"),
        ("latest", ["Ann 01", "Ann 10", "Ann 21"], "of which the latest counts: the option annotation chooses another (first, "),
        ("ground-truth", ["Ann 10", "Bob 02", "Bob 20"], "of which the ground truth counts, or the first, as in 1 that have none: "),
        ("annotator:ann@site.org", ["Ann 01", "Ann 10", "Ann 21"], "of which that of 'ann@site.org' counts: "),
        ("annotator:1", ["Bob 00", "Bob 20"], "1 tasks in a.json have no annotation of '1' and were left out"),
    ],
)  # fmt: skip
def test_which_of_several_annotations_counts(tmp_path: Path, form: str, annotation: str, chosen: list[str], words: str) -> None:
    several(tmp_path, form)
    found, warnings = chosen_in(tmp_path, annotation=annotation)
    if (form, annotation) == ("JSON-MIN", "ground-truth"):  # which does not say it
        chosen, words = ["Ann 10", "Bob 00", "Bob 20"], words.replace("in 1", "in 2")
    assert found == chosen
    assert words in " ".join(warnings).replace("ann@site.org, 1", "1, ann@site.org")
    assert ("1 tasks in a.json have no annotation and were left out" in warnings) == (form == "JSON")
    assert ("several annotations" in " ".join(chosen_in(tmp_path)[1])) is True
    if form == "JSON" and annotation == "annotator:ann@site.org":
        assert chosen_in(tmp_path, annotation="annotator:7")[0] == chosen


def test_people_without_annotations_and_unknown_choices_are_one_line(tmp_path: Path) -> None:
    several(tmp_path, "JSON")
    with pytest.raises(DataError, match=r"has no annotation by the annotator:99, found annotations by (1, ann@|ann@site.org, 1)"):
        open_dataset(tmp_path, annotation="annotator:99")  # whose annotations were cancelled
    for wrong in ("annotator:", "last", "annotator", "first:1"):
        with pytest.raises(DataError, match=f"found annotation '{wrong}', expected first or latest or ground-truth or annotator:WHO"):
            open_dataset(tmp_path, annotation=wrong)


def test_a_person_may_have_annotated_one_split_alone(tmp_path: Path) -> None:
    for split, person in (("train", 1), ("val", 2)):
        save_image(tmp_path / f"{split}.png", HEIGHT, WIDTH)
        result = [of({"points": [[0, 0], [90, 0], [0, 90]], "polygonlabels": ["x"]}, "polygonlabels")]
        task = {"data": {"image": f"{split}.png"}, "annotations": [{"completed_by": person, "result": result}]}
        (tmp_path / f"{split}.json").write_text(json.dumps([task]))
    assert len(open_dataset(tmp_path, "train", annotation="annotator:1")) == 1
    with pytest.raises(DataError, match=r"has no annotation by the annotator:1, found annotations by 1; 2$"):
        open_dataset(tmp_path, "val", annotation="annotator:1")


def test_tasks_of_one_number_and_different_images_are_not_one(tmp_path: Path) -> None:
    """Two projects' exports in JSON-MIN, put together by hand."""
    several(tmp_path, "JSON-MIN")
    tasks = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps([task | {"id": 1} for task in tasks]))
    assert chosen_in(tmp_path)[0] == ["Ann 10", "Bob 00", "Bob 20"]


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (of({"points": [1], "polygonlabels": ["x"]}, "polygonlabels"), "task 1: it has the points"),
        (of({"format": "rle", "rle": "abc", "brushlabels": ["x"]}, "brushlabels"), "a brush has the rle 'abc'"),
        (of({"format": "rle", "rle": [300], "brushlabels": ["x"]}, "brushlabels"), r"a brush has the rle \[300\]"),
        (of({"format": "png", "brushlabels": ["x"]}, "brushlabels"), "the format 'png', expected rle"),
        (of({"x": "?", "y": 1, "rectanglelabels": ["x"]}, "rectanglelabels"), "its x is '\\?', expected a number"),
        ({"value": {"points": [[1, 2]], "polygonlabels": ["x"]}}, "original size None"),
        (of({"points": [[1, 2]], "polygonlabels": [3]}, "polygonlabels"), "its label is 3"),
        ({"value": 3}, "a region has the value 3"),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, result: dict[str, Any], match: str) -> None:
    save_image(tmp_path / "a.jpg", HEIGHT, WIDTH)
    (tmp_path / "a.json").write_text(json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": [result], "original_width": 3}]}]))
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path / "a.json")
