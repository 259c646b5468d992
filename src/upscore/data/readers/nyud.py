"""NYUDv2 as FCN's authors release it: colour, depth, and HHA, with masks of 40 classes.

::

    nyud/
    ├── data/images/img_5001.png
    ├── data/depth/img_5001.png            depth in 16 bits, its holes filled
    ├── data/hha/img_5001.png              horizontal disparity, height above ground, angle with gravity, of 8 bits
    ├── segmentation/img_5001.mat          segmentation: 0 void, 1 to 40
    └── train.txt, val.txt, test.txt       "5001", one a line; trainval is both

The folder is the data in colour. Its folder ``data/hha`` is the data with HHA as further bands, and ``data/depth`` with the natural
logarithm of depth as a fourth band, as FCN's data layer takes it.

Silberman et al., ECCV 2012; Gupta, Arbelaez, Malik, CVPR 2013 (the 40 classes); Gupta et al., ECCV 2014 (HHA). The order of the
classes is that of ``data/nyud/classes.txt`` in shelhamer/fcn.berkeleyvision.org.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from upscore.data.dataset import Dataset
from upscore.data.image_files import read_image, read_image_with_metadata
from upscore.data.listed_pairs import list_names, pair_names, read_names
from upscore.data.paired_files import PairedFiles
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.data.stacked_bands import StackedBands
from upscore.input_spec import RGB, Image, InputSpec
from upscore.types import IGNORE, LabelSpace

__all__ = ["CLASSES", "READER", "nyud_splits", "open_nyud"]

CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "blinds", "desk",
    "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books", "refridgerator", "television",
    "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag",
    "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
"""The 40 classes, spelt as in the release; the masks store them from 1."""

_DEPTH = InputSpec.unnamed(1, "uint16")


def nyud_splits(path: Path) -> tuple[str, ...]:
    """Return the names of the lists, and trainval where both of its parts are there."""
    lists = list_names(_root(path))
    return (*lists, "trainval") if {"train", "val"} <= set(lists) and "trainval" not in lists else lists


def open_nyud(path: Path, split: str) -> Dataset:
    """Open one split of the folder in colour, or with the bands of its folder ``data/hha`` or ``data/depth``.

    A DataError is raised where there is no such list, or a file that it names is missing.
    """
    root, other = _root(path), _other(path)
    split = choose_split(path, split, nyud_splits(path))
    names = [
        name
        for part in (("train", "val") if split == "trainval" and split not in list_names(root) else (split,))
        for name in read_names(root / f"{part}.txt")
    ]
    pairs = pair_names(
        names,
        f"the list {split}.txt",
        image=lambda name: root / "data" / "images" / f"img_{name}.png",
        mask=lambda name: root / "segmentation" / f"img_{name}.mat",
    )
    mapping = {0: IGNORE} | {number: index for index, number in enumerate(range(1, len(CLASSES) + 1))}
    name = f"NYUDv2 {other}".strip()
    colour = PairedFiles(pairs, LabelSpace(CLASSES), split=split, name=name, mapping=mapping)
    if not other:
        return colour
    files = [root / "data" / other / f"img_{pair.key}.png" for pair in pairs]
    if other == "hha":
        return StackedBands(colour, files, InputSpec((*RGB.bands, "disparity", "height", "angle")), read_image)
    return StackedBands(colour, files, InputSpec((*RGB.bands, "log depth"), "float32"), _read_log_depth)


def _read_log_depth(path: Path) -> Image:
    """Return the natural logarithm of the stored depth, (H, W, 1) float32; NaN where it is 0, which means that it is not known."""
    depth = read_image_with_metadata(path, _DEPTH).pixels.astype(np.float32)
    with np.errstate(divide="ignore"):
        logarithm = np.log(depth)
    return np.where(depth > 0, logarithm, np.float32(np.nan))


def _other(path: Path) -> str:
    """Return which folder of further bands a path names: "hha", "depth", or ""."""
    return path.name if path.name in ("hha", "depth") and path.absolute().parent.name == "data" else ""


def _root(path: Path) -> Path:
    return path.absolute().parent.parent if _other(path) else path


def _recognise(path: str) -> bool:
    root = _root(Path(path))
    return os.path.isdir(root / "data" / "images") and next((root / "segmentation").glob("img_*.mat"), None) is not None


READER = Reader(
    "NYUDv2",
    "NYUDv2 (data/images, segmentation as .mat)",
    recognise=_recognise,
    splits=lambda path: nyud_splits(Path(path)),
    open=lambda path, split: open_nyud(Path(path), split),
)
