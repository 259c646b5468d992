"""The ``predictions.json`` of a folder of predictions: what became of every image, and what to resume with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upscore.documents import parse_json
from upscore.errors import OutputError
from upscore.files import read_text, write_atomically
from upscore.text import reason

__all__ = ["LabelledImage", "list_labelled", "read_labelled", "write_account"]

ACCOUNT = "predictions.json"
"""What lists the images of a folder of results."""

MAX_ACCOUNT = 2**28
"""Bytes of the largest account that is read."""


@dataclass(frozen=True)
class LabelledImage:
    """What became of one image; the rows of ``predictions.json``."""

    file: str  #: the image's path
    size: tuple[int, int] | None = None  #: height and width in pixels; none if it could not be read
    class_fractions: dict[str, float] = field(default_factory=dict)  #: each class's fraction of the pixels, by name
    confidence: float | None = None  #: mean over the pixels of the greatest class probability, 0 to 1
    outputs: dict[str, str] = field(default_factory=dict)
    """Files written, relative to the output folder, by kind: labels, overlay, probs; objects is the file that holds its objects."""
    error: str | None = None  #: why there are none
    warnings: list[str] = field(default_factory=list)  #: what a user should know: an alpha channel, that there were no proposals


def list_labelled(out: str | os.PathLike[str]) -> set[str]:
    """Return the paths of the images that the ``predictions.json`` of a folder lists as labelled; none where there is no such file."""
    try:
        account = parse_json((Path(out) / ACCOUNT).read_text(encoding="utf-8", errors="replace"))
        return {str(row["file"]) for row in account["predictions"] if row["error"] is None}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def read_labelled(folder: Path, expected: Mapping[str, object]) -> dict[str, LabelledImage]:
    """Return the rows of the images that an earlier call labelled, by path.

    An OutputError is raised where ``predictions.json`` is none of an account, or where it has other values than are ``expected``.
    """
    path = folder / ACCOUNT
    if not path.exists():
        return {}
    try:
        account = parse_json(read_text(path, max_bytes=MAX_ACCOUNT, what="an account of predictions", error=OutputError))
        origin = {name: account[name] for name in expected}
        rows = [LabelledImage(**row) for row in account["predictions"]]
        if not all(isinstance(row.file, str) and isinstance(row.outputs, dict) for row in rows):
            raise TypeError("files and outputs are of other types")
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: is no account of predictions ({reason(error)}): leave --resume out, or choose another folder") from None
    if different := [name for name, value in expected.items() if origin[name] != value]:
        raise OutputError(
            f"{path}: differs from this prediction in its {', '.join(different)}: leave --resume out, or choose another folder"
        )
    return {row.file: row for row in rows if row.error is None}


def write_account(folder: Path, account: Mapping[str, object]) -> None:
    """Write ``predictions.json``."""
    # File names may hold bytes that are no text; they are written as escapes.
    content = (json.dumps(account, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    write_atomically(folder / ACCOUNT, content)
