"""What pooling with switches and unpooling keep, whatever the values, sizes and threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from upscore.errors import ModelError
from upscore.ops import switches as steps
from upscore.ops.unpool import bed_of_nails, max_pool, max_unpool, nearest_unpool

SPECIAL = torch.tensor([0.0, -0.0, 1.0, 1.0, -1.0, 2.5, float("nan"), float("inf"), float("-inf")])


@st.composite
def maps(draw, *, special: bool = True) -> Tensor:
    shape = [draw(st.integers(1, most)) for most in (2, 18, 7, 37)]
    seeded = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = SPECIAL[torch.randint(len(SPECIAL), shape, generator=seeded)] if special else torch.randn(shape, generator=seeded)
    dtype, layout = (
        draw(st.sampled_from([torch.float32, torch.bfloat16])),
        draw(st.sampled_from([torch.contiguous_format, torch.channels_last])),
    )
    return x.to(dtype).contiguous(memory_format=layout)


def same(a: Tensor, b: Tensor) -> bool:
    kind = torch.int16 if a.dtype == torch.bfloat16 else torch.int32
    return torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))


@given(maps())
def test_maxima_stay_in_place_and_all_else_is_zero(x):
    y, switches = max_pool(x)
    out = max_unpool(y, switches, x.shape[-2:])
    kept = max_unpool(torch.ones_like(y), switches, x.shape[-2:]) == 1
    assert kept.sum() == y.numel()  # one in each window, none lost at an odd end
    assert same(out, torch.where(kept, x, 0))


@given(maps(special=False), st.booleans(), st.booleans())
def test_pooling_takes_back_what_was_unpooled(y, odd_height, odd_width):
    y = y.abs()
    size = (2 * y.shape[2] - odd_height, 2 * y.shape[3] - odd_width)
    draws = torch.randn(*y.shape[:2], *size, dtype=torch.float32)
    assert torch.equal(max_pool(max_unpool(y, max_pool(draws)[1], size))[0], y)
    assert torch.equal(max_pool(bed_of_nails(y, size))[0], y)
    assert torch.equal(max_pool(nearest_unpool(y, size))[0], y)


@given(maps())
def test_gathering_undoes_scattering(x):
    y, switches = max_pool(x)
    assert same(steps.gather(steps.scatter(y, switches, x.shape[-2:]), switches), y)


@given(maps())
def test_a_window_costs_two_bits(x):
    y, switches = max_pool(x)
    n, c, h, w = y.shape
    assert switches.dtype == torch.uint8
    assert switches.shape == (n, c, h, -(-w // 4))


@given(maps(), st.integers(0, 255))
def test_bytes_that_no_pooling_gave_touch_no_other_memory(x, byte):
    y, switches = max_pool(x)
    stranger = torch.full_like(switches, byte)
    out = max_unpool(y, stranger, x.shape[-2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "compiled_for", lambda x, *dtypes: None)
        assert same(out, max_unpool(y, stranger, x.shape[-2:]))
        expected = steps.gather(x, stranger)
    assert same(steps.gather(x, stranger), expected)


def assert_paths_agree(native, x: Tensor, instructions: str, threads: int) -> None:
    n, c, height, width = x.shape
    planes = x.contiguous().view(n * c, height, width, 1) if x.is_contiguous() else x.permute(0, 2, 3, 1)
    p, _, _, k = planes.shape
    maxima = planes.new_empty(p, -(-height // 2), -(-width // 2), k)
    switches = torch.empty(p, -(-height // 2), -(-width // 8), k, dtype=torch.uint8)
    out, taken = torch.empty_like(planes), torch.empty_like(maxima)
    native.pool(planes, maxima, switches, threads, instructions)
    native.scatter(out, maxima, switches, threads, instructions)
    native.gather(out, taken, switches, threads, instructions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "compiled_for", lambda x, *dtypes: None)
        y, codes = steps.pool(planes.permute(0, 3, 1, 2))
        assert same(maxima.permute(0, 3, 1, 2), y)
        assert torch.equal(switches.permute(0, 3, 1, 2), codes)
        assert same(out.permute(0, 3, 1, 2), steps.scatter(y, codes, (height, width)))
    assert same(taken, maxima)


@given(maps(), st.integers(1, 3))
def test_every_instruction_set_gives_the_plain_paths_bits(x, threads):
    native = pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    for instructions in {"portable", native.instructions()}:
        assert_paths_agree(native, x, instructions, threads)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_threads_divide_give_the_same_bits(dtype, layout):
    native = pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    x = SPECIAL[torch.randint(len(SPECIAL), (3, 20, 189, 191), generator=torch.Generator().manual_seed(0))]
    assert_paths_agree(native, x.to(dtype).contiguous(memory_format=layout), "best", 3)


def saved_by(work) -> list[Tensor]:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        work()
    return kept


@pytest.mark.parametrize("size", [(8, 32), (7, 31), (1, 1)])
def test_nothing_but_the_packed_switches_is_saved(size):
    x = torch.randn(2, 5, *size, requires_grad=True)
    made = []

    def both() -> None:
        y, switches = max_pool(x)
        made.extend([max_unpool(y, switches, size), switches])

    kept = saved_by(both)
    assert {t.untyped_storage().data_ptr() for t in kept} == {made[1].untyped_storage().data_ptr()}
    assert made[1].untyped_storage().nbytes() == 2 * 5 * -(-size[0] // 2) * -(-size[1] // 8)
    made[0].sum().backward()
    with torch.no_grad():
        assert not saved_by(both)
    assert not saved_by(lambda: max_pool(x.detach()))


def pair(x: Tensor) -> Tensor:
    y, switches = max_pool(x)
    return max_unpool(y.square(), switches, x.shape[-2:])


@pytest.mark.parametrize("unpool", [bed_of_nails, nearest_unpool, None])
def test_first_and_second_derivatives_are_right(unpool):
    x = torch.randperm(2 * 5 * 7).double().view(1, 2, 5, 7).div(7).requires_grad_()  # no ties
    function = pair if unpool is None else lambda x: unpool(x.square(), (9, 14))
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    if unpool is None:
        single = x.detach().float()
        torch.testing.assert_close(torch.func.grad(lambda x: pair(x).sum())(single), torch.autograd.grad(pair(x).sum(), x)[0].float())


def test_outputs_may_be_changed_in_place():
    x = torch.randn(1, 2, 5, 7, requires_grad=True)
    y, switches = max_pool(x)
    max_unpool(y.relu_(), switches, (5, 7)).mul_(2).sum().backward()
    values, codes = max_pool(x.detach())
    assert torch.equal(x.grad, max_unpool(2.0 * (values > 0), codes, (5, 7)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y, s: max_pool(y[0]), "to pool, expected floats (N, C, H, W)"),
        (lambda y, s: max_pool(y.int()), "found torch.int32 (1, 2, 3, 9) to pool"),
        (lambda y, s: max_pool(y[..., :0]), "with H and W from 1"),
        (lambda y, s: max_unpool(y, s, (7, 18)), "expected floats (N, C, 4, 9)"),
        (lambda y, s: max_unpool(y.int(), s, (6, 18)), "found torch.int32 (1, 2, 3, 9) to unpool to (6, 18)"),
        (lambda y, s: max_unpool(y, s[..., :2], (6, 18)), "expected torch.uint8 (1, 2, 3, 3)"),
        (lambda y, s: max_unpool(y, s.long(), (6, 18)), "found switches torch.int64 (1, 2, 3, 3)"),
        (lambda y, s: bed_of_nails(y, (6, 19)), "expected floats (N, C, 3, 10)"),
        (lambda y, s: nearest_unpool(y, (4, 18)), "expected floats (N, C, 2, 9)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, words):
    with pytest.raises(ModelError) as caught:
        call(torch.rand(1, 2, 3, 9), torch.zeros(1, 2, 3, 3, dtype=torch.uint8))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["pool", "scatter", "gather"])
def test_the_compiled_module_refuses_arrays_that_do_not_fit(step):
    native = pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    pixels, values, codes = torch.zeros(2, 5, 9, 3), torch.zeros(2, 3, 5, 3), torch.zeros(2, 3, 2, 3, dtype=torch.uint8)
    call = getattr(native, step)
    call(pixels, values, codes, 1)
    wrong = [
        (pixels[0], values, codes, 1),
        (pixels, values[:, :2], codes, 1),
        (pixels, values, codes[:1], 1),
        (pixels.mT.contiguous().mT, values, codes, 1),
        (pixels.double(), values.double(), codes, 1),
        (pixels, values.bfloat16(), codes, 1),
        (pixels, values, codes, 0),
        (pixels, values, codes, 1, "fastest"),
    ]
    for arguments in wrong:
        with pytest.raises((ValueError, TypeError)):
            call(*arguments)
    with pytest.raises(TypeError):
        call(pixels, values, codes.float(), 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_it_pools_in_a_forked_process():
    probe = """
import os, torch
from upscore.ops.unpool import max_pool, max_unpool
torch.set_num_threads(2)
x = torch.rand(2, 32, 100, 128)
def work():
    y, switches = max_pool(x)
    return max_unpool(y, switches, (100, 128))
expected = work()
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(work(), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@settings(max_examples=20)
@given(st.integers(1, 40))
def test_the_unused_bits_of_a_byte_are_zero(width):
    switches = max_pool(torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(1, width)[None, None])[1]
    assert np.unpackbits(switches.numpy(), bitorder="little").sum() == 2 * width
