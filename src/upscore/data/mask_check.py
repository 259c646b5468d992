"""Read and check every mask of a dataset before a network is trained on it.

Most failed trainings fail here: objects saved as 255, which means ignored; classes
numbered from 1; colours instead of numbers; masks blurred by a resize. The check finds
them in seconds, with what they probably are. The rules: :mod:`upscore.data.mask_rules`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles, RawLabels
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.finding import Finding, Remedy
from upscore.data.mask_rules import apply_rules
from upscore.data.pixel_digests import digest_pixels
from upscore.data.readable_images import SKIP_ADVICE
from upscore.data.stored_masks import StoredMasks
from upscore.errors import DataError, UpscoreError
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["check_dataset", "check_splits", "inspect_dataset", "unreadable_findings", "with_hint"]


def check_dataset(dataset: Dataset, *, training: bool = True, progress: Callable[[int, int], None] | None = None) -> DatasetStatistics:
    """Read every mask and return the statistics, or raise what is wrong with them.

    Parameters
    ----------
    dataset : Dataset
        Images are not decoded where the dataset can read masks alone.
    training : bool
        Whether it is trained on; fewer than two classes are then refused, and otherwise among the findings.
    progress : callable, optional
        Called with (masks read, number of masks), from this thread.

    Raises
    ------
    DataError
        A mask cannot be read, is not of its image's size or holds a value that is no class; or the masks together
        are one of the mistakes of :mod:`upscore.data.mask_rules`, with what they probably are and what to do.
    """
    return _without_fatal_finding(inspect_dataset(dataset, training=training, progress=progress))


def check_splits(
    train: Dataset, val: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> tuple[DatasetStatistics, DatasetStatistics]:
    """Do what :func:`check_dataset` does for the two splits of one dataset, whose masks must agree with each other.

    The findings on both are in the first statistics; for training images that cannot be read, the remedy names ``--skip-bad``.
    ``progress`` is called with the masks read, and their number, of both.
    """
    report = progress or (lambda done, total: None)
    total = len(train) + len(val)
    of_train, unreadable, train_masks = _count(train, lambda done, _: report(done, total))
    of_val, also_unreadable, val_masks = _count(val, lambda done, _: report(len(train) + done, total))
    unreadable = [replace(found, remedies=(Remedy(advice=SKIP_ADVICE),)) for found in unreadable]
    findings = unreadable or also_unreadable or with_hint(apply_rules([train_masks, val_masks]), train)
    return _without_fatal_finding(replace(of_train, findings=tuple(findings))), of_val


def inspect_dataset(dataset: Dataset, *, training: bool = True, progress: Callable[[int, int], None] | None = None) -> DatasetStatistics:
    """Do what :func:`check_dataset` does, but return a fatal finding among the others instead of raising it."""
    statistics, unreadable, masks = _count(dataset, progress)
    return replace(statistics, findings=tuple(unreadable or with_hint(apply_rules([masks], training=training), dataset)))


def _without_fatal_finding(statistics: DatasetStatistics) -> DatasetStatistics:
    if statistics.fatal_finding is not None:
        raise DataError(statistics.fatal_finding.text())
    return statistics


def with_hint(findings: Sequence[Finding], dataset: Dataset) -> list[Finding]:
    """Put the reader's hint on the classes it assumed before the other remedies for values that are no class."""
    if not (hint := getattr(dataset, "hint", "")):
        return list(findings)
    return [
        replace(found, remedies=(Remedy(advice=hint), *found.remedies)) if found.id == "values.no-class" else found for found in findings
    ]


