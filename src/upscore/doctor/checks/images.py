"""Images: too dark, blurred, constant, grey among colour, or unlike those that are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from upscore.data.finding import Finding
from upscore.doctor.check import Check
from upscore.doctor.measurements import ImageMeasures
from upscore.doctor.scan import Record
from upscore.doctor.snapshot import Snapshot

__all__ = ["CHECKS"]

DARK, BRIGHT = 0.06, 0.97
"""Mean luminance, of 1, below and above which an image shows next to nothing."""

CONSTANT = 0.004
"""Standard deviation of luminance, of 1, below which an image is constant."""

BLURRED = 0.2
"""Sharpness below this fraction of the median of all images is blurred; of clean street scenes the lowest is 0.24 of it."""

_MIN_IMAGES = 5  # to compare one with the others


def _measured(snapshot: Snapshot) -> list[tuple[Record, ImageMeasures]]:
    return [(record, record.image) for record in snapshot.records() if record.image is not None]


def _finder(check: str, condition: Callable[[ImageMeasures], bool], what: str, advice: str) -> Callable[[Snapshot], Iterator[Finding]]:
    """Return a function that finds the images that meet a condition each for itself."""

    def find(snapshot: Snapshot) -> Iterator[Finding]:
        measured = _measured(snapshot)
        found = [record.name for record, image in measured if condition(image)]
        if found:
            words = f"{len(found)} of {len(measured)} images ({snapshot.listed(found)}) {what}"
            yield snapshot.finding(check, "warning", words, found, advice=advice)

    return find


def _find_blurred(snapshot: Snapshot) -> Iterator[Finding]:
    measured = [(record, image) for record, image in _measured(snapshot) if image.contrast >= CONSTANT]
    if len(measured) < _MIN_IMAGES:
        return
    usual = float(np.median([image.sharpness for _, image in measured]))
    found = [record.name for record, image in measured if image.sharpness < BLURRED * usual]
    if found and 2 * len(found) < len(measured):
        what = f"{len(found)} of {len(measured)} images ({snapshot.listed(found)}) have less than a fifth of the usual sharpness: "
        what += "blurred, or enlarged"
        yield snapshot.finding("images.blurred", "warning", what, found, advice="look at them, and leave out what shows nothing")


def _find_grey(snapshot: Snapshot) -> Iterator[Finding]:
    measured = [(record, image) for record, image in _measured(snapshot) if len(image.colour) == 3 and image.contrast >= CONSTANT]
    found = [record.name for record, image in measured if image.saturation < 1e-6]
    if found and 2 * len(found) < len(measured):
        what = f"{len(found)} of {len(measured)} images ({snapshot.listed(found)}) are grey where the others have colours"
        yield snapshot.finding("images.grey", "info", what, found, advice="nothing, if networks will meet both")


def _find_shift(snapshot: Snapshot) -> Iterator[Finding]:
    """Find splits whose images are brighter, darker or otherwise coloured than nearly all that are trained on."""
    train = snapshot.train
    if train is None:
        return
    trained = [record.image.colour for record in train.records if record.image is not None]
    if len(trained) < 2 * _MIN_IMAGES:
        return
    for split in snapshot.splits:
        others = [record.image.colour for record in split.records if record.image is not None]
        if split is train or len(others) < _MIN_IMAGES or len({len(colour) for colour in (*trained, *others)}) > 1:
            continue
        mean, deviation = np.mean(trained, axis=0), np.std(trained, axis=0) + 0.01
        distance = np.abs(np.mean(others, axis=0) - mean) / deviation
        if float(distance.max()) > 2.5:
            what = (
                f"the images of {split.name} differ from those of {train.name}: a mean band is {float(distance.max()):.1f} standard "
                f"deviations from that of the training images"
            )
            farthest = np.abs(np.asarray(others) - mean).max(axis=1).argsort()[::-1][:4].tolist()
            names = [[r for r in split.records if r.image is not None][i].name for i in farthest]
            yield snapshot.finding(
                "images.unlike-training", "warning", what, names, split=split.name,
                advice="check that they were recorded and processed alike; if they are meant to differ, augment colours and brightness",
            )  # fmt: skip


CHECKS = (
    Check(
        "images.dark", "an image is nearly black", "warning",
        _finder("images.dark", lambda image: image.brightness < DARK and image.contrast >= CONSTANT, "are nearly black",
                "check their exposure and bit depth: 10 or 12 bits stored in 16 are read as dark"),
    ),
    Check(
        "images.bright", "an image is nearly white", "warning",
        _finder("images.bright", lambda image: image.brightness > BRIGHT and image.contrast >= CONSTANT, "are nearly white",
                "check their exposure"),
    ),
    Check(
        "images.constant", "an image has one colour", "warning",
        _finder("images.constant", lambda image: image.contrast < CONSTANT, "have one colour all over", "leave them out"),
    ),
    Check("images.blurred", "an image is far less sharp than the others", "warning", _find_blurred),
    Check("images.grey", "an image is grey among colour images", "info", _find_grey),
    Check("images.unlike-training", "images of a split are unlike those of training", "warning", _find_shift),
)  # fmt: skip
