"""A folder for each scene, with its images and its masks.

::

    data/                              data/
    ├── rome/images/0001.jpg           ├── train/rome/images/0001.jpg
    │        masks/0001.png            │          /masks/0001.png
    ├── oslo/images/…                  ├── val/oslo/images/…
    └── classes.txt                    └── classes.txt

The folders of a scene may have other names (:mod:`upscore.data.folder_roles`). A sample's key begins with its scene's name. Without folders
for the splits, the images of about a fifth of the scenes are val.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from upscore.data.folder_pairs import pair_folder
from upscore.data.folder_roles import Folders, by_split, find_scenes, subfolders
from upscore.data.paired_files import PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.split_by import SplitBy
from upscore.data.splits import choose_split, divide
from upscore.data.unnamed_classes import classes_of_folder

__all__ = ["READER", "open_scene_folders"]


def open_scene_folders(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a folder of scenes.

    Images are divided by scene, or by ``options.split_by``. A DataError is raised where images and masks of a scene do not match, or no
    file names the classes and the values of the masks are not plainly classes.
    """
    found = _scenes(root)
    split = choose_split(root, split, _splits(found))
    warnings: list[str] = []
    scenes = found.get(split) or found[""]
    pairs = [pair for scene, folders in scenes.items() for pair in pair_folder(folders, warnings, f"{scene}/")]
    if "" in found:
        by = options.split_by or (SplitBy("folder") if len(scenes) > 1 else None)
        pairs = divide(root, pairs, split, warnings, because=f"the {len(scenes)} scenes are not divided into train and val", by=by)
    every = [folders.masks for of_split in found.values() for folders in of_split.values()]
    labels, mapping, read = classes_of_folder(root, lambda: [mask for folder in every for mask in list_images(folder)[0]], warnings)
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, mapping=mapping, read_mask=read, warnings=warnings)


def _scenes(root: Path) -> dict[str, dict[str, Folders]]:
    """Return the scenes of each split, or of ``""`` where there are none; nothing where there is no scene."""
    own = by_split({name: root / name for name in subfolders(root)})
    divided = {split: found for split, folder in own.items() if (found := find_scenes(folder))}
    if divided:
        return divided
    return {"": found} if (found := find_scenes(root)) else {}


def _splits(found: Mapping[str, Mapping[str, Folders]]) -> tuple[str, ...]:
    return ("train", "val") if "" in found else tuple(found)


READER = Reader(
    "scene folders",
    "scene folders (rome/images/, rome/masks/)",
    recognise=lambda path: os.path.isdir(path) and bool(_scenes(Path(path))),
    splits=lambda path: _splits(_scenes(Path(path))),
    open=lambda path, split, **options: open_scene_folders(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
