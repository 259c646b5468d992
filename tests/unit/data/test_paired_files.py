"""Images and masks in pairs: turned by EXIF or not, mapped from any number, and what is said of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from painting import paint
from upscore.data.image_files import ALPHA_WARNING, DARK_WARNING
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.paired_files import TURNED_MASK_WARNING, TURNED_WARNING, Pair, PairedFiles
from upscore.errors import DataError
from upscore.evaluation.evaluate import evaluate
from upscore.input_spec import RGB
from upscore.types import LabelSpace, Prediction

LABELS = LabelSpace(("ground", "box"))
MASK = np.zeros((6, 8), np.uint8)
MASK[1:3, 2:7] = 1


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pair(folder: Path, key: str, image: np.ndarray, mask: np.ndarray, *, exif: int = 1, mask_exif: int = 1, form: str = "png") -> Pair:
    paths = folder / f"{key}.image.{form}", folder / f"{key}.mask.{form}"
    for path, pixels, orientation in zip(paths, (image, mask), (exif, mask_exif), strict=True):
        Image.fromarray(pixels).save(path, **({"exif": turned(orientation)} if orientation != 1 else {}))
    return Pair(key, *paths)


def files(pairs: list[Pair], **options: object) -> PairedFiles:
    return PairedFiles(pairs, LABELS, split="train", name="d", **options)


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turned_image_beside_a_mask_without_a_tag_is_upright_and_said(tmp_path: Path, orientation: int, form: str) -> None:
    image = np.dstack([MASK * 200] * 3)
    data = files([pair(tmp_path, "a", image, MASK, exif=orientation, form=form), pair(tmp_path, "b", image, MASK, form=form)])
    assert data.warnings == ()
    check_dataset(data)
    assert data.warnings == (f"1 of 2 images of train (a): {TURNED_WARNING}",)
    sample = data[0]
    assert sample.warnings == (TURNED_WARNING,)
    assert np.array_equal(sample.label, MASK)
    upright = {2: MASK[:, ::-1], 3: MASK[::-1, ::-1], 4: MASK[::-1]}[orientation]
    assert np.array_equal(sample.image[..., 0], upright * 200)
    assert pickle.loads(pickle.dumps(data)).warnings == data.warnings


def test_removing_the_tag_is_the_remedy(tmp_path: Path) -> None:
    image = np.dstack([MASK * 200] * 3)
    before = files([pair(tmp_path, "a", image, MASK, exif=3)])
    check_dataset(before)
    with Image.open(before.pairs[0].image) as stored:
        stored.load()
        Image.fromarray(np.asarray(stored)).save(before.pairs[0].image)  # as exiftool -Orientation= leaves it
    after = files(list(before.pairs))
    check_dataset(after)
    assert after.warnings == after[0].warnings == ()
    assert np.array_equal(after[0].image[..., 0], after[0].label * 200)


def test_where_both_or_neither_are_turned_nothing_is_said(tmp_path: Path) -> None:
    image = np.dstack([MASK * 200] * 3)
    data = files([pair(tmp_path, "a", image, MASK, exif=3, mask_exif=3), pair(tmp_path, "b", image, MASK)])
    check_dataset(data)
    assert data.warnings == data[0].warnings == ()
    assert np.array_equal(data[0].image[..., 0], data[0].label * 200)
    other = files([pair(tmp_path, "c", image, MASK, mask_exif=3)])
    check_dataset(other)
    assert other[0].warnings == (TURNED_MASK_WARNING,)
    assert TURNED_MASK_WARNING in other.warnings[0]


def test_where_the_size_tells_what_fits_is_used_and_else_the_tag_is_named(tmp_path: Path) -> None:
    image = np.dstack([MASK * 200] * 3)
    fits = files([pair(tmp_path, "a", image, np.rot90(MASK, -1), exif=6)])
    assert np.array_equal(fits[0].image[..., 0], fits[0].label * 200)
    stored = files([pair(tmp_path, "b", image, MASK, exif=6)])
    for read in (stored.raw_label, stored.__getitem__):
        with pytest.raises(DataError, match=r"its image b\.image\.png is 8×6, turned upright by its EXIF orientation tag \(6\).*exiftool"):
            read(0)
    Image.fromarray(image).save(stored.pairs[0].image)  # the tag removed
    assert np.array_equal(stored[0].image[..., 0], stored[0].label * 200)
    with pytest.raises(DataError, match="must agree pixel for pixel"):
        files([pair(tmp_path, "c", image[:5], MASK, exif=6)]).raw_label(0)


def test_values_of_any_width_are_mapped_in_samples_and_in_the_census(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    wide = MASK.astype(np.int32) * 1000
    wide[0, :3] = -9999
    narrow = MASK.copy()
    narrow[0, :2] = 7
    pairs = [pair(tmp_path, "a", image, wide, form="tif"), pair(tmp_path, "b", image, narrow)]
    data = files(pairs, mapping={0: 0, 1: 1, 1000: 1, -9999: -1})
    census = check_dataset(data)
    assert census.class_pixels.tolist() == [96 - 20 - 5, 20]
    assert census.ignored_pixels == 5
    assert data.warnings == ("1 of 2 masks of train (b) hold values that label_mapping does not name, and that are ignored: 7",)
    expected = MASK.copy()
    expected[0, :3] = 255
    assert np.array_equal(data[0].label, expected)
    assert data[1].label[0].tolist() == [255, 255, 0, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"holds -9999, which label_mapping does not name.*\{-9999: 255\}"):
        check_dataset(files(pairs, mapping={0: 0, 1: 1, 1000: 1}))
    with pytest.raises(DataError, match=r"values from -9999 to 1000.*label_mapping"):
        check_dataset(files(pairs, mapping={0: 0, 1: 1}))


class Empty:
    """Labels everything as class 0."""

    labels = LABELS

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(np.zeros(image.shape[:2], np.uint8), LABELS)


def test_training_and_evaluation_say_the_same_of_a_reading(tmp_path: Path) -> None:
    clear = np.dstack([MASK * 200] * 3 + [MASK * 99])
    dark = MASK.astype(np.uint16) * 4095
    data = files([pair(tmp_path, "a", clear, MASK), pair(tmp_path, "b", dark, MASK), pair(tmp_path, "c", dark, MASK, exif=4)])
    with pytest.raises(
        DataError, match=r"differ in their bands: of 3 headers, 2 have 1 band of uint16 \(band 1\), such as b.* --set input.dtype"
    ):
        _ = data.input
    data = data.read_as(RGB)
    check_dataset(data)
    assert data.warnings == (
        f"2 of 3 images of train (b, c): {DARK_WARNING}",
        f"1 of 3 images of train (a): {ALPHA_WARNING}",
        f"1 of 3 images of train (c): {TURNED_WARNING}",
    )
    assert evaluate(Empty(), data).image_warnings == {ALPHA_WARNING: 1, DARK_WARNING: 2, TURNED_WARNING: 1}


def test_only_some_deep_images_are_decoded_while_masks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upscore.data import image_files

    one = pair(tmp_path, "a", MASK.astype(np.uint16) * 4095, MASK)
    data = files([Pair(str(number), one.image, one.mask) for number in range(100)])
    assert str(data.input) == "1 band of uint16 (band 1)"
    data = data.read_as(RGB)
    decoded = []
    whole = image_files._decode_rgb
    monkeypatch.setattr(image_files, "_decode_rgb", lambda file: decoded.append(file.name) or whole(file))
    check_dataset(data)
    assert 10 <= len(decoded) <= 20
    assert DARK_WARNING in data.warnings[0]


def test_pages_are_images_or_bands_by_their_masks_and_which_is_said(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 8), np.uint8)
    one = pair(tmp_path, "a", images[0], MASK)
    stack, masks = tmp_path / "a.image.tif", tmp_path / "a.mask.tif"
    tifffile.imwrite(stack, images, photometric="minisblack")
    tifffile.imwrite(masks, np.stack([MASK, 1 - MASK, MASK]), photometric="minisblack")
    data = files([Pair("a", stack, one.mask)])
    assert (len(data), len(data.input)) == (1, 3)
    assert data.warnings == ("1 of 1 images of train (a) have several pages under one mask: the pages are the bands of one image",)
    assert np.array_equal(data[0].image, np.moveaxis(images, 0, 2))
    data = files([Pair("a", stack, masks)])
    assert data.keys == ["a/page-0001", "a/page-0002", "a/page-0003"]
    assert "each of the 3 pages is an image" in data.warnings[0]
    assert len(data.warnings) == 1
    for index, label in enumerate((MASK, 1 - MASK, MASK)):
        assert np.array_equal(data[index].label, label)
        assert np.array_equal(data[index].image[..., 0], images[index])
    tifffile.imwrite(masks, np.stack([MASK, MASK]), photometric="minisblack")
    with pytest.raises(DataError, match=r"a\.mask\.tif: the mask has 2 pages and a\.image\.tif has 3, expected as many"):
        files([Pair("a", stack, masks)])


def test_lists_of_files_are_made_once_and_belong_to_the_selection(tmp_path):
    dataset = open_dataset(paint(tmp_path, train=3, val=1), "train")
    assert dataset.mask_files is dataset.mask_files
    assert dataset.image_files is dataset.image_files
    files = dataset.image_files, dataset.mask_files
    chosen = dataset.select([2, 0])
    assert [chosen.image_files, chosen.mask_files] == [[of[2], of[0]] for of in files]
