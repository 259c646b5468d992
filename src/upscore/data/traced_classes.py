"""Which classes of a dataset become shapes, and how they are called where they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.annotations.classes import IGNORED_NAME, background_class
from upscore.errors import DataError
from upscore.objects.shapes import TracedShape, trace_shapes
from upscore.text import literal
from upscore.types import IGNORE, LabelSpace

__all__ = ["TracedClasses", "check_names"]


@dataclass(frozen=True)
class TracedClasses:
    """The classes of a format of shapes.

    The class that pixels without a shape are is not traced; it is the one called background (or bg, _background_ …). Where there is none
    every class is. Readers put a class ``background`` before the others, so one of this name in this position is not listed.
    """

    labels: LabelSpace
    tolerance: float = 0.0  #: of the outlines, in pixels
    ignored: bool = True  #: whether ignored pixels are traced, as shapes of the label ``__ignore__``

    @property
    def background(self) -> int | None:
        """The class that is not traced."""
        return background_class(self.labels.names)

    @property
    def listed(self) -> tuple[int, ...]:
        """The classes that the format lists, in their order."""
        classes = tuple(range(len(self.labels)))
        return classes[1:] if self.labels.names[0] == "background" and len(classes) > 1 else classes

    @property
    def traced(self) -> tuple[int, ...]:
        """The labels that become shapes, 255 among them where ignored pixels do."""
        classes = tuple(number for number in range(len(self.labels)) if number != self.background)
        return (*classes, IGNORE) if self.ignored else classes

    def name_of(self, label: int) -> str:
        """Return the name of a class, or that of ignored pixels."""
        return IGNORED_NAME if label == IGNORE else self.labels.names[label]

    def named_colours(self, *, ignored: bool) -> list[tuple[str, str]]:
        """Return the name and the colour, as #rrggbb, of each class that the format lists, and with ``ignored`` those of ignored pixels."""
        colours = self.labels.colours().tolist()
        listed = (*self.listed, IGNORE) if ignored else self.listed
        return [(self.name_of(label), "#{:02x}{:02x}{:02x}".format(*colours[label])) for label in listed]

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes of a label map, as :func:`upscore.objects.shapes.trace_shapes`."""
        return trace_shapes(label_map, self.traced, instances=instances, tolerance=self.tolerance)

    def count_ignored(self, label_map: npt.NDArray[np.uint8], warnings: Counter[str], become: str) -> None:
        """Count the ignored pixels of an image, for a format in which they ``become`` something else."""
        if ignored := int(cv2.countNonZero((label_map == IGNORE).view(np.uint8))):
            warnings[f"ignored pixels {become}"] += ignored


def check_names(labels: LabelSpace, where: str, *, forbidden: Callable[[str], bool] = lambda name: False, expected: str = "") -> None:
    """Raise a DataError for a class whose name ``where`` cannot hold: one that begins or ends with a space, or that is ``forbidden``.

    >>> check_names(LabelSpace(("road", "a:b")), "labelmap.txt", forbidden=lambda name: ":" in name, expected="without ':'")
    Traceback (most recent call last):
    upscore.errors.DataError: the class name 'a:b' cannot be written to labelmap.txt, expected a name without ':': rename it
    """
    for name in labels.names:
        if name != name.strip() or len(name.splitlines()) != 1 or name == IGNORED_NAME or forbidden(name):
            what = f"a name {expected}" if forbidden(name) else "a name of one line, without spaces around it"
            raise DataError(f"the class name {literal(name, 60)} cannot be written to {where}, expected {what}: rename it")
