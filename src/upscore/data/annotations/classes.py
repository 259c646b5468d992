"""The classes of annotation files, and which of them pixels without a shape are."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from upscore.data.annotations.drawing import Shape
from upscore.data.annotations.outlines import Outline
from upscore.data.class_names import find_class_names
from upscore.errors import DataError
from upscore.types import IGNORE, LabelSpace

__all__ = ["IGNORED_NAME", "AnnotatedClasses", "annotated_classes", "background_class", "listed_classes", "shape_of"]

IGNORED_NAME = "__ignore__"
"""The label of shapes whose pixels are ignored, as labelme names it."""

_BACKGROUND = re.compile(r"_*(back[ _-]?ground|bg)_*", re.IGNORECASE)


@dataclass(frozen=True)
class AnnotatedClasses:
    """The classes of a dataset of shapes."""

    labels: LabelSpace
    background: int  #: the class of pixels without a shape, or 255
    numbers: dict[str, int]  #: the class of each name in the annotation file
    added: int  #: 1 where a background was put before the others, else 0
    warnings: tuple[str, ...]  #: where names and order come from, and what the background is


def background_class(names: Sequence[str]) -> int | None:
    """Return the class that pixels without a shape are, by its name; None where no name is such.

    >>> background_class(["road", "_background_"]), background_class(["road"])
    (1, None)
    """
    return next((number for number, name in enumerate(names) if _BACKGROUND.fullmatch(name.strip())), None)


def annotated_classes(
    file: Path,
    names: Sequence[str],
    source: str,
    *,
    palette: Sequence[tuple[int, int, int]] = (),
    ignored: Sequence[str] = (),
    rest_ignored: bool | None = None,
) -> AnnotatedClasses:
    """Return the classes of shapes with these names, with a background before them where none of them is one.

    Parameters
    ----------
    file : path
        The annotation file or folder, for errors.
    names : sequence of str
        In their order; DataError where one is empty, repeated or too long, or there are more than 254.
    source : str
        Where names and order come from, as in "the order of its categories".
    palette : sequence of (int, int, int)
        A colour for each name, or none.
    ignored : sequence of str
        Names of shapes that are ignored, which are no classes.
    rest_ignored : bool
        Whether pixels without a shape are ignored, so that no background is needed; None as False.
    """
    named = [name for name in names if name not in ignored]
    colours = [colour for name, colour in zip(names, palette, strict=True) if name not in ignored] if palette else []
    background = background_class(named)
    warnings, count = [], len(named)
    if not named:
        raise DataError(f"{file}: holds no class of shapes, expected at least one")
    if rest_ignored:
        background = IGNORE
        warnings.append("pixels that no shape covers are ignored")
    elif background is None:
        named, background = ["background", *named], 0
        colours = [(0, 0, 0), *colours] if colours else []
        warnings.append("pixels that no shape covers are the class 'background', which was put before the others")
    else:
        warnings.append(f"pixels that no shape covers are the class '{named[background]}'")
    try:
        labels = LabelSpace(tuple(named), tuple(colours))
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    warnings.insert(0, f"the names of the {len(labels)} classes come from {source}")
    return AnnotatedClasses(labels, background, {name: number for number, name in enumerate(named)}, len(named) - count, tuple(warnings))


def listed_classes(
    root: Path, names: Sequence[str], source: str, files: Sequence[str], *, rest_ignored: bool | None = None
) -> AnnotatedClasses:
    """Return the classes of shapes in the order of the first of ``files`` that the dataset's folder holds, or else as they are given.

    Shapes called :data:`IGNORED_NAME` are of no class; ``rest_ignored`` as for :func:`annotated_classes`. A DataError is raised where a
    name is not in the file.
    """
    named = find_class_names(root if root.is_dir() else root.parent, files)
    if named is None:
        return annotated_classes(root, names, source, ignored=(IGNORED_NAME,), rest_ignored=rest_ignored)
    classes = annotated_classes(root, named.labels.names, named.file.name, rest_ignored=rest_ignored)
    unknown = [name for name in names if name not in classes.numbers and name != IGNORED_NAME]
    if unknown:
        raise DataError(f"{root}: the shapes have the label '{unknown[0]}', which is not in {named.file.name}: add a line for it")
    return classes


def shape_of(name: str, outline: Outline, classes: AnnotatedClasses, group: Hashable = None) -> Shape:
    """Return a shape of one of the classes, or an ignored one; ``group`` as in :class:`Shape`."""
    if name in classes.numbers:
        return Shape(classes.numbers[name], outline, group=group)
    return Shape(IGNORE, outline, f"of shapes called '{name}'")
