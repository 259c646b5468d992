"""Find the YAML file that describes a dataset."""

from __future__ import annotations

import os
import re
from pathlib import Path

from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import listed

__all__ = ["YAML_SUFFIXES", "describing_files", "find_description"]

YAML_SUFFIXES = (".yaml", ".yml")
"""Endings of the names of such files, in lower case."""

_USUAL_NAMES = ("dataset.yaml", "dataset.yml", "data.yaml", "data.yml")
_MAX_FILES = 100  # YAML files of other names that are read to see whether they describe a dataset
_MAX_BYTES = 2**18
_KEYS_OF_A_DATASET = (r"^['\"]?(names|nc)['\"]?\s*:", r"^['\"]?(train|val|test)\w*['\"]?\s*:")


def find_description(path: str) -> tuple[Path, list[str]]:
    """Return the YAML file at ``path``, and those beside it that describe a dataset too and are not read.

    In a folder dataset.yaml comes before data.yaml, and both before the one file of another
    name that gives names (or nc) and a split. Several of other names are an error. Beside a
    file that is named itself no other is considered.
    """
    folder = Path(path)
    if not folder.is_dir():
        return folder, []
    describing = describing_files(folder)
    usual = [name for name in _USUAL_NAMES if name in describing]
    if not usual and len(describing) > 1:
        raise DataError(f"{folder}: found {listed(describing)}, which all describe a dataset: name the one that is meant")
    chosen = (usual or describing)[0]
    return folder / chosen, [name for name in describing if name != chosen]


def describing_files(folder: Path) -> list[str]:
    """Return the names of the YAML files of a folder that describe a dataset, sorted."""
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith(YAML_SUFFIXES) and not name.startswith(".")]
    except OSError:
        return []
    candidates = [name for name in _USUAL_NAMES if name in names] + sorted(set(names) - set(_USUAL_NAMES))[:_MAX_FILES]
    return sorted(name for name in candidates if (name in _USUAL_NAMES[:2] and (folder / name).is_file()) or _describes(folder / name))


def _describes(file: Path) -> bool:
    """Whether a YAML file has the keys of a dataset; an unreadable file counts where its name is a usual one."""
    try:
        text = read_text(file, max_bytes=_MAX_BYTES, what="YAML")
    except DataError:
        return file.name in _USUAL_NAMES
    return all(re.search(keys, text, re.MULTILINE) for keys in _KEYS_OF_A_DATASET)
