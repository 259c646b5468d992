"""The gallery of all images: its order, its pages and its size."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from browsing import read
from upscore.evaluation import gallery as gallery_module
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.gallery import Gallery
from upscore.evaluation.report import write_report
from upscore.html.error_view import CONFUSED, INVENTED, MISSED
from upscore.types import LabelSpace, Prediction, Sample

LABELS = LabelSpace(("background", "<u1>cat</u1>", "dog"))


class Cats:
    """Images of a cat each, whose names do not follow their difficulty; the last is ignored altogether."""

    name, split, labels, warnings = "cats", "val", LABELS, ()

    def __init__(self, count: int = 5) -> None:
        self.keys = [f"{(7 * index) % 10}-<b>{index}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        truth = np.zeros((40, 50), np.uint8)
        truth[:, :20] = 1
        if index == len(self) - 1:
            truth[:] = 255
        return Sample(self.keys[index], np.full((40, 50, 3), index, np.uint8), truth)


class Missing:
    """Misses more of the cat, and invents more of a dog, the later the image."""

    labels = LABELS

    def predict(self, image: np.ndarray) -> Prediction:
        later = int(image[0, 0, 0])
        label_map = np.zeros(image.shape[:2], np.uint8)
        label_map[:, 4 * later : 20] = 1
        label_map[:later, 30:] = 2
        return Prediction(label_map, LABELS)


def tiles_of(page: Path) -> list[tuple[dict[str, int], str]]:
    """Return the values and the key of each image of a gallery, in the order of the file."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<li style="([^"]*)">.*?<p><span class="path">(.*?)</span>', text, re.DOTALL)
    return [({name: int(value) for name, value in re.findall(r"--(\w+):(\d+)", style)}, key) for style, key in found]


def write(tmp_path: Path, data: Cats) -> tuple[Path, Gallery]:
    gallery = Gallery(LABELS)
    evaluation = evaluate(Missing(), data, show=gallery.add)
    return write_report(evaluation, tmp_path, gallery=gallery), gallery


def test_images_are_listed_from_the_worst_with_all_values_to_sort_by(tmp_path: Path) -> None:
    gallery = Gallery(LABELS)
    evaluation = evaluate(Missing(), Cats(), show=gallery.add)
    page = write_report(evaluation, tmp_path, gallery=gallery)
    tiles = tiles_of(page)
    assert [key.rpartition(";")[2] for _, key in tiles] == ["3", "2", "1", "0", "4"]
    rows = {row.key.rpartition(">")[2]: row for row in evaluation.images}
    for values, key in tiles[:-1]:
        row = rows[key.rpartition(";")[2]]
        assert values["m"] == round(10_000 * row.mean_iou)
        assert values["a"] == round(10_000 * row.pixel_accuracy)
        assert values["c1"] == round(10_000 * row.class_iou[1])
        assert values.get("c2") == (None if np.isnan(row.class_iou[2]) else 0)
    assert "c2" not in tiles[-2][0]  # no dog in truth or prediction: after all others in either order
    assert set(tiles[-1][0]) == {"n"}  # ignored altogether
    assert sorted((values["n"], key) for values, key in tiles) == list(enumerate(sorted(key for _, key in tiles)))


def test_the_page_has_a_rule_for_each_choice_and_runs_nothing(tmp_path: Path) -> None:
    path, _ = write(tmp_path, Cats())
    text, page = path.read_text(), read(path)
    options = re.findall(r'<option class="(?:by-class )?([\w-]+)"', text)
    assert options == ["by-iou", "by-accuracy", "by-name", "by-0", "by-1", "by-2"]
    rules = dict(re.findall(r"\.gallery:has\(\.([\w-]+):checked\) \.tiles li \{ --v: var\(--(\w+)\); \}", text))
    assert rules == {"by-accuracy": "a", "by-name": "n", "by-0": "c0", "by-1": "c1", "by-2": "c2"}
    assert ".tiles li { --v: var(--m); }" in text
    assert not {"script", "u1", "form"} & set(page.tags)
    assert "IoU of <u1>cat</u1>" in page.text
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert len(page.images) == 4 * 5


def test_views_are_small_and_errors_have_their_colours(tmp_path: Path) -> None:
    path, _ = write(tmp_path, Cats())
    views = read(path).images[:4]  # of image 3: cat missed up to column 12, dog invented in rows 0 to 2
    image, truth, predicted, errors = (
        cv2.imdecode(np.frombuffer(base64.b64decode(str(view["src"]).split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED) for view in views
    )
    assert image.shape[:2] == truth.shape[:2] == predicted.shape[:2] == (40, 50)
    assert errors[30, 5].tolist() == [*MISSED.colour[::-1], 255]
    assert errors[2, 40].tolist() == [*INVENTED.colour[::-1], 255]
    assert errors[30, 25].tolist()[3] == 0
    assert not (errors[..., :3] == CONFUSED.colour[::-1]).all(axis=-1).any()


def test_a_large_gallery_is_divided_and_pages_of_an_earlier_one_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_module, "IMAGES_PER_PAGE", 4)
    path, _ = write(tmp_path, Cats(10))
    assert sorted(file.name for file in tmp_path.glob("*.html")) == ["gallery-2.html", "gallery-3.html", "report.html"]
    assert [len(tiles_of(tmp_path / name)) for name in ("report.html", "gallery-2.html", "gallery-3.html")] == [4, 4, 2]
    assert {address for address in read(path).addresses if not address.startswith("data:")} == {"gallery-2.html", "gallery-3.html"}
    third = read(tmp_path / "gallery-3.html")
    assert {address for address in third.addresses if not address.startswith("data:")} == {"report.html", "gallery-2.html"}
    assert "Images 9 to 10 of 10" in third.text
    worst = [
        values.get("m", 10**9) for name in ("report.html", "gallery-2.html", "gallery-3.html") for values, _ in tiles_of(tmp_path / name)
    ]
    assert worst == sorted(worst)
    (tmp_path / "gallery-x.html").write_text("mine")
    write(tmp_path, Cats(6))
    assert sorted(file.name for file in tmp_path.glob("gallery*")) == ["gallery-2.html", "gallery-x.html"]
    write(tmp_path, Cats(3))
    assert sorted(file.name for file in tmp_path.glob("gallery*")) == ["gallery-x.html"]


def test_images_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_module, "MAX_IMAGES", 3)
    path, gallery = write(tmp_path, Cats())
    assert (len(gallery), gallery.left_out) == (3, 2)
    assert "The last 2 images are only in images.csv" in read(path).text


def test_a_thousand_photographs_stay_below_thirty_megabytes() -> None:
    """Photographs compress worse than drawings: noise in every channel, and label maps of blobs."""
    rng, labels = np.random.default_rng(0), LabelSpace(tuple(f"class {k}" for k in range(21)))
    gallery = Gallery(labels)

    class Photographs:
        name, split, warnings, keys = "photographs", "val", (), ("a", "b", "c")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (512, 384), interpolation=cv2.INTER_CUBIC).astype(int) + rng.integers(-12, 13, (384, 512, 3))
            return Sample(self.keys[index], np.clip(image, 0, 255).astype(np.uint8), blobs(rng))

    class Guess:
        def predict(self, image: np.ndarray) -> Prediction:
            return Prediction(blobs(rng), labels)

    Photographs.labels = Guess.labels = labels
    evaluate(Guess(), Photographs(), show=gallery.add)
    (tiles,) = gallery.pages()
    assert all(max(tile.size) == 192 for tile, _ in tiles)
    size = sum(len(tile.image + tile.truth + tile.predicted + tile.errors + style) for tile, style in tiles) / len(tiles)
    assert 1000 * size < 30e6


def blobs(rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.random((384, 512)).astype(np.float32), (0, 0), 12)
    ranks = (noise - noise.min()) / np.ptp(noise)
    return (ranks * 20.99).astype(np.uint8)
