"""Polygons by the rule of pixel centres, beside a test of every centre by itself, GDAL and pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlines_by_hand import inside
from upscore.data.annotations import polygons
from upscore.data.annotations.polygons import fill_polygon, polygon_area
from upscore.data.annotations.region import Region, place, unite


def on_canvas(region: Region, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width), np.bool_)
    rows, columns = region.mask.shape
    canvas[region.top : region.top + rows, region.left : region.left + columns] = region.mask
    return canvas


def random_rings(rng: np.random.Generator, quantum: float) -> list[np.ndarray]:
    rings = []
    for _ in range(rng.integers(1, 4)):
        points = rng.uniform(-15, 85, (rng.integers(3, 15), 2))
        rings.append(np.round(points / quantum) * quantum if quantum else points)
    return rings


@pytest.mark.parametrize("quantum", [0.0, 0.5, 1.0, 7.5])
def test_every_pixel_is_that_of_its_centre_also_where_centres_lie_on_the_outline(quantum: float) -> None:
    rng = np.random.default_rng(int(10 * quantum))
    for _ in range(150):
        height, width = rng.integers(1, 80, 2)
        rings = random_rings(rng, quantum)
        expected = inside([ring.tolist() for ring in rings], height, width)
        region = fill_polygon([ring.ravel() for ring in rings], height, width)
        np.testing.assert_array_equal(on_canvas(region, height, width), expected)
        # What is clipped is what a canvas with the image in its middle shows around it, as far as one image above and below.
        wide = inside([np.add(ring, (200, height)).tolist() for ring in rings], 3 * height, 400)
        assert region.clipped == wide.sum() - expected.sum()


def test_wide_polygons_cross_the_words_of_a_row() -> None:
    rng = np.random.default_rng(3)
    for width in (63, 64, 65, 127, 128, 129, 700):
        points = rng.uniform(-5, width + 5, (30, 2)) * (1, 0.02)
        np.testing.assert_array_equal(on_canvas(fill_polygon([points.ravel()], 16, width), 16, width), inside([points.tolist()], 16, width))


def test_gdal_fills_the_same_pixels_of_thousands_of_polygons() -> None:
    features = pytest.importorskip("rasterio.features")
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = (int(side) for side in rng.integers(1, 50, 2))
        points = rng.uniform(-10, 60, (rng.integers(3, 12), 2))
        closed = [*points.tolist(), points[0].tolist()]
        expected = features.rasterize([{"type": "Polygon", "coordinates": [closed]}], out_shape=(height, width))
        np.testing.assert_array_equal(on_canvas(fill_polygon([points.ravel()], height, width), height, width), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_fills_nearly_the_same() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    differing = total = 0
    for _ in range(100):
        points = rng.uniform(0, 100, (8, 2)).ravel()
        expected = coco.decode(coco.frPyObjects([points.tolist()], 100, 100))[..., 0].astype(bool)
        differing += (on_canvas(fill_polygon([points], 100, 100), 100, 100) != expected).sum()
        total += expected.sum()
    assert differing < 0.03 * total  # it rounds the outline to a fifth of a pixel


@given(seed=st.integers(0, 10**6), quantum=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none_out(seed: int, quantum: float) -> None:
    rng = np.random.default_rng(seed)
    middle = rng.uniform(5, 35, 2)
    middle = np.round(middle / quantum) * quantum if quantum else middle
    corners = np.array([[0, 0], [40, 0], [40, 40], [0, 40]], float)
    drawn = np.zeros((40, 40), int)
    for corner in range(4):  # four triangles around a point fill the square exactly
        triangle = np.concatenate([corners[corner], corners[(corner + 1) % 4], middle])
        drawn += on_canvas(fill_polygon([triangle if corner % 2 else triangle.reshape(3, 2)[::-1].ravel()], 40, 40), 40, 40)
    assert (drawn == 1).all()


def test_the_area_is_kept() -> None:
    assert fill_polygon([[2, 2, 6, 2, 6, 6, 2, 6]], 10, 10).mask.sum() == 16
    assert fill_polygon([[3, 3, 4, 3, 4, 4, 3, 4]], 10, 10).mask.sum() == 1
    assert polygon_area([[2, 2, 6, 2, 6, 6, 2, 6]]) == 16


@pytest.mark.parametrize("ring", [[], [1, 2], [1, 2, 3, 4], [1, 1, 1, 1, 1, 1], [0, 5, 9, 5, 4, 5], [50, 50, 60, 50, 60, 60]])
def test_what_has_no_inside_is_empty(ring: list[float]) -> None:
    assert fill_polygon([ring], 10, 10).mask.sum() == 0


@pytest.mark.parametrize(
    ("ring", "match"),
    [([1, 2, 3], "3 numbers"), ([1, 2, np.nan, 3, 4, 5], "not a number"), ([1, 2, 3e9, 3, 4, 5], "-1e\\+09 to 1e\\+09")],
)
def test_malformed_rings_are_a_reason(ring: list[float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fill_polygon([ring], 10, 10)


def test_outlines_that_would_take_minutes_are_refused_and_long_ones_are_filled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform(0, 60, (200, 2))
    expected = on_canvas(fill_polygon([points.ravel()], 60, 60), 60, 60)
    monkeypatch.setattr(polygons, "_CROSSINGS_AT_ONCE", 37)
    np.testing.assert_array_equal(on_canvas(fill_polygon([points.ravel()], 60, 60), 60, 60), expected)
    monkeypatch.setattr(polygons, "_MAX_CROSSINGS", 1000)
    with pytest.raises(ValueError, match=r"crosses the rows of the image .* times, expected at most 1,000"):
        fill_polygon([points.ravel()], 60, 60)


def test_regions_are_placed_and_united() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        masks = [rng.random((3, 5)) < 0.5 for _ in range(3)]
        corners = rng.integers(-4, 12, (3, 2))
        canvas = np.zeros((40, 40), np.bool_)
        for mask, (top, left) in zip(masks, corners, strict=True):
            canvas[top + 10 : top + 13, left + 10 : left + 15] |= mask
        regions = [place(mask, int(top), int(left), 10, 9) for mask, (top, left) in zip(masks, corners, strict=True)]
        united = unite(regions)
        np.testing.assert_array_equal(on_canvas(united, 10, 9), canvas[10:20, 10:19])
        assert united.clipped == sum(map(np.sum, masks)) - sum(region.mask.sum() for region in regions)
