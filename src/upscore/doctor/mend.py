"""Write a corrected copy of a dataset. The dataset itself is never changed.

The copy has the layout of :mod:`upscore.data.readers.dataset_yaml`: ``images/SPLIT``, ``masks/SPLIT``, ``instances/SPLIT`` where the
dataset tells objects, and a ``dataset.yaml``. Images and masks that need no correction are hard links to the originals, or copies where
the file system has none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles, RawLabels, input_of
from upscore.data.encoded_image import split_page
from upscore.data.finding import Finding, SampleName
from upscore.data.image_files import read_image_with_metadata
from upscore.data.paired_files import PairedFiles
from upscore.data.png_files import MAX_INSTANCE, write_instances, write_stored_values
from upscore.doctor.checks import CHECKS
from upscore.doctor.diagnosis import Diagnosis
from upscore.doctor.mask_edits import EDITS, MOVING, READINGS, SplitPlacement, measure_placements, read_stored, threshold
from upscore.doctor.placement import shift_of
from upscore.doctor.scan import Record, sum_counts
from upscore.doctor.snapshot import SplitRecords
from upscore.errors import DataError, OutputError
from upscore.files import refuse_full, replace_folder
from upscore.objects.numbers import numbered_to
from upscore.types import IGNORE

__all__ = ["Change", "Mended", "find_corrected", "mend"]

CHANGES = "changes.json"

_MIN_BORDERS = 1000  # of all masks together, to place those that are larger or smaller by a pixel


@dataclass(frozen=True)
class Change:
    """One file that differs from the original, or was left out."""

    file: str  #: below the new folder; or, of a sample that was left out, its split and key
    checks: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Mended:
    """A corrected copy."""

    folder: Path
    changes: tuple[Change, ...]
    untouched: int  #: files that are links to the originals, or copies
    remaining: tuple[Finding, ...]  #: errors and warnings that nothing was done about

    @property
    def yaml(self) -> Path:
        """The copy's dataset.yaml."""
        return self.folder / "dataset.yaml"


