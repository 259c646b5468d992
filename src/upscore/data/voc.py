"""PASCAL VOC's own layout.

::

    VOC2012/
    ├── JPEGImages/2007_000032.jpg
    ├── SegmentationClass/2007_000032.png     palette PNG: 0 background, 1 to 20, 255 void
    ├── SegmentationObject/2007_000032.png    object numbers, optional
    └── ImageSets/Segmentation/train.txt      one name a line; also val, trainval, your own

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

from __future__ import annotations

from pathlib import Path

from upscore.data.pairs import PairedFiles, match_masks
from upscore.errors import DataError, nearest_name
from upscore.types import LabelSpace

__all__ = ["VOC_NAMES", "open_voc", "voc_splits"]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's 21 classes, in the order of its masks' indices."""

_MAX_LIST_BYTES = 2**26


def voc_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists in ``ImageSets/Segmentation``."""
    return tuple(sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt")))


def open_voc(root: Path, split: str) -> PairedFiles:
    """Open one split of a PASCAL VOC folder.

    Parameters
    ----------
    root : Path
        The folder that holds ``JPEGImages``.
    split : str
        The name of a list in ``ImageSets/Segmentation``, such as ``train``, ``val``,
        ``trainval`` or one of your own.

    Raises
    ------
    DataError
        There is no such list, it is empty or names a picture twice, or a picture or mask
        it names is missing.
    """
    given = voc_splits(root)
    if split not in given:
        known = ", ".join(given) or "none"
        raise DataError(f"{root}: no list ImageSets/Segmentation/{split}.txt{nearest_name(split, given)}, found {known}")
    keys = _read_keys(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    pictures = [(key, root / "JPEGImages" / f"{key}.jpg") for key in keys]
    absent = [path for _, path in pictures if not path.is_file()]
    if absent:
        raise DataError(f"{absent[0]}: no such file; the list {split}.txt names {len(absent)} pictures that are missing")
    masks, instances = (
        [(key, path) for key in keys if (path := root / folder / f"{key}.png").is_file()]
        for folder in ("SegmentationClass", "SegmentationObject")
    )
    pairs = match_masks(pictures, masks, instances=instances)
    return PairedFiles(pairs, LabelSpace(VOC_NAMES), split=split, name=root.resolve().name, void_instance=255)


def _read_keys(file: Path) -> list[str]:
    try:
        if file.stat().st_size > _MAX_LIST_BYTES:
            raise DataError(f"{file}: the list has {file.stat().st_size} bytes, expected at most {_MAX_LIST_BYTES}")
        keys = [line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a list of pictures: {error}") from error
    if not keys:
        raise DataError(f"{file}: the list is empty, expected one picture name a line")
    for key in keys:
        if "/" in key or "\\" in key or "\0" in key:
            raise DataError(f"{file}: the list names {key[:100]!r}, expected a picture's name without folder or suffix")
    return keys
