"""Masks whose colours are the classes, read with a table of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import decode, open_header
from upscore.data.mask_files import read_label
from upscore.text import listed

__all__ = ["ColourTable"]

_PIXELS_AT_ONCE = 2**20


class ColourTable:
    """Reads masks by their colours.

    Parameters
    ----------
    colours : dict of (int, int, int) to int
        The class of each RGB colour, or 255 for ignored.
    source : str
        The file of the table, for errors: ``"labelmap.txt"``.
    palettes : bool
        Whether the colours of palette masks count; otherwise their numbers do.
    """

    def __init__(self, colours: Mapping[tuple[int, int, int], int], source: str, *, palettes: bool = True) -> None:
        self._modes = ("P", "RGB", "RGBA") if palettes else ("RGB", "RGBA")
        table = sorted((red << 16 | green << 8 | blue, value) for (red, green, blue), value in colours.items())
        self._keys = np.array([key for key, _ in table], np.uint32)
        self._values = np.array([value for _, value in table], np.uint8)
        self._source = source

    def __call__(self, path: Path) -> npt.NDArray[np.uint8]:
        """Read a mask, (H, W) uint8: palettes by their colours too, grey by its numbers; there must be no transparency.

        Raises
        ------
        DataError
            The file cannot be read, is lossy, or shows a colour that the table lacks.
        """
        file = EncodedImage.read(path)
        header = open_header(file)
        image = header.image
        if image.format == "JPEG" or image.mode not in self._modes:
            return read_label(path)
        try:
            pixels = np.asarray(decode(header).convert("RGBA"))
        except Exception as error:  # decoders raise nearly anything
            raise file.damaged_image_error(error) from error
        if pixels[..., 3].min() < 255:
            return read_label(path)  # which raises the error on transparency
        stored = np.empty(pixels.shape[:2], np.uint8)
        unknown: Counter[int] = Counter()
        step = max(1, _PIXELS_AT_ONCE // max(1, pixels.shape[1]))
        for top in range(0, len(pixels), step):
            packed = _packed(pixels[top : top + step])
            indices = np.minimum(np.searchsorted(self._keys, packed), len(self._keys) - 1)
            stored[top : top + step] = self._values[indices]
            if (differ := self._keys[indices] != packed).any():
                unknown.update(packed[differ].tolist())
        if unknown:
            shown = listed([f"{key >> 16},{key >> 8 & 255},{key & 255}: {count} px" for key, count in unknown.most_common()])
            raise file.error(
                f"the mask shows colours that {self._source} gives to no class ({shown}): add a line for each to it", check="values.colours"
            )
        return stored


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    packed = colours[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed <<= 8
        packed |= colours[..., channel]
    return packed
