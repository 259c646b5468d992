"""Store the images of a dataset that is written: as they are where the format takes their type, otherwise without loss in another."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from upscore.data.encoded_image import split_page
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.writer import AnnotatedImage
from upscore.errors import DataError, OutputError
from upscore.files import write_atomically
from upscore.input_spec import Image

__all__ = ["ANY", "BROWSER", "TOOLS", "WrittenImages"]

ANY = IMAGE_SUFFIXES
"""Images of every type that upscore reads."""
TOOLS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Images of the types that most tools open."""
BROWSER = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
"""Images of the types that a browser shows."""


class WrittenImages:
    """Stores images in a folder, and names them.

    Parameters
    ----------
    folder : path
        The dataset.
    suffixes : collection of str
        File name endings of the images that the format takes.
    flat : bool
        Whether all images of a split lie in one folder, and no two of the dataset have the same name: ``street/0001.jpg`` becomes
        ``street_0001.jpg``.
    warnings : Counter
        Gets what was renamed or stored in another type.
    """

    def __init__(self, folder: Path, suffixes: Collection[str], *, flat: bool, warnings: Counter[str]) -> None:
        self.folder, self._suffixes, self._flat, self._warnings = folder, suffixes, flat, warnings
        self._taken: set[str] = set()

    def name(self, image: AnnotatedImage) -> PurePosixPath:
        """Return the image's path below its split, without the suffix, and reserve it."""
        parts = [part for part in PurePosixPath(image.name).parts if part not in ("..", ".", "/")] or ["unnamed"]
        stem = "/".join([*parts[:-1], PurePosixPath(parts[-1]).stem])
        name = stem.replace("/", "_") if self._flat else stem
        number, first = 1, name
        while self._key(image.split, name) in self._taken:
            number += 1
            name = f"{image.split}_{first}" if number == 2 and self._flat and image.split else f"{first}_{number}"
        self._taken.add(self._key(image.split, name))
        if name != stem:
            self._warnings["images have another name, as the format holds no folders, or no two images of one name"] += 1
        return PurePosixPath(name)

    def _key(self, split: str, name: str) -> str:
        return name.casefold() if self._flat else f"{split}/{name.casefold()}"

    def store(self, image: AnnotatedImage, path: str) -> str:
        """Store an image at ``path`` below the folder, which lacks the suffix; return the path with it."""
        if image.file is not None and not split_page(image.file)[1] and (suffix := image.file.suffix.lower()) in self._suffixes:
            self._copy(image.file, self.folder / f"{path}{suffix}")
            return f"{path}{suffix}"
        if image.pixels is None:
            raise DataError(f"{image.file or image.name}: its type cannot be stored, expected {', '.join(self._suffixes)}, or its pixels")
        suffix, content = _encode(image.pixels)
        if suffix not in self._suffixes:
            _, _, bands = image.pixels.shape
            raise DataError(
                f"{image.file or image.name}: has {bands} bands of {image.pixels.dtype}, which this format cannot hold, expected grey or "
                "colour of 8 or 16 bits: choose another format"
            )
        if image.file is not None:
            self._warnings[f"images were stored as {suffix[1:].upper()}, without loss, as the format does not take their type"] += 1
        write_atomically(self.folder / f"{path}{suffix}", content)
        return f"{path}{suffix}"

    def _copy(self, source: Path, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as error:
            raise OutputError(f"{target}: cannot be written ({error.strerror or error}): free some space or choose another path") from None


def _encode(pixels: Image) -> tuple[str, bytes]:
    """Return the suffix and the content of a file that stores the pixels without loss: a PNG, or a TIFF where there are other bands."""
    if pixels.dtype in (np.uint8, np.uint16) and pixels.shape[2] in (1, 3):
        return ".png", cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    import tifffile

    content = io.BytesIO()
    tifffile.imwrite(content, pixels, photometric="minisblack", planarconfig="contig", compression="zlib", metadata=None)
    return ".tif", content.getvalue()
