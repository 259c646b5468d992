"""Run a network for what each output reads, not for what it computes.

Convolutions and maxima become averages of what they cover, activations and normalisations
pass their input through, and averages over the whole image (the gates of
squeeze-and-excitation) are cut off, since a gate moves no cell. All numbers stay in [0, 1],
so that nothing cancels or overflows. Weights are not read: they may be on the meta device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from upscore.errors import GeometryError

__all__ = ["ReceptiveFieldMode"]


class ReceptiveFieldMode(TorchFunctionMode):
    """While active, torch's functions keep what each output reads and forget what it computes.

    A layer that mixes all channels leaves them equal, so only one is computed: ``_spread``
    repeats it without memory and remembers it, ``_collapse`` finds it again.

    Attributes
    ----------
    looks_everywhere : bool
        A gate or a normalisation has averaged over the whole image.

    Raises
    ------
    GeometryError
        The network compares places all over the image (attention).
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks_everywhere = False

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = [_materialised(argument) for argument in args]
        named = {name: _materialised(argument) for name, argument in (kwargs or {}).items()}
        name = getattr(func, "__name__", "")
        if name in _PASSED_THROUGH:
            return arguments[0]
        if name in _OVER_POSITIONS:
            self.looks_everywhere = True
            return arguments[0]
        if name in _AVERAGES and _covers_image(name, *arguments[1:], **named):
            self.looks_everywhere = True
            return func(*(a.detach() if isinstance(a, Tensor) else a for a in arguments), **named)
        if name in _FOOTPRINTS:
            return _FOOTPRINTS[name](*arguments, **named)
        return func(*arguments, **named)


def _spread(one: Tensor, axis: int, channels: int) -> Tensor:
    """Repeat the only channel along ``axis``, and remember it."""
    shape = list(one.shape)
    shape[axis] = channels
    repeated = one.expand(shape)
    repeated.one_channel = (one, axis)  # type: ignore[attr-defined]
    return repeated


def _collapse(x: Tensor, axis: int) -> Tensor:
    """Return the mean over the channels along ``axis``, keeping the axis."""
    one, remembered = getattr(x, "one_channel", (None, None))
    return x.mean(axis, keepdim=True) if one is None or remembered != axis else one


def _materialised(argument: Any) -> Any:
    """Return ones for a tensor on the meta device that is not a layer's weight: scales and positions."""
    if isinstance(argument, Tensor) and argument.is_meta:
        return torch.ones((), dtype=torch.float64).expand(argument.shape)
    if isinstance(argument, list | tuple) and any(isinstance(a, Tensor) for a in argument):
        return type(argument)(_materialised(a) for a in argument)
    return argument


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    kernel = torch.full((1, 1, *weight.shape[-2:]), 1 / math.prod(weight.shape[-2:]), dtype=x.dtype)
    return _spread(F.conv2d(_collapse(x, 1), kernel, None, stride, padding, dilation), 1, weight.shape[0])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _spread(_collapse(x, x.ndim - 1), x.ndim - 1, weight.shape[0])


def _max_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **_: Any
) -> Tensor:
    if dilation not in (1, (1, 1), [1, 1]):
        raise GeometryError("it pools with dilation")
    return _spread(F.avg_pool2d(_collapse(x, 1), kernel_size, stride, padding, ceil_mode), 1, x.shape[1])


