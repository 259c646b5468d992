"""Pairs of near hashes are those that comparing all gives."""

import random

from upscore.doctor.near_duplicates import cluster, near_pairs


def hashes(count: int, seed: int) -> list[int]:
    """Hashes of which many are a few bits from others."""
    rng = random.Random(seed)
    found = [rng.getrandbits(64) for _ in range(count // 2)]
    return found + [rng.choice(found) ^ sum(1 << bit for bit in rng.sample(range(64), rng.randrange(10))) for _ in range(count // 2)]


def test_all_pairs_and_no_others_are_found(monkeypatch):
    monkeypatch.setattr("upscore.doctor.near_duplicates._BLOCK", 100)
    first, second = hashes(40, 0), [*hashes(20, 1), *hashes(40, 0)[::3]]
    expected = [(i, j, bin(a ^ b).count("1")) for j, b in enumerate(second) for i, a in enumerate(first) if bin(a ^ b).count("1") <= 8]
    assert sorted(near_pairs(first, second, 8)) == sorted(expected)
    assert expected


def test_a_group_is_joined_by_a_chain():
    assert cluster([0b0000, 0b1111, 0b0011, (1 << 64) - 1], 2) == [[0, 1, 2], [3]]
    assert list(near_pairs([], [1], 4)) == []
