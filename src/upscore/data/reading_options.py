"""What a user may decide where a layout leaves it open: how images are divided, what pixels without a shape are, whose shapes count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upscore.data.annotations.several_annotations import ANNOTATION_CHOICES
from upscore.data.split_by import SplitBy
from upscore.errors import DataError

__all__ = ["CHOICES", "DEFAULT_OPTIONS", "DIVIDED", "DRAWN", "DRAWN_BY_TOOL", "ReadingOptions", "decided", "reading_options"]

CHOICES = {
    "crowd": ("ignore", "class"),
    "unlabelled": ("format", "background", "ignore"),
    "drawing": ("centres", "tool"),
    "annotation": ANNOTATION_CHOICES,
}
"""What each option but ``split_by`` may be, where WHO is any text; the first is meant where it is not given."""

DIVIDED = ("split_by",)
"""Options of readers that divide images into train and val."""

DRAWN = (*DIVIDED, "unlabelled")
"""Options of readers that draw shapes, too."""

DRAWN_BY_TOOL = (*DRAWN, "drawing")
"""Options of readers that can draw them as their tool does."""


@dataclass(frozen=True)
class ReadingOptions:
    """Decisions of a user."""

    split_by: SplitBy | None = None
    crowd: str = "ignore"  #: what regions of several objects, which COCO calls crowds, are: "ignore", or the "class" of the objects
    unlabelled: str = "format"  #: what pixels are that no shape covers: "background", "ignore", or what the format makes of them
    drawing: str = "centres"  #: a pixel belongs to a shape if its centre does; "tool": as the format's own tool draws it

    annotation: str = "first"  #: which annotation of an image counts where it has several: one of ``ANNOTATION_CHOICES``

    @property
    def rest_ignored(self) -> bool | None:
        """Whether pixels that no shape covers are ignored; None where the reader decides."""
        return None if self.unlabelled == "format" else self.unlabelled == "ignore"

    @property
    def by_tool(self) -> bool:
        """Whether shapes are drawn as the format's own tool draws them."""
        return self.drawing == "tool"


DEFAULT_OPTIONS = ReadingOptions()
"""Nothing is decided by the user."""


def reading_options(**given: Any) -> ReadingOptions:
    """Return checked options; DataError for a value that is none of :data:`CHOICES`."""
    for name, choices in CHOICES.items():
        if name in given and not _is_one_of(given[name], choices):
            raise DataError(f"found {name} '{str(given[name])[:80]}', expected {' or '.join(choices)}")
    return ReadingOptions(**given)


def _is_one_of(value: Any, choices: tuple[str, ...]) -> bool:
    kind, _, text = str(value).partition(":")
    return value in choices or (bool(text.strip()) and f"{kind}:WHO" in choices)


def decided(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a recipe's settings that are options of reading, and decide something.

    >>> decided({"path": "street", "split_by": "folder", "crowd": "ignore"})
    {'split_by': 'folder'}
    """
    unset = {"split_by": "", **{name: choices[0] for name, choices in CHOICES.items()}}
    return {name: settings[name] for name, value in unset.items() if settings.get(name) not in (None, value)}
