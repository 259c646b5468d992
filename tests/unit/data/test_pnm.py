"""PNM files of any greatest value: images are scaled by it, masks give what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from upscore.data import pnm
from upscore.data.image_files import read_image
from upscore.data.mask_files import read_instances, read_label
from upscore.errors import DataError


@pytest.mark.parametrize("most", [1, 7, 100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_numbers_are_scaled_by_the_greatest_and_a_masks_are_its_own(tmp_path: Path, most: int, bands: int, plain: bool) -> None:
    stored = np.random.default_rng(most).integers(0, most + 1, (5, 4, bands))
    stored[0, 0], stored[0, 1] = 0, most
    magic = {(1, True): b"P2", (3, True): b"P3", (1, False): b"P5", (3, False): b"P6"}[bands, plain]
    text = b" # a comment, 1 2 3\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in stored)
    body = text if plain else stored.astype(np.uint8 if most < 256 else ">u2").tobytes()
    path = tmp_path / "a.pnm"
    path.write_bytes(magic + b"\n4 5\n%d\n" % most + body)
    found = read_image(path)
    expected = np.broadcast_to(stored, (5, 4, 3)) * 255 / most
    assert np.abs(found - expected).max() <= (1 if most == 65535 and bands == 3 else 0.5)
    if most == 65535 and bands == 1 and plain is False:
        assert read_instances(path).tolist() == stored[..., 0].tolist()
    mask = np.repeat(stored[..., :1] % 200, bands, axis=2)
    body = (
        b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in mask)
        if plain
        else mask.astype(np.uint8 if most < 256 else ">u2").tobytes()
    )
    path.write_bytes(magic + b"\n4 5\n%d\n" % most + body)
    assert read_label(path).tolist() == mask[..., 0].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P5\n4 5\n7\n" + bytes(19), "truncated"),
        (b"P5\n2 1\n7\n" + bytes([0, 8]), "holds the value 8"),
        (b"P2\n2 1\n7\n1", "truncated"),
        (b"P2\n2 1\n7\n1 x", "no number"),
        (b"P2\n2 1\n7\n1 -1", "no number"),
        (b"P2\n2 1\n7\n1 " + b"0" * 99, "no number"),
        (b"P2\n2 1\n7\n1 1" + b" " * 2**21, "damaged"),
        (b"P2\n9000 9000\n7\n1 1", "values as text"),
        (b"P1\n9000 9000\n1 1", "as text"),
    ],
)  # fmt: skip
def test_damage_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pnm"
    path.write_bytes(content)
    for read in (read_image, read_label):
        with pytest.raises(DataError, match=rf"a\.pnm: .*{message}"):
            read(path)


def test_text_is_read_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pnm, "_BLOCK", 7)
    path = tmp_path / "a.pgm"
    values = np.arange(1000, 1030)
    path.write_bytes(b"P2\n30 1\n2000\n" + b"  ".join(b"%d" % value for value in values))
    assert read_instances(path).tolist() == [values.tolist()]
