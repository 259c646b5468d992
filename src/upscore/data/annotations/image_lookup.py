"""Find the images that an annotation file names, wherever they lie in the dataset's folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.paired_files import list_images
from upscore.errors import DataError
from upscore.text import listed

__all__ = ["ImageLookup"]


class ImageLookup:
    """Finds images by the names that annotation files give them.

    A name may be a path with slashes or backslashes, of another machine, or a URL with its special characters encoded. It is looked for
    as a path below each of the folders, and then as the name of one image anywhere below the first.

    Parameters
    ----------
    folders : sequence of path
        Where images may lie, the dataset's own folder first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """Return the image that ``name`` names; None where there is none.

        A DataError is raised where several images have the name and the folders in it do not tell them apart.
        """
        for form in dict.fromkeys((name, name.replace("\\", "/"), unquote(name))):
            for folder in self._folders:
                head, tail = os.path.split(form)
                if ".." not in head and not form.startswith("/") and tail in self._names(os.path.join(folder, head)):
                    return folder / form
        parts = _parts(name) or _parts(unquote(name))
        if not parts:
            return None
        candidates = self._by_name.get(parts[-1], [])
        return self._closest(name, parts, candidates) if candidates else None

    def find_by_stem(self, stem: str) -> Path | None:
        """Return the image of a name without suffix anywhere below the first folder; None where there is none or several."""
        found = self._by_stem.get(unicodedata.normalize("NFC", stem), [])
        return found[0] if len(found) == 1 else None

    def _names(self, folder: str) -> frozenset[str]:
        """Return the names of the files in a folder, which is listed once."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = frozenset(entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES))
            except (OSError, ValueError):
                self._listed[folder] = frozenset()
        return self._listed[folder]

    @cached_property
    def _images(self) -> list[Path]:
        return list_images(self._folders[0])[0] if self._folders[0].is_dir() else []

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped((unicodedata.normalize("NFC", path.name), path) for path in self._images)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped((unicodedata.normalize("NFC", path.stem), path) for path in self._images)

    @staticmethod
    def _closest(name: str, parts: Sequence[str], candidates: Sequence[Path]) -> Path:
        agreeing = [_agreeing(parts, path.parts) for path in candidates]
        best = [path for path, count in zip(candidates, agreeing, strict=True) if count == max(agreeing)]
        if len(best) > 1:
            raise DataError(f"{best[0]}: {len(best)} images may be '{name}' ({listed(best)}): rename them, or leave one")
        return best[0]


def _grouped(items: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for key, path in items:
        groups.setdefault(key, []).append(path)
    return groups


def _parts(name: str) -> list[str]:
    return [part for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _agreeing(parts: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts at the ends of two paths are equal."""
    count = 0
    for one, two in zip(reversed(parts), reversed(other), strict=False):
        if one != unicodedata.normalize("NFC", two):
            break
        count += 1
    return count
