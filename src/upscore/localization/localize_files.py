"""Images in, boxes of their best classes and overlays of the heat maps out.

::

    out/localization.json         classes, scores and boxes of every image, and the localisation error where the truth is known
    out/street/0001.overlay.jpg   the heat map of the best class over the image, and the boxes
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.image_files import read_image_with_metadata
from upscore.errors import DataError, OutputError
from upscore.files import write_atomically
from upscore.inference.file_discovery import DiscoveredImages
from upscore.inference.sinks import MAX_JPEG_SIDE
from upscore.localization.localizer import Localization, LocalizedClass, Localizer
from upscore.localization.truth import TrueBoxes
from upscore.metrics.localization import LocatedClass, localization_error
from upscore.overlay import draw_boxes

__all__ = ["LocalizedImage", "draw_localization", "localize_files"]

SUMMARY = "localization.json"
"""What was found in all images of a folder of results."""

COLOURS = ((240, 98, 86), (78, 160, 230), (104, 196, 122), (250, 190, 72), (186, 116, 220))
"""Of the boxes, best first; the fifth is that of all further ones."""


@dataclass(frozen=True)
class LocalizedImage:
    """What was found in one image."""

    file: str  #: its path
    classes: tuple[LocalizedClass, ...] = ()  #: best first
    overlay: str | None = None  #: relative to the output folder
    error: str | None = None  #: why nothing was found
    warnings: tuple[str, ...] = ()  #: what a user should know of how it was read


def localize_files(
    localizer: Localizer,
    found: DiscoveredImages,
    out: Path,
    *,
    truth: TrueBoxes | None = None,
    overlay: bool = True,
    show: Callable[[LocalizedImage], None] = lambda image: None,
) -> dict[str, Any]:
    """Localise the best classes of images, and return what ``localization.json`` holds; ``show`` gets what was found in each, in order.

    The summary is written when all images are done, or the work is interrupted. An image that cannot be read is reported in its
    ``error``, and counts as wrong where the truth is known.

    Raises
    ------
    DataError
        The truth holds no box of an image: it is raised before the first one.
    OutputError
        The folder cannot be written to, or an overlay would replace an image.
    """
    true = [] if truth is None else [truth.of(image.path) for image in found.images]
    inputs = {os.path.realpath(image.path) for image in found.images}
    done: list[LocalizedImage] = []
    summary: dict[str, Any] = {}
    try:
        for image in found.images:
            path = out / f"{image.name}.overlay.jpg"
            if overlay and os.path.realpath(path) in inputs:
                raise OutputError(f"{path}: the overlay of '{image.path}' would replace an image: choose another output folder")
            done.append(_localize(localizer, image.path, path if overlay else None, out))
            show(done[-1])
    finally:
        summary = {"images": [asdict(each) for each in done]}
        if true and done:
            located: list[list[LocatedClass]] = [[(each.label_class, each.box) for each in row.classes] for row in done]
            summary |= _errors(located, true[: len(done)])
        content = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        write_atomically(out / SUMMARY, content.encode("utf-8", "backslashreplace"))
    return summary


def _errors(located: list[list[LocatedClass]], true: list[list[LocatedClass]]) -> dict[str, Any]:
    """Return the localisation errors, and the classification errors beside them: those where any box is right."""
    return {
        f"{kind}_error": {f"top{top}": localization_error(located, true, top=top, min_iou=min_iou) for top in (1, 5)}
        for kind, min_iou in (("localization", 0.5), ("classification", 0.0))
    }


def _localize(localizer: Localizer, path: Path, overlay: Path | None, out: Path) -> LocalizedImage:
    try:
        decoded = read_image_with_metadata(path)
        pixels = np.asarray(decoded.pixels, np.uint8)
        found = localizer.localize(pixels)
    except DataError as error:
        return LocalizedImage(str(path), error=str(error))
    warnings = list(decoded.warnings)
    if overlay is not None and max(pixels.shape) > MAX_JPEG_SIDE:
        overlay = None
        warnings.append(f"no overlay: a JPEG has at most {MAX_JPEG_SIDE} pixels a side")
    if overlay is not None:
        drawn = cv2.cvtColor(draw_localization(pixels, found), cv2.COLOR_RGB2BGR)
        write_atomically(overlay, cv2.imencode(".jpg", drawn)[1].tobytes())
    relative = None if overlay is None else overlay.relative_to(out).as_posix()
    return LocalizedImage(str(path), found.classes, relative, warnings=tuple(warnings))


def draw_localization(image: npt.NDArray[np.uint8], found: Localization) -> npt.NDArray[np.uint8]:
    """Return the image (H, W, 3) uint8 RGB under the heat map of its best class, dark where it is 0 and less, with all boxes."""
    heat = found.heat_maps[0]
    relative = np.clip(heat / max(float(heat.max()), 1e-9), 0, 1)
    coloured = cv2.cvtColor(cv2.applyColorMap((255 * relative).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    drawn = np.asarray(cv2.addWeighted(image, 0.5, coloured, 0.5, 0), np.uint8)
    draw_boxes(
        drawn,
        [each.box for each in found.classes],
        [f"{each.name[:30]} {each.score:.2f}" for each in found.classes],
        [COLOURS[min(number, len(COLOURS) - 1)] for number in range(len(found.classes))],
    )
    return drawn
