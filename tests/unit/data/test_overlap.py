"""Images that two splits share: found whatever their names, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from upscore.data import overlap
from upscore.data.overlap import dataset_identity, find_shared_images, shared_images_finding
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.readers.shapes import open_shapes
from upscore.types import LabelSpace


def dataset(*files: Path) -> PairedFiles:
    return PairedFiles([Pair(file.stem, file, file) for file in files], LabelSpace(("a", "b")), split="x", name="set")


def images(folder: Path, count: int, *, seed: int = 0, suffix: str = ".bmp") -> list[Path]:
    """Write uncompressed images, which all have one size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    files = [folder / f"{seed}-{number}{suffix}" for number in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (70, 80, 3), dtype=np.uint8)).save(file)
    return files


def test_the_same_files_are_found_by_any_path(tmp_path: Path) -> None:
    files = images(tmp_path / "train", 3)
    os.symlink(files[1], tmp_path / "link.bmp")
    os.symlink(tmp_path / "train", tmp_path / "again")
    os.link(files[2], tmp_path / "hard.bmp")
    seen = dataset(*files)
    assert find_shared_images(seen, dataset(tmp_path / "link.bmp")) == [("link", "0-1")]
    assert find_shared_images(seen, dataset(tmp_path / "hard.bmp")) == [("hard", "0-2")]
    assert find_shared_images(seen, dataset(tmp_path / "again" / "0-0.bmp")) == [("0-0", "0-0")]
    assert find_shared_images(seen, seen) == [(key, key) for key in seen.keys]


def test_copies_are_found_by_content_and_near_copies_are_not(tmp_path: Path) -> None:
    files = images(tmp_path / "train", 4)
    shutil.copy(files[2], tmp_path / "copy.bmp")
    pixels = np.array(Image.open(files[3]))
    pixels[30, 30] ^= 1  # away from the three places that are read first
    Image.fromarray(pixels).save(tmp_path / "near.bmp")
    own = images(tmp_path / "val", 2, seed=1)
    evaluated = dataset(tmp_path / "copy.bmp", tmp_path / "near.bmp", *own)
    assert find_shared_images(dataset(*files), evaluated) == [("copy", "0-2")]


def test_a_little_is_read_where_no_file_has_the_size_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(overlap, "_digest", lambda path: read.append(path) or b"")
    (tmp_path / "a.bmp").write_bytes(b"x" * 10)
    (tmp_path / "b.bmp").write_bytes(b"x" * 11)
    assert find_shared_images(dataset(tmp_path / "a.bmp"), dataset(tmp_path / "b.bmp")) == []
    assert read == []


def test_what_is_read_whole_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(tmp_path / "train", 3)
    copies = [shutil.copy(file, tmp_path / f"copy{number}.bmp") for number, file in enumerate(files)]
    monkeypatch.setattr(overlap, "_MAX_READ", 2 * files[0].stat().st_size)
    opened = []
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *how: opened.append(self) or plain(self, *how))
    assert len(find_shared_images(dataset(*files), dataset(*map(Path, copies)))) == 3
    assert len(opened) == 6 + 2  # each at three places, and the first two whole


def test_unreadable_files_and_made_up_images_share_nothing(tmp_path: Path) -> None:
    gone = dataset(tmp_path / "none.png")
    assert find_shared_images(gone, gone) == []
    assert find_shared_images(open_shapes("train"), open_shapes("train")) == []
    assert len(dataset_identity(gone)) == 32


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(4)), left=st.integers(0, 3))
def test_an_identity_is_that_of_the_images_and_not_of_their_names(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], left: int
) -> None:
    folder = tmp_path_factory.mktemp("identity")
    files = images(folder, 4)
    renamed = [Path(shutil.copy(files[number], folder / f"{place}x.bmp")) for place, number in enumerate(order)]
    assert dataset_identity(dataset(*files)) == dataset_identity(dataset(*renamed))
    assert dataset_identity(dataset(*files)) != dataset_identity(dataset(*[file for file in renamed if file != renamed[left]]))


def test_identities_of_made_up_images_tell_splits_apart() -> None:
    assert dataset_identity(open_shapes("train")) == dataset_identity(open_shapes("train"))
    assert len({dataset_identity(open_shapes(split)) for split in ("train", "val", "test")}) == 3


def test_the_sentence_counts_and_names() -> None:
    assert shared_images_finding([], "train", "val", 3) is None
    found = shared_images_finding([("a", "a"), ("b", "c")], "train", "val", 9)
    assert (found.id, found.severity, found.keys) == ("splits.shared-images", "warning", ("a", "b"))
    assert found.text().startswith("[splits.shared-images] 2 of 9 images of val are also in train (a, b, there c): metrics on them measure")
    assert shared_images_finding([("a", "a")], "train", "val", 1).text().startswith("[splits.shared-images] all 1 images of val")
