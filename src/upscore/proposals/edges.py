"""Edges of an image, with their orientation: the input of EdgeBoxes.

EdgeBoxes' authors learned their edge detector from annotated images, and its licence forbids
shipping it. Here an edge is a change of colour (Di Zenzo's structure tensor over CIE Lab) at two
scales: texture is strong at the finer only, blur at the coarser only, an object's border at both.
The strength is therefore the geometric mean over the scales.

Di Zenzo, "A note on the gradient of a multi-image", CVGIP 1986; Dollár and Zitnick, "Fast Edge
Detection Using Structured Forests", PAMI 2015, for the learned detector.
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

__all__ = ["Edges", "LearnedEdges", "check_image", "detect_edges"]

_SIGMAS = (2.0, 4.0)
"""Standard deviations of the two blurs, in pixels."""

_HALF_STRENGTH = 40.0
"""Colour change across an edge of strength 0.5, in units of Lab (white is 100)."""


_OPTIONS = (
    "stride", "shrinkNumber", "patchSize", "patchInnerSize", "numberOfGradientOrientations", "gradientSmoothingRadius",
    "regFeatureSmoothingRadius", "ssFeatureSmoothingRadius", "gradientNormalizationRadius", "selfsimilarityGridSize",
    "numberOfTrees", "numberOfTreesToEvaluate",
)  # fmt: skip
"""Options that a learned model must contain."""


class Edges(NamedTuple):
    """The edges of one image."""

    strength: npt.NDArray[np.float32]  #: (H, W) in [0, 1]; 0 except on the ridges, so that lines are one or two pixels wide
    normal: npt.NDArray[np.float32]  #: (H, W) in [0, π): the direction across the edge, from the x axis towards the y axis, down


def check_image(image: npt.NDArray[np.uint8]) -> None:
    """Raise a DataError for an array that is not (H, W, 3) uint8 RGB, or is empty."""
    if not isinstance(image, np.ndarray):
        raise DataError(f"found {type(image).__name__}, expected an image (H, W, 3) uint8 RGB in a NumPy array")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected an image (H, W, 3) uint8 RGB")


def detect_edges(image: npt.NDArray[np.uint8]) -> Edges:
    """Return the edges of an image, (H, W, 3) uint8 RGB of any size; DataError where the array is no such image.

    >>> image = np.zeros((40, 40, 3), np.uint8)
    >>> image[:, 20:] = 255
    >>> np.unique(detect_edges(image).strength.nonzero()[1]).tolist()  # columns
    [19, 20]
    """
    check_image(image)
    lab = cv2.cvtColor(np.divide(image, 255, dtype=np.float32), cv2.COLOR_RGB2Lab)
    border = cv2.BORDER_REFLECT
    strength, doubled_angle = np.ones(image.shape[:2], np.float32), np.zeros(image.shape[:2], np.complex64)
    for sigma in _SIGMAS:
        blurred = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=border)
        right, down = (cv2.Scharr(blurred, cv2.CV_32F, *axis, scale=1 / 32, borderType=border) for axis in ((1, 0), (0, 1)))
        xx, xy, yy = (
            cv2.GaussianBlur((a * b).sum(2), (0, 0), sigma / 2, borderType=border) for a, b in ((right, right), (right, down), (down, down))
        )
        # The tensor's larger eigenvalue is the squared gradient across the edge; its eigenvector has half the angle of ``oriented``.
        oriented = ((xx - yy) / 2 + 1j * xy) * sigma**2
        gradient = np.sqrt(np.maximum((xx + yy) / 2 * sigma**2 + np.abs(oriented), 0))
        strength, doubled_angle = strength * gradient, doubled_angle + oriented
    strength = strength ** np.float32(1 / len(_SIGMAS))
    normal = np.asarray(np.angle(doubled_angle) / 2 % np.pi, np.float32)
    return Edges(_ridges(strength / (strength + _HALF_STRENGTH), normal), normal)


class LearnedEdges:
    """A structured forest from a file in OpenCV's format (``model.yml`` or ``model.yml.gz``); DataError where it is no such model.

    Use only files that you trust: that all parts exist is checked, but OpenCV does not check the
    indices in them.
    """

    def __init__(self, model: str | Path) -> None:
        if not os.path.isfile(model):
            raise DataError(f"{model}: no such file, expected a structured-edge model of OpenCV's (model.yml.gz)")
        try:
            missing = _missing_part(model)
            if not missing:
                self._forest = cv2.ximgproc.createStructuredEdgeDetection(str(model))
        except (cv2.error, SystemError) as error:
            missing = reason(error.__cause__ or error)
        if missing:
            raise DataError(f"{model}: not a structured-edge model of OpenCV's: {missing}")

    def __call__(self, image: npt.NDArray[np.uint8]) -> Edges:
        """Return the edges of an image, as :func:`detect_edges` does."""
        check_image(image)
        strength = self._forest.detectEdges(np.divide(image, 255, dtype=np.float32))
        normal = self._forest.computeOrientation(strength)
        return Edges(self._forest.edgesNms(strength, normal, r=2, s=0, m=1.0), normal)


def _ridges(strength: npt.NDArray[np.float32], normal: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return ``strength`` where it is a maximum across the edge, and 0 elsewhere."""
    height, width = strength.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    right, down = np.cos(normal), np.sin(normal)
    ahead, behind = (
        cv2.remap(strength, x + sign * right, y + sign * down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for sign in (1, -1)
    )
    return np.where((strength >= ahead) & (strength >= behind), strength, np.float32(0))


def _missing_part(model: str | Path) -> str:
    """Return which part a model lacks, or ""; OpenCV accepts incomplete models and then reads beyond its arrays."""
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
