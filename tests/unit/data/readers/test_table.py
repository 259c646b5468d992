"""CSV files that name images and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_files import image, mask, write
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.png_files import write_image
from upscore.errors import DataError

NAMES = ("scans/a.png", "scans/b, left.png", "scans/도로.png", 'scans/"q".png')


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        image(tmp_path / name, number)
        path = tmp_path / name.replace("scans", "truth")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask(0, 1)).save(path)
    write(tmp_path / "classes.txt", "ground\nbox\n")
    return tmp_path


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("first", "second"), [("image", "mask"), ("Image_Path", "label_path"), ("input", "annotation")])
def test_splits_are_those_of_the_column(files: Path, delimiter: str, first: str, second: str) -> None:
    rows = [delimiter.join((first, second, "split"))]
    for number, name in enumerate(NAMES):
        rows.append(
            delimiter.join(
                (quoted(name), quoted(name.replace("scans/", "truth\\" if number == 0 else "truth/")), ["train", "valid"][number % 2])
            )
        )
    table = write(files / "pairs.csv", "\ufeff" + "\r\n".join(rows) + "\r\n\r\n")
    for path in (files, table):
        assert list_splits(path) == ("train", "valid")
        train, val = open_dataset(path, "train"), open_dataset(path, "val")
        assert (list(train.keys), list(val.keys)) == (["scans/a", "scans/도로"], ["scans/b, left", 'scans/"q"'])
        assert train.labels.names == ("ground", "box")
        np.testing.assert_array_equal(val[1].label, mask(0, 1))
        assert val[1].image[0, 0, 0] == 3
        assert f"the column {first} of pairs.csv was taken for the images, and {second} for their masks" in train.warnings


def test_tables_named_by_splits_and_a_division(files: Path) -> None:
    rows = [f"{quoted(name)},{quoted(name.replace('scans', 'truth'))}" for name in NAMES]
    write(files / "train.csv", "\n".join(["image,mask", *rows[:3]]))
    write(files / "val.csv", "\n".join(["image,mask", *rows[3:]]))
    assert [len(open_dataset(files, split)) for split in list_splits(files)] == [3, 1]
    (files / "val.csv").unlink()
    train, val = open_dataset(files, "train"), open_dataset(files, "val")
    assert (len(train), len(val)) == (2, 1)
    assert any("train.csv has no column split, so 1 of 3 images" in warning for warning in train.warnings)


def test_split_by_a_column(files: Path) -> None:
    rows = [f"{quoted(name)},{quoted(name.replace('scans', 'truth'))},{'xyxx'[number]}" for number, name in enumerate(NAMES)]
    table = write(files / "pairs.csv", "\n".join(["image,mask,patient", *rows]))
    train, val = (open_dataset(table, split, split_by="column:patient") for split in ("train", "val"))
    assert list(val.keys) == ["scans/b, left"]
    assert len(train) == 3
    assert any("1 of 4 images, those of 1 of 2 groups by column:patient" in warning for warning in train.warnings)
    with pytest.raises(DataError, match="split_by is column:doctor, and the columns of the table are image, mask, patient"):
        open_dataset(table, "train", split_by="column:doctor")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table: it is empty"),
        ("name,value\na,b\n", "expected one called image and one called mask"),
        ("image,mask\n", "holds no row below its header"),
        ("image,mask,mask\na,b,c\n", "two columns are called 'mask'"),
        ("image,mask\nscans/a.png\n", "row 2 has 1 cells and the header 2"),
        ("image,mask\nscans/a.png,truth/none.png\n", "names the mask 'truth/none.png', which is not below"),
        ("image,mask\nscans/a.png,truth/a.png\nscans/a.png,truth/a.png\n", "names the image 'scans/a.png' twice"),
        ('image,mask\n"scans/a.png,truth/a.png\n', "cannot be read as a table"),
        ("image,mask\n=cmd(),truth/a.png\n", r"names the image '=cmd\(\)'"),
    ],
)
def test_what_is_wrong_is_one_line(files: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_dataset(write(files / "pairs.csv", text), "train")
    assert "\n" not in str(error.value)


def test_a_table_of_other_things_is_no_dataset(files: Path) -> None:
    write(files / "labels.csv", "image,label\na.png,cat\n")  # of a classifier
    with pytest.raises(DataError, match="the folder is no dataset"):
        open_dataset(files, "train")


def test_without_names_the_masks_are_read(files: Path) -> None:
    (files / "classes.txt").unlink()
    write_image(files / "scans/c.png", np.zeros((6, 8, 3), np.uint8))
    table = write(files / "pairs.tsv", "image\tmask\nscans/a.png\ttruth/a.png\nscans/c.png\ttruth/b, left.png\n")
    assert open_dataset(table, "train").labels.names == ("class0", "class1")
