"""Images whose difference hashes differ in few bits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from upscore.doctor.scan import Record

__all__ = ["cluster", "distances", "near_pairs"]

_BLOCK = 2**20  # pairs that are compared at once


def distances(first: Record, second: Record) -> int:
    """Return in how many of 64 bits the hashes of two images differ."""
    assert first.image is not None
    assert second.image is not None
    return (first.image.hash ^ second.image.hash).bit_count()


def near_pairs(first: Sequence[int], second: Sequence[int], limit: int) -> Iterator[tuple[int, int, int]]:
    """Yield (index in ``first``, index in ``second``, bits) of all pairs of hashes that differ in at most ``limit`` of 64 bits.

    All pairs are compared, a block of ``second`` at a time: ten seconds for 100,000 hashes and 20,000 others.

    >>> list(near_pairs([0b1111], [0b1110, 0b0000], 3))
    [(0, 0, 1)]
    """
    one, two = np.array(first, np.uint64), np.array(second, np.uint64)
    rows = max(1, _BLOCK // max(1, len(one)))
    for begin in range(0, len(two), rows):
        bits = np.bitwise_count(two[begin : begin + rows, None] ^ one)
        for j, i in zip(*np.nonzero(bits <= limit), strict=True):
            yield int(i), begin + int(j), int(bits[j, i])


def cluster(hashes: Sequence[int], limit: int) -> list[list[int]]:
    """Return the indices of hashes in groups: two are in one group where a chain of steps of at most ``limit`` bits joins them.

    >>> cluster([0b0, 0b1, 0b11111111], 2)
    [[0, 1], [2]]
    """
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, _ in near_pairs(hashes, hashes, limit):
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(hashes)):
        groups[root(i)].append(i)
    return list(groups.values())
