"""PASCAL VOC's classes, which SBD has too, and where VOC's folders lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["VOC_NAMES", "find_voc_folder"]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's 21 classes, in the order of its masks' indices."""

_LEVELS = 3  # folders above
_BELOW = ("", "VOCdevkit", "TrainVal/VOCdevkit")  # as the archives unpack


def find_voc_folder(beside: Path, year: int) -> Path | None:
    """Return VOC's folder of a year, such as ``VOC2011``, in a folder, beside it or beside one of the two above it; None without one."""
    root = beside.absolute()
    found = (folder / below / f"VOC{year}" for folder in (root, *root.parents[:_LEVELS]) for below in _BELOW)
    return next((folder for folder in found if (folder / "JPEGImages").is_dir()), None)
