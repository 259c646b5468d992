import numpy as np
import pytest
import torch

from upscore.ops.mirror import mirror


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1), (5, 9), (20, 1)])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_it_is_numpys_reflection(size, before, after):
    x = np.arange(2.0 * size * 3).reshape(2, 1, size, 3)
    found = mirror(torch.from_numpy(x), rows=(before, after), columns=(2, 4))
    np.testing.assert_array_equal(found.numpy(), np.pad(x, ((0, 0), (0, 0), (before, after), (2, 4)), mode="reflect"))


def test_a_single_pixel_is_all_there_is():
    assert mirror(torch.full((1, 1, 1, 1), 3.0), rows=(2, 5), columns=(0, 1)).eq(3).all()
    assert mirror(torch.full((1, 1, 1, 1), 3.0), rows=(2, 5), columns=(0, 1)).shape == (1, 1, 8, 2)
