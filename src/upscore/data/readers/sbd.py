"""SBD, the Semantic Boundaries Dataset, as it is released; with VOC beside it, also the images of VOC that SBD does not train on.

::

    benchmark_RELEASE/dataset/
    ├── img/2008_000002.jpg
    ├── cls/2008_000002.mat       GTcls.Segmentation: 0 background, 1 to 20
    ├── inst/2008_000002.mat      GTinst.Segmentation: object numbers
    └── train.txt, val.txt        and your own

    VOC2011/ or VOC2012/          beside it, in VOCdevkit/ or not: splits seg11valid and seg12valid

``seg11valid`` is what FCN's authors validate on: VOC 2011's ``val.txt`` without SBD's ``train.txt``, 736 images with VOC's own masks.

Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011; Long, Shelhamer, Darrell, CVPR 2015, footnote 7.
"""

from __future__ import annotations

import os
from pathlib import Path

from upscore.data.listed_pairs import list_names, pair_names, read_names
from upscore.data.paired_files import PairedFiles
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.data.voc_names import VOC_NAMES, find_voc_folder
from upscore.types import LabelSpace

__all__ = ["READER", "open_sbd", "sbd_splits"]

_YEARS = (2011, 2012)


def sbd_splits(path: Path) -> tuple[str, ...]:
    """Return the names of SBD's lists, and of the splits of the VOC folders beside it."""
    root = _root(path)
    return (*list_names(root), *(name for name in _voc_splits(root) if name not in list_names(root)))


def open_sbd(path: Path, split: str) -> PairedFiles:
    """Open one split of a folder that :func:`sbd_splits` lists.

    A DataError is raised where there is no such list, or an image or mask that it names is missing.
    """
    root = _root(path)
    split = choose_split(path, split, sbd_splits(path))
    warnings = []
    if split in list_names(root):
        names, listed_in = read_names(root / f"{split}.txt"), f"the list {split}.txt"
        image, mask, instances = ((root / folder, suffix) for folder, suffix in (("img", ".jpg"), ("cls", ".mat"), ("inst", ".mat")))
    else:
        voc = _voc_splits(root)[split]
        trained = set(read_names(root / "train.txt"))
        held_out = read_names(voc / "ImageSets/Segmentation/val.txt")
        names, listed_in = [name for name in held_out if name not in trained], f"{split}, {voc.name}'s val.txt without SBD's train.txt,"
        warnings.append(f"{split} is the {len(names)} of {len(held_out)} images of {voc}'s val.txt that are not in SBD's train.txt")
        image, mask, instances = (
            (voc / folder, suffix)
            for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png"), ("SegmentationObject", ".png"))
        )
    pairs = pair_names(
        names,
        listed_in,
        image=lambda name: image[0] / f"{name}{image[1]}",
        mask=lambda name: mask[0] / f"{name}{mask[1]}",
        instances=lambda name: instances[0] / f"{name}{instances[1]}",
    )
    return PairedFiles(pairs, LabelSpace(VOC_NAMES), split=split, name="SBD", void_instance=255, warnings=warnings)


def _root(path: Path) -> Path:
    return next(root for root in _roots(path) if _is_sbd(root))


def _roots(path: Path) -> tuple[Path, ...]:
    return path, path / "dataset", path / "benchmark_RELEASE" / "dataset"


def _is_sbd(root: Path) -> bool:
    return os.path.isdir(root / "img") and os.path.isdir(root / "cls") and next((root / "cls").glob("*.mat"), None) is not None


def _voc_splits(root: Path) -> dict[str, Path]:
    """Return the VOC folders by the splits that are made of them."""
    folders = {f"seg{year % 100}valid": find_voc_folder(root, year) for year in _YEARS if (root / "train.txt").is_file()}
    return {name: folder for name, folder in folders.items() if folder and (folder / "ImageSets/Segmentation/val.txt").is_file()}


READER = Reader(
    "SBD",
    "SBD (img, cls and inst as .mat)",
    recognise=lambda path: any(_is_sbd(root) for root in _roots(Path(path))),
    splits=lambda path: sbd_splits(Path(path)),
    open=lambda path, split: open_sbd(Path(path), split),
)
