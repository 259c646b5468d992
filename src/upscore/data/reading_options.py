"""What a user may decide where a layout leaves it open: how images are divided, and what pixels become that no class is drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from upscore.data.split_by import SplitBy
from upscore.errors import DataError

__all__ = ["CHOICES", "DEFAULT_OPTIONS", "DIVIDED", "DRAWN", "DRAWN_BY_TOOL", "NAMES", "ReadingOptions", "reading_options"]

CHOICES = {"crowd": ("ignore", "class"), "unlabelled": ("background", "ignore"), "drawing": ("centres", "tool")}
"""What each option but ``split_by`` may be."""

NAMES = ("split_by", *CHOICES)
"""All options."""

DIVIDED = ("split_by",)
"""Options of readers that divide images into train and val."""

DRAWN = (*DIVIDED, "unlabelled")
"""Options of readers that draw shapes, too."""

DRAWN_BY_TOOL = (*DRAWN, "drawing")
"""Options of readers that can draw them as their tool does."""


@dataclass(frozen=True)
class ReadingOptions:
    """Decisions of a user; what is None is the reader's."""

    split_by: SplitBy | None = None
    crowd: str = "ignore"  #: what regions of several objects, which COCO calls crowds, are: "ignore", or the "class" of the objects
    unlabelled: str | None = None  #: pixels that no shape covers: "background", or "ignore"
    drawing: str = "centres"  #: a pixel belongs to a shape if its centre does; "tool": as the format's own tool draws it

    @property
    def rest_ignored(self) -> bool | None:
        """Whether pixels that no shape covers are ignored; None where the reader decides."""
        return None if self.unlabelled is None else self.unlabelled == "ignore"

    @property
    def by_tool(self) -> bool:
        """Whether shapes are drawn as the format's own tool draws them."""
        return self.drawing == "tool"


DEFAULT_OPTIONS = ReadingOptions()
"""Nothing is decided by the user."""


def reading_options(**given: Any) -> ReadingOptions:
    """Return checked options; DataError for a value that is none of :data:`CHOICES`."""
    for name, choices in CHOICES.items():
        if name in given and given[name] not in choices:
            raise DataError(f"found {name} '{str(given[name])[:80]}', expected {' or '.join(choices)}")
    return ReadingOptions(**given)
