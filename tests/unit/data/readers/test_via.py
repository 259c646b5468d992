"""VGG Image Annotator's JSON, of versions 1 and 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlines_by_hand import all_samples, disc, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


def entries(root: Path, version: int, **attributes: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    content, expected = {}, {}
    for number in range(6):
        name = f"ü {number}.png"
        size = save_image(root / name, 25, 35).stat().st_size
        points = rng.uniform(-5, 40, (5, 2))
        shapes = [
            ({"name": "polygon", "all_points_x": points[:, 0].tolist(), "all_points_y": points[:, 1].tolist()}, "car"),
            ({"name": "rect", "x": 3, "y": 4, "width": 10, "height": 6}, "tree"),
            ({"name": "circle", "cx": 20, "cy": 12, "r": 5.5}, "car"),
            ({"name": "ellipse", "cx": 9, "cy": 20, "rx": 4, "ry": 4, "theta": 1}, "tree"),
            ({"name": "point", "cx": 1, "cy": 1}, "car"),
        ]
        regions = [
            {"shape_attributes": shape, "region_attributes": {"Class": {name: True, "no": False} if version == 2 else name, **attributes}}
            for shape, name in shapes
        ]
        listed = {str(index): region for index, region in enumerate(regions)} if version == 1 else regions
        content[f"{name}{size}"] = {"filename": name, "size": size, "regions": listed if number else [], "file_attributes": {}}
        painted = [
            (inside([points.tolist()], 25, 35), 1), (inside([rectangle(3, 4, 13, 10)], 25, 35), 2), (disc(20, 12, 5.5, 25, 35), 1),
            (disc(9, 20, 4, 25, 35), 2),
        ]  # fmt: skip
        expected[f"ü {number}"] = paint(painted if number else [], 25, 35)
    return content, expected


@pytest.mark.parametrize("version", [1, 2])
def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path, version: int) -> None:
    content, expected = entries(tmp_path, version, note="x")
    whole = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}} if version == 2 else content
    (tmp_path / "via_region_data.json").write_text(json.dumps(whole))
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    assert open_dataset(tmp_path).labels.names == ("background", "car", "tree")
    said = warnings_of(tmp_path)
    for words in ("the attribute 'Class' of the regions", "regions of the type point", "images have no region"):
        assert words in said


def test_several_attributes_none_of_which_is_the_class(tmp_path: Path) -> None:
    content, _ = entries(tmp_path, 1, note="x")
    text = json.dumps(content).replace('"Class"', '"kind of thing"')
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="regions have the attributes kind of thing, note, none of which is called class"):
        open_dataset(tmp_path)
    (tmp_path / "a.json").write_text(text.replace(', "note": "x"', ""))
    assert open_dataset(tmp_path).labels.names == ("background", "car", "tree")
    (tmp_path / "a.json").write_text(
        text.replace('"note": "x"', '"b": 1').replace('"kind of thing": "car", ', "").replace('"kind of thing": "tree", ', "")
    )
    assert open_dataset(tmp_path).labels.names == ("background", "1")


@pytest.mark.parametrize(
    ("region", "match"),
    [
        ({"shape_attributes": {"name": "polygon", "all_points_x": [1], "all_points_y": []}}, "image 'a.png', region 1: a polygon"),
        ({"shape_attributes": {"name": "rect", "x": 1}}, "its y is None"),
        ({"shape_attributes": {"name": "star"}}, "its type is 'star'"),
        ({"shape_attributes": 3}, "no shape_attributes"),
        (3, "its regions is"),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, region: Any, match: str) -> None:
    save_image(tmp_path / "a.png", 5, 5)
    (tmp_path / "a.json").write_text(json.dumps({"_via_img_metadata": {"a": {"filename": "a.png", "regions": [region]}}}))
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path / "a.json")
