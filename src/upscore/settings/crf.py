"""How probabilities are refined by the fully connected CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from upscore.crf import DenseCRF

__all__ = ["MAX_SIGMA", "MIN_SIGMA", "CRFSettings", "EngineName", "Normalization"]

MIN_SIGMA, MAX_SIGMA = 0.5, 1000.0
"""Of every kernel, in pixels or in steps of colour from 0 to 255."""

Normalization: TypeAlias = Literal["symmetric", "before", "after", "none"]
"""Where messages are divided by a kernel's row sums (:mod:`upscore.crf.kernels`)."""

EngineName: TypeAlias = Literal["lattice", "native_lattice", "numpy_lattice", "torch_lattice", "numpy_exact", "torch_exact"]
"""What computes the messages (:mod:`upscore.crf.engines`)."""

Sigma: TypeAlias = Annotated[float, Field(ge=MIN_SIGMA, le=MAX_SIGMA)]
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1000)]


class CRFSettings(BaseModel):
    """How probabilities are refined by the fully connected CRF; see :class:`upscore.crf.DenseCRF`.

    Tuning that finds no gain saves its numbers with ``enabled`` false; a later ``crf=True`` uses them.
    The defaults are the numbers in general use. Each sigma is a standard deviation, 0.5 to 1000; a kernel of weight 0 is left out.
    A weight is the kernel's ``compatibility``, a number: the cost of two different labels. Weights of one normalization mean something
    else under another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = True
    iterations: int = Field(default=5, ge=1, le=100)  #: of mean field
    gaussian_sigma: Sigma = 3.0  #: of the smoothness kernel, in pixels
    gaussian_weight: Weight = 3.0
    bilateral_sigma: Sigma = 80.0  #: of the appearance kernel, in pixels
    bilateral_sigma_colour: Sigma = 13.0  #: in colours of 0 to 255
    bilateral_weight: Weight = 10.0
    normalization: Normalization = "symmetric"  #: of both kernels; DeconvNet's release has "none"
    engine: EngineName = "lattice"  #: the compiled lattice where there is one
    threads: Annotated[int, Field(ge=1, le=64)] | None = None  #: of the compiled lattice; as many as the process may use when not given
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,3})?|mps)$")] | None = None  #: of the engines in PyTorch
    bands: tuple[str, ...] = ()  #: one or three of the image's bands, whose values are compared; empty for those that pages show

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if len(bands) not in (0, 1, 3):
            raise ValueError(f"found {len(bands)} bands, expected one or three names, or none for those that pages show")
        return bands

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.device is not None and not self.engine.startswith("torch"):
            raise ValueError(f"found device '{self.device}' for engine '{self.engine}', expected engine 'torch_lattice' or 'torch_exact'")
        return self

    def build(self) -> DenseCRF:
        """Return the CRF that these settings describe."""
        from upscore.crf import Bilateral, DenseCRF, Gaussian  # here, so that a recipe is read without NumPy

        smoothness = Gaussian(self.gaussian_sigma, self.gaussian_weight, self.normalization)
        appearance = Bilateral(self.bilateral_sigma, self.bilateral_sigma_colour, self.bilateral_weight, self.normalization)
        kernels = ((smoothness, self.gaussian_weight), (appearance, self.bilateral_weight))
        used = tuple(kernel for kernel, weight in kernels if weight)
        return DenseCRF(used, self.iterations, engine=self.engine, threads=self.threads, device=self.device)

    def __str__(self) -> str:
        """Return the numbers in one line of words."""
        return (
            f"{self.iterations} iteration{'s' * (self.iterations > 1)}; "
            f"Gaussian sigma {self.gaussian_sigma:.3g}, weight {self.gaussian_weight:.3g}; "
            f"bilateral sigma {self.bilateral_sigma:.3g}, colour {self.bilateral_sigma_colour:.3g}, weight {self.bilateral_weight:.3g}"
            + (f"; normalized {self.normalization}" if self.normalization not in ("symmetric", "none") else "")
            + ("; not normalized" if self.normalization == "none" else "")
            + (f"; {self.engine}" if self.engine != "lattice" else "")
            + (f" on {self.device}" if self.device is not None else "")
            + (f"; of {', '.join(self.bands)}" if self.bands else "")
        )
