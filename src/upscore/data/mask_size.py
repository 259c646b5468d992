"""Whether a mask has the size of its image, and what is wrong where it has not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upscore.errors import DataError

__all__ = ["check_size"]


def check_size(image_file: Path, image: Sequence[int], orientation: int, mask: Sequence[int], file: Path) -> None:
    """Raise a DataError where the mask in ``file`` has not the height and width of its image, which has this EXIF orientation."""
    if tuple(image) == tuple(mask):
        return
    turned = orientation >= 5 and tuple(image) == tuple(mask)[::-1]
    why = (
        f", turned upright by its EXIF orientation tag ({orientation}): the mask was drawn on the image as stored; "
        "turn the mask too, or remove the image's tag (exiftool -Orientation= FILE)"
        if turned
        else ": they must agree pixel for pixel"
    )
    raise DataError(
        f"{file}: the mask is {mask[0]}×{mask[1]} (height × width) and its image {image_file.name} is {image[0]}×{image[1]}{why}",
        check=_check_of((image[0], image[1]), (mask[0], mask[1]), turned=turned),
    )


def _check_of(image: tuple[int, int], mask: tuple[int, int], *, turned: bool) -> str:
    """Return the check under which sizes are reported that differ."""
    if turned:
        return "sizes.turned"
    if max(abs(image[0] - mask[0]), abs(image[1] - mask[1])) <= 2:
        return "sizes.off-by-one"
    # The same factor along both sides, up to the rounding of the smaller size.
    small, large = sorted((image, mask))
    factor = max(large) / max(small)
    scaled = all(abs(long - factor * short) <= max(1.0, factor) for short, long in zip(small, large, strict=True))
    return "sizes.scaled" if scaled else "sizes.differ"