def _avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *_: Any, **__: Any) -> Tensor:
    return _max_pool2d(x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def _permute(x: Tensor, *axes: Any) -> Tensor:
    order = axes[0] if isinstance(axes[0], list | tuple) else axes
    one, axis = getattr(x, "one_channel", (None, 0))
    if one is None:
        return x.permute(*order)
    return _spread(one.permute(*order), [a % x.ndim for a in order].index(axis), x.shape[axis])


def _combine(x: Any, y: Any, **_: Any) -> Any:
    """Average two inputs, for sums and products alike: what either sees is seen, and nothing grows without bound.

    A number, or a tensor that knows nothing of the image, changes no footprint.
    """
    known = [t for t in (x, y) if isinstance(t, Tensor) and t.requires_grad]
    if len(known) < 2:
        return known[0] if known else x
    (one, axis), (other, other_axis) = (getattr(t, "one_channel", (None, 0)) for t in known)
    if one is None or other is None or axis != other_axis or x.ndim != y.ndim:
        return (x + y) / 2
    return _spread((one + other) / 2, axis, x.shape[axis])


def _concatenate(parts: Any, dim: int = 0, **_: Any) -> Tensor:
    """Stand for joined channels by their average: what any of them sees, the next layer sees."""
    if dim % parts[0].ndim != 1 or parts[0].ndim != 4:
        return torch.cat(list(parts), dim)
    one = torch.stack([_collapse(part, 1) for part in parts]).mean(0)
    return _spread(one, 1, sum(part.shape[1] for part in parts))


def _select(x: Tensor, index: Any) -> Tensor:
    """Take some of the channels, ``x[:, i:j]`` and the like."""
    one, axis = getattr(x, "one_channel", (None, 0))
    whole = slice(None)
    if one is None or axis != 1 or not isinstance(index, tuple) or index[0] != whole or not isinstance(index[1], slice):
        return x[index]
    if any(i not in (whole, Ellipsis) for i in index[2:]):
        return x[index]
    return _spread(one, 1, len(range(*index[1].indices(x.shape[1]))))


def _split(x: Tensor, size: Any, dim: int = 0) -> Any:
    one, axis = getattr(x, "one_channel", (None, 0))
    if one is None or axis != 1 or dim != 1:
        return torch.split(x, size, dim)
    sizes = size if isinstance(size, list | tuple) else [min(size, x.shape[1] - i) for i in range(0, x.shape[1], size)]
    return tuple(_spread(one, 1, n) for n in sizes)


def _chunk(x: Tensor, chunks: int, dim: int = 0) -> Any:
    return _split(x, math.ceil(x.shape[dim] / chunks), dim)


def _refuse_attention(*_: Any, **__: Any) -> Any:
    raise GeometryError("it compares places all over the image with one another (attention)")


def _covers_image(name: str, *args: Any, **kwargs: Any) -> bool:
    """Say whether an average runs over both axes of the image."""
    if name.startswith("adaptive"):
        return True
    dim = kwargs.get("dim", next((a for a in args if isinstance(a, int | tuple | list)), None))
    return dim is None or (isinstance(dim, tuple | list) and len(dim) >= 2)


_PASSED_THROUGH = frozenset(
    (
        *("batch_norm", "layer_norm", "rms_norm", "local_response_norm", "dropout", "contiguous"),
        *(
            "relu",
            "relu_",
            "relu6",
            "silu",
            "gelu",
            "hardswish",
            "hardtanh",
            "mish",
            "leaky_relu",
            "leaky_relu_",
            "elu",
            "prelu",
            "softplus",
        ),
        *("sigmoid", "sigmoid_", "hardsigmoid", "tanh", "tanh_", "clamp", "clamp_"),
    )
)
_OVER_POSITIONS = frozenset(("group_norm", "instance_norm"))
_AVERAGES = frozenset(("mean", "var", "std", "var_mean", "norm", "sum", "amax", "adaptive_avg_pool2d", "adaptive_max_pool2d"))
_FOOTPRINTS: dict[str, Callable[..., Tensor]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "_max_pool2d": _max_pool2d,
    "boolean_dispatch": _max_pool2d,
    "fn": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "permute": _permute,
    "__getitem__": _select,
    "split": _split,
    "chunk": _chunk,
    "cat": _concatenate,
    "concat": _concatenate,
    "view": torch.Tensor.reshape,
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__", "mul", "mul_", "__mul__", "__imul__", "__rmul__"), _combine),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "einsum", "scaled_dot_product_attention"), _refuse_attention),
}
