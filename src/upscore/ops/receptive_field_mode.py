"""Run a network so that gradients show receptive fields: a mode that replaces torch's functions.

Convolutions and maxima become averages over their kernels, activations and normalisations pass
their input through, and averages over the whole image (the gates of squeeze-and-excitation) are
detached, since a gate changes no cell's position. All numbers stay in [0, 1], so that nothing
cancels or overflows. Weights are not read: they may be on the meta device.
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
    """While active, an output of torch's functions depends on its inputs, but not by their true values.

    After a layer that mixes all channels they are equal, so a single one is computed:
    ``_expand_channel`` expands it without memory and stores it, ``_single_channel`` returns it.

    Attributes
    ----------
    has_global_average : bool
        A gate or a normalisation has averaged over the whole image.

    Parameters
    ----------
    detach_mixing : bool
        Detach attention, and maps that are upsampled: the cells are then those of the path that remains, as with gates.

    Raises
    ------
    GeometryError
        The network has attention between positions, which is not to be detached.
    """

    def __init__(self, *, detach_mixing: bool = False) -> None:
        super().__init__()
        self.has_global_average = False
        self.detach_mixing = detach_mixing

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = [_materialised(argument) for argument in args]
        named = {name: _materialised(argument) for name, argument in (kwargs or {}).items()}
        name = getattr(func, "__name__", "")
        if name in _PASSED_THROUGH:
            return arguments[0]
        if name in _NORMS_OVER_POSITIONS:
            self.has_global_average = True
            return arguments[0]
        if name in _AVERAGES and _is_global(name, *arguments[1:], **named):
            self.has_global_average = True
            return func(*(a.detach() if isinstance(a, Tensor) else a for a in arguments), **named)
        if self.detach_mixing and name in _MIXING:
            return _ones_like_result(func, arguments, named)
        if self.detach_mixing and name == "softmax":
            return arguments[0]
        if name == "__setitem__" and 0 in arguments[0].stride():  # into attention, which is ones that no memory holds
            return None
        if (
            self.detach_mixing and _REPLACEMENTS.get(name) is _combine and _is_small_constant(arguments)
        ):  # such as the positions that index a bias
            return func(*arguments, **named)
        if name in _REPLACEMENTS:
            return _REPLACEMENTS[name](*arguments, **named)
        return func(*arguments, **named)


def _expand_channel(channel: Tensor, axis: int, channels: int) -> Tensor:
    """Expand a single channel along ``axis``, and store it with the result."""
    shape = list(channel.shape)
    shape[axis] = channels
    expanded = channel.expand(shape)
    expanded.single_channel = (channel, axis)  # type: ignore[attr-defined]
    return expanded


def _single_channel(x: Tensor, axis: int) -> Tensor:
    """Return the stored channel, or the mean over the channels along ``axis`` as a single one."""
    channel, stored_axis = getattr(x, "single_channel", (None, None))
    return x.mean(axis, keepdim=True) if channel is None or stored_axis != axis else channel


def _materialised(argument: Any) -> Any:
    """Replace tensors on the meta device by ones, indices by zeros."""
    if isinstance(argument, Tensor) and argument.is_meta:
        if not argument.is_floating_point():
            return torch.zeros((), dtype=argument.dtype).expand(argument.shape)
        return torch.ones((), dtype=torch.float64).expand(argument.shape)
    if isinstance(argument, list | tuple) and any(isinstance(a, Tensor) for a in argument):
        return type(argument)(_materialised(a) for a in argument)
    return argument


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    kernel = torch.full((1, 1, *weight.shape[-2:]), 1 / math.prod(weight.shape[-2:]), dtype=x.dtype)
    return _expand_channel(F.conv2d(_single_channel(x, 1), kernel, None, stride, padding, dilation), 1, weight.shape[0])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _expand_channel(_single_channel(x, x.ndim - 1), x.ndim - 1, weight.shape[0])


def _max_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **_: Any
) -> Tensor:
    if dilation not in (1, (1, 1), [1, 1]):
        raise GeometryError("it pools with dilation")
    return _expand_channel(F.avg_pool2d(_single_channel(x, 1), kernel_size, stride, padding, ceil_mode), 1, x.shape[1])


def _avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *_: Any, **__: Any) -> Tensor:
    return _max_pool2d(x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def _pad(x: Tensor, pad: Any, *_: Any, **__: Any) -> Tensor:
    """Pad a single channel, where all are equal and only rows and columns are padded."""
    channel, axis = getattr(x, "single_channel", (None, 0))
    if channel is None or axis != 1 or x.ndim != 4 or len(pad) > 4:
        return F.pad(x, pad)
    return _expand_channel(F.pad(channel, pad), axis, x.shape[axis])


def _permute(x: Tensor, *axes: Any) -> Tensor:
    order = axes[0] if isinstance(axes[0], list | tuple) else axes
    channel, axis = getattr(x, "single_channel", (None, 0))
    if channel is None:
        return x.permute(*order)
    return _expand_channel(channel.permute(*order), [a % x.ndim for a in order].index(axis), x.shape[axis])


def _combine(x: Any, y: Any, **_: Any) -> Any:
    """Average two inputs, for sums and products alike: the receptive fields unite, and values stay bounded.

    Numbers and tensors that do not depend on the image have no effect.
    """
    dependent = [t for t in (x, y) if isinstance(t, Tensor) and t.requires_grad]
    if len(dependent) < 2:
        return dependent[0] if dependent else x
    (channel, axis), (other, other_axis) = (getattr(t, "single_channel", (None, 0)) for t in dependent)
    if channel is None or other is None or axis != other_axis or x.ndim != y.ndim:
        return (x + y) / 2
    return _expand_channel((channel + other) / 2, axis, x.shape[axis])


def _concatenate(parts: Any, dim: int = 0, **_: Any) -> Tensor:
    """Replace concatenated channels by their average, since the next layer mixes them."""
    if dim % parts[0].ndim != 1 or parts[0].ndim != 4:
        return torch.cat(list(parts), dim)
    channel = torch.stack([_single_channel(part, 1) for part in parts]).mean(0)
    return _expand_channel(channel, 1, sum(part.shape[1] for part in parts))


def _select(x: Tensor, index: Any) -> Tensor:
    """Select channels, such as ``x[:, i:j]``."""
    channel, axis = getattr(x, "single_channel", (None, 0))
    everything = slice(None)
    if channel is None or axis != 1 or not isinstance(index, tuple) or index[0] != everything or not isinstance(index[1], slice):
        return x[index]
    if any(i not in (everything, Ellipsis) for i in index[2:]):
        return x[index]
    return _expand_channel(channel, 1, len(range(*index[1].indices(x.shape[1]))))


def _split(x: Tensor, size: Any, dim: int = 0) -> Any:
    channel, axis = getattr(x, "single_channel", (None, 0))
    if channel is None or axis != 1 or dim != 1:
        return torch.split(x, size, dim)
    sizes = size if isinstance(size, list | tuple) else [min(size, x.shape[1] - i) for i in range(0, x.shape[1], size)]
    return tuple(_expand_channel(channel, 1, n) for n in sizes)


def _chunk(x: Tensor, chunks: int, dim: int = 0) -> Any:
    return _split(x, math.ceil(x.shape[dim] / chunks), dim)


def _ones_like_result(func: Any, arguments: list[Any], named: Mapping[str, Any]) -> Tensor:
    """Return ones of the shape of a result, without computing or storing it."""
    on_meta = [_on_meta(argument) for argument in arguments]
    shape = func(*on_meta, **{name: _on_meta(argument) for name, argument in named.items()}).shape
    return torch.ones((), dtype=torch.float64).expand(shape)


def _is_small_constant(arguments: list[Any]) -> bool:
    """Return whether no argument depends on the image, and none is as large as a map of attention."""
    return all(not a.requires_grad and a.numel() <= 1_000_000 for a in arguments if isinstance(a, Tensor))


def _on_meta(argument: Any) -> Any:
    if isinstance(argument, list | tuple) and any(isinstance(a, Tensor) for a in argument):
        return type(argument)(_on_meta(a) for a in argument)
    return argument.detach().to("meta") if isinstance(argument, Tensor) else argument


def _refuse_attention(*_: Any, **__: Any) -> Any:
    raise GeometryError("it has attention between all positions of the image")


def _is_global(name: str, *args: Any, **kwargs: Any) -> bool:
    """Return whether an average runs over both axes of the image."""
    if name.startswith("adaptive"):
        return True
    dim = kwargs.get("dim", next((a for a in args if isinstance(a, int | tuple | list)), None))
    return dim is None or (isinstance(dim, tuple | list) and len(dim) >= 2)


_PASSED_THROUGH = frozenset((
    "batch_norm", "layer_norm", "rms_norm", "local_response_norm", "dropout", "contiguous", "relu", "relu_", "relu6", "silu", "gelu",
    "hardswish", "hardtanh", "mish", "leaky_relu", "leaky_relu_", "elu", "prelu", "softplus", "sigmoid", "sigmoid_", "hardsigmoid",
    "tanh", "tanh_", "clamp", "clamp_", "float",
))  # fmt: skip
_NORMS_OVER_POSITIONS = frozenset(("group_norm", "instance_norm"))
_AVERAGES = frozenset(("mean", "var", "std", "var_mean", "norm", "sum", "amax", "adaptive_avg_pool2d", "adaptive_max_pool2d"))
_ATTENTION = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")
_MIXING = frozenset((*_ATTENTION, "interpolate"))
_REPLACEMENTS: dict[str, Callable[..., Tensor]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "_max_pool2d": _max_pool2d,
    "boolean_dispatch": _max_pool2d,
    "fn": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "pad": _pad,
    "permute": _permute,
    "__getitem__": _select,
    "split": _split,
    "chunk": _chunk,
    "cat": _concatenate,
    "concat": _concatenate,
    "view": torch.Tensor.reshape,
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__", "mul", "mul_", "__mul__", "__imul__", "__rmul__"), _combine),
    **dict.fromkeys(_ATTENTION, _refuse_attention),
}
