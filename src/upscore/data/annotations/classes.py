"""The classes of annotation files, and which of them pixels without a shape are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upscore.errors import DataError
from upscore.types import IGNORE, LabelSpace

__all__ = ["AnnotatedClasses", "annotated_classes"]

_BACKGROUND = re.compile(r"_*(back[ _-]?ground|bg)_*", re.IGNORECASE)


@dataclass(frozen=True)
class AnnotatedClasses:
    """The classes of a dataset of shapes."""

    labels: LabelSpace
    background: int  #: the class of pixels without a shape, or 255
    numbers: dict[str, int]  #: the class of each name in the annotation file
    added: int  #: 1 where a background was put before the others, else 0
    warnings: tuple[str, ...]  #: where names and order come from, and what the background is


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
    background = next((number for number, name in enumerate(named) if _BACKGROUND.fullmatch(name.strip())), None)
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
