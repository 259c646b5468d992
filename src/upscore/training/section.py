"""A table of a recipe, and how names of records are checked and described."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

from upscore.errors import nearest_name

__all__ = ["Section", "described", "one_of"]


def one_of(known: Iterable[str]) -> AfterValidator:
    """Return a check that a name is one of ``known``."""
    names = tuple(known)

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"expected one of {', '.join(names)}{nearest_name(name, names)}")
        return name

    return AfterValidator(check)


def described(records: Mapping[str, Any]) -> str:
    """Return names of records with their descriptions, for that of a setting."""
    return "; ".join(f"{name}: {getattr(record, 'description', record)}" for name, record in records.items())


class Section(BaseModel):
    """A table of a recipe; unknown names and values that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _is_utf8(cls, value: Any) -> Any:
        """Refuse a name whose bytes are not text, such as of a folder: TOML is UTF-8."""
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("expected a name in UTF-8, which a recipe can hold: rename it, or choose another") from None
        return value