def _count(dataset: Dataset, progress: Callable[[int, int], None] | None) -> tuple[DatasetStatistics, list[Finding], StoredMasks]:
    """Return the statistics of a split, a finding if masks cannot be read, and the values that they store."""
    count, classes = len(dataset), len(dataset.labels)
    stored = np.zeros((count, 256), np.int64)
    sizes = np.zeros((count, 2), np.int64)
    palettes: list[bytes] = [b""] * count
    distinct: dict[bytes, bytes] = {}  # one object for each of the few palettes
    digests: dict[str, bytes] = {}
    unreadable: dict[int, UpscoreError] = {}

    def read(index: int) -> tuple[npt.NDArray[np.int64], tuple[int, ...], bytes] | UpscoreError:
        try:
            raw = dataset.raw_label(index) if isinstance(dataset, RawLabels) else None
            if raw is None:
                sample = dataset[index]
                values = sample.label
                digests[dataset.keys[index]] = digest_pixels(sample.image)
            else:
                values = raw.values
        except UpscoreError as error:
            return error
        if values is None:
            return DataError(f"{dataset.keys[index]}: the sample has no label, expected one")
        return np.bincount(values.ravel(), minlength=256), values.shape, raw.palette if raw else b""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read_all = pool.map if isinstance(dataset, RawLabels) else map  # a caller's own dataset may not be safe in threads
        for index, found in enumerate(read_all(read, range(count))):
            if isinstance(found, UpscoreError):
                unreadable[index] = found
            else:
                stored[index], sizes[index], palette = found
                palettes[index] = distinct.setdefault(palette, palette)
            if progress is not None:
                progress(index + 1, count)

    mapping = dataset.label_mapping if isinstance(dataset, RawLabels) else None
    files: Sequence[Path] = dataset.mask_files if isinstance(dataset, InFiles) else ()
    settings_file = dataset.settings_file if isinstance(dataset, InFiles) else None
    masks = StoredMasks(
        dataset.name, dataset.split, dataset.keys, dataset.labels.names, stored > 0, stored.sum(axis=0), mapping, palettes, files,
        settings_file,
    )  # fmt: skip
    counts = stored if mapping is None else _mapped(stored, masks)
    faults = {index: str(error) for index, error in unreadable.items()}
    undefined = counts[:, classes:IGNORE]
    for index in np.flatnonzero(undefined.any(axis=1)).tolist():
        values = [classes + int(value) for value in np.flatnonzero(undefined[index])]
        faults[index] = f"{dataset.keys[index]}: {int(undefined[index].sum())} pixels hold {listed(values, 6)}, which is no class"
    of_classes = counts[:, :classes]
    shows = of_classes > 0
    statistics = DatasetStatistics(
        labels=dataset.labels,
        images=count,
        class_pixels=of_classes.sum(axis=0),
        pixels_with_class=(shows * of_classes.sum(axis=1, keepdims=True)).sum(axis=0),
        images_with_class=shows.sum(axis=0, dtype=np.int64),
        ignored_pixels=int(counts[:, IGNORE].sum()),
        sizes=sizes,
        faults={dataset.keys[index]: faults[index] for index in sorted(faults)},
        digests=digests,
    )
    return statistics, unreadable_findings(dataset, unreadable), masks


def unreadable_findings(dataset: Dataset, errors: Mapping[int, UpscoreError]) -> list[Finding]:
    """Return a finding for each check that the ``errors`` of reading samples, by index, belong to; the most frequent one first."""
    by_check: dict[str, dict[int, UpscoreError]] = {}
    for index, error in sorted(errors.items()):
        by_check.setdefault(getattr(error, "check", "") or "files.unreadable", {})[index] = error
    files: Sequence[Path] = dataset.mask_files if isinstance(dataset, InFiles) else ()
    findings = []
    for check, found in sorted(by_check.items(), key=lambda item: -len(item[1])):
        first = f"{', first' if len(found) > 1 else ':'} {next(iter(found.values()))}"
        what = f"{len(found)} of {len(dataset)} {'images or masks' if check == 'files.unreadable' else 'masks'} cannot be used{first}"
        others = len(errors) - len(found)
        what += f" ({others} more cannot be used for other reasons)" if others else ""
        keys = tuple(dataset.keys[index] for index in found)
        findings.append(
            Finding(
                check,
                "error",
                f"{dataset.name} ({dataset.split})",
                what,
                keys,
                tuple(files[index] for index in found) if files else (),
                evidence=tuple(((dataset.split, key),) for key in keys),
            )
        )
    return findings


def _mapped(stored: npt.NDArray[np.int64], masks: StoredMasks) -> npt.NDArray[np.int64]:
    counts = np.zeros_like(stored)
    for value in range(256):
        counts[:, masks.class_of(value)] += stored[:, value]
    return counts
