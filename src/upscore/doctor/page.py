"""A diagnosis as one HTML page in a single file: every finding on its own images, with what it is about marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.encoded_image import EncodedImage
from upscore.data.finding import Finding, SampleName
from upscore.data.headers import decode, open_header
from upscore.data.image_files import StoredImage
from upscore.data.mask_files import DecodedMask
from upscore.data.stored_pairs import read_stored_pair
from upscore.doctor.check import is_possible
from upscore.doctor.checks import CHECKS
from upscore.doctor.diagnosis import Diagnosis
from upscore.doctor.figure import Figure, as_rgb, draw_figure
from upscore.doctor.label_figures import show_regions
from upscore.doctor.mask_edits import read_stored
from upscore.doctor.mend import Mended, find_corrected
from upscore.doctor.scan import classes_of, to_classes
from upscore.doctor.snapshot import Snapshot
from upscore.errors import UpscoreError
from upscore.files import write_atomically
from upscore.html.drawing import pale
from upscore.html.template import open_template
from upscore.types import LabelSpace

__all__ = ["write_page"]

MAX_GROUPS = 3
"""Images, or pairs of them, that are shown of each finding."""

MARK = (214, 40, 60)
"""The colour of marked pixels."""


@dataclass(frozen=True)
class Shown:
    """A finding as the page shows it."""

    finding: Finding
    title: str
    mends: str
    figures: Sequence[Figure]
    more: int  #: samples that are not shown


def write_page(diagnosis: Diagnosis, out: Path, *, command: str = "", mended: Mended | None = None) -> Path:
    """Write a diagnosis to the HTML file ``out`` and return its path; the images that it shows are read once more.

    An OutputError is raised where the file cannot be written.
    """
    checks = {check.id: check for check in CHECKS}
    corrected = {id(finding) for finding in find_corrected(diagnosis)}
    shown = []
    for finding in diagnosis.findings:
        groups = finding.evidence or _examples(diagnosis.snapshot, finding)
        figures = [figure for group in groups[:MAX_GROUPS] for sample in group[:2] for figure in _draw(diagnosis.snapshot, finding, sample)]
        check = checks[finding.id]
        shown.append(
            Shown(
                finding, check.title, check.mends if id(finding) in corrected else "", figures, max(0, len(finding.evidence) - MAX_GROUPS)
            )
        )
    review, found = diagnosis.snapshot.review, {finding.id for finding in diagnosis.findings}
    page = open_template("doctor", "page.html.j2").render(
        diagnosis=diagnosis, splits=diagnosis.snapshot.splits, name=diagnosis.snapshot.name, shown=shown, command=command, mended=mended,
        when=datetime.now(UTC).isoformat(timespec="seconds"), review=review, regions=[] if review is None else list(show_regions(review)),
        clean=[check for check in diagnosis.checks if check.id not in found and is_possible(check, diagnosis.snapshot)],
    )  # fmt: skip
    write_atomically(out, page.encode("utf-8", "backslashreplace"))
    return out


def _examples(snapshot: Snapshot, finding: Finding) -> tuple[tuple[SampleName, ...], ...]:
    """Return the samples with the most pixels of the values that a finding on all masks is about."""
    values = list(finding.values)
    if not values:
        return ()
    counted = [(int(record.counts[values].sum()), record.name) for record in snapshot.records() if record.counts is not None]
    return tuple((name,) for pixels, name in sorted(counted, reverse=True)[:MAX_GROUPS] if pixels)


def _draw(snapshot: Snapshot, finding: Finding, sample: SampleName) -> list[Figure]:
    """Return a sample's image and its mask, with the pixels marked that a finding is about, as far as both can be read."""
    dataset = snapshot.by_name[sample[0]].dataset
    pair = read_stored_pair(dataset, snapshot.indices[sample])
    figures = []
    image = None
    name = f"{sample[0]} {sample[1]}"
    if isinstance(pair.image, StoredImage):
        image = as_rgb(pair.image.decoded.pixels)
        figures.append(draw_figure(image, f"{name}: image, {image.shape[0]}×{image.shape[1]}"))
    if not _shows_mask(finding):
        return figures
    if not isinstance(pair.mask, DecodedMask):
        return figures + [
            draw_figure(pixels, f"{name}: mask as stored, {pixels.shape[0]}×{pixels.shape[1]}", exact=True)
            for file in snapshot.mask_file(sample)
            if (pixels := _read_refused(file, dataset)) is not None
        ]
    stored = pair.mask.label
    classes = to_classes(stored, classes_of(dataset))
    marks = _marks(finding, stored, classes)
    backdrop = pale(image) if image is not None and image.shape[:2] == stored.shape else np.full((*stored.shape, 3), 235, np.uint8)
    if marks is not None and marks.any():
        wide = cv2.dilate(marks.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) if marks.mean() < 0.02 else marks
        drawn = backdrop.copy()
        drawn[wide] = MARK
        figures.append(draw_figure(drawn, f"{name}: {int(marks.sum()):,} marked pixels", exact=True))
    figures.append(draw_figure(_coloured(classes, dataset.labels), f"{name}: mask, {stored.shape[0]}×{stored.shape[1]}", exact=True))
    return figures


def _read_refused(file: Path, dataset: Dataset) -> npt.NDArray[np.uint8] | None:
    """Return a mask that cannot be used in the colours of its classes, or as an image where it does not store classes; None if neither."""
    try:
        return _coloured(to_classes(read_stored(file)[0], classes_of(dataset)), dataset.labels)
    except UpscoreError:
        pass
    try:
        pixels = np.asarray(decode(open_header(EncodedImage.read(file))))
        return as_rgb(pixels if pixels.ndim == 3 else pixels[..., None])
    except Exception:  # decoders raise nearly anything
        return None


def _shows_mask(finding: Finding) -> bool:
    return not finding.id.startswith(("images.", "labels.")) and finding.id not in (
        "splits.near-duplicates",
        "splits.groups",
        "splits.effective-size",
    )


def _marks(finding: Finding, stored: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_] | None:
    marker = next((check.marker for check in CHECKS if check.id == finding.id), None)
    if marker is not None:
        return np.asarray(marker(finding)(stored, classes), bool)
    return np.isin(stored, [value for value in finding.values if value]) if finding.values else None


def _coloured(classes: npt.NDArray[np.uint8], labels: LabelSpace) -> npt.NDArray[np.uint8]:
    coloured: npt.NDArray[np.uint8] = labels.colours()[classes]
    return coloured
