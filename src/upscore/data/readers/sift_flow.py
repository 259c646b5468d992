"""SIFT Flow: outdoor scenes, each with a mask of semantic and one of geometric classes.

::

    SiftFlowDataset/
    ├── Images/spatial_envelope_256x256_static_8outdoorcategories/coast_arnat59.jpg
    ├── SemanticLabels/(the same)/coast_arnat59.mat     S: 0 void, 1 to 33
    ├── GeoLabels/(the same)/coast_arnat59.mat          S: -1 void, 1 to 3
    ├── TestSet1.txt                                    the images of test; all others are train
    └── trainval.txt, test.txt                          FCN's lists, instead of it or beside it

The folder is the data with its semantic classes and, where there are masks of both kinds, the geometric ones as second labels, for a
network with two heads. Its folders ``SemanticLabels`` and ``GeoLabels`` are the data with one kind alone.

Liu, Yuen, Torralba, "Nonparametric scene parsing via label transfer", PAMI 2011; Tighe, Lazebnik, "SuperParsing", ECCV 2010. The
order of the classes is that of ``data/sift-flow/classes.txt`` in shelhamer/fcn.berkeleyvision.org.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from upscore.data.listed_pairs import list_names, pair_names, read_names
from upscore.data.paired_files import PairedFiles
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["GEOMETRIC", "READER", "SEMANTIC", "open_sift_flow", "sift_flow_splits"]

SEMANTIC = (
    "awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert", "door", "fence", "field",
    "grass", "moon", "mountain", "person", "plant", "pole", "river", "road", "rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase",
    "streetlight", "sun", "tree", "window",
)  # fmt: skip
"""The 33 semantic classes; the masks store them from 1."""

GEOMETRIC = ("sky", "horizontal", "vertical")
"""The geometric classes; the masks store them from 1."""

_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
_KINDS = {"SemanticLabels": SEMANTIC, "GeoLabels": GEOMETRIC}
_TEST = "TestSet1"


def sift_flow_splits(path: Path) -> tuple[str, ...]:
    """Return train and test where TestSet1.txt is there, and the names of the other lists."""
    root, _ = _root(path)
    lists = list_names(root, but=(_TEST,))
    derived = ("train", "test") if (root / f"{_TEST}.txt").is_file() else ()
    return (*(name for name in derived if name not in lists), *lists)


def open_sift_flow(path: Path, split: str) -> PairedFiles:
    """Open one split of the folder with both kinds of masks, or of its folder of semantic or geometric ones.

    A DataError is raised where there is no such split, or an image or mask that a list names is missing. Of images that no list
    names, those without a mask are left out, with a warning.
    """
    root, kind = _root(path)
    split = choose_split(path, split, sift_flow_splits(path))
    images, masks = root / "Images" / _SCENES, root / kind / _SCENES
    warnings = []
    if split in list_names(root, but=(_TEST,)):
        names, listed_in = read_names(root / f"{split}.txt"), f"the list {split}.txt"
    elif split == "test":
        names, listed_in = read_names(root / f"{_TEST}.txt"), f"the list {_TEST}.txt"
    else:
        tested = set(read_names(root / f"{_TEST}.txt"))
        every = sorted(file.stem for file in images.glob("*.jpg") if file.stem not in tested)
        names, listed_in = [name for name in every if (masks / f"{name}.mat").is_file()], f"{images} without {_TEST}.txt"
        if without := sorted(set(every) - set(names)):
            warnings.append(f"{len(without)} images have no mask in {masks} and were left out ({listed(without)})")
    pairs = pair_names(names, listed_in, image=lambda name: images / f"{name}.jpg", mask=lambda name: masks / f"{name}.mat")
    second = None
    if path == root and os.path.isdir(root / "GeoLabels" / _SCENES):
        with contextlib.suppress(DataError):
            second = open_sift_flow(root / "GeoLabels", split)
        if second is None or second.keys != [pair.key for pair in pairs]:
            warnings.append("some images have no geometric mask in GeoLabels: there are no second labels")
            second = None
    classes = _KINDS[kind]
    mapping = {-1: IGNORE, 0: IGNORE} | {number: index for index, number in enumerate(range(1, len(classes) + 1))}
    return PairedFiles(pairs, LabelSpace(classes), split=split, name=f"SIFT Flow {kind}", mapping=mapping, warnings=warnings, second=second)


def _root(path: Path) -> tuple[Path, str]:
    """Return the dataset's folder, and which of its folders of masks is meant."""
    name = path.absolute().name
    return (path.absolute().parent, name) if name in _KINDS else (path, "SemanticLabels")


def _recognise(path: str) -> bool:
    root, kind = _root(Path(path))
    return os.path.isdir(root / "Images" / _SCENES) and os.path.isdir(root / kind / _SCENES)


READER = Reader(
    "SIFT Flow",
    "SIFT Flow (Images, SemanticLabels, GeoLabels)",
    recognise=_recognise,
    splits=lambda path: sift_flow_splits(Path(path)),
    open=lambda path, split: open_sift_flow(Path(path), split),
)
