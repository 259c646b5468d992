"""Every format, written and read again by the project's own readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from upscore.data.annotations.classes import background_class
from upscore.data.dataset import InFiles, input_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.write_dataset import WRITERS, find_writer
from upscore.data.writer import AnnotatedImage, WriterOptions
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.errors import DataError
from upscore.types import LabelSpace

FORMATS = [writer.name for writer in WRITERS]
WITH_BACKGROUND = LabelSpace(("background", "road", "Straße 2"))
WITHOUT = LabelSpace(("sky", "road", "car & bus"))
MIDDLE = LabelSpace(("sky", "_background_", "car"))

MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from([0, 1, 2, 255]))


def pixels_of(label_map: np.ndarray, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(label_map.size)
    return rng.integers(0, 200, (*label_map.shape, bands)).astype(dtype)


def write(folder: Path, to: str, labels: LabelSpace, images: list[AnnotatedImage], **options: float) -> object:
    writer = find_writer(to).open(folder, labels, WriterOptions(**options))
    for image in images:
        writer.add(image)
    writer.close()
    writer.abandon()
    return writer


def read(folder: Path, labels: LabelSpace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return label map and image of each image by the name of its file, in the numbers of ``labels``."""
    found = {}
    for split in list_splits(folder):
        dataset = open_dataset(folder, split)
        assert isinstance(dataset, InFiles)
        numbers = {k: labels.names.index(name) for k, name in enumerate(dataset.labels.names) if name in labels.names} | {255: 255}
        for index, file in enumerate(dataset.image_files):
            sample = dataset[index]
            found[f"{split}/{file.stem}"] = np.vectorize(lambda value, n=numbers: n.get(value, 254))(sample.label), sample.image
    return found


@pytest.mark.parametrize("labels", [WITH_BACKGROUND, WITHOUT, MIDDLE], ids=["background", "none", "middle"])
@pytest.mark.parametrize("to", FORMATS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=MAPS, second=MAPS)
def test_label_maps_come_back_to_the_pixel(to, labels, tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("new")
    if to == "yolo":  # which holds no ignored pixels
        first, second = (np.where(each == 255, 1, each).astype(np.uint8) for each in (first, second))
    if to == "yolo" and all(background_class(labels.names) == value for each in (first, second) for value in np.unique(each)):
        first[0, 0] = 2  # or it holds nothing that could be recognised
    images = [
        AnnotatedImage("ä.v2 1.png", truth=first, pixels=pixels_of(first), split="train"),
        AnnotatedImage("b%41.png", truth=second, pixels=pixels_of(second), split="val"),
    ]
    write(folder, to, labels, images)
    found = read(folder, labels)
    assert found.keys() == {"train/ä.v2 1", "val/b%41"}
    for (label, pixels), image in zip((found["train/ä.v2 1"], found["val/b%41"]), images, strict=True):
        np.testing.assert_array_equal(label, image.truth)
        np.testing.assert_array_equal(pixels, image.pixels)


@pytest.mark.parametrize("to", FORMATS)
def test_classes_come_back_in_their_order_unused_ones_too(to, tmp_path):
    labels = LabelSpace(("background", "zebra", "unused", "ant"))
    label_map = np.array([[0, 1], [3, 0]], np.uint8)
    write(
        tmp_path, to, labels, [AnnotatedImage(f"{k}.png", truth=label_map, pixels=pixels_of(label_map), split=k) for k in ("train", "val")]
    )
    assert open_dataset(tmp_path, "train").labels.names == labels.names


@pytest.mark.parametrize("to", FORMATS)
def test_images_without_a_shape_are_background(to, tmp_path):
    empty, other = np.zeros((5, 6), np.uint8), np.array([[0, 1]], np.uint8)
    maps = {"train": other if to == "yolo" else empty, "val": empty}
    write(tmp_path, to, WITH_BACKGROUND, [AnnotatedImage(f"{k}.png", truth=m, pixels=pixels_of(m), split=k) for k, m in maps.items()])
    assert not read(tmp_path, WITH_BACKGROUND)["val/val"][0].any()


@pytest.mark.parametrize("to", FORMATS)
def test_train_and_test_alone_remain_apart(to, tmp_path):
    label_map = np.array([[0, 1]], np.uint8)
    images = [
        AnnotatedImage(f"{s}{k}.png", truth=label_map, pixels=pixels_of(label_map), split=s) for s in ("train", "test") for k in (1, 2)
    ]
    write(tmp_path, to, WITH_BACKGROUND, images)
    if to not in ("cvat", "voc", "folder", "yolo"):
        assert set(list_splits(tmp_path)) == {"train", "val", "test"}  # train is divided
    assert open_dataset(tmp_path, "test").keys == sorted(open_dataset(tmp_path, "test").keys)
    assert len(open_dataset(tmp_path, "test")) == 2
    assert all("test" in key for key in open_dataset(tmp_path, "test").keys)


def test_ignored_pixels_of_yolo_are_counted(tmp_path):
    label_map = np.array([[255, 1, 255]], np.uint8)
    writer = write(
        tmp_path, "yolo", WITH_BACKGROUND, [AnnotatedImage("a.png", truth=label_map, pixels=pixels_of(label_map), split="train")]
    )
    assert writer.warnings == {"ignored pixels become background, as YOLO holds none": 2}


@pytest.mark.parametrize("to", ["coco", "labelme", "label-studio", "cvat", "yolo", "geojson"])
def test_simplified_polygons_are_near_and_smaller(to, tmp_path):
    rows, columns = np.mgrid[:60, :80]
    label_map = (np.hypot(rows - 30, columns - 40) < 25).astype(np.uint8)
    sizes = []
    for tolerance in (0.0, 1.0):
        folder = tmp_path / str(tolerance)
        pixels = pixels_of(label_map)
        images = [
            AnnotatedImage(f"{name}.png", truth=label_map, pixels=pixels, split=split) for name, split in (("a", "train"), ("b", "val"))
        ]
        write(folder, to, LabelSpace(("background", "disc")), images, tolerance=tolerance)
        found = read(folder, LabelSpace(("background", "disc")))["train/a"][0]
        near = np.abs(np.hypot(rows - 30, columns - 40) - 25) < 3
        assert not (found != label_map)[~near].any()
        assert (found != label_map).any() == (tolerance > 0)
        sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".geojson")))
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("to", FORMATS)
def test_images_of_four_bands_of_16_bits_where_the_format_holds_them(to, tmp_path):
    label_map = np.array([[0, 1], [1, 2]], np.uint8)
    pixels = pixels_of(label_map, 4, "uint16") * 300
    images = [AnnotatedImage(f"{k}.npy", truth=label_map, pixels=pixels, split=k) for k in ("train", "val")]
    if to == "label-studio":
        with pytest.raises(DataError, match=r"has 4 bands of uint16, which this format cannot hold, .*: choose another format"):
            write(tmp_path, to, WITH_BACKGROUND, images)
        return
    write(tmp_path, to, WITH_BACKGROUND, images)
    assert str(input_of(open_dataset(tmp_path, "train"))).startswith("4 bands of uint16")
    label, found = read(tmp_path, WITH_BACKGROUND)["val/val"]
    np.testing.assert_array_equal(label, label_map)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("to", ["labelme", "voc", "geojson", "yolo"])
