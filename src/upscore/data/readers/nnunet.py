"""nnU-Net's raw datasets of two-dimensional images.

::

    Dataset001_Name/
    ├── dataset.json                      labels, channel_names, file_ending
    ├── imagesTr/case_0000.png            _0000 is the channel; a PNG in colour is one channel file
    ├── labelsTr/case.png
    └── splits_final.json                 optional: the first of its folds is used

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 2021.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import read_json
from upscore.data.folder_pairs import file_key
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import choose_split, divide
from upscore.errors import DataError
from upscore.text import listed, literal
from upscore.types import IGNORE, LabelSpace

__all__ = ["READER", "open_nnunet"]

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def open_nnunet(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open train or val of an nnU-Net dataset.

    Raises
    ------
    DataError
        ``dataset.json`` is malformed, its files are volumes, a case has several channel files, its labels are regions; or images and
        masks do not match.
    """
    split = choose_split(root, split, ("train", "val"))
    content = read_json(root / "dataset.json", "the description of an nnU-Net dataset")
    labels, mapping = _labels(root / "dataset.json", content)
    ending = content.get("file_ending", ".png")
    if not isinstance(ending, str) or not ending.lower().endswith(IMAGE_SUFFIXES):
        raise DataError(
            f"{root / 'dataset.json'}: its files end in {literal(ending, 40)}, expected two-dimensional images such as .png or .tif"
        )
    warnings = [f"the names of the {len(labels)} classes come from dataset.json"]
    images = []
    for image in list_images(root / "imagesTr")[0]:
        found = _CHANNEL.fullmatch(image.stem)
        if found and found[2] != "0000":
            raise DataError(f"{image}: the cases have several files of channels, expected one: combine them into TIFFs of several bands")
        images.append((found[1] if found else image.stem, image))
    masks = [(file_key(mask, root / "labelsTr"), mask) for mask in list_images(root / "labelsTr")[0]]
    if not images:
        raise DataError(f"{root / 'imagesTr'}: the folder holds no image, expected files that end in {ending}")
    pairs = match_masks(images, masks)
    fold = _fold(root / "splits_final.json")
    if fold is None:
        pairs = divide(root, pairs, split, warnings, because="there is no splits_final.json", by=options.split_by)
    else:
        warnings.append("the split is the first fold of splits_final.json")
        pairs = _of_fold(root / "splits_final.json", pairs, fold[split])
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, mapping=mapping, warnings=warnings)


def _labels(file: Path, content: Any) -> tuple[LabelSpace, dict[int, int] | None]:
    given = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(given, dict) or not given:
        raise DataError(f"{file}: its labels are {literal(given, 40)}, expected names with numbers, such as background: 0")
    if regions := [name for name, value in given.items() if isinstance(value, list)]:
        raise DataError(f"{file}: its labels are regions of several values ({listed(regions)}), expected one number for each class")
    numbers: dict[int, str] = {}
    for name, value in given.items():
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,3}", value) else value
        if type(number) is not int or not 0 <= number <= IGNORE or number in numbers:
            raise DataError(f"{file}: the label '{name}' has the number {literal(value, 40)}, expected its own from 0 to 255")
        numbers[number] = name
    ordered = sorted(numbers)
    ignored = [number for number in ordered if numbers[number] == "ignore"]
    classes = [number for number in ordered if number not in ignored]
    mapping = {number: position for position, number in enumerate(classes)} | dict.fromkeys(ignored, IGNORE)
    try:
        labels = LabelSpace(tuple(numbers[number] for number in classes))
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    return labels, None if all(number == label for number, label in mapping.items()) else mapping


def _fold(file: Path) -> dict[str, list[str]] | None:
    if not file.exists():
        return None
    content = read_json(file, "nnU-Net's splits")
    first = content[0] if isinstance(content, list) and content else None
    fold = {name: first.get(name) if isinstance(first, dict) else None for name in ("train", "val")}
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in fold.values()):
        raise DataError(f"{file}: its first fold is {literal(first, 60)}, expected lists of cases for train and val")
    return fold  # type: ignore[return-value]


def _of_fold(file: Path, pairs: list[Pair], names: list[str]) -> list[Pair]:
    wanted = set(names)
    chosen = [pair for pair in pairs if pair.key in wanted]
    if missing := sorted(wanted - {pair.key for pair in chosen}):
        raise DataError(f"{file}: names {len(missing)} cases that are not in imagesTr ({listed(missing)})")
    if not chosen:
        raise DataError(f"{file}: its first fold names no case")
    return chosen


def _recognise(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "dataset.json")) and all(
        os.path.isdir(os.path.join(path, name)) for name in ("imagesTr", "labelsTr")
    )


READER = Reader(
    "nnU-Net",
    "nnU-Net (imagesTr, labelsTr)",
    recognise=_recognise,
    splits=lambda path: ("train", "val"),
    open=lambda path, split, **options: open_nnunet(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
