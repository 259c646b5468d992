"""Examine a dataset: open its splits, read everything once, and run the checks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from upscore.data.dataset import Dataset
from upscore.data.finding import Finding, Severity
from upscore.data.open_dataset import READERS, list_splits, open_dataset
from upscore.doctor.check import Check, run_check
from upscore.doctor.checks import CHECKS
from upscore.doctor.scan import scan
from upscore.doctor.snapshot import Snapshot, SplitRecords
from upscore.errors import RecipeError, UpscoreError, nearest_name

if TYPE_CHECKING:
    from upscore.inference.predictor import Predictor

__all__ = ["Diagnosis", "choose_checks", "diagnose"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found in a dataset."""

    snapshot: Snapshot
    checks: tuple[Check, ...]  #: that were run
    findings: tuple[Finding, ...]  #: errors first
    messages: tuple[str, ...] = ()  #: decisions of the reader
    named: frozenset[str] = frozenset()  #: the ids that the user asked for by name

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        counted = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in SEVERITIES}

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 where there are errors, or warnings with ``strict``, and 0 otherwise."""
        return int(self.counts["error"] > 0 or (strict and self.counts["warning"] > 0))

    def as_dict(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        splits = self.snapshot.splits
        return {
            "data": self.snapshot.path,
            "classes": list(self.snapshot.labels.names) if splits else [],
            "splits": {split.name: len(split.records) for split in splits},
            "checks": [check.id for check in self.checks],
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "messages": list(self.messages),
        } | self._review()

    def _review(self) -> dict[str, Any]:
        if self.snapshot.review is None:
            return {}
        from upscore.review.review_files import describe_review

        return {"review": describe_review(self.snapshot.review)}


def choose_checks(only: Sequence[str] = (), skip: Sequence[str] = (), *, with_run: bool = False) -> tuple[Check, ...]:
    """Return the checks of these ids or families, all without ``only``, and none of those of ``skip``.

    Those that need a trained network are among them ``with_run`` only. A RecipeError is raised where there is no check or family of a
    name, one needs a network and there is none, or none is left.
    """
    known = [*dict.fromkeys(check.family for check in CHECKS), *(check.id for check in CHECKS)]
    for name in (*only, *skip):
        if name not in known:
            families = ", ".join(dict.fromkeys(check.family for check in CHECKS))
            raise RecipeError(
                f"found the check '{name}'{nearest_name(name, known)}, expected one of the families {families}, or an id of docs/doctor.md"
            )
    possible = [check for check in CHECKS if with_run or not check.needs_run]
    for name in only:
        if not any(name in (check.id, check.family) for check in possible):
            raise RecipeError(f"the check '{name}' needs a trained network: give one with --run RUN")
    chosen = tuple(
        check for check in possible if (not only or {check.id, check.family} & set(only)) and not {check.id, check.family} & set(skip)
    )
    if not chosen:
        raise RecipeError("no check is left: --skip leaves out all that --only names")
    return chosen


def diagnose(
    data: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    predictor: Predictor | None = None,
    include_trained: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    predicting: Callable[[int, int], None] = lambda done, total: None,
) -> Diagnosis:
    """Examine all splits of a dataset.

    Parameters
    ----------
    data : path
        As :func:`~upscore.data.open_dataset.open_dataset` takes it.
    only, skip : sequence of str
        Ids or families of checks.
    reading : mapping, optional
        Options of :func:`~upscore.data.open_dataset.open_dataset`.
    predictor : Predictor, optional
        A trained network, by which doubtful labels are found, as :func:`upscore.review.label_review.review_labels`.
    include_trained : bool
        Also examine the labels of images that it was trained on.
    progress : callable
        Called with (samples read, number of samples).
    predicting : callable
        Called with (images labelled by the network, number of them).

    Raises
    ------
    RecipeError
        There is no such check, or it needs a network.
    BundleError
        The network's classes are not the dataset's.
    DataError
        No reader recognises ``data``. What is wrong with a dataset that one recognises is a finding.
    """
    checks = choose_checks(only, skip, with_run=predictor is not None)
    unopened: dict[str, UpscoreError] = {}
    datasets: list[Dataset] = []
    try:
        names = list_splits(data)
    except UpscoreError as error:
        if not os.path.exists(data) or not _is_recognised(data):
            raise
        names, unopened = (), {"": error}
    for name in names:
        try:
            datasets.append(open_dataset(data, name, **(reading or {})))
        except UpscoreError as error:
            unopened[name] = error
    total, done, splits = sum(map(len, datasets)), 0, []
    for dataset in datasets:
        first = done
        records = scan(dataset, progress=lambda count, _, first=first: progress(first + count, total))  # type: ignore[misc]
        splits.append(SplitRecords(dataset, records))
        done += len(dataset)
    snapshot = Snapshot(os.fspath(data), splits, unopened)
    review = None
    if predictor is not None and datasets and any(check.needs_run for check in checks):
        from upscore.review.label_review import review_labels

        known = list(snapshot.records())
        review = review_labels(
            predictor, datasets, include_trained=include_trained, progress=predicting,
            digests={record.name: record.image.digest for record in known if record.image is not None},
            unreadable=frozenset(record.name for record in known if record.error is not None),
        )  # fmt: skip
        snapshot = replace(snapshot, review=review)
    found = [finding for check in checks for finding in run_check(check, snapshot)]
    messages = dict.fromkeys(message for dataset in datasets for message in dataset.warnings)
    messages |= dict.fromkeys(review.messages if review is not None else ())
    return Diagnosis(
        snapshot, checks, tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))), tuple(messages), frozenset(only)
    )


def _is_recognised(data: str | os.PathLike[str]) -> bool:
    return any(reader.recognise(os.fspath(data)) for reader in READERS)
