"""The page shows each finding with its remedy, on its images, and loads nothing."""

from dataclasses import replace

import numpy as np

from browsing import read
from damage import GENERAL, masks, save, stored
from painting import paint_objects
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mend import find_corrected, mend
from upscore.doctor.page import MARK, write_page


def test_each_finding_is_shown_on_its_images_with_its_remedy(tmp_path):
    root = paint_objects(tmp_path / "data", train=12).parent
    for name in ("a mask of colours", "a training image in val"):
        GENERAL[name][0](root)
    diagnosis = diagnose(root)
    mended = mend(diagnosis, tmp_path / "mended")
    page = read(write_page(diagnosis, tmp_path / "doctor.html", command="upscore doctor data", mended=mended))
    assert {"values.colours", "splits.shared-images"} <= {finding.id for finding in diagnosis.findings}
    for finding in diagnosis.findings:
        assert finding.id in page.text
        assert finding.what in page.text
        assert finding.remedy() in page.text
    assert not [address for address in page.addresses if not address.startswith("data:")]
    shown = [image["alt"] for image in page.images]
    assert any(alt.startswith("val copied: image") for alt in shown)
    assert any(alt.startswith("train 1: image") for alt in shown), "the other image of the pair"
    assert "colours read by the classes' palette" in page.text


def test_the_pixels_of_a_finding_are_marked(tmp_path, monkeypatch):
    root = paint_objects(tmp_path / "data", train=12).parent
    path = masks(root, "train")[3]
    mask = stored(path)
    mask[10:14, 20:25] = 99
    save(path, mask)
    drawn = []
    monkeypatch.setattr("upscore.doctor.figure.as_uri", lambda pixels, **_: drawn.append(pixels) or "data:,")
    diagnosis = diagnose(root, only=["values.no-class"])
    page = read(write_page(diagnosis, tmp_path / "doctor.html"))
    assert "20 marked pixels" in page.text
    (marked,) = [pixels for pixels in drawn if (pixels == MARK).all(axis=2).any()]
    rows, columns = np.nonzero((marked == MARK).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 14, 19, 25)  # made wider by a pixel, to be seen


def test_a_mask_that_is_refused_is_shown_as_it_is_stored(tmp_path):
    root = paint_objects(tmp_path / "data", train=12).parent
    GENERAL["a mask of colours"][0](root)
    GENERAL["a mask twice as large"][0](copied := paint_objects(tmp_path / "other", train=12).parent)
    for folder, size in ((root, "64×80"), (copied, "128×160")):
        page = read(write_page(diagnose(folder, only=["values", "sizes"]), tmp_path / "doctor.html"))
        assert f"train 1: mask as stored, {size}" in [image["alt"] for image in page.images]


def test_the_page_promises_what_a_copy_corrects_and_nothing_else(tmp_path):
    root = paint_objects(tmp_path / "data", train=12).parent
    GENERAL["a mask of colours"][0](root)
    GENERAL["a mirrored mask"][0](root)
    diagnosis = diagnose(root)
    (finding,) = [finding for finding in diagnosis.findings if finding.id == "values.colours"]
    told = "gives each colour its class where the palette is known"
    assert told in read(write_page(diagnosis, tmp_path / "doctor.html")).text
    assert find_corrected(diagnosis) == [finding, *[other for other in diagnosis.findings if other.id == "geometry.mirrored"]]
    harmless = replace(diagnosis, findings=(replace(finding, severity="info"),))
    assert find_corrected(harmless) == []
    assert told not in read(write_page(harmless, tmp_path / "doctor.html")).text
    unnamed = replace(finding, id="geometry.specks", severity="warning")
    assert find_corrected(replace(diagnosis, findings=(unnamed,))) == [], "specks are removed where they are named"
    assert find_corrected(replace(diagnosis, findings=(unnamed,), named=frozenset({"geometry.specks"}))) == [unnamed]
