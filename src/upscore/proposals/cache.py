"""Boxes on disk: a cache of a proposer's boxes, and files of boxes from elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from upscore.documents import parse_json
from upscore.errors import DataError, OutputError
from upscore.files import read_text, write_atomically
from upscore.proposals.boxes import Boxes
from upscore.proposals.proposers import ImageArray, Proposer
from upscore.text import literal

__all__ = ["BoxFile", "CachedProposer", "proposals_folder"]

_MAX_BYTES = 2**28


@dataclass(frozen=True)
class CachedProposer:
    """A proposer with a cache on disk, one file for each image.

    A file's name is a hash of the image's pixels and the proposer's ``repr``, so that images and settings cannot be mixed up. Where
    nothing can be written, boxes are computed every time.
    """

    proposer: Proposer  #: one of upscore's, or one whose ``repr`` contains everything its boxes depend on
    folder: Path  #: created with the first file

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; a file that cannot be read is written again."""
        digest = blake2b(f"{self.proposer!r}\0{image.shape}\0".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(image).data)
        file = self.folder / f"{digest.hexdigest()}.npy"
        found = _load(file)
        if found is None:
            found = self.proposer(image)
            content = io.BytesIO()
            np.save(content, np.hstack([found.corners, found.objectness[:, None]]), allow_pickle=False)
            with contextlib.suppress(OutputError):  # costs only time
                write_atomically(file, content.getvalue())
        return found


def proposals_folder() -> Path:
    """Return the cache folder: ``proposals`` in the folder of ``UPSCORE_CACHE``, or else in the system's cache folder.

    Its files, about 80 kB an image, can be deleted at any time.
    """
    folder = os.environ.get("UPSCORE_CACHE")
    return (Path(folder) if folder else user_cache_path("upscore")) / "proposals"


def _load(file: Path) -> Boxes | None:
    try:
        table = np.load(file, allow_pickle=False)
        return Boxes(table[:, :4], table[:, 4])
    except (OSError, ValueError, IndexError, EOFError, DataError):
        return None


class BoxFile:
    """A JSON file, of at most 256 MiB, of boxes from elsewhere, by image; DataError where it cannot be read, or is not of this form.

    ::

        {"street/0001": {"size": [360, 480], "boxes": [[12, 30, 200, 340, 0.91], …]}, …}

    A box is left, top, right, bottom in pixels, right and bottom exclusive, and optionally an
    objectness. The name is a sample's key, or an image's file name with or without its suffix.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        text = read_text(self.path, max_bytes=_MAX_BYTES, what="boxes")
        try:
            images = parse_json(text)
        except ValueError as error:
            raise DataError(f"{path}: cannot be read as boxes: {error}") from None
        if not isinstance(images, dict) or not images:
            raise DataError(
                f'{path}: expected {{"image": {{"size": [height, width], "boxes": [[left, top, right, bottom, objectness], …]}}, …}}'
            )
        self._images: dict[str, Any] = images

    def boxes(self, name: str, size: tuple[int, int]) -> Boxes:
        """Return the boxes of one image of a ``size``, its height and width in pixels.

        Only the file name counts where ``name`` is a path. DataError where the file has none for it, or they are for another image size,
        lie outside the image or are no boxes.
        """
        entry = next((self._images[key] for key in (name, Path(name).name, Path(name).stem) if key in self._images), None)
        if entry is None:
            others = f"{len(self._images)} other{'s' * (len(self._images) > 1)}, such as '{next(iter(self._images))}'"
            raise DataError(f"{self.path}: holds no boxes for '{name}', but for {others}")
        if not isinstance(entry, dict) or not isinstance(entry.get("boxes"), list):
            raise DataError(
                f'{self.path}: \'{name}\' is not of the form {{"size": [height, width], "boxes": [[left, top, right, bottom], …]}}'
            )
        if entry.get("size") != list(size):
            found = literal(entry.get("size"))
            raise DataError(f"{self.path}: the boxes of '{name}' are for an image of {found}, expected {list(size)} (height, width)")
        try:
            table = np.array(entry["boxes"] or np.empty((0, 5)), np.float64)
            if table.ndim != 2 or table.shape[1] not in (4, 5):
                raise ValueError("expected 4 or 5 numbers each")
            boxes = Boxes(table[:, :4], table[:, 4] if table.shape[1] == 5 else np.ones(len(table)))
            outside = np.flatnonzero((boxes.corners[:, 2:] <= 0).any(1) | (boxes.corners[:, :2] >= (size[1], size[0])).any(1))
            if outside.size:
                raise ValueError(f"box {outside[0]} is {boxes.corners[outside[0]].tolist()}: it lies outside the image")
            return boxes
        except (TypeError, ValueError, OverflowError, DataError) as error:
            raise DataError(f"{self.path}: the boxes of '{name}' are wrong: {error}") from error
