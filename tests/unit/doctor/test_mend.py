"""A corrected copy is whole, new, and made of links."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from damage import GENERAL, OBJECTS, draw, masks
from painting import paint_objects
from upscore.data.finding import Finding
from upscore.data.open_dataset import open_dataset
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mend import mend
from upscore.errors import DataError, OutputError


def test_files_that_need_nothing_are_links(tmp_path):
    root = paint_objects(tmp_path / "data", train=12).parent
    GENERAL["a mask of colours"][0](root)
    mended = mend(diagnose(root, only=["values"]), tmp_path / "new")
    assert [change.file for change in mended.changes] == ["masks/train/1.png"]
    assert mended.untouched == 31
    for path in masks(mended.folder):
        original = root / path.relative_to(mended.folder)
        assert path.samefile(original) == (path.name != "1.png" or path.parent.name == "val")
    assert not mended.remaining


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    diagnosis = diagnose(paint_objects(tmp_path / "data"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something already"):
        mend(diagnosis, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_generated_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("upscore.data.readers.shapes._COUNTS", {"train": 2, "val": 2, "test": 2})
    with pytest.raises(DataError, match="not made of files"):
        mend(diagnose("shapes:size=32x40"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_has_two_meanings_remains(tmp_path):
    root = draw(tmp_path / "data", two=True)
    OBJECTS["one mask of 0 and 255"][0](root)
    mended = mend(diagnose(root), tmp_path / "new")
    assert [finding.id for finding in mended.remaining] == ["values.mixed-encodings"]
    assert not mended.changes


def test_numbers_of_objects_are_copied_unless_their_mask_moves(tmp_path):
    root = paint_objects(tmp_path / "data", train=12).parent
    GENERAL["a mask of colours"][0](root)
    original = open_dataset(root, "val")
    copy = open_dataset(mend(diagnose(root, only=["values"]), tmp_path / "new").folder, "val")
    for index, key in enumerate(original.keys):
        np.testing.assert_array_equal(copy[copy.keys.index(key)].instances, original[index].instances)
    assert open_dataset(tmp_path / "new", "train")[0].instances is not None

    diagnosis = diagnose(root, only=["values"])
    finding = Finding("geometry.shifted", "error", "data (val)", "masks are shifted", evidence=((("val", original.keys[0]),),))
    moved = mend(replace(diagnosis, findings=(finding,)), tmp_path / "moved")
    (change,) = [change for change in moved.changes if change.file.startswith("masks/val")]
    assert "the numbers of its objects, which lie where the mask lay, were left out" in change.what
    assert len(list((tmp_path / "moved" / "instances" / "val").iterdir())) == len(original) - 1


def test_numbers_of_objects_that_do_not_fit_are_named(tmp_path):
    root = paint_objects(tmp_path / "data", train=3).parent
    file = next((root / "instances" / "val").iterdir())
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(file)
    mended = mend(diagnose(root, only=["values"]), tmp_path / "new")
    assert ["the numbers of its objects were left out: " in change.what for change in mended.changes] == [True]
