"""GeoJSON in pixels of an image, as QuPath exports it: a file of the image's name beside each image.

::

    data/
    ├── slide-1.tif, slide-1.geojson
    ├── slide-2.tif, slide-2.geojson
    └── classes.txt                       optional: the order of the classes, one name a line

The class is ``properties.classification.name`` (QuPath), or a property called class, label, name or category; ``__ignore__`` is ignored.
Features have no order:
smaller ones are drawn over larger ones. Coordinates of a map are refused: a raster's georeference is needed to draw those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import FoundImages, Same, files_by_split, open_annotated, pairs_of_split, read_json, splits_of
from upscore.data.annotations.classes import listed_classes, shape_of
from upscore.data.annotations.drawing import SMALL_ON_TOP, Drawing
from upscore.data.annotations.fields import flat_points, items_of
from upscore.data.annotations.outlines import Polygons
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.errors import DataError
from upscore.text import literal

__all__ = ["READER", "open_geojson"]

_CLASS_KEYS = ("class", "label", "name", "category")

Features = tuple[list[tuple[str, Polygons]], Counter[str]]


def open_geojson(root: Path, split: str) -> PairedFiles:
    """Open one split of a folder of GeoJSON files and images.

    Raises
    ------
    DataError
        A file is no such JSON, its coordinates are those of a map, a geometry in it is malformed, or there is no image of its name.
    """
    by_split = _files(root)
    read = {file: _read(file) for files in by_split.values() for file in files}
    names = sorted({name for features, _ in read.values() for name, _ in features})
    classes = listed_classes(root, names, "the features, sorted", ("classes.txt",))
    warnings: list[str] = []

    def pair(files: Sequence[Path]) -> list[Pair]:
        found = FoundImages(root)
        pairs = []
        for file in files:
            stem = Path(file.stem).stem if file.stem.lower().endswith((".tif", ".tiff", ".png", ".jpg")) else file.stem
            if (image := found.find(stem)) is not None:
                features, left_out = read[file]
                shapes = [shape_of(name, outline, classes) for name, outline in features]
                drawing = Drawing(shapes, None, classes.background, SMALL_ON_TOP, left_out=left_out)
                pairs.append(Pair(found.add_path(file, image), image, file, drawing=Same(drawing)))
        found.check(files[0], warnings)
        found.warn_of_others(warnings, "have no GeoJSON file of their name")
        return pairs

    split, pairs = pairs_of_split(root, split, by_split, pair, warnings)
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "GeoJSON", (".geojson", ".json"))
    return files_by_split(root, files, by_name=False)


def _read(file: Path) -> Features:
    content = read_json(file, "GeoJSON")
    if isinstance(content, dict) and content.get("crs") is not None:
        raise DataError(f"{file}: its coordinates are those of a map ('crs'), expected pixels of the image: rasterise them with GDAL first")
    features: list[tuple[str, Polygons]] = []
    left_out = Counter[str]()
    number = 0
    try:
        if isinstance(content, dict):
            content = content.get("features", [content])
        for number, feature in enumerate(items_of(content, "features"), 1):  # noqa: B007 - for the error
            name, geometry = _class_of(feature.get("properties")), feature.get("geometry")
            if not isinstance(geometry, dict):
                raise ValueError(f"its geometry is {literal(geometry, 40)}, expected an object")
            kind, coordinates = geometry.get("type"), geometry.get("coordinates")
            if kind not in ("Polygon", "MultiPolygon"):
                left_out[f"features of the type {literal(kind, 40)}, which have no area, were left out"] += 1
            elif not name:
                left_out["features without a class were left out"] += 1
            else:
                polygons = [coordinates] if kind == "Polygon" else coordinates
                if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
                    raise ValueError(f"its coordinates are {literal(coordinates, 40)}, expected rings of points")
                features.append((name, Polygons([[flat_points(ring) for ring in rings] for rings in polygons])))
    except ValueError as error:
        raise DataError(f"{file}: {f'feature {number}: ' if number else ''}{error}") from None
    return features, left_out


def _class_of(properties: Any) -> str:
    if not isinstance(properties, dict):
        return ""
    found = properties.get("classification")
    name = found.get("name") if isinstance(found, dict) else found
    names = [name, *(properties.get(key) for key in _CLASS_KEYS)]
    return next((name.strip() for name in names if isinstance(name, str) and name.strip()), "")


READER = Reader(
    "GeoJSON",
    "GeoJSON in pixels (QuPath)",
    recognise=lambda path: is_of_format(path, "GeoJSON", _files),
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split: open_geojson(Path(path), split),
)
