"""The data of FCN's paper in its own layouts: SBD, SIFT Flow, PASCAL-Context and NYUDv2, with masks in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from PIL import Image

from mat_bytes import cell, mat_bytes, structs
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers.nyud import CLASSES
from upscore.data.readers.sift_flow import GEOMETRIC, SEMANTIC
from upscore.data.voc_names import VOC_NAMES
from upscore.errors import DataError

SIZE = (6, 8)
SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def image(path: Path, value: int | np.ndarray = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8) if isinstance(value, int) else value).save(path)
    return path


def mask(*values: int, dtype: str = "u1") -> np.ndarray:
    """A mask of vertical stripes of these values."""
    return np.repeat(np.array([values], dtype), SIZE[0], axis=0).repeat(SIZE[1] // len(values), axis=1)


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


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root, voc = tmp_path / "pascal-context", tmp_path / "VOC2010"
    for key in ("2008_1", "2008_2"):
        image(voc / "JPEGImages" / f"{key}.jpg")
        write(root / "trainval" / f"{key}.mat", mat_bytes({"LabelMap": mask(2, 397, 431, 458, dtype="u2")}))
    write(voc / "ImageSets/Main/train.txt", "2008_2\n")
    write(voc / "ImageSets/Main/val.txt", "2008_1\n")
    names = {2: "aeroplane", 19: "bedclothes", 80: "cloth", 397: "table", 431: "unknown", 458: "wood", 459: "wool"}
    write(root / "labels.txt", "".join(f"{number}: {names.get(number, f'label {number}')}\n" for number in range(1, 460)))
    write(root / "59_labels.txt", "1: aeroplane\n2: diningtable\n3: clothes\n4: bedcloth\n5: wood\n")
    return root


def test_pascal_contexts_labels_become_classes(context: Path) -> None:
    assert list_splits(context) == ("train", "val")
    dataset = open_dataset(context, "train")
    assert dataset.keys == ["2008_2"]
    assert dataset.labels.names == ("background", "aeroplane", "diningtable", "clothes", "bedcloth", "wood")
    assert np.array_equal(dataset[0].label, mask(1, 2, 0, 5))
    assert check_dataset(dataset).class_pixels.tolist() == [12, 12, 12, 0, 0, 12]
    (context / "59_labels.txt").rename(context / "33_labels.txt")
    assert len(open_dataset(context, "val").labels) == 6


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("59_labels.txt", "1: aeroplane\n2: unicorn\n", "names the class 'unicorn', which labels.txt has not"),
        ("59_labels.txt", None, r"found neither 59_labels\.txt nor 33_labels\.txt"),
        ("labels.txt", "aeroplane\n", "found the line 'aeroplane', expected lines such as '1: accordion'"),
        ("labels.txt", "1: aeroplane\n1: boat\n", "is there twice"),
        ("../VOC2010/ImageSets/Main/train.txt", "2008_9\n", r"2008_9\.jpg: no such file; VOC 2010's list train\.txt names 1 of 1 images"),
        ("../VOC2010/JPEGImages", None, "found no VOC2010 in it or beside it"),
    ],
)
def test_faults_of_pascal_context_are_one_line(context: Path, file: str, content: str | None, message: str) -> None:
    path = context / file
    if content is not None:
        write(path, content)
    else:
        path.rename(path.with_name("elsewhere"))
    with pytest.raises(DataError, match=message) as error:
        open_dataset(context, "train")
    assert "\n" not in str(error.value)


@pytest.fixture
def nyud(tmp_path: Path) -> Path:
    for key in ("5001", "5002", "5003"):
        image(tmp_path / "data/images" / f"img_{key}.png", 7)
        image(tmp_path / "data/hha" / f"img_{key}.png", np.broadcast_to(np.array([1, 2, 3], np.uint8), (*SIZE, 3)))
        image(tmp_path / "data/depth" / f"img_{key}.png", mask(0, 1, 1000, 65535, dtype="u2"))
        write(tmp_path / "segmentation" / f"img_{key}.mat", mat_bytes({"segmentation": mask(0, 1, 40, 2, dtype="f8")}))
    for split, names in {"train": "5002\n", "val": "5001\n", "test": "5003\n"}.items():
        write(tmp_path / f"{split}.txt", names)
    return tmp_path


def test_nyud_in_colour_and_with_further_bands(nyud: Path) -> None:
    assert list_splits(nyud) == ("test", "train", "val", "trainval")
    colour = open_dataset(nyud, "trainval")
    assert colour.keys == ["5002", "5001"]
    assert colour.labels.names == CLASSES
    assert len(CLASSES) == 40
    assert np.array_equal(colour[0].label, mask(255, 0, 39, 1))
    hha = open_dataset(nyud / "data/hha", "test")
    assert hha.input.bands == ("red", "green", "blue", "disparity", "height", "angle")  # type: ignore[attr-defined]
    assert hha[0].image[0, 0].tolist() == [7, 7, 7, 1, 2, 3]
    assert hha[0].image.dtype == np.uint8
    assert check_dataset(hha).class_pixels[[0, 1, 39]].tolist() == [12, 12, 12]
    depth = open_dataset(nyud / "data/depth", "train")
    assert str(depth.input) == "4 bands of float32 (red, green, blue, log depth)"  # type: ignore[attr-defined]
    pixels = depth[0].image[0]
    depth.input.check(depth[0].image)  # type: ignore[attr-defined]
    assert pixels[:, :3].tolist() == [[7, 7, 7]] * 8
    assert np.isnan(pixels[0, 3])
    np.testing.assert_allclose(pixels[[2, 4, 6], 3], np.log([1, 1000, 65535]), rtol=1e-6)


def test_faults_of_nyud_are_one_line(nyud: Path) -> None:
    image(nyud / "data/hha/img_5003.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"img_5003\.png: the image is 3×4 .* colour image 6×8"):
        open_dataset(nyud / "data/hha", "test")[0]
    (nyud / "data/depth/img_5003.png").unlink()
    with pytest.raises(DataError, match=r"img_5003\.png: no such file; 1 of 1 images of test have none"):
        open_dataset(nyud / "data/depth", "test")
    image(nyud / "data/depth/img_5002.png", 9)
    with pytest.raises(DataError, match=r"img_5002\.png: the image has 3 bands of uint8"):
        open_dataset(nyud / "data/depth", "train")[0]
    write(nyud / "segmentation/img_5001.mat", mat_bytes({"a": np.eye(6), "b": np.eye(6)}))
    with pytest.raises(DataError, match=r"holds 2 matrices that may be a mask, found a, b: save one"):
        open_dataset(nyud, "val")[0]
    write(nyud / "segmentation/img_5001.mat", mat_bytes({"names": "x"}))
    with pytest.raises(DataError, match="holds 0 matrices that may be a mask, found the variables names"):
        open_dataset(nyud, "val")[0]
