"""PASCAL-Context: VOC 2010's images, every pixel labelled with one of 459 labels, of which 59 or 33 are classes.

::

    pascal-context/
    ├── trainval/2008_000002.mat       LabelMap: 1 to 459
    ├── labels.txt                     "1: accordion", the names of the labels
    └── 59_labels.txt or 33_labels.txt the names of the classes, in order; 59_labels.txt where both are there

    VOC2010/                           in it or beside it, in VOCdevkit/ or not: JPEGImages, ImageSets/Main/train.txt and val.txt

All other labels are class 0, background, as in FCN's data layer. Three classes have other names among the labels.

Mottaghi et al., "The Role of Context for Object Detection and Semantic Segmentation in the Wild", CVPR 2014.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from upscore.data.listed_pairs import list_names, pair_names, read_names
from upscore.data.paired_files import PairedFiles
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.data.voc_names import find_voc_folder
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import listed
from upscore.types import LabelSpace

__all__ = ["READER", "open_pascal_context", "pascal_context_splits"]

_CLASS_FILES = ("59_labels.txt", "33_labels.txt")
_ALSO = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}  # a class, and what labels.txt calls it
_SPLITS = ("train", "val", "trainval")
_LINE = re.compile(r"\s*(\d{1,3})\s*:\s*(\S.*?)\s*")


def pascal_context_splits(root: Path) -> tuple[str, ...]:
    """Return those of train, val and trainval of which VOC 2010 has a list."""
    lists = list_names(_voc(root) / "ImageSets" / "Main")
    return tuple(split for split in _SPLITS if split in lists)


def open_pascal_context(root: Path, split: str) -> PairedFiles:
    """Open one split of the folder.

    A DataError is raised where VOC 2010, a list or a file of names is missing or wrong, or an image or mask that a list names is.
    """
    voc = _voc(root)
    split = choose_split(root, split, pascal_context_splits(root))
    numbers = {_plain(name): number for number, name in _read_names(root / "labels.txt")}
    file = next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)
    if file is None:
        raise DataError(f"{root}: found neither {' nor '.join(_CLASS_FILES)}, expected the names of the classes, as the dataset gives them")
    classes = [_plain(name) for _, name in _read_names(file) if _plain(name) != "background"]
    mapping = dict.fromkeys(range(max(numbers.values()) + 1), 0)
    for index, name in enumerate(classes, start=1):
        number = numbers.get(name, numbers.get(_ALSO.get(name, "")))
        if number is None:
            raise DataError(f"{file}: names the class '{name[:60]}', which labels.txt has not: take both from the dataset's page")
        mapping[number] = index
    pairs = pair_names(
        read_names(voc / "ImageSets" / "Main" / f"{split}.txt"),
        f"VOC 2010's list {split}.txt",
        image=lambda name: voc / "JPEGImages" / f"{name}.jpg",
        mask=lambda name: root / "trainval" / f"{name}.mat",
    )
    warnings = [f"the {len(classes)} classes are those of {file.name}; all other labels are background"]
    return PairedFiles(pairs, LabelSpace(("background", *classes)), split=split, name="PASCAL-Context", mapping=mapping, warnings=warnings)


def _voc(root: Path) -> Path:
    folder = root if (root / "JPEGImages").is_dir() else find_voc_folder(root, 2010)
    if folder is None:
        raise DataError(f"{root}: found no VOC2010 in it or beside it, expected VOC 2010's JPEGImages and ImageSets/Main")
    return folder


def _read_names(file: Path) -> list[tuple[int, str]]:
    """Return the numbers and names of a file of lines such as ``1: accordion``."""
    lines = [line for line in read_text(file, max_bytes=2**16, what="a list of labels").splitlines() if line.strip()]
    found = [_LINE.fullmatch(line) for line in lines]
    names = [(int(match[1]), match[2]) for match in found if match]
    if not names or len(names) < len(lines):
        odd = next((line for line, match in zip(lines, found, strict=True) if not match), "")
        raise DataError(f"{file}: found the line {odd[:60]!r}, expected lines such as '1: accordion'")
    repeated = [name for _, name in names if [other for _, other in names].count(name) > 1]
    if repeated or len({number for number, _ in names}) < len(names):
        raise DataError(f"{file}: a number or a name is there twice ({listed(repeated) or 'a number'}), expected each once")
    return names


def _plain(name: str) -> str:
    """Return a name as FCN's data layer compares them, without blanks."""
    return name.replace(" ", "")


def _recognise(path: str) -> bool:
    root = Path(path)
    return os.path.isfile(root / "labels.txt") and next((root / "trainval").glob("*.mat"), None) is not None


READER = Reader(
    "PASCAL-Context",
    "PASCAL-Context (trainval as .mat, labels.txt)",
    recognise=_recognise,
    splits=lambda path: pascal_context_splits(Path(path)),
    open=lambda path, split: open_pascal_context(Path(path), split),
)
