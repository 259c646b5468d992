"""Cityscapes' own layout: the 19 classes of its benchmark, from label images or polygons.

::

    cityscapes/
    ├── leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    └── gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png     or _labelTrainIds.png, or _polygons.json

gtCoarse is read where there is no gtFine. The published masks of test are empty, so that split is refused.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; numbers and colours are those of
cityscapesScripts.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from upscore.data.annotations.annotated_files import read_json
from upscore.data.annotations.drawing import Drawing, Shape
from upscore.data.annotations.fields import flat_points, items_of, name_of, size_of
from upscore.data.annotations.outlines import Polygons
from upscore.data.annotations.tool_outlines import PillowPolygon
from upscore.data.folder_pairs import file_key
from upscore.data.folder_roles import by_split, subfolders
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, ReadingOptions, reading_options
from upscore.data.splits import choose_split
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["CITYSCAPES", "READER", "open_cityscapes"]

_CLASSES = (  # number in labelIds, name, colour; the position is the number in labelTrainIds
    (7, "road", (128, 64, 128)), (8, "sidewalk", (244, 35, 232)), (11, "building", (70, 70, 70)), (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)), (17, "pole", (153, 153, 153)), (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)), (21, "vegetation", (107, 142, 35)), (22, "terrain", (152, 251, 152)), (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)), (25, "rider", (255, 0, 0)), (26, "car", (0, 0, 142)), (27, "truck", (0, 0, 70)), (28, "bus", (0, 60,
    100)), (31, "train", (0, 80, 100)), (32, "motorcycle", (0, 0, 230)), (33, "bicycle", (119, 11, 32)),
)  # fmt: skip
_IGNORED = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking", "rail track", "guard rail",
    "bridge", "tunnel", "polegroup", "caravan", "trailer",
)  # fmt: skip
_NOT_DRAWN = "license plate"  # its number is negative: what is below stays visible

CITYSCAPES = LabelSpace(tuple(name for _, name, _ in _CLASSES), tuple(colour for *_, colour in _CLASSES))
"""The classes."""

_NUMBERS = {name: number for number, name in enumerate(CITYSCAPES.names)}
_MAPPING = {number: position for position, (number, *_) in enumerate(_CLASSES)}
_IMAGE = "_leftImg8bit"


def open_cityscapes(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open train or val of Cityscapes.

    Raises
    ------
    DataError
        It is test, whose masks are empty; an image has none of the three kinds of annotation, or differs from the others in its kind.
    """
    found = _splits(root)
    split = choose_split(root, split, found)
    if split == "test":
        raise DataError(f"{root}: the published masks of test ignore every pixel, so nothing can be evaluated on it: use val")
    fine = _truth(root)
    images, _ = list_images(found[split])
    if not images:
        raise DataError(f"{found[split]}: the folder holds no image, expected those of {split}")
    pairs: dict[str, list[Pair]] = {"labelIds.png": [], "labelTrainIds.png": [], "polygons.json": []}
    without = []
    for image in images:
        below = image.relative_to(root / "leftImg8bit").parent
        stem = image.stem.removesuffix(_IMAGE)
        key = file_key(image.with_name(f"{stem}.png"), found[split])
        for kind, of_kind in pairs.items():
            mask = root / fine / below / f"{stem}_{fine}_{kind}"
            if os.path.isfile(mask):
                of_kind.append(
                    Pair(key, image, mask, drawing=_Polygons(mask, by_tool=options.by_tool) if kind == "polygons.json" else None)
                )
                break
        else:
            without.append(key)
    used = {kind: of_kind for kind, of_kind in pairs.items() if of_kind}
    if without or len(used) > 1:
        kinds = f"annotations of several kinds ({', '.join(f'{len(of_kind)} {kind}' for kind, of_kind in used.items())})"
        missing = (
            f"{len(without)} of {len(images)} images have no {fine}_labelIds.png, labelTrainIds.png or polygons.json ({listed(without)})"
        )
        raise DataError(f"{root / fine}: {missing if without else kinds}: unpack {fine} completely")
    ((kind, chosen),) = used.items()
    if options.by_tool and kind != "polygons.json":
        raise DataError(f"{root / fine}: found drawing 'tool' and masks that are drawn already ({kind}): leave drawing out")
    warnings = [f"the 19 classes are Cityscapes' own, read from {fine}'s {kind}; all others are ignored"]
    mapping = _MAPPING if kind == "labelIds.png" else {number: number for number in range(19)} if kind == "labelTrainIds.png" else None
    # The numbers of all other labels are named as ignored: they are no surprise.
    mapping = mapping and dict.fromkeys((*range(-1, 34), IGNORE), IGNORE) | mapping
    return PairedFiles(chosen, CITYSCAPES, split=split, name=root.resolve().name, mapping=mapping, warnings=warnings)


def _truth(root: Path) -> str:
    return "gtFine" if (root / "gtFine").is_dir() else "gtCoarse"


def _splits(root: Path) -> dict[str, Path]:
    images = root / "leftImg8bit"
    return by_split({name: images / name for name in subfolders(images)})


class _Polygons:
    """The polygons of one image, in Cityscapes' JSON, as its own scripts draw them, but by pixel centres where not ``by_tool``."""

    __slots__ = ("by_tool", "file")

    def __init__(self, file: Path, *, by_tool: bool) -> None:
        self.file, self.by_tool = file, by_tool

    def __call__(self) -> Drawing:
        content = read_json(self.file, "Cityscapes' polygons")
        shapes: list[Shape] = []
        left_out = Counter[str]()
        number = 0
        try:
            if not isinstance(content, dict):
                raise ValueError("found no object with imgHeight, imgWidth and objects")
            size = size_of(content.get("imgHeight"), content.get("imgWidth"))
            for number, item in enumerate(items_of(content.get("objects"), "objects"), 1):  # noqa: B007 - for the error
                name = name_of(item.get("label"))
                if item.get("deleted") or name == _NOT_DRAWN:
                    continue
                single = name.removesuffix("group")
                label = _NUMBERS.get(name, _NUMBERS.get(single, IGNORE))
                if label == IGNORE and name not in _IGNORED and single not in _IGNORED:
                    left_out[f"objects called '{name}', which is no label of Cityscapes, were left out"] += 1
                    continue
                points = flat_points(item.get("polygon"))
                outline = PillowPolygon(points, outlined=False) if self.by_tool else Polygons(((points,),))
                what = "of labels that are none of the 19 classes" if label == IGNORE else ""
                shapes.append(Shape(label, outline, what, is_object=name in _NUMBERS))
        except ValueError as error:
            raise DataError(f"{self.file}: {f'object {number}: ' if number else ''}{error}") from None
        return Drawing(shapes, size, IGNORE, left_out=left_out)


def _recognise(path: str) -> bool:
    root = Path(path)
    return (root / "leftImg8bit").is_dir() and (root / _truth(root)).is_dir() if os.path.isdir(path) else False


READER = Reader(
    "Cityscapes",
    "Cityscapes (leftImg8bit, gtFine)",
    recognise=_recognise,
    splits=lambda path: tuple(split for split in _splits(Path(path)) if split != "test"),
    open=lambda path, split, **options: open_cityscapes(Path(path), split, reading_options(**options)),
    options=("drawing",),
)
