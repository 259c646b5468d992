"""Where the borders in an image are, and which way they face: what EdgeBoxes counts contours on.

EdgeBoxes' authors learned their edges from annotated images, and their model may not be
shipped. Here an edge is where the colour changes (Di Zenzo's structure tensor over CIE Lab), at
two scales at once: texture is strong at the finer alone, blur at the coarser alone, an
object's border at both, so that the geometric mean of the two is kept.

Di Zenzo, "A note on the gradient of a multi-image", CVGIP 1986; Dollár and Zitnick, "Fast Edge
Detection Using Structured Forests", PAMI 2015, for those that are learned.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.text import reason

__all__ = ["Edges", "LearnedEdges", "check_image", "edges_of"]

_SIGMAS = (2.0, 4.0)
"""Of the two blurs, in pixels."""

_HALF = 40.0
"""Change of colour over a border, in units of Lab (white is 100), that counts as half an edge."""


_OPTIONS = (
    "stride", "shrinkNumber", "patchSize", "patchInnerSize", "numberOfGradientOrientations", "gradientSmoothingRadius",
    "regFeatureSmoothingRadius", "ssFeatureSmoothingRadius", "gradientNormalizationRadius", "selfsimilarityGridSize",
    "numberOfTrees", "numberOfTreesToEvaluate",
)  # fmt: skip
"""What a learned model says of itself."""


class Edges(NamedTuple):
    """The borders of one image.

    Attributes
    ----------
    strength : (H, W) float32 in [0, 1]
        How much of a border; 0 beside the ridge of one, so that lines are one or two pixels wide.
    normal : (H, W) float32 in [0, π)
        The direction across it, from the x axis towards the y axis, which points down.
    """

    strength: npt.NDArray[np.float32]
    normal: npt.NDArray[np.float32]


def check_image(image: npt.NDArray[np.uint8]) -> None:
    """Refuse what is no image (H, W, 3) uint8 RGB.

    Raises
    ------
    DataError
        Always, then.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"found {type(image).__name__}, expected an image (H, W, 3) uint8 RGB in a NumPy array")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected an image (H, W, 3) uint8 RGB")


def edges_of(image: npt.NDArray[np.uint8]) -> Edges:
    """Return the borders of an image, (H, W, 3) uint8 RGB of any size.

    Raises
    ------
    DataError
        The array is no such image.
    """
    check_image(image)
    lab = cv2.cvtColor(np.divide(image, 255, dtype=np.float32), cv2.COLOR_RGB2Lab)
    sides = cv2.BORDER_REFLECT
    strength, double = np.ones(image.shape[:2], np.float32), np.zeros(image.shape[:2], np.complex64)
    for sigma in _SIGMAS:
        blurred = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=sides)
        right, down = (cv2.Scharr(blurred, cv2.CV_32F, *axis, scale=1 / 32, borderType=sides) for axis in ((1, 0), (0, 1)))
        xx, xy, yy = (
            cv2.GaussianBlur((a * b).sum(2), (0, 0), sigma / 2, borderType=sides) for a, b in ((right, right), (right, down), (down, down))
        )
        # The tensor's greater eigenvalue is the squared slope across the border; its eigenvector has half this complex number's angle.
        turned = ((xx - yy) / 2 + 1j * xy) * sigma**2
        slope = np.sqrt(np.maximum((xx + yy) / 2 * sigma**2 + np.abs(turned), 0))
        strength, double = strength * slope, double + turned
    strength = strength ** np.float32(1 / len(_SIGMAS))
    normal = np.asarray(np.angle(double) / 2 % np.pi, np.float32)
    return Edges(_ridges(strength / (strength + _HALF), normal), normal)


class LearnedEdges:
    """A structured forest of the user's own, in OpenCV's format (``model.yml`` or ``model.yml.gz``).

    Give one that you trust: that its parts are there is checked, but OpenCV follows the numbers in
    them wherever they lead.

    Parameters
    ----------
    model : path

    Raises
    ------
    DataError
        There is no such file, or it is no such model.
    """

    def __init__(self, model: str | Path) -> None:
        if not os.path.isfile(model):
            raise DataError(f"{model}: no such file, expected a structured-edge model of OpenCV's (model.yml.gz)")
        try:
            lacking = _lacking(model)
            if not lacking:
                self._forest = cv2.ximgproc.createStructuredEdgeDetection(str(model))
        except (cv2.error, SystemError) as error:
            lacking = reason(error.__cause__ or error)
        if lacking:
            raise DataError(f"{model}: not a structured-edge model of OpenCV's: {lacking}")

    def __call__(self, image: npt.NDArray[np.uint8]) -> Edges:
        """Return the borders of an image, as :func:`edges_of` does."""
        check_image(image)
        strength = self._forest.detectEdges(np.divide(image, 255, dtype=np.float32))
        normal = self._forest.computeOrientation(strength)
        return Edges(self._forest.edgesNms(strength, normal, r=2, s=0, m=1.0), normal)


def _ridges(strength: npt.NDArray[np.float32], normal: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return ``strength`` where no pixel across the border is stronger, and 0 elsewhere."""
    height, width = strength.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    right, down = np.cos(normal), np.sin(normal)
    ahead, behind = (
        cv2.remap(strength, x + way * right, y + way * down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for way in (1, -1)
    )
    return np.where((strength >= ahead) & (strength >= behind), strength, np.float32(0))


def _lacking(model: str | Path) -> str:
    """Say what a model lacks; OpenCV takes one without its parts, and then reads beyond its arrays."""
    storage = cv2.FileStorage(str(model), cv2.FILE_STORAGE_READ)
    try:
        options = storage.getNode("options")
        for name in _OPTIONS:
            value = options.getNode(name) if options.isMap() else None
            if value is None or not value.isInt() or not 0 <= value.real() <= 4096:
                return f"its option {name} is missing or no whole number from 0 to 4096"
        trees = int(options.getNode("numberOfTrees").real())
        nodes = {name: storage.getNode(name) for name in ("childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")}
        for name, node in nodes.items():
            if not node.isSeq() or node.size() != trees or trees == 0:
                return f"it holds no {name} of its {trees} trees"
    finally:
        storage.release()
    return ""
