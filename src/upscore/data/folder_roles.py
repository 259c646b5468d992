"""Find a dataset's folders of images and of masks by their names.

::

    images/ masks/                              the names that take precedence
    images/train/ masks/train/                  with a folder for each split
    train/images/ train/masks/ valid/images/ …  the splits outside
    train_images/ train_masks/                  both in one name
    train/ trainannot/                          the images in the folder that bears the split's name alone

Other words for images and masks are taken where a folder holds one of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.splits import SPLITS, canonical_split
from upscore.errors import DataError
from upscore.text import listed

__all__ = [
    "IMAGE_FOLDERS",
    "MASK_FOLDERS",
    "MASK_WORDS",
    "Folders",
    "by_split",
    "find_folders",
    "find_scenes",
    "holds_images",
    "mask_word",
    "subfolders",
]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pictures", "photos", "inputs", "input")
"""Names of a folder of images, in lower case."""

MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "ann_dir", "anns", "ann", "segmentationclass",
    "segmentations", "segmentation", "segs", "seg", "gt", "gts", "ground_truth", "groundtruth", "labelmaps", "targets", "target",
)  # fmt: skip
"""Names of a folder of masks, in lower case."""

MASK_WORDS = ("_mask", "-mask", "_masks", "_label", "-label", "_labels", "_seg", "_segmentation", "_gt", "_groundtruth", "_annotation")
"""What the name of a mask beside its image adds to the image's, in lower case; none is the end of another."""

_MAX_ENTRIES = 100_000
_FILES_CHECKED = 10_000


@dataclass(frozen=True)
class Folders:
    """The folders of a set of images: theirs, and those of their masks."""

    images: Path
    masks: Path
    instances: Path  #: need not exist

    @property
    def warning(self) -> str:
        """Which folders were taken, where their names are not ``images`` and ``masks``; else ``""``."""
        if (self.images.name, self.masks.name) == ("images", "masks"):
            return ""
        return f"the folder {self.images.name} was taken for the images, and {self.masks.name} for their masks"


def find_folders(root: Path) -> tuple[Folders | None, Mapping[str, Folders]]:
    """Find the folders of images and masks below ``root``.

    Returns those of all images, where there are such, and those of each split (train, val and test, whatever the folder calls
    them); raises a DataError where several folders could be meant.
    """
    together = _find(root)
    if together is not None:
        own = by_split({name: together.images / name for name in subfolders(together.images)})
        if _are_splits(own):
            return together, {
                split: Folders(folder, _same_split(together.masks, folder.name), _same_split(together.instances, folder.name))
                for split, folder in own.items()
            }
        return together, {}
    folders = {name: root / name for name in subfolders(root)}
    splits = {split: found for split, folder in by_split(folders).items() if (found := _find(folder)) is not None}
    return None, splits or _find_by_compound_names(root, list(folders))


def find_scenes(root: Path) -> dict[str, Folders]:
    """Return the folders of images and masks in each subfolder that has both, by its name; DataError where several could be meant."""
    return {name: found for name in subfolders(root) if (found := _find(root / name)) is not None}


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, sorted, without hidden ones; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in islice(entries, _MAX_ENTRIES) if not entry.name.startswith(".")]
    except OSError:
        return []
    # Where a link leads in a circle, entry.is_dir() raises; for files it needs no further access to the disk, as isdir() does.
    return sorted(entry.name for entry in shown if (os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()))


def _find(folder: Path) -> Folders | None:
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return Folders(folder / "images", folder / "masks", folder / "instances")
    names = subfolders(folder)
    images = [name for name in names if name.lower() in IMAGE_FOLDERS]
    masks = [name for name in names if name.lower() in MASK_FOLDERS and holds_images(folder / name)]
    if not images or not masks:
        return None
    if len(images) > 1 or len(masks) > 1:
        raise DataError(
            f"{folder}: the images may be in {listed(images)} and the masks in {listed(masks)}: name them in a dataset.yaml, as in "
            f"train: {images[0]}/train, val: {images[0]}/val, masks_dir: {masks[0]}, names: [background, thing]"
        )
    return Folders(folder / images[0], folder / masks[0], folder / "instances")


def holds_images(folder: Path) -> bool:
    """Whether there is an image among the first files: labels/ and annotations/ often hold text."""
    seen = 0
    for _, _, files in os.walk(folder):
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in files if not name.startswith(".")):
            return True
        seen += len(files) + 1
        if seen > _FILES_CHECKED:
            break
    return False


def mask_word(name: str) -> str:
    """Return the end of a file's name, without the suffix, that is one of :data:`MASK_WORDS`, as it is written; "" where there is none.

    >>> mask_word("street_Mask"), mask_word("street")
    ('_Mask', '')
    """
    return next((name[-len(word) :] for word in MASK_WORDS if name.lower().endswith(word)), "")


def by_split(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of each split; train, val and test come before other names of the same."""
    found: dict[str, Path] = {}
    lower = {name.lower(): name for name in sorted(folders, reverse=True)}
    for split, names in SPLITS.items():
        for name in names:
            if name in lower and split not in found:
                found[split] = folders[name if name in folders else lower[name]]
    return found


def _are_splits(own: Mapping[str, Path]) -> bool:
    """Whether folders are splits: those called train, val or test are, others only where there are both a train and a val."""
    return any(folder.name == split for split, folder in own.items()) or {"train", "val"} <= own.keys()


def _same_split(folder: Path, name: str) -> Path:
    """Return the subfolder of ``folder`` for the split that is called ``name``, which may have another name there."""
    if not (folder / name).is_dir():
        split = canonical_split(name)
        for other in subfolders(folder):
            if canonical_split(other) == split:
                return folder / other
    return folder / name


def _find_by_compound_names(root: Path, names: Iterable[str]) -> dict[str, Folders]:
    images: dict[str, list[str]] = {}
    masks: dict[str, list[str]] = {}
    bare: dict[str, str] = {}
    for name in names:
        split, role = _parse_name(name)
        if split and role:
            (images if role == "images" else masks).setdefault(split, []).append(name)
        elif canonical_split(name):
            bare.setdefault(split, name)
    found = {}
    for split in SPLITS:
        folders = images.get(split) or ([bare[split]] if split in bare else [])
        truth = masks.get(split, [])
        if len(folders) == 1 and len(truth) == 1:
            found[split] = Folders(root / folders[0], root / truth[0], root / f"{split}_instances")
        elif folders and truth:
            raise DataError(
                f"{root}: the images of {split} may be in {listed(folders)} and the masks in {listed(truth)}: leave one folder of each, "
                f"or use images/{split} and masks/{split}"
            )
    return found


def _parse_name(name: str) -> tuple[str, str]:
    """Return the split and the role, images or masks, in a folder's name; ``""`` for what it lacks."""
    lower = name.lower()
    for split, words in SPLITS.items():
        for word in sorted(words, key=len, reverse=True):
            role_word = re.sub(rf"\A{word}[_\-. ]?|[_\-. ]{word}\Z", "", lower, count=1)
            if role_word != lower:
                role = "images" if role_word in IMAGE_FOLDERS else "masks" if role_word in MASK_FOLDERS else ""
                if role or not role_word:
                    return split, role
    return "", ""
