"""What one operation of a traced network does to its map: slide a kernel over it, crop it, or act on each cell alone."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

__all__ = ["KernelSpec", "argument", "is_pointwise", "read_crop", "read_kernel"]


class KernelSpec(NamedTuple):
    """The kernel of a convolution or pooling, rows before columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def argument(node: fx.Node, position: int, name: str, *default: Any) -> Any:
    """Return the argument of a call at ``position`` or named ``name``, or else ``default``."""
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, *default)


def read_kernel(node: fx.Node, layer: nn.Module | None, weight: Tensor | None) -> KernelSpec | None:
    """Return the kernel of a convolution or pooling, and None for any other operation.

    ``layer`` is the module that the node calls, ``weight`` what a call of ``conv2d`` is given, if any.
    """
    if isinstance(layer, nn.Conv2d):
        return _kernel_spec(layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return _kernel_spec(layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
    if node.target in (F.conv2d, torch.conv2d) and weight is not None:
        sizes = (argument(node, 3, "stride", 1), argument(node, 4, "padding", 0), argument(node, 5, "dilation", 1))
        return _kernel_spec(weight.shape[-2:], *sizes)
    if node.target in (F.max_pool2d, torch.max_pool2d, F.avg_pool2d):
        dilation = 1 if node.target is F.avg_pool2d else argument(node, 4, "dilation", 1)
        return _kernel_spec(argument(node, 1, "kernel_size"), argument(node, 2, "stride", None), argument(node, 3, "padding", 0), dilation)
    return None


def read_crop(node: fx.Node) -> list[tuple[int, int]] | None:
    """Return how many first and last rows, and columns, an indexing crops; None if it does anything else."""
    index: Any = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if any(part is Ellipsis for part in index):
        at = [part is Ellipsis for part in index].index(True)
        index = (*index[:at], *[slice(None)] * (5 - len(index)), *index[at + 1 :])
    index = (*index, *[slice(None)] * (4 - len(index)))
    crops = []
    for part in index:
        if not isinstance(part, slice) or part.step not in (None, 1) or not all(isinstance(n, int | None) for n in (part.start, part.stop)):
            return None
        crops.append((part.start or 0, -part.stop if part.stop is not None else 0))
    spatial = crops[2:]
    return spatial if crops[:2] == [(0, 0)] * 2 and len(crops) == 4 and all(first >= 0 and last >= 0 for first, last in spatial) else None


def is_pointwise(node: fx.Node, layer: nn.Module | None, others: tuple[type[nn.Module], ...]) -> bool:
    """Return whether each output cell depends on the channels of the same cell alone; ``others`` are taken to, without a check."""
    if layer is not None:
        return isinstance(layer, (*_LAYERS, *others)) or (isinstance(layer, nn.Softmax | nn.LogSoftmax) and layer.dim in (1, -3))
    if node.target in _OVER_CHANNELS:
        return argument(node, 1, "dim", 0) in (1, -3)
    return node.target in (_METHODS if node.op == "call_method" else _FUNCTIONS)


def _kernel_spec(kernel: Any, stride: Any, padding: Any, dilation: Any) -> KernelSpec:
    size = _pair(kernel)
    if isinstance(padding, str):
        padding = 0 if padding == "valid" else tuple(k // 2 for k in size)
    return KernelSpec(size, size if stride is None or stride == [] else _pair(stride), _pair(padding), _pair(dilation))


def _pair(number: Any) -> tuple[int, int]:
    first, last = (number, number) if isinstance(number, int) else (number[0], number[-1])
    return int(first), int(last)


_LAYERS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Threshold, nn.Identity, nn.Softmax2d),
    *(nn.Dropout, nn.Dropout2d, nn.BatchNorm2d, nn.LocalResponseNorm),
)
_FUNCTIONS = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.iadd, operator.isub, operator.imul, operator.pow),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.abs, torch.exp, torch.square, torch.maximum, torch.minimum),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.clamp, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish),
    *(F.softplus, F.sigmoid, F.tanh, F.hardtanh, F.hardswish, F.hardsigmoid, F.dropout, F.dropout2d, F.local_response_norm),
}
_OVER_CHANNELS = {torch.cat, torch.concat, torch.softmax, torch.log_softmax, F.softmax, F.log_softmax}
_METHODS = {
    *("add", "add_", "sub", "mul", "mul_", "div", "neg", "abs", "exp", "square", "relu", "relu_", "sigmoid", "tanh", "clamp", "clamp_"),
    *("contiguous", "float", "double", "clone", "detach"),
}
