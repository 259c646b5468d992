"""Findings: what a user should know about a dataset, as values with remedies that can be followed as they are written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

__all__ = ["DescribedMasks", "Finding", "Remedy", "Severity", "has_background", "with_background"]

Severity: TypeAlias = Literal["error", "warning", "info"]
"""An error prevents training; a warning makes a network or its metrics worse than they seem; an info is good to know."""

SampleName: TypeAlias = tuple[str, str]
"""A split and a key."""

_PLAIN = re.compile(r"[A-Za-z][\w-]*( [\w-]+)*", re.ASCII)
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_BACKGROUND = re.compile(r"back ?ground|^bg$|^ground$|^other|^none$|^nothing$|^unlabel", re.IGNORECASE)
_MAX_IN_FULL = 100  # entries of a label_mapping that are written out


@dataclass(frozen=True)
class DescribedMasks:
    """The masks that remedies are for."""

    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  #: empty where masks are not files
    #: a dataset.yaml in which names and label_mapping are set, which need not exist; None where the layout has none
    settings_file: Path | None = None


@dataclass(frozen=True)
class Remedy:
    """One way to correct what was found: settings of a ``dataset.yaml``, advice, or a command that rewrites the masks."""

    names: tuple[str, ...] | None = None  #: the classes to name
    mapping: Mapping[int, int] | None = None  #: the label_mapping to set
    advice: str = ""  #: what to do in words, where settings do not help
    when: str = ""  #: under which meaning of the masks it is right, as a clause that begins with "if"; empty where there is only one
    rewrite: str = ""  #: a NumPy expression of the values a of a mask that gives the right ones; it completes the advice

    def text(self, masks: DescribedMasks) -> str:
        """Return what to do for ``masks``, in words and commands."""
        settings, file = _settings(self.names, self.mapping), masks.settings_file
        if file is not None and file.exists():
            action = f"set {settings} in {file.name}" if settings else ""
        elif file is not None:
            complete = _settings(self.names or masks.names, self.mapping)
            action = f"write the file {file} with the line {{{complete}}}" if settings else ""
        else:
            changed = ""
            if self.mapping is not None:
                changed = f"change the stored values according to label_mapping: {_mapping_in_full_or_ends(self.mapping)}"
                changed += _rewrite_command(f"n.vectorize(lambda v: {_written(self.mapping)}.get(v, 255))(a)", masks.files)
            action = " and ".join(filter(None, (changed, f"give the classes as names: {_yaml_list(self.names)}" if self.names else "")))
        advice = self.advice + (_rewrite_command(self.rewrite, masks.files) if self.rewrite else "")
        action = " and ".join(filter(None, (action, advice)))
        return f"{self.when}, {action}" if self.when else action


@dataclass(frozen=True)
class Finding:
    """One thing about a dataset that its user should know.

    Examples
    --------
    >>> print(Finding("values.object-as-255", "error", "street (train)", "0/255 masks", remedies=(Remedy(mapping={0: 0, 255: 1}),)).text())
    [values.object-as-255] street (train): 0/255 masks; change the stored values according to label_mapping: {0: 0, 255: 1}
    """

    id: str  #: which check found it, a family and a name; never changes
    severity: Severity
    where: str  #: the dataset and its splits; empty where "what" names them
    what: str
    keys: tuple[str, ...] = ()  #: the samples concerned; empty where it is all of them
    files: tuple[Path, ...] = ()  #: their masks; empty where masks are not files
    values: Mapping[int, int] = field(default_factory=dict)  #: pixels of each stored value concerned
    remedies: tuple[Remedy, ...] = ()  #: what corrects it; several where that depends on what the masks mean
    masks: DescribedMasks = field(default=DescribedMasks(), repr=False)  #: which the remedies are for
    #: the samples that show it, each alone or with those that it is compared with
    evidence: tuple[tuple[SampleName, ...], ...] = field(default=(), repr=False)

    @property
    def fatal(self) -> bool:
        """Whether training on the dataset as it is would be wrong."""
        return self.severity == "error"

    def remedy(self) -> str:
        """Return every remedy in words and commands; "" where there is none."""
        return "; or, ".join(remedy.text(self.masks) for remedy in self.remedies)

    def text(self) -> str:
        """Return the check's id, where it is, what was found and every remedy, as one line."""
        remedy = self.remedy()
        return f"[{self.id}] " + (f"{self.where}: " if self.where else "") + self.what + (f"; {remedy}" if remedy else "")

    __str__ = text

    def as_dict(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        return {
            "id": self.id,
            "severity": self.severity,
            "where": self.where,
            "found": self.what,
            "remedy": self.remedy(),
            "samples": [[{"split": split, "key": key} for split, key in group] for group in self.evidence],
            "files": [str(file) for file in self.files],
            "values": {str(value): int(pixels) for value, pixels in self.values.items()},
        }


def with_background(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return ``names`` with a background before them; None where the first one is a background already."""
    return None if _BACKGROUND.search(names[0]) else ("background", *names)


def has_background(names: Sequence[str]) -> bool:
    """Return whether the first of several classes is a background, by its name.

    >>> has_background(["background", "cat"]), has_background(["road", "car"]), has_background(["background"])
    (True, False, False)
    """
    return len(names) > 1 and _BACKGROUND.search(names[0]) is not None


def _rewrite_command(pixels: str, files: Sequence[Path]) -> str:
    """Return ", which this does in place: <a command>" that replaces the values ``a`` of every mask by the expression ``pixels``.

    "" where the masks do not lie in one folder with a plain name, or have several suffixes.
    """
    folder, suffixes = _folder_of(files), {path.suffix for path in files}
    if folder is None or len(suffixes) != 1:
        return ""
    return (
        ', which this does in place (make a copy): python -c "import numpy as n; from pathlib import Path; from PIL import Image as I; '
        f"[I.fromarray(n.asarray({pixels}).astype('u1')).save(p) for p in Path('{folder}').rglob('*{suffixes.pop()}') "
        'for i in [I.open(p)] for a in [n.array(i)]]"'
    )


def _folder_of(files: Sequence[Path]) -> str | None:
    """Return the folder that holds all ``files``; None where there is none, or its name needs quoting."""
    if not files:
        return None
    try:
        folder = os.path.commonpath([os.path.abspath(path.parent) for path in files])
    except ValueError:  # different drives
        return None
    return Path(folder).as_posix() if re.fullmatch(r"[\w/:. +-]+", Path(folder).as_posix()) else None


def _settings(names: tuple[str, ...] | None, mapping: Mapping[int, int] | None) -> str:
    parts = [f"names: {_yaml_list(names)}"] if names else []
    parts += [f"label_mapping: {_mapping_in_full_or_ends(mapping)}"] if mapping is not None else []
    return ", ".join(parts)


def _yaml_list(names: Sequence[str]) -> str:
    plain = (name if _PLAIN.fullmatch(name) and name.lower() not in _YAML_WORDS else json.dumps(name, ensure_ascii=False) for name in names)
    return f"[{', '.join(plain)}]"


def _mapping_in_full_or_ends(mapping: Mapping[int, int]) -> str:
    """Return a mapping in full, or its ends and a command that prints all of it."""
    if len(mapping) <= _MAX_IN_FULL:
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
