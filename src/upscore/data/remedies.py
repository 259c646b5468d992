"""What mends masks: settings of a ``dataset.yaml``, or a command that rewrites the files; in words that can be followed as they stand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Description", "Remedy", "folder_of", "rewriting", "with_background"]

_PLAIN = re.compile(r"[A-Za-z][\w-]*( [\w-]+)*", re.ASCII)
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_BACKGROUND = re.compile(r"back ?ground|^bg$|^ground$|^other|^none$|^nothing$|^unlabel", re.IGNORECASE)
_MOST_IN_FULL = 100


@dataclass(frozen=True)
class Description:
    """The ``dataset.yaml`` in which names and label_mapping are set; one that does not exist may be written.

    Parameters
    ----------
    file : Path
        Where it is, or would be.
    """

    file: Path


@dataclass(frozen=True)
class Remedy:
    """One way to mend what was found.

    Parameters
    ----------
    names : tuple of str, optional
        The classes to name.
    mapping : mapping of int to int, optional
        The label_mapping to set.
    advice : str
        What to do in words, where settings do not help.
    when : str
        Under which reading of the masks it is right, as a clause that begins with "if"; empty where there is only one.
    """

    names: tuple[str, ...] | None = None
    mapping: Mapping[int, int] | None = None
    advice: str = ""
    when: str = ""

    def text(self, description: Description | None, names: Sequence[str], files: Sequence[Path] = ()) -> str:
        """Return what to do, for masks ``files`` of the classes ``names`` that ``description`` describes."""
        settings = _settings(self.names, self.mapping)
        if description is not None and description.file.exists():
            said = f"set {settings} in {description.file.name}" if settings else ""
        elif description is not None:
            whole = _settings(self.names or tuple(names), self.mapping)
            said = f"write the file {description.file} with the line {{{whole}}}" if settings else ""
        else:
            said = f"change the stored values as label_mapping: {_shown(self.mapping)} says" if self.mapping is not None else ""
            said += rewriting(_mapped(self.mapping), files) if self.mapping is not None else ""
            said = " and ".join(filter(None, (said, f"give the classes as names: {_listed(self.names)}" if self.names else "")))
        said = " and ".join(filter(None, (said, self.advice)))
        return f"{self.when}, {said}" if self.when else said


def with_background(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return ``names`` with a background before them; None where the first one is a background already."""
    if _BACKGROUND.search(names[0]):
        return None
    return ("background", *names)


def rewriting(pixels: str, files: Sequence[Path]) -> str:
    """Return ", with <a command>" that replaces the numbers ``a`` of every mask by the expression ``pixels``; "" where it is not sure."""
    folder, suffixes = folder_of(files), {path.suffix for path in files}
    if folder is None or len(suffixes) != 1:
        return ""
    return (
        ', which this does in place (keep a copy): python -c "import numpy as n; from pathlib import Path; from PIL import Image as I; '
        f"[I.fromarray(n.asarray({pixels}).astype('u1')).save(p) for p in Path('{folder}').rglob('*{suffixes.pop()}') "
        'for i in [I.open(p)] for a in [n.array(i)]]"'
    )


def folder_of(files: Sequence[Path]) -> str | None:
    """Return the folder that holds all ``files``; None where there is none, or its name needs quoting."""
    if not files:
        return None
    try:
        folder = os.path.commonpath([os.path.abspath(path.parent) for path in files])
    except ValueError:  # different drives
        return None
    return Path(folder).as_posix() if re.fullmatch(r"[\w/:. +-]+", Path(folder).as_posix()) else None


def _settings(names: tuple[str, ...] | None, mapping: Mapping[int, int] | None) -> str:
    parts = [f"names: {_listed(names)}"] if names else []
    parts += [f"label_mapping: {_shown(mapping)}"] if mapping is not None else []
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    """Return names as a YAML list."""
    plain = (name if _PLAIN.fullmatch(name) and name.lower() not in _YAML_WORDS else json.dumps(name, ensure_ascii=False) for name in names)
    return f"[{', '.join(plain)}]"


def _mapped(mapping: Mapping[int, int]) -> str:
    return f"n.vectorize(lambda v: {_written(mapping)}.get(v, 255))(a)"


def _shown(mapping: Mapping[int, int]) -> str:
    """Return a mapping in full, or its ends and what prints the whole of it."""
    if len(mapping) <= _MOST_IN_FULL:
        return _written(mapping)
    values, labels = zip(*sorted(mapping.items()), strict=True)
    if values == tuple(range(values[0], values[-1] + 1)) and labels == tuple(range(labels[0], labels[-1] + 1)):
        made = f"{{v: v - {values[0] - labels[0]} for v in range({values[0]}, {values[-1] + 1})}}"
    else:
        made = f"dict(zip({list(values)}, {list(labels)}))"
    ends = f"{values[0]}: {labels[0]}, {values[1]}: {labels[1]}, …, {values[-1]}: {labels[-1]}"
    return f'{{{ends}}} (all of it is printed by: python -c "print({made})")'


def _written(mapping: Mapping[int, int]) -> str:
    return f"{{{', '.join(f'{value}: {label}' for value, label in sorted(mapping.items()))}}}"
