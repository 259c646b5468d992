"""Digests of decoded images, by which the same image is found again in another file.

Two images are the same where all their decoded pixels are: a PNG that was saved again, renamed, converted to another lossless
format or stripped of its metadata. A JPEG that was compressed again, a resized image or a crop has other pixels and is not found.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles, input_of
from upscore.data.image_files import read_image_with_metadata

__all__ = ["DIGEST_SIZE", "PixelDigests", "digest_image", "digest_images", "digest_pixels", "read_digests"]

DIGEST_SIZE = 8
"""Bytes of a digest: among 100,000 images and as many others, the chance that any two of them agree by accident is below 1e-9."""

MAX_IMAGES = 100_000
"""Images whose digests are stored."""

MAX_PIXELS = 2_000_000_000
"""Pixels that are decoded for digests alone: 20 seconds on two cores as JPEGs, 45 as PNGs."""

_MAX_PIXELS_AT_ONCE = 200_000_000  # that all threads hold: 600 MB of RGB


def digest_pixels(image: npt.NDArray[Any]) -> bytes:
    """Return the :data:`DIGEST_SIZE` bytes that are the same for images (H, W, C) of one shape, type and content.

    >>> digest_pixels(np.zeros((2, 2, 3), np.uint8)) == digest_pixels(np.zeros((4, 1, 3), np.uint8))
    False
    """
    digest = hashlib.sha256(f"{image.shape} {image.dtype.str}".encode())  # most processors have instructions for it
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:DIGEST_SIZE]


def digest_image(dataset: Dataset, index: int) -> bytes:
    """Return the digest of one image of a dataset; where it is a file, its mask is not read."""
    if isinstance(dataset, InFiles):
        return digest_pixels(read_image_with_metadata(dataset.image_files[index], input_of(dataset)).pixels)
    return digest_pixels(dataset[index].image)


@dataclass(frozen=True)
class PixelDigests:
    """The digests of a dataset's images, or of some of them where there are too many."""

    images: int  #: of the dataset
    by_key: Mapping[str, bytes]  #: of the images whose digests are known; in a bundle's card, keys are left out

    @property
    def known(self) -> frozenset[bytes]:
        """All digests."""
        return frozenset(self.by_key.values())

    def to_card(self) -> dict[str, Any]:
        """Return ``images``, ``known`` and ``digests``: base64 of the sorted digests, :data:`DIGEST_SIZE` bytes each."""
        return {
            "images": self.images,
            "known": len(self.by_key),
            "digests": base64.b64encode(b"".join(sorted(self.known))).decode(),
        }


def read_digests(card: Mapping[str, Any]) -> frozenset[bytes]:
    """Return the digests in a bundle's card; none where it has none, or they are not what :meth:`PixelDigests.to_card` writes."""
    data = card.get("data")
    pixels = data.get("pixels") if isinstance(data, Mapping) else None
    text = pixels.get("digests") if isinstance(pixels, Mapping) else None
    if not isinstance(text, str):
        return frozenset()
    try:
        joined = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return frozenset()
    if len(joined) % DIGEST_SIZE:
        return frozenset()
    return frozenset(joined[at : at + DIGEST_SIZE] for at in range(0, len(joined), DIGEST_SIZE))


def digest_images(
    dataset: Dataset,
    sizes: npt.NDArray[np.int64],
    *,
    decoded: Mapping[str, bytes] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PixelDigests:
    """Return the digests of a dataset's images.

    Up to :data:`MAX_IMAGES` images, and :data:`MAX_PIXELS` pixels, are decoded; of a larger dataset, as many images as that, evenly
    spread over it.

    Parameters
    ----------
    dataset : Dataset
        Its images.
    sizes : (N, 2) int64
        Their heights and widths.
    decoded : mapping of str to bytes, optional
        Digests by key that are known, since these images were decoded before.
    progress : callable
        Called with (images decoded, images to decode).

    Raises
    ------
    UpscoreError
        An image that is decoded cannot be read.
    """
    known = dict(decoded or {})
    indices = [index for index in _spread(sizes) if dataset.keys[index] not in known]
    largest = max(1, int(sizes.prod(axis=1).max())) if len(sizes) else 1
    workers = max(1, min(8, os.cpu_count() or 1, _MAX_PIXELS_AT_ONCE // largest))
    with ThreadPoolExecutor(workers) as pool:
        digests = pool.map(lambda index: digest_image(dataset, index), indices)
        for done, (index, digest) in enumerate(zip(indices, digests, strict=True), start=1):
            known[dataset.keys[index]] = digest
            progress(done, len(indices))
    return PixelDigests(len(dataset), dict(sorted(known.items())[:MAX_IMAGES]) if len(known) > MAX_IMAGES else known)


def _spread(sizes: npt.NDArray[np.int64]) -> Sequence[int]:
    """Return the images to decode: all, or as many as the limits allow, evenly spread."""
    images, pixels = len(sizes), int(sizes.prod(axis=1).sum())
    count = min(images, MAX_IMAGES, max(1, images * MAX_PIXELS // pixels) if pixels > MAX_PIXELS else images)
    return [index * images // count for index in range(count)] if count else []
