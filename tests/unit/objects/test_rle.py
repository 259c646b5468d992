import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from upscore.objects.rle import encode_rle


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=8)), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_run_lengths_are_those_of_pycocotools(mask, around):
    coco = pytest.importorskip("pycocotools.mask")
    above, below, before, behind = around
    whole = np.pad(mask, ((above, below), (before, behind)))
    expected = coco.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"].decode()
    assert encode_rle(mask, left=before, top=above, size=whole.shape) == expected


def test_long_runs_and_falling_ones():
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((700, 300), bool)
    mask[3:650, 20:200] = True
    mask[::97, 5] = True
    assert encode_rle(mask, left=0, top=0, size=mask.shape) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
