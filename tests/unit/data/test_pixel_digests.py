"""Digests of decoded pixels: the same image is found in another file, and nothing else is."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painting import paint
from upscore.data import pixel_digests
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.mask_check import check_dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import compare_splits
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.pixel_digests import PixelDigests, digest_image, digest_images, digest_pixels, read_digests
from upscore.types import LabelSpace

LABELS = LabelSpace(("a", "b"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (12, 16, 3), dtype=np.uint8)


def dataset(folder: Path, *files: Path) -> PairedFiles:
    """Return images with masks of two classes."""
    pairs = []
    for file in files:
        mask = folder / f"mask-{file.name}.png"
        with Image.open(file) as image:
            width, height = image.size
        values = np.zeros((height, width), np.uint8)
        values[0] = 1
        Image.fromarray(values).save(mask)
        pairs.append(Pair(file.name, file, mask))
    return PairedFiles(pairs, LABELS, split="train", name="set")


def compare(train: PairedFiles, val: PairedFiles) -> list[tuple[str, str]]:
    return compare_splits(train, val, statistics(train), statistics(val), decoded={})[1]


def statistics(images: PairedFiles) -> DatasetStatistics:
    return check_dataset(images)


def test_a_digest_is_that_of_shape_type_and_pixels() -> None:
    other = PIXELS.copy()
    other[5, 5, 1] ^= 1
    images = [PIXELS, other, PIXELS.reshape(16, 12, 3), PIXELS.view(np.int8), PIXELS.reshape(12, 48, 1)]
    assert len({digest_pixels(image) for image in images}) == len(images)
    assert digest_pixels(PIXELS[:, ::-1]) == digest_pixels(PIXELS[:, ::-1].copy()) != digest_pixels(PIXELS)
    assert len(digest_pixels(PIXELS)) == 8


def test_an_image_saved_again_is_found_and_one_compressed_again_is_not(tmp_path: Path) -> None:
    image, own = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())
    image.save(tmp_path / "a.png", compress_level=1)
    own.save(tmp_path / "b.png")
    train = dataset(tmp_path, tmp_path / "a.png", tmp_path / "b.png")
    for name in ("other.png", "other.bmp", "other.tif", "other.webp"):
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        assert (tmp_path / name).read_bytes() != (tmp_path / "a.png").read_bytes()
        assert compare(train, dataset(tmp_path, tmp_path / name)) == [(name, "a.png")]
    image.save(tmp_path / "other.jpg")
    assert compare(train, dataset(tmp_path, tmp_path / "other.jpg")) == []


def test_a_jpeg_without_its_metadata_is_found(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "plain.jpg", quality=80)
    image.save(tmp_path / "tagged.jpg", quality=80, comment=b"taken on a Sunday")
    train, val = (dataset(tmp_path, tmp_path / name) for name in ("tagged.jpg", "plain.jpg"))
    assert compare(train, val) == [("plain.jpg", "tagged.jpg")]


def test_of_a_large_dataset_some_images_are_decoded_evenly_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{index}.png" for index in range(10)]
    for index, file in enumerate(files):
        Image.fromarray(PIXELS + np.uint8(index)).save(file)
    images = dataset(tmp_path, *files)
    sizes = check_dataset(images).sizes
    assert set(digest_images(images, sizes).by_key) == {file.name for file in files}
    monkeypatch.setattr(pixel_digests, "MAX_PIXELS", 4 * PIXELS.shape[0] * PIXELS.shape[1])
    steps: list[tuple[int, int]] = []
    some = digest_images(images, sizes, progress=lambda *step: steps.append(step))
    assert list(some.by_key) == ["0.png", "2.png", "5.png", "7.png"]
    assert some.images == 10
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    monkeypatch.setattr(pixel_digests, "MAX_IMAGES", 3)
    assert len(digest_images(images, sizes).by_key) == 3
    assert len(digest_images(images, sizes, decoded=dict.fromkeys(images.keys, b"12345678")).by_key) == 3


def test_what_was_decoded_before_is_not_decoded_again(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    images = dataset(tmp_path, tmp_path / "a.png")
    sizes = check_dataset(images).sizes
    (tmp_path / "a.png").unlink()
    assert digest_images(images, sizes, decoded={"a.png": b"12345678"}).known == {b"12345678"}


def test_a_card_holds_digests_without_keys_and_a_damaged_one_holds_none() -> None:
    digests = PixelDigests(3, {"x": b"22222222", "y": b"11111111", "z": b"22222222"})
    card = digests.to_card()
    assert (card["images"], card["known"]) == (3, 3)
    assert "x" not in str(sorted(card))
    assert card["digests"] == base64.b64encode(b"1111111122222222").decode()
    assert read_digests({"data": {"pixels": card}}) == digests.known == {b"11111111", b"22222222"}
    for damaged in ({}, {"data": 3}, {"data": {"pixels": []}}, *({"data": {"pixels": {"digests": text}}} for text in (7, "?", "AAAA"))):
        assert read_digests(damaged) == frozenset()


def test_a_card_of_100_000_images_stays_about_a_megabyte() -> None:
    digests = PixelDigests(100_000, {str(index): index.to_bytes(8, "big") for index in range(100_000)})
    assert len(digests.to_card()["digests"]) < 1_100_000


def test_the_mask_of_a_file_is_not_read_for_its_images_digest(tmp_path, monkeypatch):
    made = open_dataset(paint(tmp_path, train=2, val=1), "train")
    expected = digest_pixels(made[1].image)
    monkeypatch.setattr("upscore.data.paired_files.read_mask", None)
    assert digest_image(made, 1) == expected
