"""SIFT Flow and its two kinds of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mat_bytes import cell, mat_bytes
from small_files import image, mask, write
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers.sift_flow import GEOMETRIC, SEMANTIC
from upscore.errors import DataError

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


@pytest.fixture
def sift_flow(tmp_path: Path) -> Path:
    for key in ("coast_a1", "coast_b2", "street_c3", "moon_d4"):
        image(tmp_path / "Images" / SCENES / f"{key}.jpg")
        if key != "moon_d4":
            names = {"names": cell(list(SEMANTIC)), "metaData": np.eye(3)}
            write(tmp_path / "SemanticLabels" / SCENES / f"{key}.mat", mat_bytes({"S": mask(0, 1, 33, 28, dtype="f8"), **names}))
            write(tmp_path / "GeoLabels" / SCENES / f"{key}.mat", mat_bytes({"S": mask(-1, 1, 2, 3, dtype="i2")}))
    write(tmp_path / "TestSet1.txt", f"{SCENES}\\coast_b2.jpg\r\n")
    return tmp_path


def test_sift_flow_and_its_two_kinds_of_labels(sift_flow: Path) -> None:
    assert list_splits(sift_flow) == ("train", "test")
    train = open_dataset(sift_flow, "train")
    assert train.keys == ["coast_a1", "street_c3"]
    assert "1 images have no mask" in train.warnings[0]
    assert "moon_d4" in train.warnings[0]
    assert train.labels.names == SEMANTIC
    assert np.array_equal(train[0].label, mask(255, 0, 32, 27))
    assert open_dataset(sift_flow, "test").keys == ["coast_b2"]
    geometric = open_dataset(sift_flow / "GeoLabels", "test")
    assert geometric.labels.names == GEOMETRIC == ("sky", "horizontal", "vertical")
    assert np.array_equal(geometric[0].label, mask(255, 0, 1, 2))
    assert check_dataset(geometric).class_pixels.tolist() == [12, 12, 12]
    assert np.array_equal(open_dataset(sift_flow / "SemanticLabels", "test")[0].label, mask(255, 0, 32, 27))


def test_sift_flow_by_the_authors_lists(sift_flow: Path) -> None:
    write(sift_flow / "trainval.txt", "street_c3\n")
    write(sift_flow / "test.txt", "coast_a1\n")
    assert list_splits(sift_flow) == ("train", "test", "trainval")
    assert open_dataset(sift_flow, "trainval").keys == ["street_c3"]
    assert open_dataset(sift_flow, "test").keys == ["coast_a1"]
    write(sift_flow / "trainval.txt", "moon_d4\n")
    with pytest.raises(DataError, match=r"moon_d4\.mat: no such file; the list trainval\.txt names 1 of 1 masks"):
        open_dataset(sift_flow, "trainval")
