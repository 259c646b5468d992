"""ADE20K's scene parsing benchmark: 150 classes from 1, and 0 for what is none of them and ignored.

::

    ADEChallengeData2016/
    ├── objectInfo150.txt                          the names, one a line
    ├── images/training/ADE_train_00000001.jpg     and validation
    └── annotations/training/ADE_train_00000001.png

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. Other toolkits call the mapping ``reduce_zero_label``.
"""

from __future__ import annotations

import os
from pathlib import Path

from upscore.data.folder_pairs import pair_folder
from upscore.data.folder_roles import Folders, by_split, subfolders
from upscore.data.paired_files import PairedFiles
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import literal
from upscore.types import IGNORE, LabelSpace

__all__ = ["READER", "open_ade20k"]

_NAMES = "objectInfo150.txt"


def open_ade20k(root: Path, split: str) -> PairedFiles:
    """Open train or val, which ADE20K calls training and validation; DataError where files or names are missing."""
    found = _splits(root)
    split = choose_split(root, split, found)
    warnings = [f"the names of the classes come from {_NAMES}; the value 0 is ignored, and k is class k - 1"]
    labels = LabelSpace(_names(root / _NAMES))
    folder = found[split]
    pairs = pair_folder(Folders(folder, root / "annotations" / folder.name, root / "instances" / folder.name), warnings)
    mapping = {0: IGNORE} | {number: number - 1 for number in range(1, len(labels) + 1)}
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, mapping=mapping, warnings=warnings)


def _splits(root: Path) -> dict[str, Path]:
    return by_split({name: root / "images" / name for name in subfolders(root / "images") if (root / "annotations" / name).is_dir()})


def _names(file: Path) -> tuple[str, ...]:
    """Return the first of the names in the last column of each line after the header."""
    lines = [line for line in read_text(file, max_bytes=2**20, what="ADE20K's class names").splitlines() if line.strip()]
    names: dict[str, None] = {}
    for position, line in enumerate(lines[1:], 1):
        number, *_, name = (part.strip() for part in line.split("\t"))
        short = name.split(",")[0].strip()
        if number != str(position) or not short:
            raise DataError(
                f"{file}: line {position + 1} is {literal(line, 60)}, expected {position}, frequencies and names, divided by tabs"
            )
        names[short if short not in names else f"{short} {position}"] = None
    if not 1 <= len(names) < IGNORE:
        raise DataError(f"{file}: names {len(names)} classes, expected 1 to 254")
    return tuple(names)


def _recognise(path: str) -> bool:
    return os.path.isfile(os.path.join(path, _NAMES)) and os.path.isdir(os.path.join(path, "annotations")) and bool(_splits(Path(path)))


READER = Reader(
    "ADE20K",
    "ADE20K (objectInfo150.txt)",
    recognise=_recognise,
    splits=lambda path: tuple(_splits(Path(path))),
    open=lambda path, split: open_ade20k(Path(path), split),
)
