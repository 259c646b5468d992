"""A label map over its image: tinted classes with contours, the background untouched, and a legend below.

::

    ┌──────────────────────┐
    │        image         │   background: the image, pixel for pixel
    │      ╭──────╮        │   other classes: tinted, with a contour in the full colour on their own side of each border
    │      │ car  │        │
    │      ╰──────╯        │
    ├──────────────────────┤
    │ ■ car  ■ tree        │   the classes that are present; covers no pixel of the image
    └──────────────────────┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from upscore.text import visible

if TYPE_CHECKING:
    from upscore.types import LabelSpace

__all__ = ["draw_boxes", "draw_overlay", "is_background"]

BACKGROUND_NAMES = frozenset(
    (
        "background", "bg", "void", "other", "others", "unlabelled", "unlabeled", "unknown", "none", "nothing", "rest", "ignore",
        "ignored", "clutter", "배경",
    )
)  # fmt: skip
"""Names, in lower case and without underscores around them, of a class that means "everything else"."""

OPACITY, LIGHT_OPACITY = 0.5, 0.35
"""Of the tint where there is a background to leave untouched, and where every pixel is tinted."""

STRIP = 1024  # rows that are drawn at a time: memory beyond the image and the result is that of a few strips
MAX_NAME = 40  # characters of a name in the legend
PAPER, INK = (250, 250, 250), (20, 20, 20)

FONTS = ("NotoSansCJK-Regular.ttc", "NanumGothic.ttf", "malgun.ttf", "AppleSDGothicNeo.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf")
"""Fonts of a system, by name, for class names that Pillow's own, which is ASCII, has no letters for."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def is_background(name: str) -> bool:
    """Return whether a class's name means "everything else", so that an overlay leaves it untouched.

    >>> is_background("_background_"), is_background("Void"), is_background("road")
    (True, True, False)
    """
    return name.casefold().strip("_- ") in BACKGROUND_NAMES


def draw_overlay(
    image: npt.NDArray[np.uint8],
    label_map: npt.NDArray[np.uint8],
    labels: LabelSpace,
    *,
    opacity: float | None = None,
    legend: bool = False,
) -> npt.NDArray[np.uint8]:
    """Return the image with its classes tinted and outlined.

    Pixels of a class whose name means background (:func:`is_background`), and ignored ones, are those of the image.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    label_map : (H, W) uint8
        Classes, or 255.
    labels : LabelSpace
        Names and colours.
    opacity : float in [0, 1], optional
        Of the tint. 0.5 when not given, or 0.35 where no class is a background.
    legend : bool
        Add a strip below the image with the name and colour of each class that is present.

    Returns
    -------
    (H, W, 3) uint8
        With a legend it is higher, and wider where the image is too narrow for a name; the image is in its upper left corner.
    """
    background = [is_background(name) for name in labels.names]
    if opacity is None:
        opacity = OPACITY if any(background) else LIGHT_OPACITY
    tinted = np.zeros(256, np.uint8)
    tinted[: len(labels)] = ~np.array(background)
    height, width = label_map.shape
    strip = _draw_legend(label_map, labels, background) if legend else np.empty((0, width, 3), np.uint8)
    result = np.full((height + len(strip), max(width, strip.shape[1]), 3), PAPER, np.uint8)
    result[height:, : strip.shape[1]] = strip
    line = max(1, round(math.sqrt(height * width) / 300))  # of a contour, in pixels
    for top in range(0, height, STRIP):
        bottom = min(height, top + STRIP)
        first, last = max(0, top - line), min(height, bottom + line)  # contours depend on the rows around the strip
        drawn = _draw_rows(image[first:last], label_map[first:last], labels.colours(), tinted, opacity, line)
        result[top:bottom, :width] = drawn[top - first : bottom - first]
    return result


