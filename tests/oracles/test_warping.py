"""The warping error against every warp of tiny images, and against the topology that warping must not change."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from upscore.errors import DataError
from upscore.metrics import pixel_error, warp, warping_error

tiny = arrays(np.bool_, (3, 4))


def parts(mask):
    """The cells by sides and the membranes by corners, with what lies beyond the image."""
    padded = np.pad(mask, 1)
    return [cv2.connectedComponents(side.astype(np.uint8), connectivity=by)[1] for side, by in ((padded, 4), (~padded, 8))]


def topology(mask):
    return [int(numbers.max()) for numbers in parts(mask)]


def keeps_topology(before, after, y, x):
    """Whether a flip maps the parts of each side one to one onto those after it: by the whole image, not its neighbourhood."""
    for old, new in zip(parts(before), parts(after), strict=True):
        shared = (old > 0) & (new > 0)
        pairs = set(zip(old[shared].tolist(), new[shared].tolist(), strict=True))
        if not old.max() == new.max() == len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            return False
    return True


def smallest_monotone(truth, predicted):
    """The fewest pixels that differ after any order of flips that each keep the topology and lead towards the prediction."""
    seen, stack, best = set(), [truth], truth.size
    while stack:
        mask = stack.pop()
        if mask.tobytes() in seen:
            continue
        seen.add(mask.tobytes())
        different = np.argwhere(mask != predicted).tolist()
        best = min(best, len(different))
        for y, x in different:
            after = mask.copy()
            after[y, x] = not after[y, x]
            if keeps_topology(mask, after, y, x):
                stack.append(after)
    return best


@given(tiny, tiny)
@settings(max_examples=60, deadline=None)
def test_the_topology_is_that_of_the_truth_and_no_flip_improves(truth, predicted):
    warped = warp(truth, predicted)
    assert topology(warped) == topology(truth)
    for y, x in np.argwhere(warped != predicted).tolist():
        after = warped.copy()
        after[y, x] = not after[y, x]
        assert not keeps_topology(warped, after, y, x)
    assert 12 * warping_error(truth, predicted) >= smallest_monotone(truth, predicted) - 1e-9
    assert warping_error(truth, predicted) <= pixel_error(truth, predicted)


def test_tiny_images_reach_the_smallest_error():
    rng = np.random.default_rng(0)
    for pair in rng.random((80, 2, 3, 4)) < 0.6:
        assert round(12 * warping_error(*pair)) == smallest_monotone(*pair)


def test_large_groups_are_warped_until_no_flip_improves(monkeypatch):
    monkeypatch.setattr("upscore.metrics.warping.MAX_EXACT", 0)
    rng = np.random.default_rng(0)
    pairs = rng.random((80, 2, 3, 4)) < 0.6
    excess = [round(12 * warping_error(*pair)) - smallest_monotone(*pair) for pair in pairs]
    assert min(excess) == 0 < sum(excess) < 20  # greedy is near the smallest
    for truth, predicted in pairs:
        assert topology(warp(truth, predicted)) == topology(truth)


def test_a_boundary_may_move_but_cells_may_not_merge():
    truth = np.ones((9, 12), bool)
    truth[:, 5] = False
    moved, open_membrane = np.ones((9, 12), bool), truth.copy()
    moved[:, 6], open_membrane[4, 5] = False, True
    assert (warping_error(truth, moved), pixel_error(truth, moved)) == (0, 18 / 108)
    assert warping_error(truth, open_membrane) == 1 / 108
    assert warping_error(truth, moved, max_distance=0.5) > 0
    np.testing.assert_array_equal(warp(truth, truth), truth)


def test_what_is_no_mask_is_refused():
    good = np.zeros((2, 3), bool)
    for wrong in (good.astype(np.uint8), good[0], np.zeros((0, 3), bool), np.zeros((3, 2), bool)):
        for pair in itertools.permutations((good, wrong)):
            with pytest.raises(DataError, match="expected"):
                warping_error(*pair)
