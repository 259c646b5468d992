"""CVAT's XML for images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outlines_by_hand import all_samples, disc, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

META = "<meta><task><labels>{}</labels></task></meta>".format(
    "".join(
        f"<label><name>{name}</name><color>#{colour}</color></label>"
        for name, colour in (("road", "102030"), ("Bäume", "ff0000"), ("sky", "000001"))
    )
)


def dataset(root: Path, folder: str = "images", subsets: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected, images = {}, []
    for number in range(6):
        save_image(root / folder / "sub" / f"{number}.jpg", 24, 40)
        points, mask = rng.uniform(-5, 45, (7, 2)).round(2), rng.random((5, 8)) < 0.5
        runs, last = [0], 0
        for value in mask.ravel().tolist():
            if value != last:
                runs.append(0)
                last = value
            runs[-1] += 1
        subset = ("Train", "Validation")[number % 2] if subsets else ""
        images.append(
            f'<image id="{number}" name="sub/{number}.jpg" width="40" height="24" subset="{subset}">'
            f'<polygon label="sky" z_order="2" points="{";".join(f"{x},{y}" for x, y in points)}" occluded="0"/>'
            f'<mask label="Bäume" top="6" left="10" width="8" height="5" rle="{", ".join(map(str, runs))}" z_order="3"/>'
            '<box label="road" xtl="1.2" ytl="1.7" xbr="30" ybr="20" rotation="0" z_order="0"/>'
            '<ellipse label="Bäume" cx="12" cy="11" rx="6" ry="6"/>'
            '<polyline label="road" points="1,2;3,4"/></image>'
        )
        patch = np.zeros((24, 40), np.bool_)
        patch[6:11, 10:18] = mask
        expected[f"{folder}/sub/{number}"] = paint(
            [
                (inside([rectangle(1.2, 1.7, 30, 20)], 24, 40), 1),
                (disc(12, 11, 6, 24, 40), 2),
                (inside([points.tolist()], 24, 40), 3),
                (patch, 2),
            ],
            24,
            40,
        )
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>{META}{"".join(images)}</annotations>'
    (root / "annotations.xml").write_text(text, "utf-8")
    return expected


def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path) -> None:
    expected = dataset(tmp_path)
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    labels = open_dataset(tmp_path / "annotations.xml").labels
    assert labels.names == ("background", "road", "Bäume", "sky")
    assert labels.palette == ((0, 0, 0), (16, 32, 48), (255, 0, 0), (0, 0, 1))
    said = warnings_of(tmp_path)
    assert "higher z_order is on top" in said
    assert "shapes of the type polyline, which have no area, were left out" in said


def test_subsets_of_a_project_are_splits(tmp_path: Path) -> None:
    dataset(tmp_path, subsets=True)
    assert list_splits(tmp_path) == ("train", "val")
    assert list(open_dataset(tmp_path, "val").keys) == ["images/sub/1", "images/sub/3", "images/sub/5"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("<annotations>", '<!DOCTYPE a [<!ENTITY x "y">]><annotations>', "declares a document type"),
        ("</annotations>", "", "not valid XML"),
        ("<version>", "<track/><version>", "the tracks of a video: export the task anew"),
        ('label="road"', 'label="bus"', "its label is 'bus', which is not among the labels of the task"),
        ('xtl="1.2"', 'xtl="1e999"', "its xtl is '1e999', expected a number"),
        ('points="', 'points="x', "a polygon has the points"),
        ("<ellipse", "<spline", "found <spline>"),
        ('height="24"', 'height="-1"', "its height is '-1'"),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, old: str, new: str, match: str) -> None:
    dataset(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text("utf-8").replace(old, new), "utf-8")
    with pytest.raises(DataError, match=match):
        open_dataset(file)


def test_masks_that_do_not_fill_their_box_are_one_line(tmp_path: Path) -> None:
    dataset(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text("utf-8").replace('width="8" height="5"', 'width="8" height="6"'), "utf-8")
    with pytest.raises(DataError, match="cannot be drawn: the run lengths add up to 40, expected the 48"):
        open_dataset(file)[0]


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    boxes = "".join(
        f'<box label="road" xtl="{2 * i}" ytl="0" xbr="{2 * i + 1}" ybr="4" z_order="{order}"{group}/>'
        for i, (order, group) in enumerate([(1, ' group_id="3"'), (0, ""), (0, ' group_id="3"'), (0, "")])
    )
    images = "".join(f'<image id="{name}" name="{name}.jpg" width="8" height="4">{boxes}</image>' for name in (1, 2))
    (tmp_path / "annotations.xml").write_text(f"<annotations>{META}{images}</annotations>")
    for name in (1, 2):
        save_image(tmp_path / "images" / f"{name}.jpg", 4, 8)
    for sample in all_samples(tmp_path).values():
        assert sample.instances is not None
        assert sample.instances[0].tolist() == [2, 0, 1, 0, 2, 0, 3, 0]  # those of a lower z_order come first
