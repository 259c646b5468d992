"""Pooling with switches and the three unpoolings against torch's pair, which keeps 64-bit places, and transcriptions in NumPy."""

import itertools
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import upscore
from upscore.ops.unpool import bed_of_nails, max_pool, max_unpool, nearest_unpool

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")])
PATHS = ("compiled", "plain", GPU)
SIZES = [(1, 1), (2, 2), (1, 8), (5, 7), (3, 9), (6, 14), (9, 16), (4, 17), (2, 18), (7, 30), (45, 60)]
FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(params=PATHS)
def device(request, monkeypatch) -> str:
    """Where tensors lie; for the plain path the compiled module is hidden."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "upscore._native", None)
        monkeypatch.delattr(upscore, "_native", raising=False)
    elif request.param == "compiled":
        pytest.importorskip("upscore._native", reason="upscore was installed without a compiler")
    return "cuda" if request.param == "cuda" else "cpu"


def difficult(*shape: int) -> Tensor:
    """Values with many ties, zeros of both signs, some NaN and some infinities."""
    drawn = torch.Generator().manual_seed(sum(shape))
    x = torch.randint(-2, 3, shape, generator=drawn).float()
    x = torch.where(torch.rand(shape, generator=drawn) < 0.2, -0.0, x)
    chance = torch.rand(shape, generator=drawn)
    return x.masked_fill(chance < 0.1, float("nan")).masked_fill(chance > 0.9, float("-inf"))


def bits(x: Tensor) -> Tensor:
    """What zeros of both signs can be told apart by, and NaN compared; torch itself gives several patterns of NaN in bfloat16."""
    kinds = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
    return x.detach().masked_fill(x.isnan(), float("nan")).cpu().contiguous().view(kinds[x.dtype])


def windows(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


@pytest.mark.parametrize("channels", [1, 3, 11, 16])
@pytest.mark.parametrize("size", SIZES)
def test_the_pair_and_its_gradients_equal_torch_bit_for_bit(device, size, channels):
    for dtype, memory_format in itertools.product([torch.float32, torch.bfloat16, torch.float64], FORMATS):
        given = difficult(2, channels, *size).to(dtype).to(device, memory_format=memory_format)
        x, other = given.clone().requires_grad_(), given.clone(memory_format=torch.contiguous_format).requires_grad_()
        y, switches = max_pool(x)
        out = max_unpool(y, switches, size)
        pooled, places = F.max_pool2d(other, 2, ceil_mode=True, return_indices=True)
        expected = F.max_unpool2d(pooled, places, 2, stride=2, output_size=size)
        upstream = difficult(*out.shape).flip(0).to(out).contiguous(memory_format=memory_format)
        back, torchs = torch.autograd.grad(out, y, upstream)[0], torch.autograd.grad(expected, pooled, upstream)[0]
        for ours, theirs in ((y, pooled), (out, expected), (back, torchs)):
            assert torch.equal(bits(ours), bits(theirs))
            assert ours.is_contiguous(memory_format=memory_format)
        y.backward(back)
        pooled.backward(torchs)
        # torch adds to zeros where a value is put here: of its gradient of pooling no zero is negative
        assert torch.equal(bits(x.grad + 0.0), bits(other.grad))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_switches_are_the_same_bytes_on_every_path(device, size, dtype):
    x = difficult(2, 9, *size).to(device, dtype)
    _, places = F.max_pool2d(x.float(), 2, ceil_mode=True, return_indices=True)
    codes = (2 * (places // size[1] % 2) + places % size[1] % 2).cpu().numpy().astype(np.uint8)
    packed = np.zeros((2, 9, windows(size)[0], -(-windows(size)[1] // 4)), np.uint8)
    for window in range(codes.shape[-1]):
        packed[..., window // 4] |= codes[..., window] << 2 * (window % 4)
    for memory_format in FORMATS:
        _, switches = max_pool(x.contiguous(memory_format=memory_format))
        assert switches.dtype == torch.uint8
        np.testing.assert_array_equal(switches.cpu().numpy(), packed)


def transcribed(kind: str, y: np.ndarray, codes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the unpooling pixel by pixel, in float64."""
    out = np.zeros((*y.shape[:2], *size))
    for row in range(size[0]):
        for column in range(size[1]):
            here = np.full(y.shape[:2], 2 * (row % 2) + column % 2)
            taken = {"nearest": here, "nails": np.zeros_like(here), "switches": codes[..., row // 2, column // 2]}[kind] == here
            out[..., row, column] = np.where(taken, y[..., row // 2, column // 2], 0)
    return out


@pytest.mark.parametrize("kind", ["nearest", "nails", "switches"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (6, 8), (3, 18)])
def test_each_unpooling_and_its_gradient_is_its_definition(device, size, kind):
    rng = np.random.default_rng(sum(size))
    y = rng.normal(size=(2, 3, *windows(size)))
    codes = rng.integers(0, 4, y.shape)
    codes[..., -1, :] %= 2 if size[0] % 2 else 4  # no switch points outside
    codes[..., -1] -= codes[..., -1] % 2 if size[1] % 2 else 0
    packed = np.zeros((2, 3, windows(size)[0], -(-windows(size)[1] // 4)), np.uint8)
    for window in range(codes.shape[-1]):
        packed[..., window // 4] |= (codes[..., window] << 2 * (window % 4)).astype(np.uint8)
    switches = torch.from_numpy(packed).to(device)
    unpool = {
        "nearest": lambda v: nearest_unpool(v, size),
        "nails": lambda v: bed_of_nails(v, size),
        "switches": lambda v: max_unpool(v, switches, size),
    }[kind]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        values = torch.from_numpy(y).to(device, dtype).requires_grad_()
        out = unpool(values)
        np.testing.assert_array_equal(out.detach().double().cpu(), transcribed(kind, values.detach().double().cpu().numpy(), codes, size))
        upstream = torch.from_numpy(rng.integers(-8, 9, out.shape)).to(out)
        out.backward(upstream)
        for one in np.ndindex(*y.shape) if dtype is torch.float64 else ():
            unit = np.zeros_like(y)
            unit[one] = 1
            assert values.grad[one] == (transcribed(kind, unit, codes, size) * upstream.double().cpu().numpy()).sum()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (1, 1, 1, 1)])
def test_nothing_is_pooled_to_nothing(device, shape):
    x = torch.rand(shape, device=device, requires_grad=True)
    y, switches = max_pool(x)
    out = max_unpool(y, switches, shape[-2:])
    assert out.shape == shape
    out.sum().backward()
    assert x.grad.shape == shape


def test_any_strides_and_expanded_gradients_are_welcome(device):
    whole = difficult(4, 6, 11, 26).to(device)
    for x in (whole[::2], whole[:, 1:4], whole[..., 1:8, ::2], whole.mT, whole[:, :1].expand(-1, 5, -1, -1), whole.permute(1, 0, 2, 3)):
        leaf, other = x.detach().requires_grad_(), x.detach().requires_grad_()
        y, switches = max_pool(leaf)
        pooled, places = F.max_pool2d(other, 2, ceil_mode=True, return_indices=True)
        assert torch.equal(bits(y), bits(pooled))
        out = max_unpool(y.contiguous(memory_format=torch.channels_last), switches, x.shape[-2:])
        expected = F.max_unpool2d(pooled, places, 2, output_size=x.shape[-2:])
        assert torch.equal(bits(out), bits(expected))
        out.sum().backward()  # a gradient of stride 0
        expected.sum().backward()
        assert torch.equal(leaf.grad, other.grad)


class TwoStages(torch.nn.Module):
    """Every unpooling twice over, between layers that a compiler could fuse them with."""

    def forward(self, x: Tensor) -> Tensor:
        y, switches = max_pool(x)
        z, finer = max_pool(y.tanh())
        back = max_unpool(2 * z, finer, y.shape[-2:])
        return max_unpool(back, switches, x.shape[-2:]) + bed_of_nails(back, x.shape[-2:]) * nearest_unpool(y, x.shape[-2:])


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_graph_of_any_size_leaves_through_onnx():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    anything = torch.export.Dim.DYNAMIC
    sizes = {"x": {0: anything, 2: anything, 3: anything}}
    graph = torch.onnx.export(TwoStages().eval(), (torch.rand(2, 3, 13, 19),), dynamo=True, dynamic_shapes=sizes, verbose=False).model_proto
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    session = runtime.InferenceSession(graph.SerializeToString())
    for size in [(13, 19), (8, 16), (5, 6), (1, 1), (2, 7)]:
        x = torch.randint(-4, 5, (1, 3, *size)).float()
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], TwoStages()(x), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_takes_each_step_as_one_node():
    compiled = torch.compile(TwoStages(), backend="aot_eager", fullgraph=True, dynamic=True)
    x = torch.randn(2, 3, 5, 9, requires_grad=True)
    found = torch.autograd.grad(compiled(x).square().sum(), x)[0]
    torch.testing.assert_close(found, torch.autograd.grad(TwoStages()(x).square().sum(), x)[0])


def test_tensors_without_memory_pass_through():
    assert TwoStages()(torch.empty(2, 3, 5, 9, device="meta")).shape == (2, 3, 5, 9)