class _Treatment:
    """What is to be done, from the findings."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        asked = {check.id for check in CHECKS if check.asked} - diagnosis.named
        self.checks: dict[SampleName, list[str]] = {}
        self.left_out: dict[SampleName, str] = {}
        self.names: tuple[str, ...] | None = None
        self.mapping: Mapping[int, int] | None = None
        self.settings: list[str] = []
        self.two_values: tuple[int, int] | None = None
        self.treated: set[int] = set()
        self.values = _values_of(diagnosis)
        stored = Counter(record.palette for record in diagnosis.snapshot.records() if record.mask is not None)
        self.palette = stored.most_common(1)[0][0] if stored else b""  # as most masks have, so that colours mean the same in all
        for finding in diagnosis.findings:
            if finding.id in asked or finding.severity == "info":
                continue
            if self._take(finding, diagnosis):
                self.treated.add(id(finding))

    def _take(self, finding: Finding, diagnosis: Diagnosis) -> bool:
        check = finding.id
        if check == "files.unreadable":
            self.left_out |= {group[0]: check for group in finding.evidence}
        elif check == "splits.shared-images":
            train = diagnosis.snapshot.train
            if train is None:
                return False
            self.left_out |= {name: check for group in finding.evidence for name in group if name[0] == train.name}
        elif check == "splits.repeated-images":
            self.left_out |= {name: check for group in finding.evidence for name in group[1:]}
        elif check == "geometry.shifted" and finding.severity != "error":  # that of one mask alone is not known to the pixel
            return False
        elif check in EDITS or check in READINGS:
            for group in finding.evidence:
                self.checks.setdefault(group[0], []).append(check)
        elif check == "values.blurred":
            low, high = sorted(int(value) for value in np.argsort(sum_counts(diagnosis.snapshot.records()))[-2:])
            self.two_values, self.mapping = (low, high), {low: 0, high: 1}
            self.names = finding.remedies[0].names if finding.remedies else None
            self.settings.append(check)
            for record in diagnosis.snapshot.records():
                self.checks.setdefault(record.name, []).append(check)
        elif len(finding.remedies) == 1 and (finding.remedies[0].mapping is not None or finding.remedies[0].names is not None):
            remedy = finding.remedies[0]
            if remedy.when or self.settings:
                return False
            self.names, self.mapping = remedy.names, remedy.mapping
            self.settings.append(check)
        else:
            return False
        return True


def find_corrected(diagnosis: Diagnosis) -> list[Finding]:
    """Return the findings that a corrected copy does something about; none where the dataset cannot be copied."""
    if _why_not_copied(diagnosis):
        return []
    treated = _Treatment(diagnosis).treated
    return [finding for finding in diagnosis.findings if id(finding) in treated]


def _why_not_copied(diagnosis: Diagnosis) -> str:
    """Return why a dataset cannot be copied, "" where it can."""
    splits = diagnosis.snapshot.splits
    if not splits:
        return "no split could be opened, so nothing can be copied: correct its files first"
    if not all(isinstance(split.dataset, InFiles) for split in splits):
        return "the dataset is not made of files, expected images and masks that can be copied"
    if any(split_page(path)[1] for split in splits if isinstance(split.dataset, InFiles) for path in split.dataset.image_files):
        return "holds images that are pages of a file, which are not copied: write each to a file of its own"
    return ""


def mend(
    diagnosis: Diagnosis, folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Mended:
    """Write a corrected copy of the examined dataset to ``folder``, which must not exist or be empty.

    What has one remedy that is right whatever the masks mean is corrected; the other findings remain. ``changes.json`` in the folder lists
    every file that differs and why.

    Raises
    ------
    DataError
        The dataset is not in files, or could not be opened.
    OutputError
        The folder holds something, or cannot be written.
    """
    splits = diagnosis.snapshot.splits
    if reason := _why_not_copied(diagnosis):
        raise DataError(f"{diagnosis.snapshot.path}: {reason}")
    folder = Path(folder)
    refuse_full(folder, what="the corrected copy")
    treatment = _Treatment(diagnosis)
    total, done = sum(len(split.records) for split in splits), 0
    changes: list[Change] = []
    failed: Counter[str] = Counter()
    untouched = 0
    with replace_folder(folder, what="corrected copy", holds=()) as partial:
        for split in splits:
            placement = SplitPlacement(_common_shift(split), _common_placements(split, treatment))
            for index, record in enumerate(split.records):
                if (why := treatment.left_out.get(record.name)) is not None:
                    changes.append(Change(f"{record.split} {record.key}", (why,), "left out"))
                else:
                    change, links = _write_sample(partial, split, index, record, treatment, placement)
                    untouched += links
                    if change is not None:
                        changes.append(change)
                        if change.what.startswith("left out"):
                            failed.update(change.checks)
                done += 1
                progress(done, total)
        names, mapping = _write_settings(partial, diagnosis, treatment)
        if treatment.settings:
            what = "".join((f"names: {list(names)}" if treatment.names else "", " " if treatment.names and mapping else "",
                            f"label_mapping: {dict(mapping)}" if mapping else ""))  # fmt: skip
            changes.append(Change("dataset.yaml", tuple(treatment.settings), what))
        listing = [{"file": change.file, "checks": list(change.checks), "what": change.what} for change in changes]
        (partial / CHANGES).write_text(json.dumps(listing, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    remaining = tuple(
        finding
        for finding in diagnosis.findings
        if finding.severity != "info" and (id(finding) not in treatment.treated or failed[finding.id])
    )
    return Mended(folder, tuple(changes), untouched, remaining)


def _write_sample(
    folder: Path, split: SplitRecords, index: int, record: Record, treatment: _Treatment, placement: SplitPlacement
) -> tuple[Change | None, int]:
    """Write or link the files of a sample; return how its mask differs, and how many files are links."""
    dataset = split.dataset
    assert isinstance(dataset, InFiles)
    image_file = dataset.image_files[index]
    mask_file = dataset.mask_files[index] if dataset.mask_files else None  # None: it is drawn from an annotation file
    name = _file_name(record.key)
    checks = treatment.checks.get(record.name, [])
    relative = f"masks/{split.name}/{name}.png"
    values: npt.NDArray[np.uint8] | None = None
    done: list[str] = []
    if record.mask_error is not None:
        reading = next((READINGS[check] for check in checks if check in READINGS), None)
        read = reading(mask_file, dataset.labels, treatment.values) if reading is not None and mask_file is not None else None
        if read is not None and "sizes.off-by-one" in checks:
            size = record.size[0] - read[0].shape[0], record.size[1] - read[0].shape[1]
            read = read if size in placement.placements else None
        if read is None:
            why = tuple(checks) or (getattr(record.mask_error, "check", ""),)
            return Change(f"{record.split} {record.key}", why, "left out: its mask cannot be corrected"), 0
        values, how = read
        done += [how] if how else []
    elif checks or mask_file is None or not getattr(dataset, "masks_as_stored", False) or mask_file.suffix.lower() != ".png":
        assert isinstance(dataset, RawLabels)
        values = dataset.raw_label(index).values
    for check in checks:
        if check in EDITS:
            image = read_image_with_metadata(image_file, input_of(dataset)).pixels
            assert values is not None
            values, how = EDITS[check](values, record, image, placement)
            done += [how] if how else []
        elif check == "values.blurred" and treatment.two_values is not None and values is not None:
            before, values = values, threshold(values, *treatment.two_values)
            done += [f"{int((values != before).sum())} px given the nearer of {treatment.two_values[0]} and {treatment.two_values[1]}"]
    links = 1
    _link(image_file, folder / "images" / split.name / f"{name}{image_file.suffix.lower()}")
    if lost := _write_instances(folder / f"instances/{split.name}/{name}.png", dataset, index, moved=bool(MOVING.intersection(checks))):
        done.append(lost)
    if values is None:
        assert mask_file is not None
        _link(mask_file, folder / relative)
        links += 1
    else:
        write_stored_values(folder / relative, values, treatment.palette)
    return (Change(relative, tuple(checks), "; ".join(done)) if done else None), links


def _write_instances(file: Path, dataset: Dataset, index: int, *, moved: bool) -> str:
    """Write the numbers of a sample's objects where there are such; return why they are left out, "" where they are not."""
    if not isinstance(dataset, PairedFiles):
        return ""
    try:
        instances = dataset.instances(index)
    except DataError as error:
        return f"the numbers of its objects were left out: {error}"
    if instances is not None and moved:
        return "the numbers of its objects, which lie where the mask lay, were left out"
    if instances is not None:
        write_instances(file, numbered_to(instances, MAX_INSTANCE))
    return ""


