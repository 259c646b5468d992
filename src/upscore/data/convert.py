"""Convert a dataset of any layout that is read into any that is written, and count what differs when it is read again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.splits import SPLITS, canonical_split
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage, DatasetWriter, Writer, WriterOptions
from upscore.errors import DataError, OutputError
from upscore.files import refuse_full, replace_folder
from upscore.objects.numbers import renumbered
from upscore.objects.shapes import TracedShape, group_parts
from upscore.objects.simplify import check_tolerance
from upscore.text import shortened
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["Converted", "convert"]

_ANOTHER_CLASS = 256  # of a pixel whose class is none of the original's


@dataclass(frozen=True)
class Converted:
    """A dataset that was written."""

    folder: Path
    writer: Writer
    images: dict[str, int]  #: of each split
    shapes: int  #: polygons, masks and brushes; 0 in formats of pixels
    pixels: int  #: of all images
    differing: int  #: pixels whose class is another one when the dataset is opened, by the names of the classes
    objects: int  #: numbered objects of the original; 0 where it tells none
    regrouped: int  #: images whose objects are others when the dataset is opened
    unread: int  #: images that are not found when it is opened
    original: LabelSpace  #: the classes of the original
    labels: LabelSpace  #: the classes when it is opened
    messages: tuple[str, ...]  #: what was left out or stored otherwise, a sentence each


def convert(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str = "folder",
    splits: Sequence[str] = (),
    tolerance: float = 0.0,
    reading: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Write a dataset in another layout, and read it again.

    Images are copied bit for bit where the format takes their type. The folder appears whole or not at all. Memory holds one image.

    Parameters
    ----------
    data : path
        As for :func:`upscore.open_dataset`.
    out : path
        A new folder, or an empty one.
    to : str
        Name of one of :data:`upscore.data.write_dataset.WRITERS`.
    splits : sequence of str
        Those to write; train, val and test as far as there are such when none are given. ``"seg11valid=val"`` writes
        one under another name.
    tolerance : float
        By which polygons may differ from the edges of pixels, in pixels (:func:`upscore.objects.simplify.simplify`); 0 is exact.
    reading : mapping, optional
        Options of :func:`upscore.open_dataset`, with which ``data`` is read.
    progress : callable
        Called with (done, total) images; each is written, and then read.

    Raises
    ------
    DataError
        As for :func:`upscore.open_dataset` and from reading the images; the splits differ in their classes; or the format cannot hold a
        name of a class or an image.
    OutputError
        ``out`` holds something, lies in ``data``, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     converted = convert("shapes:count=2,size=32x40", f"{folder}/new", to="coco", splits=["val"])
    >>> converted.images, converted.differing
    ({'val': 2}, 0)
    """
    writer, folder = find_writer(to), Path(out)
    check_tolerance(tolerance)
    _check_folder(Path(data), folder)
    messages: list[str] = []
    datasets = _open_splits(data, splits, reading or {}, messages)
    original = _labels_of(data, datasets)
    total = sum(map(len, datasets.values()))
    with replace_folder(folder, what="converted dataset", holds=()) as partial:
        writing = writer.open(partial, original, WriterOptions(tolerance, name=folder.absolute().name))
        try:
            digests, counts = _write(writing, datasets, lambda done: progress(done, 2 * total))
            writing.close()
        finally:
            writing.abandon()
        messages += [f"{count:,} {sentence}" for sentence, count in (counts.warnings + writing.warnings).items()]
        try:
            reread = _compare(partial, digests, datasets, original, lambda done: progress(total + done, 2 * total))
        except DataError as error:
            why = str(error).replace(str(partial), str(folder))
            raise DataError(f"the converted dataset could not be opened again, and was removed: {why}") from None
    return Converted(
        folder,
        writer,
        images={split: len(dataset) for split, dataset in datasets.items()},
        shapes=counts.shapes,
        pixels=counts.pixels,
        differing=reread.differing,
        objects=counts.objects,
        regrouped=reread.regrouped,
        unread=total - reread.found,
        original=original,
        labels=reread.labels,
        messages=tuple(messages),
    )


@dataclass(frozen=True)
class _Digests:
    """What an image that was written is compared with when it is read."""

    split: str
    index: int
    label: bytes
    objects: int  #: how many there are; -1 where the original tells none
    partition: bytes  #: of the numbers of the objects


@dataclass
class _Reread:
    labels: LabelSpace
    found: int = 0
    differing: int = 0
    regrouped: int = 0


@dataclass
class _Counts:
    objects: int = 0
    shapes: int = 0
    pixels: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


def _check_folder(data: Path, folder: Path) -> None:
    refuse_full(folder, what="the converted dataset")
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise OutputError(f"'{folder}' lies in the dataset '{data}', which would then hold the images twice: choose a folder beside it")


