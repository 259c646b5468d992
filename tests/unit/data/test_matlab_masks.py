"""Masks in MATLAB files, read as any other mask."""

import numpy as np
import pytest
from PIL import Image

from mat_bytes import cell, mat_bytes, structs
from upscore.data.mask_files import read_instances, read_label
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError

MASK = np.array([[0, 1, 2], [255, 1, 0]])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_matrix_of_any_type_is_a_mask(tmp_path, dtype, compressed):
    file = tmp_path / "a.mat"
    file.write_bytes(mat_bytes({"anything": MASK.astype(dtype), "names": cell(["a"]), "scale": 2.0}, compressed=compressed))
    label = read_label(file)
    assert np.array_equal(label, MASK)
    assert label.dtype == np.uint8
    assert label.flags.c_contiguous
    assert read_instances(file).dtype == np.int32
    assert np.array_equal(read_label(file, mapping={0: 3, 1: 0, 2: 255}), np.array([[3, 0, 255], [255, 0, 3]]))


def test_known_names_come_before_other_matrices(tmp_path):
    file = tmp_path / "a.mat"
    file.write_bytes(mat_bytes({"depth": np.eye(3), "GTinst": structs([{"Segmentation": MASK, "Categories": np.array([[1], [2]])}])}))
    assert np.array_equal(read_label(file), MASK)
    file.write_bytes(mat_bytes({"depth": np.eye(3), "S": MASK}))
    assert np.array_equal(read_label(file), MASK)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"a": np.eye(3), "b": np.eye(3)}, "holds 2 matrices that may be a mask, found a, b"),
        ({"a": np.zeros((2, 3, 4))}, "holds 0 matrices that may be a mask, found the variables a"),
        ({}, "found the variables none"),
        ({"a": MASK + 0.5}, r"the mask holds 0\.5, expected whole numbers"),
        ({"a": MASK * np.nan}, "the mask holds nan, expected whole numbers"),
        ({"a": MASK - 2}, "the mask holds values from -2 to 253"),
        ({"a": MASK * 1000}, "the mask holds values from 0 to 255000"),
    ],
)
def test_what_is_no_mask_is_one_line(tmp_path, variables, message):
    file = tmp_path / "a.mat"
    file.write_bytes(mat_bytes(variables))
    with pytest.raises(DataError, match=message) as error:
        read_label(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_object_numbers_beyond_32_bits_are_refused(tmp_path):
    file = tmp_path / "a.mat"
    file.write_bytes(mat_bytes({"a": np.array([[0, 2**40], [1, 1]])}))
    with pytest.raises(DataError, match="object numbers from 0 to 1099511627776, expected at most 31 bits"):
        read_instances(file)


def test_a_folder_of_matlab_masks(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for key in "abcd":
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "images" / f"{key}.png")
        (tmp_path / "masks" / f"{key}.mat").write_bytes(mat_bytes({"mask": MASK}))
    (tmp_path / "classes.txt").write_text("ground\nroad\nsky\n")
    assert np.array_equal(open_dataset(tmp_path, "train")[0].label, MASK)
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="images have no mask"):
        open_dataset(tmp_path, "train")