def test_flat_formats_rename_what_would_clash(to, tmp_path):
    maps = {name: np.array([[0, k % 3, 1]], np.uint8) for k, name in enumerate(["x/a", "x_a", "y/a", "A"])}
    images = [AnnotatedImage(f"{name}.png", truth=m, pixels=pixels_of(m), split=s) for s in ("train", "val") for name, m in maps.items()]
    writer = write(tmp_path, to, WITH_BACKGROUND, images)
    found = read(tmp_path, WITH_BACKGROUND)
    assert len(found) == 8
    assert len({key.split("/")[1].casefold() for key in found}) == 8
    (renamed,) = writer.warnings.values()
    assert renamed == 7
    for split in ("train", "val"):
        written = sorted(label.tolist() for key, (label, _) in found.items() if key.startswith(split))
        assert written == sorted(m.tolist() for m in maps.values())


def test_paths_lead_nowhere_else(tmp_path):
    images = WrittenImages(tmp_path, TOOLS, flat=False, warnings=find_writer("folder").open(tmp_path, WITHOUT, WriterOptions()).warnings)
    label_map = np.zeros((1, 1), np.uint8)
    names = [str(images.name(AnnotatedImage(name, truth=label_map))) for name in ("../../a.png", "/b.png", "..", "c/../d.png")]
    assert names == ["a", "b", "unnamed", "c/d"]


@pytest.mark.parametrize(
    ("to", "name", "words"),
    [
        ("voc", "a:b", "cannot be written to labelmap.txt, expected a name without ':'"),
        ("voc", "void", "cannot be written to labelmap.txt"),
        ("labelme", "two\nlines", "cannot be written to labels.txt, expected a name of one line"),
        ("labelme", "__ignore__", "cannot be written to labels.txt"),
        ("label-studio", " space", "cannot be written to classes.txt"),
        ("geojson", "space ", "cannot be written to classes.txt"),
        ("cvat", "bell\x07", "cannot be written to CVAT's XML, expected a name without control characters"),
    ],
)
def test_names_that_a_format_cannot_hold_are_refused(to, name, words, tmp_path):
    with pytest.raises(DataError, match=words):
        find_writer(to).open(tmp_path, LabelSpace(("background", name)), WriterOptions())


def test_classes_of_one_colour_are_told_apart_in_voc(tmp_path):
    labels = LabelSpace(("a", "b"), ((9, 9, 9), (9, 9, 9)))
    label_map = np.array([[0, 1, 255]], np.uint8)
    write(tmp_path, "voc", labels, [AnnotatedImage("x.png", truth=label_map, pixels=pixels_of(label_map), split="train")])
    np.testing.assert_array_equal(open_dataset(tmp_path, "train")[0].label, label_map)


def test_an_unknown_format_is_named_with_those_there_are():
    with pytest.raises(DataError, match=r"no format 'label_studio' can be written .*'label-studio'.*, expected folder, coco"):
        find_writer("label_studio")
    with pytest.raises(DataError, match="no format 'voc' can be written"):
        find_writer("voc", predictions=True)


@pytest.mark.parametrize("to", ["label-studio", "geojson", "labelme"])
def test_a_shape_that_the_list_of_classes_lacks_is_an_error(to, tmp_path):
    label_map = np.array([[0, 1, 2]], np.uint8)
    images = [AnnotatedImage(f"{k}.png", truth=label_map, pixels=pixels_of(label_map), split=k) for k in ("train", "val")]
    write(tmp_path, to, WITH_BACKGROUND, images)
    (listed,) = [tmp_path / name for name in ("classes.txt", "labels.txt") if (tmp_path / name).exists()]
    listed.write_text("background\nroad\n")
    with pytest.raises(DataError, match=f"the shapes have the label 'Straße 2', which is not in {listed.name}: add a line for it"):
        open_dataset(tmp_path, "train")
