"""How probabilities are refined by the fully connected CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from upscore.crf import DenseCRF

__all__ = ["MAX_SIGMA", "MIN_SIGMA", "CRFSettings"]

MIN_SIGMA, MAX_SIGMA = 0.5, 1000.0
"""Of every kernel, in pixels or in steps of colour from 0 to 255."""

Sigma: TypeAlias = Annotated[float, Field(ge=MIN_SIGMA, le=MAX_SIGMA)]
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1000)]


class CRFSettings(BaseModel):
    """How probabilities are refined by the fully connected CRF; see :class:`upscore.crf.DenseCRF`.

    Tuning that finds no gain saves its numbers with ``enabled`` false; a later ``crf=True`` uses them.
    The defaults are the numbers in general use. Each sigma is a standard deviation, 0.5 to 1000; a kernel of weight 0 is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = True
    iterations: int = Field(default=5, ge=1, le=100)  #: of mean field
    gaussian_sigma: Sigma = 3.0  #: of the smoothness kernel, in pixels
    gaussian_weight: Weight = 3.0
    bilateral_sigma: Sigma = 80.0  #: of the appearance kernel, in pixels
    bilateral_sigma_colour: Sigma = 13.0  #: in colours of 0 to 255
    bilateral_weight: Weight = 10.0
    bands: tuple[str, ...] = ()  #: one or three of the image's bands, whose values are compared; empty for those that pages show

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if len(bands) not in (0, 1, 3):
            raise ValueError(f"found {len(bands)} bands, expected one or three names, or none for those that pages show")
        return bands

    def build(self) -> DenseCRF:
        """Return the CRF that these settings describe."""
        from upscore.crf import Bilateral, DenseCRF, Gaussian  # here, so that a recipe is read without NumPy

        smoothness = Gaussian(sigma=self.gaussian_sigma, compatibility=self.gaussian_weight)
        appearance = Bilateral(sigma=self.bilateral_sigma, sigma_colour=self.bilateral_sigma_colour, compatibility=self.bilateral_weight)
        kernels = ((smoothness, self.gaussian_weight), (appearance, self.bilateral_weight))
        return DenseCRF(kernels=tuple(kernel for kernel, weight in kernels if weight), iterations=self.iterations)

    def __str__(self) -> str:
        """Return the numbers in one line of words."""
        return (
            f"{self.iterations} iteration{'s' * (self.iterations > 1)}; "
            f"Gaussian sigma {self.gaussian_sigma:.3g}, weight {self.gaussian_weight:.3g}; "
            f"bilateral sigma {self.bilateral_sigma:.3g}, colour {self.bilateral_sigma_colour:.3g}, weight {self.bilateral_weight:.3g}"
            + (f"; of {', '.join(self.bands)}" if self.bands else "")
        )