def _open_splits(data: str | os.PathLike[str], asked: Sequence[str], reading: Mapping[str, Any], messages: list[str]) -> dict[str, Dataset]:
    """Return the datasets by the names of the splits under which they are written."""
    chosen: dict[str, str] = {}
    for text in asked or list_splits(data):
        name, _, other = text.partition("=")
        split = canonical_split(other or name)
        if split is None and not asked:
            messages.append(f"the split {name} was left out, which is none of {', '.join(SPLITS)}: write it with --split {name}=val")
        elif split is None:
            raise DataError(f"the split '{shortened(other or name)}' cannot be written, expected one of {', '.join(SPLITS)}, or {name}=val")
        elif split in chosen and asked:
            raise DataError(f"the splits {chosen[split]} and {name} would both be written as {split}: leave one out, or write {name}=test")
        else:
            chosen.setdefault(split, name)
    if not chosen:
        raise DataError(f"{os.fspath(data)}: no split is called train, val or test: choose one and its name, such as --split NAME=train")
    datasets: dict[str, Dataset] = {}
    for split, name in chosen.items():
        try:
            datasets[split] = open_dataset(data, name, **reading)
        except DataError as error:
            if asked or split != "test" or not datasets:
                raise
            messages.append(f"the split test was left out: {error}")
    return datasets


def _labels_of(data: str | os.PathLike[str], datasets: dict[str, Dataset]) -> LabelSpace:
    (first, dataset), *others = datasets.items()
    for split, other in others:
        if difference := dataset.labels.difference(other.labels):
            raise DataError(f"{os.fspath(data)}: the classes of {first} and {split} differ: {difference}")
    return dataset.labels


def _write(writer: DatasetWriter, datasets: dict[str, Dataset], progress: Callable[[int], None]) -> tuple[dict[str, _Digests], _Counts]:
    """Write all images; return what each is compared with, by the path of the image in the new folder."""
    digests: dict[str, _Digests] = {}
    counts = _Counts()
    for split, dataset in datasets.items():
        files = dataset.image_files if isinstance(dataset, InFiles) else None
        above = os.path.commonpath([os.path.dirname(key) or "." for key in dataset.keys]) if _are_relative(dataset.keys) else ""
        for index in range(len(dataset)):
            sample = dataset[index]
            label = _label_of(sample)
            file = None if files is None else files[index]
            name = str(PurePosixPath(sample.key).relative_to(above)) if above else sample.key
            suffix = ".png" if file is None else file.suffix.lower()
            image = AnnotatedImage(name + suffix, label, instances=sample.instances, file=file, pixels=sample.image, split=split)
            shapes = writer.trace(label, sample.instances)
            written = writer.add(image, shapes)
            objects = -1
            partition = b""
            if sample.instances is not None:
                objects, partition = _partition(sample.instances if shapes is None else _drawn(shapes, label.shape), label)
                counts.objects += objects
            digests[written.image] = _Digests(split, index, _digest(label), objects, partition)
            counts.shapes += len(shapes or ())
            counts.pixels += label.size
            progress(len(digests))
    return digests, counts


def _are_relative(keys: Sequence[str]) -> bool:
    return not any(os.path.isabs(key) for key in keys) and len({os.path.dirname(key).partition("/")[0] for key in keys}) == 1


def _label_of(sample: Sample) -> npt.NDArray[np.uint8]:
    if sample.label is None:
        raise DataError(f"{sample.key}: the image has no mask, expected one for each")
    return sample.label


def _digest(label: npt.NDArray[np.integer]) -> bytes:
    return blake2b(repr(label.shape).encode() + label.astype(np.uint16).tobytes(), digest_size=16).digest()


def _partition(instances: npt.NDArray[np.integer], label: npt.NDArray[np.uint8]) -> tuple[int, bytes]:
    """Return the number of objects, and a digest that maps of the same objects have in common, whatever their numbers are."""
    numbers = renumbered(np.where(label == IGNORE, 0, instances))
    return int(numbers.max(initial=0)), blake2b(numbers.tobytes(), digest_size=16).digest()


def _drawn(shapes: Sequence[TracedShape], size: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Return the objects of a format of shapes: what has no number in the original is an object of its own there."""
    instances = np.zeros(size, np.int32)
    for number, parts in enumerate(group_parts(shapes), 1):
        for _, left, top, mask, *_ in (part.component for part in parts):
            instances[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = number
    return instances


def _compare(
    folder: Path,
    digests: dict[str, _Digests],
    datasets: dict[str, Dataset],
    original: LabelSpace,
    progress: Callable[[int], None],
) -> _Reread:
    """Open the new dataset; return its classes, and how many of its images are found and differ."""
    reread = _Reread(original)
    for split in list_splits(folder):
        if canonical_split(split) is None:
            continue
        written = open_dataset(folder, split)
        reread.labels = labels = written.labels
        table = np.full(256, _ANOTHER_CLASS, np.uint16)
        for number, name in enumerate(labels.names):
            if name in original.names:
                table[number] = original.names.index(name)
        table[IGNORE] = IGNORE
        assert isinstance(written, InFiles)
        for index, file in enumerate(written.image_files):
            source = digests.get(Path(os.path.relpath(file, folder)).as_posix())
            if source is None:
                continue
            reread.found += 1
            sample = written[index]
            read = table[_label_of(sample)]
            equal = _digest(read) == source.label
            if not equal:
                reread.differing += int(np.count_nonzero(read != _label_of(datasets[source.split][source.index])))
            if source.objects >= 0:
                instances = np.zeros_like(read) if sample.instances is None else sample.instances
                objects, partition = _partition(instances, _label_of(sample))
                # Within a tolerance objects have other pixels; their number still tells whether they were joined or divided.
                reread.regrouped += partition != source.partition if equal else objects != source.objects
            progress(reread.found)
    return reread
