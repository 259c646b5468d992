"""What goes into a network: the bands of an image, the type of their values, and what is known of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.text import listed, shortened

__all__ = ["DTYPES", "LARGEST", "MAX_BANDS", "RGB", "DType", "Image", "InputSpec"]

DType: TypeAlias = Literal["uint8", "uint16", "float32"]
DTYPES: tuple[DType, ...] = get_args(DType)

Image: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
"""(H, W, C): rows, columns, bands."""

MAX_BANDS = 64

COLOURS = ("red", "green", "blue")

LARGEST: dict[str, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""What stored values of a type are divided by to become a tensor's."""


@dataclass(frozen=True)
class InputSpec:
    """The images that a network takes; the default is RGB of 8 bits.

    A tensor holds a stored value divided by the largest one of its type: 255, 65535, or 1 for floating-point
    values, which are taken as they are. ``mean`` and ``std`` are in these units, and make up the network's first layer.

    Parameters
    ----------
    bands : sequence of str
        Name of band 0, 1, …; 1 to 64, unique.
    dtype : {"uint8", "uint16", "float32"}
        Type of the stored values. A floating-point value that is no number (NaN) is no data; it becomes the band's mean.
    mean, std : sequence of float
        Of each band, measured on the images that are trained on; std is above 0. Empty where the network's weights determine them, as
        ImageNet's do for RGB.
    shown : sequence of str
        The band that pages and overlays show as grey, or the three that they show as red, green and blue. When not given, the bands of
        these names, or the first three, or the only one.

    Raises
    ------
    DataError
        A name is empty, repeated or unknown; a number is out of range.

    Examples
    --------
    >>> str(InputSpec(("red", "green", "blue", "infrared"), "uint16"))
    '4 bands of uint16 (red, green, blue, infrared)'
    """

    bands: tuple[str, ...] = COLOURS
    dtype: DType = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bands = tuple(str(band) for band in self.bands)
        if not 1 <= len(bands) <= MAX_BANDS:
            raise DataError(f"found {len(bands)} bands, expected 1 to {MAX_BANDS}")
        if not all(bands) or len(set(bands)) < len(bands) or max(map(len, bands)) > 100:
            raise DataError(f"found the bands {listed(bands, 8)}, expected names that are unique, and of 1 to 100 characters")
        if self.dtype not in DTYPES:
            raise DataError(f"found values of type '{shortened(str(self.dtype))}', expected one of {', '.join(DTYPES)}")
        mean, std = (tuple(float(value) for value in values) for values in (self.mean, self.std))
        if (mean or std) and not (len(mean) == len(std) == len(bands) and np.isfinite([*mean, *std]).all() and min(std) > 0):
            raise DataError(
                f"found {len(mean)} means and {len(std)} deviations for {len(bands)} bands: expected one of each per band, all finite and "
                "deviations above 0, or none"
            )
        shown = tuple(self.shown) or (COLOURS if set(COLOURS) <= set(bands) else bands[:3] if len(bands) >= 3 else bands[:1])
        if len(shown) not in (1, 3) or not set(shown) <= set(bands):
            raise DataError(f"found {listed(shown, 8)} as the bands to show, expected one, or three, of {listed(bands, 12)}")
        for name, value in {"bands": bands, "mean": mean, "std": std, "shown": shown}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def unnamed(cls, count: int, dtype: DType) -> InputSpec:
        """Return the spec of bands of which only number and type are known: "band 1", "band 2", …"""
        return cls(tuple(f"band {number}" for number in range(1, count + 1)), dtype)

    def __len__(self) -> int:
        return len(self.bands)

    def __str__(self) -> str:
        count = "1 band" if len(self) == 1 else f"{len(self)} bands"
        return f"{count} of {self.dtype} ({listed(self.bands, 8)})"

    @property
    def is_rgb(self) -> bool:
        """Whether these are RGB images of 8 bits, which every common file can be read as."""
        return self.bands == COLOURS and self.dtype == "uint8"

    @property
    def unit(self) -> float:
        """What a stored value is divided by to become a tensor's."""
        return LARGEST[self.dtype]

    @property
    def colours(self) -> tuple[int, ...]:
        """The positions of the bands red, green and blue, where there are all three."""
        return tuple(self.bands.index(band) for band in COLOURS) if set(COLOURS) <= set(self.bands) else ()

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> InputSpec:
        """Return the spec with other means and deviations."""
        return replace(self, mean=tuple(mean), std=tuple(std))

    def difference(self, other: InputSpec) -> str:
        """Describe how the images of ``other`` differ in number, names, order or type of their bands; ``""`` if they do not.

        >>> RGB.difference(InputSpec(("grey",), "uint16"))
        '3 bands of uint8 (red, green, blue) against 1 band of uint16 (grey)'
        """
        if (self.bands, self.dtype) == (other.bands, other.dtype):
            return ""
        return f"{self} against {other}"

    def fits(self, other: InputSpec) -> bool:
        """Return whether images as ``other`` describes them can be these: equal in type, number and, where both give one, name of bands.

        >>> InputSpec(("red", "green", "blue", "infrared")).fits(InputSpec(("red", "green", "blue", "band 4")))
        True
        """
        pairs = zip(self.bands, other.bands, strict=False)
        same = all(mine == theirs or "band " in (mine[:5], theirs[:5]) for mine, theirs in pairs)
        return self.dtype == other.dtype and len(self) == len(other) and same

    def check(self, image: Any) -> None:
        """Raise a DataError for what is no array (H, W, C) of these bands, of any size from 1×1."""
        if (
            isinstance(image, np.ndarray)
            and image.ndim == 3
            and image.shape[2] == len(self)
            and image.dtype == self.dtype
            and 0 not in image.shape
        ):
            return
        found = f"an array of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        turned = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[0] == len(self) != image.shape[2]
        wanted = "an image (H, W, 3) uint8 RGB" if self.is_rgb else f"an image (H, W, {len(self)}) {self.dtype}: {self}"
        raise DataError(f"found {found}, expected {wanted}{': channels come last' if turned else ''}")

    @property
    def display_ranges(self) -> tuple[tuple[float, float], ...]:
        """The stored values of each shown band that are drawn as black and as full brightness; empty where bytes are shown as they are.

        Two deviations below and above the mean, the same for every image; where no statistics are known, what the type can hold.
        """
        if (self.dtype == "uint8" and not self.mean) or self.is_rgb:
            return ()
        positions = [self.bands.index(band) for band in self.shown]
        if not self.mean:
            return tuple((0.0, self.unit) for _ in positions)
        return tuple(((self.mean[i] - 2 * self.std[i]) * self.unit, (self.mean[i] + 2 * self.std[i]) * self.unit) for i in positions)

    def display(self, image: Image, bands: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
        """Return an image (H, W, C) as people can see it: (H, W, 3) uint8 RGB.

        RGB of 8 bits is returned as it is. Other bands are stretched over :attr:`display_ranges`; no data is black. ``bands`` are one, or
        three, in place of :attr:`shown`.

        >>> InputSpec(("height",), "float32", (10,), (5,)).display(np.array([[[0], [10], [20]]], np.float32))[0, :, 0].tolist()
        [0, 128, 255]
        """
        spec = replace(self, shown=tuple(bands)) if bands else self
        if self.is_rgb and spec.shown == COLOURS:
            return np.asarray(image, np.uint8)
        planes = np.empty((*image.shape[:2], 3), np.uint8)
        ranges = spec.display_ranges or ((0.0, 255.0),) * len(spec.shown)
        for target, (band, (low, high)) in enumerate(zip(spec.shown, ranges, strict=True)):
            plane = image[..., self.bands.index(band)]
            if (low, high) == (0.0, 255.0):
                stretched = plane
            else:
                stretched = np.clip((plane.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
                stretched = np.rint(np.nan_to_num(stretched, copy=False, nan=0))
            planes[..., target] = stretched
        if len(spec.shown) == 1:
            planes[..., 1:] = planes[..., :1]
        return planes

    @property
    def display_note(self) -> str:
        """How :meth:`display` shows the bands, as a sentence for pages; "" for RGB of 8 bits."""
        if self.is_rgb:
            return ""
        what = (
            f"{self.shown[0]} as grey"
            if len(self.shown) == 1
            else f"{', '.join(self.shown[:2])} and {self.shown[2]} as red, green and blue"
        )
        ranges = self.display_ranges
        how = (
            "; ".join(f"{band} from {_plain(low)} to {_plain(high)}" for band, (low, high) in zip(self.shown, ranges, strict=True))
            if ranges
            else ""
        )
        return f"Of {len(self)} band{'s' * (len(self) > 1)}, images show {what}" + (f", stretched: {how}." if how else ", as stored.")


def _plain(value: float) -> str:
    """Return a number in words of a page: four digits, or all before the point of a larger one.

    >>> _plain(26590.4), _plain(0.12345), _plain(-3000)
    ('26,590', '0.1235', '-3,000')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


RGB = InputSpec()
"""The default: red, green and blue of 8 bits."""
