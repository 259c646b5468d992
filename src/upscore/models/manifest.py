"""``bundle.json``: what it may hold, and how documents of anyone's are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from upscore.errors import BundleError
from upscore.files import read_text
from upscore.input_spec import MAX_BANDS
from upscore.text import reason

__all__ = ["FORMAT_VERSION", "Card", "Description", "Fingerprint", "Input", "Labels", "as_json", "read_document", "write_document"]

FORMAT_VERSION = 3
"""Of ``bundle.json`` and ``ensemble.json``. In 2 the inference settings have new names and are complete; in 3 a bundle has its input."""

LARGEST = 16 * 2**20
"""Bytes; a card with a long history has some hundred thousand."""

_STRICT = ConfigDict(extra="forbid", strict=True)


LONGEST_HISTORY = 100_000
"""Rows of a training history, of which a run writes one an epoch."""


def _check_history(card: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse a card whose history cannot be drawn."""
    history = card.get("history", [])
    if not isinstance(history, list) or len(history) > LONGEST_HISTORY:
        raise ValueError(f"history is no list of at most {LONGEST_HISTORY:,} rows")
    for row in history:
        if not isinstance(row, dict) or not all(type(value) in (int, float) and abs(cast(float, value)) < 1e300 for value in row.values()):
            raise ValueError("a row of the history is no mapping of names to finite numbers")
    return card


Card = Annotated[dict[str, JsonValue], AfterValidator(_check_history)]
"""Where a network comes from; free, but for the history that reports draw."""


class Labels(BaseModel):
    """The classes: their names, and a colour for each."""

    model_config = _STRICT

    names: list[str] = Field(min_length=1, max_length=255)
    palette: list[tuple[int, int, int]]


class Input(BaseModel):
    """The images that the network takes: an :class:`~upscore.input_spec.InputSpec`."""

    model_config = _STRICT

    bands: list[str] = Field(min_length=1, max_length=MAX_BANDS)
    dtype: Literal["uint8", "uint16", "float32"]
    mean: list[Annotated[float, Field(allow_inf_nan=False)]]
    std: list[Annotated[float, Field(allow_inf_nan=False)]]
    shown: list[str]


class Fingerprint(BaseModel):
    """What the weights file must be."""

    model_config = _STRICT

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int


class Description(BaseModel):
    """A bundle without its tensors; unknown keys are refused."""

    model_config = _STRICT

    format: Literal["upscore-bundle"] = "upscore-bundle"
    version: int = FORMAT_VERSION
    architecture: str
    built_by: str = Field("", max_length=500)
    """Import path of what built a network of somebody's own; for people, and imported by nobody."""
    arguments: dict[str, bool | int | float | str | None]
    receptive_field: str = Field("", max_length=100)
    """How much of an image a score depends on, for people: "404 pixels" or "the whole image"; "" where it is not known."""
    labels: Labels
    input: Input
    inference: dict[str, JsonValue]
    card: Card
    weights: Fingerprint


class _Version(BaseModel):
    """The one field that every version of a manifest has."""

    version: int = Field(strict=True)


Document = TypeVar("Document", bound=BaseModel)


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read ``bundle.json`` or ``ensemble.json``; BundleError where it is too large, damaged, of another kind or of another version."""
    text = read_text(path, max_bytes=LARGEST, what="a bundle's description", error=BundleError)
    try:
        version = _Version.model_validate_json(text).version
        if version > FORMAT_VERSION:
            raise BundleError(
                f"'{path}' has format version {version}, expected {FORMAT_VERSION}: a newer upscore made it, upgrade to read it"
            )
        if version < FORMAT_VERSION:
            raise BundleError(
                f"'{path}' has format version {version}, an earlier form, expected {FORMAT_VERSION}: train or export it again"
            )
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"'{path}' is damaged or not a bundle's: {_first_finding(error)}") from error


def write_document(document: BaseModel, path: Path) -> None:
    """Write ``bundle.json`` or ``ensemble.json``; an ``OSError`` is the caller's to explain."""
    text = json.dumps(document.model_dump(), indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``value`` as JSON would give it back (tuples become lists); BundleError where it is not plain, finite data."""
    try:
        return cast("dict[str, Any]", json.loads(json.dumps(dict(value), allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"found what JSON cannot hold ({reason(error)}): use finite numbers, words, lists and None") from error


def _first_finding(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {reason(first['msg'])}"
