"""Datasets of annotation files, whose masks are drawn: every check is made, and a corrected copy holds them as PNGs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from damage import masks, stored
from upscore.data.png_files import write_image
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mend import mend

COUNT = 10


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    root = tmp_path / "annotated"
    images, annotations = [], []
    for number in range(COUNT):
        write_image(root / f"a{number}.png", np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8))
        images.append({"id": number, "file_name": f"a{number}.png", "height": 30, "width": 40})
        ring = [5, 5, 20, 5, 20, 15 + number, 5, 15 + number]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": [ring]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (root / "a.json").write_text(json.dumps(content))
    return root


def test_every_check_is_made_and_what_was_counted_is_shown(annotated: Path) -> None:
    diagnosis = diagnose(annotated)
    assert not [str(finding) for finding in diagnosis.findings if finding.severity == "error" or "could not be completed" in finding.what]
    train = len(diagnosis.snapshot.splits[0].records)
    background = sum(30 * 40 - 15 * (10 + int(record.key[1:])) for record in diagnosis.snapshot.splits[0].records)
    assert any(f"{background:,} pixels that no shape covers are background (in {train} of" in text for text in diagnosis.messages)


def test_a_sample_without_a_readable_image_is_left_out_and_the_others_become_masks(annotated: Path, tmp_path: Path) -> None:
    broken = annotated / "a3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    diagnosis = diagnose(annotated)
    assert [finding.keys for finding in diagnosis.findings if finding.id == "files.unreadable"] == [("a3",)]
    mended = mend(diagnosis, tmp_path / "mended")
    written = {path.stem: stored(path) for path in masks(mended.folder)}
    assert sorted(written) == [f"a{number}" for number in range(COUNT) if number != 3]
    for name, mask in written.items():
        expected = np.zeros((30, 40), np.uint8)
        expected[5 : 15 + int(name[1:]), 5:20] = 1
        np.testing.assert_array_equal(mask, expected)
