"""What the checks look at: the records of all splits of a dataset, and what several checks derive from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles, RawLabels
from upscore.data.finding import DescribedMasks, Finding, Remedy, SampleName, Severity
from upscore.data.mask_check import unreadable_findings, with_hint
from upscore.data.mask_rules import apply_rules
from upscore.data.stored_masks import StoredMasks
from upscore.doctor.scan import Record, classes_of, sum_counts
from upscore.errors import UpscoreError
from upscore.text import listed
from upscore.types import LabelSpace

if TYPE_CHECKING:
    from upscore.review.label_review import LabelReview

__all__ = ["Snapshot", "SplitRecords"]

_MISREAD = ("values.object-as-255", "values.no-class", "values.blurred")


@dataclass(frozen=True, eq=False)
class SplitRecords:
    """One split and the records of its samples, in order."""

    dataset: Dataset
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """The split's name."""
        return self.dataset.split

    @cached_property
    def readable(self) -> list[Record]:
        """The records of the samples whose masks were read and fit their images."""
        return [record for record in self.records if record.mask is not None]

    @cached_property
    def class_pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each class in the readable masks, the ignored ones last, (samples, K + 1)."""
        classes = len(self.dataset.labels)
        columns = np.minimum(classes_of(self.dataset), classes)  # of each stored value
        counts = np.zeros((len(self.readable), classes + 1), np.int64)
        for row, record in zip(counts, self.readable, strict=True):
            assert record.stored is not None
            np.add.at(row, columns[record.stored[0]], record.stored[1])
        return counts


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A dataset as the checks see it; nothing is read from the disk any more."""

    path: str
    splits: Sequence[SplitRecords]
    unopened: Mapping[str, UpscoreError] = field(default_factory=dict)  #: why splits could not be opened, by name; "" for all of them
    review: LabelReview | None = None  #: what a trained network says of the masks; None where there is no network

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.splits[0].dataset.name if self.splits else self.path

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.splits[0].dataset.labels

    @cached_property
    def by_name(self) -> dict[str, SplitRecords]:
        """The splits by their names."""
        return {split.name: split for split in self.splits}

    @property
    def train(self) -> SplitRecords | None:
        """The split that is trained on."""
        return next((split for split in self.splits if split.name.lower().startswith("train")), None)

    @property
    def val(self) -> SplitRecords | None:
        """The split that is validated on."""
        return next((split for split in self.splits if split.name.lower().startswith(("val", "dev"))), None)

    def records(self) -> Iterator[Record]:
        """Yield the records of all splits."""
        for split in self.splits:
            yield from split.records

    @cached_property
    def unreadable(self) -> list[Finding]:
        """The findings on samples that cannot be read."""
        return [
            finding
            for split in self.splits
            for finding in unreadable_findings(
                split.dataset,
                {index: record.error for index, record in enumerate(split.records) if record.error is not None},
            )
        ]

    @cached_property
    def rule_findings(self) -> list[Finding]:
        """The findings of the rules that the masks are checked with before training, on the masks that can be read."""
        parts = [_stored_masks(split) for split in self.splits if split.readable]
        trained = bool(parts) and self.train is not None and parts[0].split == self.train.name
        findings = apply_rules(parts, training=trained)
        return with_hint(findings, self.splits[0].dataset) if self.splits else findings

    @property
    def stores_classes(self) -> bool:
        """Whether the masks store the classes in the way in which they are read."""
        return not any(finding.fatal and finding.id in _MISREAD for finding in self.rule_findings)

    def finding(
        self, check: str, severity: Severity, what: str, evidence: Sequence[Sequence[SampleName] | SampleName] = (),
        *, advice: str = "", split: str = "", values: Mapping[int, int] | None = None,
    ) -> Finding:  # fmt: skip
        """Return a finding on the samples of ``evidence``, or on the dataset as a whole."""
        groups = tuple(_group(item) for item in evidence)
        files = tuple(path for group in groups for path in self.mask_file(group[0]))
        where = f"{self.name} ({split})" if split else self.name
        remedies = (Remedy(advice=advice),) if advice else ()
        return Finding(
            check, severity, where, what, tuple(group[0][1] for group in groups), files, values or {}, remedies, DescribedMasks(), groups
        )

    def listed(self, samples: Sequence[SampleName]) -> str:
        """Return the first keys of samples, with their splits where they are of several."""
        several = len({split for split, _ in samples}) > 1
        return listed([f"{split} {key}" if several else key for split, key in samples])

    @cached_property
    def indices(self) -> dict[SampleName, int]:
        """The index of each sample in its split."""
        return {record.name: index for split in self.splits for index, record in enumerate(split.records)}

    def mask_file(self, sample: SampleName) -> list[Path]:
        """Return the mask's file; nothing where masks are not files."""
        dataset = self.by_name[sample[0]].dataset
        files = _mask_files(dataset)
        return [files[self.indices[sample]]] if files else []


def _mask_files(dataset: Dataset) -> Sequence[Path]:
    """Return the masks' files; nothing where masks are not files, or are drawn from annotation files."""
    return dataset.mask_files if isinstance(dataset, InFiles) else ()


def _group(item: Sequence[SampleName] | SampleName) -> tuple[SampleName, ...]:
    """Return one sample, or several, as a group.

    >>> _group(("train", "a")), _group([("train", "a"), ("val", "b")])
    ((('train', 'a'),), (('train', 'a'), ('val', 'b')))
    """
    if isinstance(item[0], str):
        return ((item[0], str(item[1])),)
    return tuple((split, key) for split, key in item)  # type: ignore[str-unpack]


def _stored_masks(split: SplitRecords) -> StoredMasks:
    dataset, records = split.dataset, split.readable
    shows = np.zeros((len(records), 256), bool)
    for row, record in zip(shows, records, strict=True):
        assert record.stored is not None
        row[record.stored[0]] = True
    chosen = [i for i, record in enumerate(split.records) if record.mask is not None]
    every = _mask_files(dataset)
    files = [every[i] for i in chosen] if every else ()
    settings_file = dataset.settings_file if isinstance(dataset, InFiles) else None
    return StoredMasks(
        dataset.name, dataset.split, [record.key for record in records], dataset.labels.names, shows, sum_counts(records),
        dataset.label_mapping if isinstance(dataset, RawLabels) else None, [record.palette for record in records],
        files, settings_file,
    )  # fmt: skip
