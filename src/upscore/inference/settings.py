"""How a network is used: a value, stored in its bundle and overridden by name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from upscore.errors import BundleError, RecipeError, nearest_name
from upscore.inference.segmenter import Precision

__all__ = ["InferenceSettings"]


class InferenceSettings(BaseModel):
    """How a network is used; stored in its bundle, overridden by keyword.

    Parameters
    ----------
    tile : "auto", "whole" or int
        ``"auto"`` labels small pictures whole and larger ones in tiles (the limits are
        ``upscore.inference.predictor.WHOLE_PIXELS``); ``"whole"`` never cuts; a number is the side of a tile in
        pixels, rounded up to the network's stride.
    margin : int, optional
        Context around a tile in pixels. The network's own when not given, with which tiles
        equal the whole picture; less is faster and only nearly equal. A network without a
        bounded field of view has none: under ``"auto"`` its pictures are never cut, and a
        number for ``tile`` needs one for ``margin``.
    flips : bool
        Average with the mirror image; twice the time.
    scales : sequence of float
        Average over these sizes of the picture.
    precision : {"fp32", "bf16"}
        As in :class:`upscore.inference.segmenter.NetworkSegmenter`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    tile: Literal["auto", "whole"] | int = "auto"
    margin: int | None = Field(default=None, ge=0, le=65536)
    flips: bool = False
    scales: tuple[float, ...] = Field(default=(1.0,), max_length=16)
    precision: Precision = "fp32"

    @field_validator("tile")
    @classmethod
    def _check_tile(cls, tile: str | int) -> str | int:
        if isinstance(tile, int) and not 1 <= tile <= 65536:
            raise ValueError("expected 'auto', 'whole' or a side from 1 to 65536 pixels")
        return tile

    @classmethod
    def of(cls, stored: object = None, **overrides: object) -> InferenceSettings:
        """Return settings from what a bundle stores (a mapping, or settings) with ``overrides`` put over it.

        Overrides that are None leave the setting as it is, so that options which were not
        given can be passed on.

        Raises
        ------
        BundleError
            What is stored is not a mapping, or holds something impossible.
        RecipeError
            An override is unknown or impossible.
        """
        known = list(cls.model_fields)
        for name in overrides:
            if name not in known:
                raise RecipeError(f"unknown inference setting '{name}'{nearest_name(name, known)}: expected one of {', '.join(known)}")
        try:
            settings = stored if isinstance(stored, cls) else cls.model_validate(stored or {})
        except ValidationError as error:
            raise BundleError(f"the bundle's inference settings are not usable: {_first_line(error)}") from None
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(settings.model_dump() | given)
        except ValidationError as error:
            raise RecipeError(_first_line(error)) from None


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][:1]) or "inference"
    return f"inference setting '{place}': found {first['input']!r:.80}, {first['msg'].removeprefix('Value error, ')}"
