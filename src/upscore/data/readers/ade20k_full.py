"""The full ADE20K: masks beside their images in a folder for each scene, of thousands of classes.

::

    ADE20K_2021_17_01/                                     or ADE20K_2016_07_26
    ├── index_ade20k.mat                                   the names of the classes, and how often each occurs
    ├── classes.txt                                        yours, optional: the names of those to learn, one a line
    └── images/ADE/training/urban/street/
        ├── ADE_train_00016869.jpg                         in the release of 2016: images/training/s/street/
        ├── ADE_train_00016869_seg.png                     R // 10 · 256 + G is the class, from 1; 0 is not labelled
        └── ADE_train_00016869/, _parts_1.png, .json       not read

A network has at most 254 classes. Without ``classes.txt`` they are the 150 of which the index counts the most objects. All other pixels are
ignored. The pickled index of the release is never read.

Zhou et al., "Semantic Understanding of Scenes through the ADE20K Dataset", IJCV 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.class_names import read_class_names
from upscore.data.encoded_image import EncodedImage
from upscore.data.folder_pairs import file_key
from upscore.data.folder_roles import by_split, subfolders
from upscore.data.headers import decode, open_header
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.errors import DataError, nearest_name
from upscore.files import read_file
from upscore.matlab_files import parse_matlab
from upscore.text import listed, reason
from upscore.types import IGNORE, LabelSpace

__all__ = ["READER", "open_ade20k_full"]

_INDEX = "index_ade20k.mat"
_CLASSES = "classes.txt"
_MASK = "_seg.png"
_USUAL = 150
_NUMBERS = 26 * 256  # that R // 10 · 256 + G can be
_MAX_BYTES = 2**30


def open_ade20k_full(root: Path, split: str) -> PairedFiles:
    """Open train or val, which ADE20K calls training and validation; DataError where index, masks or named classes are missing."""
    found = _splits(root)
    split = choose_split(root, split, found)
    names, counts = _read_index(root / _INDEX)
    chosen, warning = _chosen(root, names, counts)
    try:
        labels = LabelSpace(tuple(chosen))
    except DataError as error:
        raise DataError(f"{root / _CLASSES}: {error}") from None
    read = _ColourNumbers({number: label for label, number in enumerate(chosen.values())})
    folder = found[split]
    files = set(list_images(folder)[0])
    pairs = [
        Pair(file_key(image, folder), image, mask)
        for image in sorted(files)
        if (mask := image.with_name(image.stem + _MASK)) in files and not image.name.endswith(_MASK)
    ]
    if not pairs:
        raise DataError(f"{folder}: holds no image with a mask beside it, expected ADE_train_00000001.jpg with ADE_train_00000001{_MASK}")
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, read_mask=read, warnings=[warning])


def _splits(root: Path) -> dict[str, Path]:
    images = root / "images" / "ADE" if (root / "images" / "ADE").is_dir() else root / "images"
    return by_split({name: images / name for name in subfolders(images)})


def _read_index(file: Path) -> tuple[list[str], npt.NDArray[Any]]:
    """Return the name of each class, the first one's number is 1, and the number of its objects."""
    try:
        content = parse_matlab(read_file(file, max_bytes=_MAX_BYTES, what="ADE20K's index, which names the classes"), max_bytes=_MAX_BYTES)
        (index,) = content["index"]
        names = [name for name in index["objectnames"] if isinstance(name, str)]
        counts = np.asarray(index["objectcounts"], np.float64).ravel()
        if not names or len(names) != len(index["objectnames"]) or len(counts) != len(names) or len(names) >= _NUMBERS:
            raise ValueError(f"it names {len(names)} classes and counts {counts.size}")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: is no index of ADE20K ({reason(error)}), expected a struct index with objectnames and objectcounts"
        ) from None
    return names, counts


def _chosen(root: Path, names: Sequence[str], counts: npt.NDArray[Any]) -> tuple[dict[str, int], str]:
    """Return the number of each class to learn by its name, and a sentence on where they come from."""
    numbers = {name: number for number, name in reversed(list(enumerate(names, 1)))}
    if (root / _CLASSES).exists():
        wanted = read_class_names(root / _CLASSES).labels.names
        short = {name.split(",")[0].strip(): number for name, number in reversed(numbers.items())}
        known = short | numbers
        if missing := [name for name in wanted if name not in known]:
            raise DataError(f"{root / _CLASSES}: '{missing[0]}' is no class of {_INDEX}{nearest_name(missing[0], list(known))}")
        return {name: known[name] for name in wanted}, f"the {len(wanted)} classes are those of {_CLASSES}; all others are ignored"
    usual = np.argsort(-counts, kind="stable")[:_USUAL]
    found = {names[position]: int(position) + 1 for position in sorted(usual.tolist())}
    return found, (
        f"the {len(found)} classes are those of {len(names)} with the most objects in {_INDEX} ({listed(list(found))}), and all others are "
        f"ignored: to choose them, write their names into {_CLASSES}, one a line"
    )


class _ColourNumbers:
    """Reads masks whose classes are in two channels; it goes to other processes with the dataset."""

    def __init__(self, label_of: Mapping[int, int]) -> None:
        self._table = np.full(_NUMBERS, IGNORE, np.uint8)
        for number, label in label_of.items():
            self._table[number] = label

    def __call__(self, path: Path) -> npt.NDArray[np.uint8]:
        file = EncodedImage.read(path)
        header = open_header(file)
        if header.image.format != "PNG" or header.image.mode != "RGB":
            raise file.error(f"found a {header.image.format} of mode {header.image.mode}, expected a PNG of red, green and blue")
        try:
            pixels = np.asarray(decode(header))
        except Exception as error:  # decoders raise nearly anything
            raise file.damaged_image_error(error) from error
        return np.asarray(self._table[pixels[..., 0].astype(np.int32) // 10 * 256 + pixels[..., 1]])


def _recognise(path: str) -> bool:
    images = os.path.join(path, "images")
    marked = os.path.isfile(os.path.join(path, _INDEX)) or os.path.isdir(os.path.join(images, "ADE"))
    return marked and os.path.isdir(images) and bool(_splits(Path(path)))


READER = Reader(
    "full ADE20K",
    "the full ADE20K (index_ade20k.mat)",
    recognise=_recognise,
    splits=lambda path: tuple(_splits(Path(path))),
    open=lambda path, split: open_ade20k_full(Path(path), split),
)
