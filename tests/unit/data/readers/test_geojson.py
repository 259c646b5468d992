"""GeoJSON in pixels, as QuPath exports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlines_by_hand import all_samples, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


def feature(kind: str, coordinates: Any, name: Any) -> dict[str, Any]:
    properties = (
        {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}} if name else {"objectType": "annotation"}
    )
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def closed(ring: list) -> list:
    return [*ring, ring[0]]


def dataset(root: Path) -> dict[str, np.ndarray]:
    expected = {}
    for number in range(6):
        save_image(root / f"slide.{number}.tif", 40, 50)
        outer, hole, other = rectangle(2 + number, 3, 30.2, 33.7), rectangle(8, 9, 15, 20), [(33.0, 2.0), (48.0, 5.5), (36.0, 20.0)]
        small = rectangle(5, 5, 12, 10)
        features = [
            feature("Polygon", [closed(small)], "Tumor"),
            feature("MultiPolygon", [[closed(outer), closed(hole)], [closed(other)]], "Stroma"),
            feature("LineString", [[1, 2], [3, 4]], "Tumor"),
            feature("Polygon", [closed(small)], None),
        ]
        content = {"type": "FeatureCollection", "features": features} if number % 2 else features
        (root / f"slide.{number}.geojson").write_text(json.dumps(content))
        both = inside([outer, hole], 40, 50) | inside([other], 40, 50)
        expected[f"slide.{number}"] = paint([(both, 1), (inside([small], 40, 50), 2)], 40, 50)
    return expected


def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path) -> None:
    expected = dataset(tmp_path)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    assert open_dataset(tmp_path).labels.names == ("background", "Stroma", "Tumor")
    said = warnings_of(tmp_path)
    for words in ("features of the type 'LineString'", "features without a class were left out", "the smaller one is on top"):
        assert words in said


def test_what_is_malformed_and_coordinates_of_a_map_are_one_line(tmp_path: Path) -> None:
    dataset(tmp_path)
    for content, match in (
        ({"type": "FeatureCollection", "crs": {"type": "name"}, "features": []}, "those of a map"),
        ([feature("Polygon", [[1]], "x")], "feature 1: it has the points"),
        ([feature("Polygon", 3, "x")], "feature 1: its coordinates are 3"),
        ([{"type": "Feature", "geometry": None}], "feature 1: its geometry is None"),
        ({"type": "FeatureCollection", "features": 3}, "its features is 3"),
    ):
        (tmp_path / "slide.0.geojson").write_text(json.dumps(content))
        with pytest.raises(DataError, match=match):
            open_dataset(tmp_path)
