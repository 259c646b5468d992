"""PASCAL VOC's own layout, and what annotation tools write in it.

::

    VOC2012/
    ├── JPEGImages/2007_000032.jpg
    ├── SegmentationClass/2007_000032.png     palette PNG: 0 background, 1 to 20, 255 void
    ├── SegmentationObject/2007_000032.png    object numbers, optional
    └── ImageSets/Segmentation/train.txt      one name a line; also val, trainval, your own

The classes are VOC's 21, unless ``labelmap.txt`` (CVAT, Datumaro; masks are then colours),
``class_names.txt`` (labelme) or ``classes.txt`` names others. Where there are not both a
train and a val but one list (CVAT's ``default.txt``), or none (labelme), a fifth of the
images is val.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from upscore.data.class_names import find_class_names
from upscore.data.colour_masks import ColourTable
from upscore.data.foreign_annotations import name_annotations
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.image_lists import find_below, read_lines
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import canonical_split, choose_split, divide
from upscore.data.voc_names import VOC_NAMES
from upscore.errors import DataError, nearest_name
from upscore.types import IGNORE, LabelSpace

__all__ = ["READER", "open_voc", "voc_splits"]

_CLASS_FILES = ("labelmap.txt", "class_names.txt", "classes.txt")
_OWN_CLASSES = "write their names into class_names.txt there, one a line, the first for the value 0"
_VOID = (224, 224, 192)  # the colour of VOC's 255
_OF_VOC = re.compile(r"\d{4}_\d{6}")


def voc_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists in ``ImageSets/Segmentation``, and train and val where the images are divided."""
    lists = _lists(root)
    return (*lists, "train", "val") if _is_divided(lists) else lists


def open_voc(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a PASCAL VOC folder.

    ``split`` is the name of a list in ``ImageSets/Segmentation``, such as ``train``, ``val``, ``trainval`` or one of your own; or train
    or val where the images are divided. A DataError is raised where there is no such list, it is empty or names an image twice, or
    an image or mask it names is missing; or a file of class names is wrong.
    """
    given = _lists(root)
    warnings: list[str] = []
    divided = split not in given and canonical_split(split) in ("train", "val") and _is_divided(given)
    if divided:
        split = canonical_split(split) or split
        pairs = _listed_pairs(root, given[0]) if given else _all_pairs(root, warnings)
        lacks = f"has one list, {given[0]}.txt" if given else "has no lists"
        pairs = divide(root, pairs, split, warnings, because=f"ImageSets/Segmentation {lacks}", by=options.split_by)
    else:
        try:
            split = choose_split(root, split, given)
        except DataError:
            known = ", ".join(given) or "none"
            raise DataError(f"{root}: no list ImageSets/Segmentation/{split}.txt{nearest_name(split, given)}, found {known}") from None
        pairs = _listed_pairs(root, split)
    named = find_class_names(root, _CLASS_FILES)
    labels = named.labels if named else LabelSpace(VOC_NAMES)
    if named:
        warnings.append(named.warning)
    elif not _OF_VOC.fullmatch(pairs[0].key):
        warnings.append(
            f"the classes are taken for PASCAL VOC's 21 ({', '.join(VOC_NAMES[:3])}, …), as none of {', '.join(_CLASS_FILES)} is in the "
            f"folder: if they are others, {_OWN_CLASSES}"
        )
    if named:
        read = ColourTable({_VOID: IGNORE} | named.colours, named.file.name) if named.colours else None
    else:  # masks that were saved again in VOC's colours
        colours = {colour: label for label, colour in enumerate(labels.palette)}
        read = ColourTable({_VOID: IGNORE} | colours, "PASCAL VOC's palette", palettes=False)
    hint = "" if named else f"the classes are taken for PASCAL VOC's 21; if they are others, {_OWN_CLASSES}"
    name = root.resolve().name
    return PairedFiles(pairs, labels, split=split, name=name, void_instance=255, read_mask=read, hint=hint, warnings=warnings)


def _lists(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt") if not path.name.startswith(".")))


def _is_divided(lists: tuple[str, ...]) -> bool:
    """Whether images are divided into train and val: where there is at most one list, which is neither."""
    return not lists or (len(lists) == 1 and canonical_split(lists[0]) is None)


def _listed_pairs(root: Path, name: str) -> list[Pair]:
    file = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    images, classes, objects = (_Folder(root / folder) for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"))
    named: list[tuple[str, Path]] = []
    given: list[tuple[str, Path]] = []
    absent: list[Path] = []
    for line in read_lines(file):
        words = line.split()
        if len(words) > 1 and all("/" in word or "\\" in word for word in words[:2]):  # DeepLab's: an image and its mask
            image, mask = (find_below(root, word.lstrip("/\\"), file=True) for word in words[:2])
            if image is None or mask is None:
                raise DataError(f"{file}: the list names {words[image is not None][:200]}, which is not below {root}")
            named.append((image.stem, image))
            given.append((image.stem, mask))
            continue
        key = line if images.find(line) else words[0]
        if any(character in key for character in "/\\\0"):
            raise DataError(f"{file}: the list names {key[:100]!r}, expected an image's name without folder or suffix")
        if not images.find(key) and key.lower().endswith(IMAGE_SUFFIXES) and images.find(Path(key).stem):
            key = Path(key).stem
        found = images.find(key)
        if found is None:
            absent.append(root / "JPEGImages" / f"{key}.jpg")
            continue
        named.append((key, found))
        if mask := classes.find(key, first=".png"):
            given.append((key, mask))
    if absent:
        raise DataError(f"{absent[0]}: no such file; the list {name}.txt names {len(absent)} images that are missing")
    instances = [(key, path) for key, _ in named if (path := objects.find(key, first=".png"))]
    return match_masks(named, given, instances=instances)


def _all_pairs(root: Path, warnings: list[str]) -> list[Pair]:
    """Return every image that has a mask."""
    images = _Folder(root / "JPEGImages")
    objects = _Folder(root / "SegmentationObject")
    masks = [(path.stem, path) for path in list_images(root / "SegmentationClass")[0]]
    if not masks:
        found = name_annotations(root)
        found = f"; found {found}" if found else ""
        raise DataError(f"{root / 'SegmentationClass'}: the folder holds no mask, expected one for each image{found}")
    named = [(key, path) for key, _ in masks if (path := images.find(key))]
    instances = [(key, path) for key, _ in named if (path := objects.find(key, first=".png"))]
    pairs = match_masks(named, masks, instances=instances)
    without = len(list_images(root / "JPEGImages")[0]) - len(pairs)
    if without:
        warnings.append(f"{without} images in JPEGImages have no mask in SegmentationClass and were left out")
    return pairs


class _Folder:
    """Find the images of one folder by their names without suffix; it is listed only where a file with the usual suffix is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._others: dict[str, Path] | None = None

    def find(self, key: str, *, first: str = ".jpg") -> Path | None:
        usual = self._folder / f"{key}{first}"
        if os.path.isfile(usual):
            return usual
        if self._others is None:
            found = list_images(self._folder)[0] if self._folder.is_dir() else []
            self._others = {path.stem: path for path in reversed(found) if path.parent == self._folder}
        return self._others.get(key)


def _recognise(path: str) -> bool:
    return os.path.isdir(os.path.join(path, "JPEGImages")) and os.path.isdir(os.path.join(path, "SegmentationClass"))


READER = Reader(
    "PASCAL VOC",
    "a PASCAL VOC folder (JPEGImages, SegmentationClass, ImageSets/Segmentation)",
    recognise=_recognise,
    splits=lambda path: voc_splits(Path(path)),
    open=lambda path, split, **options: open_voc(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
