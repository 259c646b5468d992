"""Where a prediction is wrong, and how: missed, invented and confused pixels in colours that colour-blind readers tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.finding import has_background
from upscore.html.drawing import pale
from upscore.types import IGNORE, LabelSpace

__all__ = ["CONFUSED", "IGNORED", "INVENTED", "MISSED", "ErrorKind", "draw_errors", "find_class_errors", "find_errors", "legend_of_errors"]

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error, or of pixels that are not evaluated."""

    number: int  #: in a map of errors; 0 is correct
    colour: tuple[int, int, int]


# In simulations of deuteranopia, protanopia and tritanopia these colours stay apart from one another and from both backgrounds (a test).
MISSED = ErrorKind(1, (204, 50, 30))
INVENTED = ErrorKind(2, (20, 110, 220))
CONFUSED = ErrorKind(3, (245, 190, 0))
IGNORED = ErrorKind(4, (150, 150, 150))
_KINDS = (MISSED, INVENTED, CONFUSED, IGNORED)


def find_errors(truth: LabelMap, predicted: LabelMap, labels: LabelSpace) -> npt.NDArray[np.uint8]:
    """Return a map (H, W) of the numbers of error kinds, 0 where the prediction is correct.

    Where the first class is a background: pixels of an object that are predicted as background are missed, pixels of the background
    predicted as an object are invented, and pixels of one object predicted as another are confused. Without a background every error
    is confused. Pixels whose truth is 255 are ignored.

    >>> labels = LabelSpace(("background", "cat", "dog"))
    >>> find_errors(np.array([[1, 0, 1, 1, 255]], np.uint8), np.array([[0, 2, 2, 1, 1]], np.uint8), labels).tolist()
    [[1, 2, 3, 0, 4]]
    """
    errors = np.where(truth != predicted, CONFUSED.number, 0).astype(np.uint8)
    if has_background(labels.names):
        errors[(truth != 0) & (predicted == 0)] = MISSED.number
        errors[(truth == 0) & (predicted != 0)] = INVENTED.number
    errors[truth == IGNORE] = IGNORED.number
    return errors


def find_class_errors(truth: LabelMap, predicted: LabelMap, label: int) -> npt.NDArray[np.uint8]:
    """Return a map (H, W) as :func:`find_errors` does, for one class: its pixels that are predicted as another are missed, and others
    predicted as it are invented.

    >>> find_class_errors(np.array([[1, 0, 2, 1]], np.uint8), np.array([[0, 1, 0, 1]], np.uint8), 1).tolist()
    [[1, 2, 0, 0]]
    """
    errors = np.zeros(truth.shape, np.uint8)
    errors[(truth == label) & (predicted != label)] = MISSED.number
    errors[(truth != label) & (predicted == label)] = INVENTED.number
    errors[truth == IGNORE] = IGNORED.number
    return errors


def legend_of_errors(labels: LabelSpace) -> list[tuple[tuple[int, int, int], str]]:
    """Return the colours of :func:`find_errors` with their meaning."""
    if not has_background(labels.names):
        return [(CONFUSED.colour, "wrong class"), (IGNORED.colour, "not evaluated")]
    background, confused = labels.names[0], [(CONFUSED.colour, "confused: one class predicted as another")] if len(labels) > 2 else []
    return [
        (MISSED.colour, f"missed: predicted as {background}"),
        (INVENTED.colour, f"invented: {background} predicted as a class"),
        *confused,
        (IGNORED.colour, "not evaluated"),
    ]


def draw_errors(errors: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Return a map of errors in colours: (H, W, 3) over a pale ``image`` (H, W, 3), or (H, W, 4) with correct pixels transparent."""
    drawn = np.zeros((*errors.shape, 4), np.uint8) if image is None else pale(image)
    for kind in _KINDS:
        drawn[errors == kind.number] = kind.colour if image is not None else (*kind.colour, 255)
    return drawn