def draw_boxes(
    image: npt.NDArray[np.uint8],
    boxes: Sequence[tuple[int, int, int, int]],
    texts: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> None:
    """Draw boxes into an image, each in its colour with a dark rim, and its text in the upper left corner; the first one on top.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB, which is changed.
    boxes : sequence of (int, int, int, int)
        Left, top, right and bottom in pixels; right and bottom are exclusive.
    texts : sequence of str
        Of any origin. A text is left out where the box is lower than its letters.
    colours : sequence of (int, int, int)
        RGB.
    """
    line = max(1, round(math.sqrt(image.shape[0] * image.shape[1]) / 400))
    height = int(min(200, max(11, math.sqrt(image.shape[0] * image.shape[1]) / 40)))
    for (left, top, right, bottom), text, colour in reversed(list(zip(boxes, texts, colours, strict=True))):
        for width, ink in ((line + 2, INK), (line, colour)):
            cv2.rectangle(image, (left, top), (right - 1, bottom - 1), ink, width)
        letters, font = _text_of(text, "?", height)
        if bottom - top >= height:
            _draw_text(image, letters, font, (left, top), colour)


def _draw_text(image: npt.NDArray[np.uint8], text: str, font: Font, position: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a text on a patch of its colour, moved into the image."""
    left, top, right, bottom = (math.ceil(side) for side in font.getbbox(text))
    patch = Image.new("RGB", (right - left + 4, bottom - top + 4), colour)
    bright = sum(weight * band for weight, band in zip((299, 587, 114), colour, strict=True)) > 128_000
    ImageDraw.Draw(patch).text((2 - left, 2 - top), text, fill=INK if bright else PAPER, font=font)
    y, x = max(0, min(position[1], image.shape[0] - patch.height)), max(0, min(position[0], image.shape[1] - patch.width))
    room = image[y : y + patch.height, x : x + patch.width]
    room[:] = np.asarray(patch)[: room.shape[0], : room.shape[1]]


def _draw_rows(
    image: npt.NDArray[np.uint8],
    label_map: npt.NDArray[np.uint8],
    colours: npt.NDArray[np.uint8],
    tinted: npt.NDArray[np.uint8],
    opacity: float,
    line: int,
) -> npt.NDArray[np.uint8]:
    """Return the overlay of these rows; ``tinted`` (256,) is 1 for the classes that are tinted."""
    mask = cv2.LUT(label_map, tinted)
    painted = cv2.LUT(cv2.merge([label_map] * 3), colours[:, None, :])
    mixed = cv2.addWeighted(image, 1 - opacity, painted, opacity, 0)
    # A contour lies on its class's side of a border, in black or white first, so that it shows on an image of the class's own colour.
    cv2.copyTo(painted, _near_border(label_map, line), mixed)
    if line > 1:
        bright = colours.astype(int) @ (299, 587, 114) > 128_000
        contrast = np.where(bright, 0, 255).astype(np.uint8)
        cv2.copyTo(cv2.merge([cv2.LUT(label_map, contrast)] * 3), _near_border(label_map, line // 2), mixed)
    result = image.copy()
    cv2.copyTo(mixed, mask, result)
    return result


def _near_border(label_map: npt.NDArray[np.uint8], distance: int) -> npt.NDArray[np.uint8]:
    """Return 1 for pixels within ``distance`` of another label, along rows, columns or both."""
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    differs: npt.NDArray[np.bool_] = cv2.dilate(label_map, window) != cv2.erode(label_map, window)
    return differs.astype(np.uint8)


def _draw_legend(label_map: npt.NDArray[np.uint8], labels: LabelSpace, background: Sequence[bool]) -> npt.NDArray[np.uint8]:
    """Return the strip with the classes that are present, as wide as the label map or as its longest name requires."""
    counts = cv2.calcHist([label_map], [0], None, [256], [0, 256]).ravel()  # np.bincount would convert every pixel to eight bytes
    present = np.flatnonzero(counts[: len(labels)])
    height = int(min(200, max(12, math.sqrt(label_map.size) / 40)))  # of the letters and their squares, in pixels
    space = height // 2
    texts = [_text_of(labels.names[k], f"class {k}", height) for k in present.tolist()]
    widths = [math.ceil(font.getlength(text)) + height + 3 * space for text, font in texts]  # square, space, text, space twice
    width = max([label_map.shape[1], *(needed + space for needed in widths)])
    positions: list[tuple[int, int]] = []
    left, top = space, space
    for needed in widths:
        if left + needed > width and left > space:
            left, top = space, top + 2 * height
        positions.append((left, top))
        left += needed
    strip = Image.new("RGB", (width, top + height + 2 * space), PAPER)
    draw = ImageDraw.Draw(strip)
    for k, (text, font), (left, top) in zip(present.tolist(), texts, positions, strict=True):
        fill = PAPER if background[k] else labels.palette[k]
        draw.rectangle((left, top, left + height - 1, top + height - 1), fill=fill, outline=INK, width=max(1, height // 14))
        draw.text((left + height + space, top + height // 2), text, fill=INK, font=font, anchor="lm")
    return np.array(strip, dtype=np.uint8)


def _text_of(name: str, instead: str, height: int) -> tuple[str, Font]:
    """Return a class's name and a font that has its letters; ``instead`` where no font has."""
    name = visible(name)
    name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."
    own = ImageFont.load_default(height)
    if name.isascii():
        return name, own
    for path in FONTS:
        try:
            font = ImageFont.truetype(path, height)
        except OSError:  # this system has another
            continue
        missing = bytes(font.getmask("\uffff"))
        if all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in name):
            return name, font
    return instead, own
