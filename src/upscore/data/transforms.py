"""Augmentation: one geometric transform of image, labels, instances and weights together, then one colour transform.

Everything random is drawn here and becomes one :class:`~upscore.data.warping.GeometricTransform`
for every plane of a sample. All randomness comes from the generator passed in, and :func:`rng_for` makes one from
(seed, epoch, key): workers, ranks and a resumed run see the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import blake2b

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.elastic import displacement_field
from upscore.data.warping import GeometricTransform, sample_axis_crop
from upscore.errors import RecipeError
from upscore.input_spec import RGB, Image, InputSpec
from upscore.types import IGNORE, Sample

__all__ = ["BORDERS", "ELASTIC_GRID", "FILL", "MAX_CROP", "MAX_SCALE", "MAX_STRENGTHS", "Augmentation", "fill_values", "rng_for"]

BORDERS = ("ignore", "black", "mirror")
"""What may lie beyond an image."""

MAX_SCALE = 16.0
"""The largest factor an image is resized by."""

MAX_CROP = 16384
"""The largest height and width of a crop, in pixels: such a crop takes 0.8 GB."""

MAX_STRENGTHS = {
    "flip": 1.0, "vertical_flip": 1.0, "rotation": 180.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5,
    "elastic": 1000.0,
}  # fmt: skip
"""The largest value of each setting that 0 turns off."""

ELASTIC_GRID = (2, 32)
"""Minimum and maximum of knots along a side of the elastic grid."""

FILL = (124, 116, 104)
"""RGB of pixels beyond the image: ImageNet's mean, which the networks' first layer turns into about zero."""

MEAN_DEVIATIONS = 2.0
"""The mean of a photograph's bands in their deviations, about as in ImageNet: brightness changes bands that are no colours
as if theirs were so too, since their zero may lie anywhere."""

_HALF_OF_THE_BITS = 2**26
_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def rng_for(seed: int, epoch: int, key: str) -> np.random.Generator:
    """Return the random generator of the sample ``key`` in one epoch, from 0, of the run with this seed.

    Equal arguments give equal streams on every machine and in every process.
    """
    digest = blake2b(f"{seed}\0{epoch}\0{key}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def fill_values(spec: InputSpec) -> tuple[float, ...]:
    """Return the value of each band beyond an image: :data:`FILL`, or the band's mean where it is known.

    >>> fill_values(InputSpec(("height",), "uint16", (0.5,), (0.1,)))
    (32768.0,)
    """
    if not spec.mean:
        return FILL if spec.is_rgb else (0.0,) * len(spec)
    values = np.multiply(spec.mean, spec.unit)
    return tuple(float(value) for value in (values if spec.dtype == "float32" else np.rint(values)))


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images; the default changes nothing.

    Parameters
    ----------
    scale : (float, float)
        Smallest and largest factor the image is resized by, above 0 and up to :data:`MAX_SCALE`;
        drawn log-uniformly, so that halving and doubling are equally likely.
    crop : (int, int), optional
        Height and width of a crop of the resized image at a random position, up to
        :data:`MAX_CROP`. A smaller image lies at a random position in it, surrounded by
        :data:`FILL` and ignored labels. The whole resized image when not given.
    flip : float
        Probability of flipping left to right.
    vertical_flip : float
        Probability of flipping top to bottom: for images without an up, as from microscopes and satellites.
    rotation : float
        Largest angle in degrees, either way, about the crop's centre; corners are filled.
    brightness, contrast, saturation : float
        Largest relative change: 0.2 multiplies by 0.8 to 1.2. Contrast is changed about the
        image's mean grey, saturation about each pixel's grey. Bands that are no colours have no
        saturation; their contrast is changed about the band's mean in the image, and brightness
        adds as many deviations as it adds to a photograph (:data:`MEAN_DEVIATIONS`).
    hue : float
        Largest rotation of the colour circle, either way, in turns; grey does not change, nor do bands that are no colours.
    elastic : float
        Standard deviation of the random displacements, in pixels of the resulting image;
        0 is off, U-Net's is 10. See :mod:`upscore.data.elastic`.
    elastic_grid : int
        Knots of their grid along each side, within :data:`ELASTIC_GRID`; U-Net's is 3.
    border : {"ignore", "black", "mirror"}
        What lies beyond the image: :data:`FILL` with ignored labels, which normalisation makes about zero; 0 with ignored labels, as
        Caffe pads a window before it subtracts the mean; or the image, its label, instances and weights reflected at its edges, as often
        as needed.
    input : InputSpec
        The bands of the images; of others than RGB of 8 bits the means fill what lies beyond the image.

    Raises
    ------
    RecipeError
        A setting is outside its range.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    flip: float = 0.0
    vertical_flip: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 3
    border: str = "ignore"
    input: InputSpec = RGB

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= MAX_SCALE:
            raise RecipeError(f"scale is {low} to {high}, expected two factors above 0 and up to {MAX_SCALE:g}, the smaller first")
        if self.crop is not None and not all(1 <= side <= MAX_CROP for side in self.crop):
            raise RecipeError(f"crop is {self.crop}, expected height and width from 1 to {MAX_CROP}")
        for name, limit in MAX_STRENGTHS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 to {limit:g}")
        min_knots, max_knots = ELASTIC_GRID
        if not min_knots <= self.elastic_grid <= max_knots:
            raise RecipeError(f"elastic_grid is {self.elastic_grid}, expected {min_knots} to {max_knots} knots")
        if self.border not in BORDERS:
            raise RecipeError(f"border is '{self.border}', expected one of {', '.join(BORDERS)}")

    def __call__(self, sample: Sample, *, rng: np.random.Generator) -> Sample:
        """Return an augmented copy of ``sample``, or ``sample`` itself where nothing changes.

        All planes of the copy are of the crop's size and C-contiguous; labels are 255, instances and weights 0 beyond the image, unless
        it is reflected there. The same number of values is drawn from ``rng`` whatever the settings, so that a setting does not change
        the outcomes of the others; only the vectors of an elastic deformation are drawn in addition, last.
        """
        position_y, position_x, size, flip, angle, *colour = rng.random(9)
        low, high = self.scale
        scale = low * (high / low) ** size
        height, width = sample.image.shape[:2]
        across = sample_axis_crop(width, None if self.crop is None else self.crop[1], scale, position_x)
        down = sample_axis_crop(height, None if self.crop is None else self.crop[0], scale, position_y)
        # A draw has 53 bits: the lower ones are as random, so the second flip needs no draw that would change all later ones.
        flips = bool(flip < self.flip), bool(flip * _HALF_OF_THE_BITS % 1 < self.vertical_flip)
        field = None
        if self.elastic:
            vectors = rng.normal(0, self.elastic, (2, self.elastic_grid, self.elastic_grid))
            field = displacement_field(vectors, (down.size, across.size))
        angle = math.radians(self.rotation * (2 * angle - 1))
        transform = GeometricTransform(down, across, *flips, angle, field, mirror=self.border == "mirror")
        if not transform.is_identity(height, width):
            image, label, second_label, instances, weights = (
                None if plane is None else transform(plane, fill=fill)
                for plane, fill in (
                    (sample.image, (0.0,) * len(self.input) if self.border == "black" else fill_values(self.input)),
                    (sample.label, IGNORE),
                    (sample.second_label, IGNORE),
                    (sample.instances, 0),
                    (sample.weights, 0),
                )
            )
            assert image is not None
            sample = replace(sample, image=image, label=label, second_label=second_label, instances=instances, weights=weights)
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
        in_yiq = np.eye(3)
        in_yiq[1:, 1:] = chroma
        linear = (1 + brightness) * (1 + contrast) * np.linalg.solve(_YIQ, in_yiq @ _YIQ)
        if self.input.is_rgb:
            return replace(sample, image=_recolour_rgb(sample.image, linear, (1 + brightness) * -contrast))
        image = sample.image.astype(np.float32)
        colours = list(self.input.colours)
        if colours:
            image[..., colours] = _recolour_rgb(np.ascontiguousarray(image[..., colours]), linear, (1 + brightness) * -contrast)
        for band in sorted(set(range(image.shape[2])) - set(colours)):
            plane = image[..., band]
            mean = float(np.nanmean(plane)) if not np.isnan(plane).all() else 0.0
            deviation = self.input.std[band] * self.input.unit if self.input.std else mean / MEAN_DEVIATIONS
            plane *= np.float32(1 + contrast)
            plane += np.float32(brightness * MEAN_DEVIATIONS * deviation - contrast * mean)
        if self.input.dtype != "float32":
            np.rint(image, out=image)
            np.clip(image, 0, self.input.unit, out=image)
        return replace(sample, image=image.astype(self.input.dtype))


def _recolour_rgb(image: Image, linear: npt.NDArray[np.float64], offset: float) -> Image:
    """Return (H, W, 3) with its colours mapped by ``linear``, (3, 3), after which ``offset`` times the image's mean grey is added."""
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = linear
    mean = cv2.mean(image)[:3] if image.dtype == np.uint8 else [float(np.nanmean(image[..., i])) for i in range(3)]
    matrix[:, 3] = offset * float(_LUMA @ mean)
    transformed: Image = cv2.transform(image, matrix)
    return transformed
