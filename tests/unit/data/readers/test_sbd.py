"""SBD as it is released, and the split of VOC that it does not train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from mat_bytes import mat_bytes, structs
from small_files import image, mask, write
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.voc_names import VOC_NAMES
from upscore.errors import DataError


def gt(matrix: np.ndarray, **others: object) -> np.ndarray:
    """SBD's struct: sparse boundaries of each class beside the matrix."""
    edges = np.empty((20, 1), object)
    for index in range(20):
        edges[index, 0] = scipy.sparse.eye_array(6).tocsc()
    return structs([{"Boundaries": edges, "Segmentation": matrix, **others}])


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    for number, key in enumerate(("2008_000001", "2008_000002", "2008_000003")):
        image(root / "img" / f"{key}.jpg")
        write(root / "cls" / f"{key}.mat", mat_bytes({"GTcls": gt(mask(0, 15, 20, number), CategoriesPresent=np.array([[15], [20]]))}))
        write(root / "inst" / f"{key}.mat", mat_bytes({"GTinst": gt(mask(0, 1, 2, 0), Categories=np.array([[15], [20]]))}))
    write(root / "train.txt", "2008_000001\n2008_000003\n")
    write(root / "val.txt", "2008_000002\n")
    return tmp_path / "benchmark_RELEASE"


def test_sbd_by_its_own_lists(sbd: Path) -> None:
    for path in (sbd, sbd / "dataset"):
        assert list_splits(path) == ("train", "val")
    dataset = open_dataset(sbd, "train")
    assert dataset.keys == ["2008_000001", "2008_000003"]
    assert dataset.labels.names == VOC_NAMES
    sample = dataset[1]
    assert np.array_equal(sample.label, mask(0, 15, 20, 2))
    assert np.array_equal(sample.instances, mask(0, 1, 2, 0))
    assert check_dataset(dataset).class_pixels[[0, 2, 15, 20]].tolist() == [36, 12, 24, 24]


@pytest.mark.parametrize("place", ["VOC2011", "VOCdevkit/VOC2011", "TrainVal/VOCdevkit/VOC2011"])
def test_seg11valid_is_vocs_val_without_what_sbd_trains_on(sbd: Path, place: str) -> None:
    voc = sbd.parent / place
    for key in ("2008_000003", "2009_000007", "2008_000009"):
        image(voc / "JPEGImages" / f"{key}.jpg")
        image(voc / "SegmentationClass" / f"{key}.png", mask(0, 255, 3, 3))
    write(voc / "ImageSets/Segmentation/val.txt", "2009_000007\n2008_000003\n2008_000009\n")
    assert list_splits(sbd) == ("train", "val", "seg11valid")
    dataset = open_dataset(sbd, "seg11valid")
    assert dataset.keys == ["2009_000007", "2008_000009"]
    assert np.array_equal(dataset[0].label, mask(0, 255, 3, 3)), "VOC's own mask, with its void"
    assert "2 of 3 images" in " ".join(dataset.warnings)
    write(sbd / "dataset" / "seg11valid.txt", "2008_000002\n")
    assert open_dataset(sbd, "seg11valid").keys == ["2008_000002"], "a list of that name comes first"


def test_seg12valid_is_of_voc_2012(sbd: Path) -> None:
    image(sbd.parent / "VOC2012/JPEGImages/2012_000001.jpg")
    image(sbd.parent / "VOC2012/SegmentationClass/2012_000001.png", mask(1, 2))
    write(sbd.parent / "VOC2012/ImageSets/Segmentation/val.txt", "2012_000001\n2008_000001\n")
    assert list_splits(sbd) == ("train", "val", "seg12valid")
    assert open_dataset(sbd, "seg12valid").keys == ["2012_000001"]


def test_faults_of_sbd_are_one_line(sbd: Path) -> None:
    root = sbd / "dataset"
    for content, message in (
        ("2008_000001\n2008_777777\nx\n", r"2008_777777\.jpg: no such file; the list train\.txt names 2 of 3 images that are missing"),
        ("2008_000001\n2008_000001\n", "the list names '2008_000001' twice"),
        ("", "the list is empty"),
    ):
        write(root / "train.txt", content)
        with pytest.raises(DataError, match=message) as error:
            open_dataset(sbd, "train")
        assert "\n" not in str(error.value)
    write(root / "train.txt", "2008_000001\n")
    (root / "cls/2008_000001.mat").unlink()
    with pytest.raises(DataError, match=r"2008_000001\.mat: no such file; the list train\.txt names 1 of 1 masks"):
        open_dataset(sbd, "train")
    write(root / "cls/2008_000001.mat", b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match=r"2008_000001\.mat: .*format 7\.3 \(HDF5\).*save\(file, '-v7'\)"):
        open_dataset(sbd, "train")[0]
    with pytest.raises(DataError, match="no split 'seg11valid'"):
        open_dataset(sbd, "seg11valid")
