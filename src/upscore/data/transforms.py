"""Augmentation: one geometric step for image, label, instances and weights together, then one colour step.

Everything random is drawn here, and one :class:`~upscore.data.warping.Move` made of it moves
every plane of a sample.

All randomness comes from the generator passed in, and :func:`rng_for` makes one from
(seed, epoch, key): workers, ranks and a resumed run see the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import blake2b

import cv2
import numpy as np

from upscore.data.elastic import displacements
from upscore.data.warping import GeometricTransform, place
from upscore.errors import RecipeError
from upscore.types import IGNORE, Sample

__all__ = ["BORDERS", "FILL", "Augmentation", "rng_for"]

BORDERS = ("ignore", "mirror")
"""What may lie beyond an image."""

FILL = (124, 116, 104)
"""RGB of pixels beyond the image: ImageNet's mean, which the networks' first layer turns into about zero."""

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
class Augmentation:
    """How training images are varied; the default leaves them as they are.

    Parameters
    ----------
    scale : (float, float)
        Least and greatest factor the image is resized by; drawn log-uniformly, so that
        halving and doubling are equally likely.
    crop : (int, int), optional
        Height and width of the window cut out of the resized image at a random place.
        A smaller image is put at a random place in it, the rest filled with
        :data:`FILL` and ignored labels. Without it the whole resized image is kept.
    flip : float
        Probability of mirroring left and right.
    rotation : float
        Greatest angle in degrees, either way, about the window's centre; corners are filled.
    brightness, contrast, saturation : float
        Greatest change, as a share: 0.2 multiplies by 0.8 to 1.2. Contrast turns about the
        image's mean grey, saturation about each pixel's grey.
    hue : float
        Greatest turn of the colour circle, either way, in turns, up to 0.5; grey is kept.
    elastic : float
        Standard deviation of the random displacements, in pixels of the image that comes
        out; 0 is off, U-Net's is 10. See :mod:`upscore.data.elastic`.
    elastic_grid : int
        Knots of their grid along each side, 2 to 32; U-Net's is 3.
    border : {"ignore", "mirror"}
        What lies beyond the image: :data:`FILL` with ignored labels, or the image, its label,
        instances and weights as in a mirror at its edges, again and again.

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
    elastic: float = 0.0
    elastic_grid: int = 3
    border: str = "ignore"

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 64:
            raise RecipeError(f"scale is {low} to {high}, expected two factors above 0 and up to 64, the smaller first")
        if self.crop is not None and not all(1 <= side <= 16384 for side in self.crop):
            raise RecipeError(f"crop is {self.crop}, expected height and width from 1 to 16384")
        limits = {"flip": 1.0, "rotation": 180.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5, "elastic": 1000.0}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 to {limit:g}")
        if not 2 <= self.elastic_grid <= 32:
            raise RecipeError(f"elastic_grid is {self.elastic_grid}, expected 2 to 32 knots")
        if self.border not in BORDERS:
            raise RecipeError(f"border is '{self.border}', expected one of {', '.join(BORDERS)}")

    def __call__(self, sample: Sample, *, rng: np.random.Generator) -> Sample:
        """Return a varied copy of ``sample``, or ``sample`` itself where nothing is to change.

        Parameters
        ----------
        sample : Sample
            Never written to.
        rng : numpy.random.Generator
            The same number of values is drawn whatever the settings, so that changing one
            setting leaves the others' outcomes alone; only the vectors of an elastic
            deformation are drawn beyond them, last.

        Returns
        -------
        Sample
            All of the crop's size, C-contiguous; label 255, instances and weights 0 beyond the
            image, unless it is mirrored there.
        """
        place_y, place_x, size, mirror, turn, *colour = rng.random(9)
        low, high = self.scale
        scale = low * (high / low) ** size
        height, width = sample.image.shape[:2]
        across = place(width, None if self.crop is None else self.crop[1], scale, place_x)
        down = place(height, None if self.crop is None else self.crop[0], scale, place_y)
        angle = math.radians(self.rotation * (2 * turn - 1))
        flipped = bool(mirror < self.flip)
        field = None
        if self.elastic:
            vectors = rng.normal(0, self.elastic, (2, self.elastic_grid, self.elastic_grid))
            field = displacements(vectors, (down.size, across.size))
        move = GeometricTransform(down, across, flipped, angle, field, mirror=self.border == "mirror")
        if not move.is_identity(height, width):
            image, label, instances, weights = (
                None if plane is None else move(plane, fill=fill)
                for plane, fill in ((sample.image, FILL), (sample.label, IGNORE), (sample.instances, 0), (sample.weights, 0))
            )
            assert image is not None
            sample = Sample(sample.key, image, label, instances, weights)
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
