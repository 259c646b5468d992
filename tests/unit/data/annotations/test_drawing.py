"""Shapes over one another: who is on top, and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import disc, inside, paint, rectangle
from upscore.data.annotations import drawing
from upscore.data.annotations.drawing import SMALL_ON_TOP, Drawing, Shape, draw, draw_for_image
from upscore.data.annotations.outlines import CocoRuns, CvatRuns, Ellipse, Fractions, Polygons, box, circle
from upscore.data.headers import EXIF_TRANSPOSE
from upscore.errors import DataError


def flat(points: list) -> list[float]:
    return [number for point in points for number in point]


def test_later_shapes_are_on_top_or_smaller_ones() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        rings = [rectangle(*np.sort(rng.uniform(-5, 45, (2, 2)), axis=0).ravel()) for _ in range(6)]
        labels = rng.integers(1, 4, 6).tolist()
        regions = [(inside([ring], 30, 40), label) for ring, label in zip(rings, labels, strict=True)]
        shapes = [Shape(label, Polygons(((flat(ring),),))) for ring, label in zip(rings, labels, strict=True)]
        drawn = draw(Drawing(shapes, background=0), 30, 40)
        np.testing.assert_array_equal(drawn.label, paint(regions, 30, 40))
        hidden, below = 0, np.full((30, 40), -1)
        for region, label in regions:
            hidden += (region & (below != -1) & (below != label)).sum()
            below[region] = label
        notes = {sentence: count for sentence, count in drawn.notes.items() if "under another shape" in sentence}
        assert sum(notes.values()) == hidden
        assert drawn.notes.get("pixels that no shape covers are background", 0) == (below == -1).sum()
        areas = [(ring[1][0] - ring[0][0]) * (ring[2][1] - ring[1][1]) for ring in rings]
        ordered = [region for _, region in sorted(zip(areas, regions, strict=True), key=lambda pair: -pair[0])]
        np.testing.assert_array_equal(draw(Drawing(shapes, background=0, order=SMALL_ON_TOP), 30, 40).label, paint(ordered, 30, 40))


def test_parts_unite_and_rings_are_holes() -> None:
    outer, hole = rectangle(2, 2, 12, 12), rectangle(4, 4, 8, 8)
    united = draw(Drawing([Shape(1, Polygons([[flat(outer)], [flat(hole)]]))], background=0), 15, 15).label
    with_hole = draw(Drawing([Shape(1, Polygons([[flat(outer), flat(hole)]]))], background=0), 15, 15).label
    assert united.sum() == 100
    np.testing.assert_array_equal(with_hole, inside([outer, hole], 15, 15).astype(np.uint8))
    assert with_hole.sum() == 84


def test_each_kind_of_outline() -> None:
    height, width = 40, 60
    for outline, expected in (
        (circle(20.3, 15.1, 9.7), disc(20.3, 15.1, 9.7, height, width)),
        (circle(2, 38, 9), disc(2, 38, 9, height, width)),
        (box(5.2, 3.7, 30, 20.5), inside([rectangle(5.2, 3.7, 30, 20.5)], height, width)),
        (Fractions([0.1, 0.1, 0.5, 0.2, 0.3, 0.9]), inside([[(6, 4), (30, 8), (18, 36)]], height, width)),
        (box(10, 10, 30, 20, angle=90), inside([rectangle(15, 5, 25, 25)], height, width)),
        (box(30, 10, 40, 12, angle=90, about=(30, 10)), inside([rectangle(28, 10, 30, 20)], height, width)),
    ):
        drawn = draw(Drawing([Shape(1, outline)], background=0), height, width)
        np.testing.assert_array_equal(drawn.label > 0, expected)
    rows, columns = np.mgrid[:height, :width] + 0.5
    turned = np.exp(-0.5236j) * ((columns - 30) + 1j * (rows - 20))  # 30 degrees clockwise, as y points down
    expected = (turned.real / 18) ** 2 + (turned.imag / 7) ** 2 <= 1
    drawn = draw(Drawing([Shape(1, Ellipse(30, 20, 18, 7, 30))], background=0), height, width)
    assert (drawn.label != expected).sum() <= 2
    assert abs(Ellipse(30, 20, 18, 7).area() - expected.sum()) < 15


def test_what_is_clipped_ignored_and_empty_is_counted() -> None:
    shapes = [
        Shape(1, box(-3, 2, 5, 4)), Shape(255, box(8, 0, 10, 2), "of crowd regions"), Shape(2, box(1.1, 1.1, 1.2, 1.2)), Shape(2,
        circle(-9, -9, 2)),
    ]  # fmt: skip
    drawn = draw(Drawing(shapes, background=0, left_out={"lines were left out": 3}), 6, 10)
    assert drawn.notes == {
        "lines were left out": 3,
        "pixels of shapes lie beyond the image and were clipped": 6 + 13,
        "pixels of crowd regions are ignored": 4,
        "shapes cover no pixel": 1,
        "shapes lie beyond the image": 1,
        "pixels that no shape covers are background": 60 - 10 - 4,
    }
    assert draw(Drawing([]), 2, 3).notes == {"pixels that no shape covers are ignored": 6}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stated", ["upright", "stored", None])
def test_the_stated_size_decides_which_way_up_shapes_are(orientation: int, stated: str | None) -> None:
    stored = (20, 30)
    upright = stored[::-1] if orientation >= 5 else stored
    points = [(1, 2), (11, 3), (4, 15)]
    size = {"upright": upright, "stored": stored, None: None}[stated]
    drawn = draw_for_image(Drawing([Shape(1, Polygons(((flat(points),),)))], size, 0), Path("a.json"), Path("a.jpg"), upright, orientation)
    as_drawn = inside([points], *(stored if stated == "stored" else upright)).astype(np.uint8)
    if stated == "stored" and orientation >= 5:
        from PIL import Image

        expected = np.asarray(Image.fromarray(as_drawn).transpose(EXIF_TRANSPOSE[orientation]))
        assert any("their annotations with them" in note for note in drawn.notes)
    else:
        expected = as_drawn
        assert any("does not show" in note for note in drawn.notes) == (orientation in (2, 3, 4) and stated is not None)
    np.testing.assert_array_equal(drawn.label, expected)


def test_a_size_that_fits_neither_way_is_an_error_that_names_both() -> None:
    with pytest.raises(DataError, match=r"a\.json: states 5×6 .* for a\.jpg, which is 30×20 \(20×30 before it is turned upright\)"):
        draw_for_image(Drawing([], (5, 6)), Path("a.json"), Path("a.jpg"), (30, 20), 6)
    with pytest.raises(DataError, match=r"which is 30×20: annotate"):
        draw_for_image(Drawing([], (20, 30)), Path("a.json"), Path("a.jpg"), (30, 20), 1)


def test_what_cannot_be_drawn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for outline, match in (
        (CocoRuns([1], 2, 2), "add up to 1"),
        (CocoRuns([4], 2, 3), r"are of 2×3 \(height × width\), and the image is 2×2"),
        (CvatRuns("4", 1, 1, 2, 2000), "does not lie in an image of 2×2"),
        (Ellipse(1e10, 0, 1, 1), "an ellipse has a number"),
    ):
        with pytest.raises(DataError, match=match):
            draw_for_image(Drawing([Shape(1, outline)]), Path("a.json"), Path("a.jpg"), (2, 2), 1)
    monkeypatch.setattr(drawing, "_MAX_PIXELS", 3000)
    with pytest.raises(DataError, match="which would take minutes"):
        draw_for_image(Drawing([Shape(1, box(0, 0, 30, 30))] * 3), Path("a.json"), Path("a.jpg"), (30, 30), 1)


def test_objects_are_numbered_in_the_order_of_the_file() -> None:
    shapes = [
        Shape(2, box(0, 0, 2, 1), group="a"),
        Shape(1, box(2, 0, 4, 1)),
        Shape(2, box(4, 0, 6, 1), group="a"),  # a part of the first one
        Shape(1, box(6, 0, 7, 1), group="a"),  # of another class, so another object
        Shape(1, box(7, 0, 8, 1), is_object=False),
        Shape(255, box(8, 0, 9, 1)),
        Shape(0, box(3, 0, 4, 1)),  # background
        Shape(1, box(9, 0, 10, 1)),
    ]
    drawn = draw(Drawing(shapes, background=0), 1, 12)
    assert drawn.instances is not None
    assert drawn.label.tolist() == [[2, 2, 1, 0, 2, 2, 1, 1, 255, 1, 0, 0]]
    assert drawn.instances.tolist() == [[1, 1, 2, 0, 1, 1, 3, 0, 0, 4, 0, 0]]
    below = draw(Drawing([Shape(1, box(1, 0, 2, 1)), Shape(1, box(0, 0, 3, 1))], background=0, order=SMALL_ON_TOP), 1, 4)
    assert below.instances is not None
    assert below.instances.tolist() == [[2, 1, 2, 0]]


def test_objects_are_turned_with_their_label_map() -> None:
    shapes = [Shape(1, box(0, 0, 2, 1)), Shape(1, box(2, 0, 3, 2))]
    for orientation in (5, 6, 7, 8):
        drawn = draw_for_image(Drawing(shapes, (2, 3), 0), Path("a.json"), Path("a.jpg"), (3, 2), orientation)
        upright = Image.fromarray(np.array([[1, 1, 2], [0, 0, 2]], np.int32)).transpose(EXIF_TRANSPOSE[orientation])
        np.testing.assert_array_equal(drawn.instances, np.array(upright))
        np.testing.assert_array_equal(drawn.label, np.array(upright) > 0)
