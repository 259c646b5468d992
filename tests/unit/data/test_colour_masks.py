"""Masks read by their colours."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import upscore.data.colour_masks
from upscore.data.colour_masks import ColourTable
from upscore.errors import DataError

TABLE = {(0, 0, 0): 0, (250, 50, 83): 1, (1, 2, 3): 2, (255, 255, 255): 255}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("at_once", [7, 2**20])
def test_each_colour_is_its_class(tmp_path: Path, mode: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscore.data.colour_masks, "_PIXELS_AT_ONCE", at_once)
    values = np.random.default_rng(0).integers(0, 4, (13, 9))
    pixels = np.array(list(TABLE), np.uint8)[values]
    Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE, colors=4).save(tmp_path / "a.png")
    read = pickle.loads(pickle.dumps(ColourTable(TABLE, "labelmap.txt")))(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.array([0, 1, 2, 255])[values])


def test_grey_masks_are_read_by_their_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7], [255, 1]], np.uint8)).save(tmp_path / "a.png")
    assert ColourTable(TABLE, "labelmap.txt")(tmp_path / "a.png").tolist() == [[0, 7], [255, 1]]


def test_an_unknown_colour_is_named_and_the_remedy_works(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = (9, 8, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"labelmap\.txt gives to no class \(9,8,7: 4 px\): add a line"):
        ColourTable(TABLE, "labelmap.txt")(tmp_path / "a.png")
    assert ColourTable(TABLE | {(9, 8, 7): 3}, "labelmap.txt")(tmp_path / "a.png")[0].tolist() == [3] * 4


def test_transparency_compression_and_damage_are_refused(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[0, :, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "lossy.jpg")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "clear.png").read_bytes()[:60])
    for name, message in (("clear.png", "transparen"), ("lossy.jpg", "JPEG"), ("damaged.png", "damaged")):
        with pytest.raises(DataError, match=message):
            ColourTable(TABLE, "labelmap.txt")(tmp_path / name)
