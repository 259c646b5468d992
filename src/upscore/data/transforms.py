"""Augmentation: one geometric step for picture, label and instances together, then one colour step.

Pixel ``i`` covers the interval from ``i`` to ``i + 1``, its centre at ``i + 0.5``: scaling
by ``s`` puts centre ``x`` (pixel 0 at 0) at ``(x + 0.5) * s - 0.5``. Picture and label go
through the same map, the picture interpolated and the label by its nearest pixel, so the
two cannot part by more than half a pixel. Without rotation the window is cut out first
and resized afterwards, which costs a fraction of a warp.

All randomness comes from the generator passed in, and :func:`rng_for` makes one from
(seed, epoch, key): workers, ranks and a resumed run see the same pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import RecipeError
from upscore.types import IGNORE, Sample

__all__ = ["FILL", "Augmentation", "rng_for"]

FILL = (124, 116, 104)
"""RGB of pixels beyond the picture: ImageNet's mean, which the networks' first layer turns into about zero."""

_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def rng_for(seed: int, epoch: int, key: str) -> np.random.Generator:
    """Return the random generator of one sample in one epoch.

    Parameters
    ----------
    seed, epoch : int
        The run's seed and the epoch, from 0.
    key : str
        The sample's key.

    Returns
    -------
    numpy.random.Generator
        Equal arguments give equal streams on every machine and in every process.
    """
    digest = blake2b(f"{seed}\0{epoch}\0{key}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


@dataclass(frozen=True)
class _Window:
    """One axis of the crop: ``length`` pixels from ``target`` on show ``span`` source pixels from ``source`` on."""

    source: int
    span: int
    target: int
    length: int
    size: int  # of the whole crop

    @property
    def step(self) -> float:
        """Source pixels for each pixel of the crop."""
        return self.span / self.length

    @property
    def shift(self) -> float:
        """Source coordinate of the crop's pixel 0, centres at whole numbers."""
        return self.source - 0.5 + (0.5 - self.target) * self.step

    @property
    def is_full(self) -> bool:
        """Whether the crop holds no padding along this axis."""
        return self.length == self.size

    def is_all_of(self, size: int) -> bool:
        """Whether the crop is the picture's ``size`` pixels as they are."""
        return (self.source, self.span, self.target, self.length, self.size) == (0, size, 0, size, size)


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are varied; the default leaves them as they are.

    Parameters
    ----------
    scale : (float, float)
        Least and greatest factor the picture is resized by; drawn log-uniformly, so that
        halving and doubling are equally likely.
    crop : (int, int), optional
        Height and width of the window cut out of the resized picture at a random place.
        A smaller picture is put at a random place in it, the rest filled with
        :data:`FILL` and ignored labels. Without it the whole resized picture is kept.
    flip : float
        Probability of mirroring left and right.
    rotation : float
        Greatest angle in degrees, either way, about the window's centre; corners are filled.
    brightness, contrast, saturation : float
        Greatest change, as a share: 0.2 multiplies by 0.8 to 1.2. Contrast turns about the
        picture's mean grey, saturation about each pixel's grey.
    hue : float
        Greatest turn of the colour circle, either way, in turns, up to 0.5; grey is kept.

    Raises
    ------
    RecipeError
        A setting is outside its range.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    flip: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 64:
            raise RecipeError(f"scale is {low} to {high}, expected two factors above 0 and up to 64, the smaller first")
        if self.crop is not None and not all(1 <= side <= 16384 for side in self.crop):
            raise RecipeError(f"crop is {self.crop}, expected height and width from 1 to 16384")
        limits = {"flip": 1.0, "rotation": 180.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 to {limit:g}")

    def __call__(self, sample: Sample, *, rng: np.random.Generator) -> Sample:
        """Return a varied copy of ``sample``, or ``sample`` itself where nothing is to change.

        Parameters
        ----------
        sample : Sample
            Never written to.
        rng : numpy.random.Generator
            The same number of values is drawn whatever the settings, so that changing one
            setting leaves the others' outcomes alone.

        Returns
        -------
        Sample
            Image and label of the crop's size, C-contiguous; label 255 and instances 0
            beyond the picture.
        """
        place_y, place_x, size, mirror, turn, *colour = rng.random(9)
        low, high = self.scale
        scale = low * (high / low) ** size
        height, width = sample.image.shape[:2]
        across = _place(width, None if self.crop is None else self.crop[1], scale, place_x)
        down = _place(height, None if self.crop is None else self.crop[0], scale, place_y)
        angle = math.radians(self.rotation * (2 * turn - 1))
        flipped = bool(mirror < self.flip)
        move = _resized if angle == 0 else _warped
        if flipped or angle != 0 or not (down.is_all_of(height) and across.is_all_of(width)):
            geometry: dict[str, Any] = {"down": down, "across": across, "flipped": flipped, "angle": angle}
            image = move(sample.image, fill=FILL, **geometry)
            label = None if sample.label is None else move(sample.label, fill=IGNORE, **geometry)
            instances = None if sample.instances is None else move(sample.instances, fill=0, **geometry)
            sample = Sample(sample.key, image, label, instances)
        return self._recolour(sample, colour)

    def _recolour(self, sample: Sample, draws: list[float]) -> Sample:
        """Apply brightness, contrast, saturation and hue as one affine map of RGB."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        if not any(strengths):
            return sample
        brightness, contrast, saturation, hue = (s * (2 * draw - 1) for s, draw in zip(strengths, draws, strict=True))
        chroma = (1 + saturation) * np.array(
            [[math.cos(math.tau * hue), -math.sin(math.tau * hue)], [math.sin(math.tau * hue), math.cos(math.tau * hue)]]
        )
        turned = np.eye(3)
        turned[1:, 1:] = chroma
        linear = np.linalg.solve(_YIQ, turned @ _YIQ)
        matrix = np.empty((3, 4), np.float32)
        matrix[:, :3] = (1 + brightness) * (1 + contrast) * linear
        matrix[:, 3] = (1 + brightness) * -contrast * float(_LUMA @ cv2.mean(sample.image)[:3])
        return replace(sample, image=cv2.transform(sample.image, matrix))


def _place(size: int, crop: int | None, scale: float, draw: float) -> _Window:
    """Choose one axis of the window: ``draw`` in [0, 1) says where among the possible places."""
    scaled = max(1, round(size * scale))
    if crop is None:
        return _Window(0, size, 0, scaled, scaled)
    if scaled <= crop:
        return _Window(0, size, int(draw * (crop - scaled + 1)), scaled, crop)
    span = min(size, max(1, round(crop / scale)))
    return _Window(int(draw * (size - span + 1)), span, 0, crop, crop)


def _resized(plane: npt.NDArray[Any], *, down: _Window, across: _Window, flipped: bool, angle: float, fill: Any) -> npt.NDArray[Any]:
    """Cut the window out, resize it, mirror it and pad it."""
    cut = plane[down.source : down.source + down.span, across.source : across.source + across.span]
    if cut.shape[:2] != (down.length, across.length):
        # Linear interpolation reads two pixels an axis; where it would skip some, average them all.
        shrinks = down.step >= 2 or across.step >= 2
        smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cut = cv2.resize(cut, (across.length, down.length), interpolation=smooth if plane.ndim == 3 else cv2.INTER_NEAREST_EXACT)
    if flipped:
        cut = cv2.flip(cut, 1)
    if not (down.is_full and across.is_full):
        left = across.size - across.target - across.length if flipped else across.target
        above = down.target
        below, right = down.size - above - down.length, across.size - left - across.length
        return np.asarray(cv2.copyMakeBorder(cut, above, below, left, right, cv2.BORDER_CONSTANT, value=fill))
    return np.ascontiguousarray(cut)


def _warped(plane: npt.NDArray[Any], *, down: _Window, across: _Window, flipped: bool, angle: float, fill: Any) -> npt.NDArray[Any]:
    """Do all of it in one warp: mirror, turn about the crop's centre, scale and shift."""
    x, y = (across.size - 1) / 2, (down.size - 1) / 2
    mirror = np.diag([-1.0 if flipped else 1.0, 1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    about_centre = _scaling(1, x, 1, y) @ turn @ mirror @ _scaling(1, -x, 1, -y)
    to_source = _scaling(across.step, across.shift, down.step, down.shift) @ about_centre
    size = (across.size, down.size)
    if plane.ndim == 3:
        shrink = max(1, int(across.step)), max(1, int(down.step))
        if shrink != (1, 1):  # average what linear interpolation would skip
            height, width = plane.shape[:2]
            plane = cv2.resize(plane, (max(1, width // shrink[0]), max(1, height // shrink[1])), interpolation=cv2.INTER_AREA)
            ratio_x, ratio_y = plane.shape[1] / width, plane.shape[0] / height
            to_source = _scaling(ratio_x, ratio_x / 2 - 0.5, ratio_y, ratio_y / 2 - 0.5) @ to_source
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        return np.asarray(cv2.warpAffine(plane, to_source[:2], size, flags=flags, borderValue=fill))
    # Byte by byte: OpenCV warps no int32, and breaks the ties of "nearest" otherwise for other types.
    pieces = np.ascontiguousarray(plane).view(np.uint8).reshape(*plane.shape, plane.itemsize)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
    warped = [cv2.warpAffine(piece, to_source[:2], size, flags=flags, borderValue=fill) for piece in np.moveaxis(pieces, 2, 0).copy()]
    return np.stack(warped, axis=2).view(plane.dtype)[..., 0]


def _scaling(step_x: float, shift_x: float, step_y: float, shift_y: float) -> npt.NDArray[np.float64]:
    """Return the map ``x -> step_x * x + shift_x`` and likewise for y, as a (3, 3) matrix."""
    return np.array([[step_x, 0, shift_x], [0, step_y, shift_y], [0, 0, 1]])
