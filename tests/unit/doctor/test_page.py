"""The page shows each finding with its remedy, on its images, and loads nothing."""

import numpy as np

from browsing import read
from damage import GENERAL, masks, save, stored
from painting import paint_objects
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mend import mend
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