def _values_of(diagnosis: Diagnosis) -> dict[int, int]:
    """Return the class of each value that masks store: those that are named, and those that masks hold and that are ignored."""
    dataset = diagnosis.snapshot.splits[0].dataset
    mapping = dataset.label_mapping if isinstance(dataset, RawLabels) else None
    values = {IGNORE: IGNORE, **({label: label for label in range(len(dataset.labels))} if mapping is None else mapping)}
    if mapping is not None:
        values = dict.fromkeys(np.flatnonzero(sum_counts(diagnosis.snapshot.records())).tolist(), IGNORE) | values
    return values


def _file_name(key: str) -> str:
    """Return the path of a key below a split's folder, without steps out of it.

    >>> _file_name("../street/0001"), _file_name("a/b")
    ('street/0001', 'a/b')
    """
    return "/".join(part for part in PurePosixPath(key).parts if part not in ("..", "/", ".")) or "unnamed"


def _link(source: Path, target: Path) -> None:
    if target.exists():
        raise OutputError(f"{target.name}: two samples have this name in the copy: rename either in the dataset")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _common_shift(split: SplitRecords) -> tuple[int, int]:
    aligned = [record.alignment.shifts for record in split.readable if record.alignment is not None]
    return shift_of(np.mean(aligned, axis=0)) if aligned else (0, 0)


def _common_placements(split: SplitRecords, treatment: _Treatment) -> dict[tuple[int, int], tuple[int, int]]:
    """Return where masks lie that are larger or smaller by (rows, columns), where all of them together leave no doubt."""
    dataset = split.dataset
    assert isinstance(dataset, InFiles)
    sums: dict[tuple[int, int], dict[tuple[int, int], tuple[float, int]]] = {}
    for index, record in enumerate(split.records):
        if "sizes.off-by-one" not in treatment.checks.get(record.name, ()):
            continue
        mask, _ = read_stored(dataset.mask_files[index])
        total = sums.setdefault((record.size[0] - mask.shape[0], record.size[1] - mask.shape[1]), {})
        image = read_image_with_metadata(dataset.image_files[index], input_of(split.dataset)).pixels
        for position, (strength, borders) in measure_placements(mask, image).items():
            before = total.get(position, (0.0, 0))
            total[position] = before[0] + strength, before[1] + borders
    return {
        size: max(found, key=lambda position: found[position][0] / max(1, found[position][1]))
        for size, found in sums.items()
        if min(borders for _, borders in found.values()) >= _MIN_BORDERS
    }


def _write_settings(folder: Path, diagnosis: Diagnosis, treatment: _Treatment) -> tuple[tuple[str, ...], Mapping[int, int] | None]:
    """Write dataset.yaml; return names and label_mapping."""
    dataset = diagnosis.snapshot.splits[0].dataset
    names = treatment.names or dataset.labels.names
    mapping = treatment.mapping if treatment.mapping is not None else (dataset.label_mapping if isinstance(dataset, RawLabels) else None)
    lines = ["path: ."]
    for split in diagnosis.snapshot.splits:
        lines.append(f"{json.dumps(split.name)}: {json.dumps('images/' + split.name)}")
    lines += ["masks_dir: masks", f"names: {json.dumps(list(names))}"]
    if mapping is not None:
        lines.append("label_mapping: {" + ", ".join(f"{value}: {label}" for value, label in sorted(mapping.items())) + "}")
    (folder / "dataset.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return names, mapping
