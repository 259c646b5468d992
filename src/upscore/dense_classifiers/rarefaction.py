"""Filter rarefaction: the same weights at stride 1, with dilated filters instead of a coarse grid.

Long, Shelhamer and Darrell (2015), §3.2, the algorithme à trous (Mallat 1999). A layer of
stride s discards all but every s-th cell. With its stride set to 1, the next filter must skip
the cells that were discarded before; it is enlarged by zeros, f'_ij = f_{i/s, j/s} where s
divides both i and j, which is dilation by s::

    stride 2, then a filter of 3       stride 1, then a filter of 3, dilated by 2

    pixels   o o o o o o o o o       o o o o o o o o o
             │   │   │   │           │ │ │ │ │ │ │ │
    cells    o   o   o   o           o o o o o o o o
             └───┴───┘               └───┴───┘           cell 0: the same three inputs
                 └───┴───┘             └───┴───┘         cell 1: new, between cells 0 and 1

Applied to all layers in turn, this gives a cell for every pixel, with exactly the values of
:func:`~upscore.dense_classifiers.shift_and_stitch.shift_and_stitch`.

It holds for networks without padding: zeros beside a coarse map lie elsewhere than those beside
a fine one. The network is traced with ``torch.fx``. Branches may split and merge where their
grids coincide; any layer that is neither a sliding kernel nor pointwise is refused.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from upscore.dense_classifiers.fx_ops import KernelSpec, argument, is_pointwise, read_crop, read_kernel
from upscore.errors import GeometryError, ModelError
from upscore.ops.geometry import Geometry
from upscore.text import reason

__all__ = ["GridAxis", "output_grid", "rarefy"]


@dataclass(frozen=True)
class GridAxis:
    """A grid of a network without padding, along one axis."""

    geometry: Geometry = field(default_factory=Geometry)  #: of the original network's cells
    shrinkage: int = 0  #: pixels: the dense output has (size - shrinkage) cells
    stride: int = 1  #: of the rarefied network's cells; it divides the original stride

    @property
    def dilation(self) -> int:
        """Distance of the original network's neighbouring cells, in rarefied cells."""
        return int(self.geometry.stride / self.stride)

    def layer(self, kernel: int, stride: int, dilation: int, output_stride: int) -> GridAxis:
        """Return the grid after a layer whose stride stays as far as the output stride allows."""
        shrinkage = self.shrinkage + (kernel - 1) * dilation * int(self.geometry.stride)
        return GridAxis(self.geometry.conv(kernel, stride, 0, dilation), shrinkage, self.stride * gcd(stride, output_stride // self.stride))

    def crop(self, lead: int, trail: int) -> GridAxis:
        """Return the grid without its first ``lead`` and last ``trail`` cells."""
        stride = self.geometry.stride
        shifted = replace(self.geometry, offset=self.geometry.offset + lead * stride)
        return replace(self, geometry=shifted, shrinkage=self.shrinkage + (lead + trail) * int(stride))

    def coincides(self, other: GridAxis) -> bool:
        """Return whether the cells of both lie on the same pixels, for every image size."""
        mine, theirs = self.geometry, other.geometry
        return (mine.stride, mine.offset, self.shrinkage) == (theirs.stride, theirs.offset, other.shrinkage)


Grid = tuple[GridAxis, GridAxis]
"""Rows and columns."""


def output_grid(network: nn.Module, *, pointwise: tuple[type[nn.Module], ...] = ()) -> Grid:
    """Return the output grid of a network without padding, along rows and along columns.

    Parameters and errors are those of :func:`rarefy`.
    """
    return _Rarefier(network, 1, pointwise).grid


def rarefy(network: nn.Module, *, stride: int = 1, pointwise: tuple[type[nn.Module], ...] = ()) -> fx.GraphModule:
    """Return the network at a smaller stride, with the same weights and its later filters and poolings dilated.

    Parameters
    ----------
    network : nn.Module
        (N, C, H, W) to (N, K, h, w). Convolutions, max and average poolings without padding, as
        modules or function calls; element-wise layers, batch normalisation, local response
        normalisation and softmax over channels; sums and concatenations of branches whose
        grids agree; crops (``x[..., 1:-1, 1:-1]``). It is not changed.
    stride : int
        Output stride, a divisor of the network's; the strides of the first layers stay as far as
        it allows. 1 gives a cell for each pixel; DeepLab runs VGG16 at 8.
    pointwise : tuple of module types
        Your own layers that act on each cell alone; they are left unchanged.

    Returns
    -------
    fx.GraphModule
        (N, C, H, W) to (N, K, (H - shrinkage - 1) // stride + 1, …), ``shrinkage`` from
        :func:`output_grid`. Weights and pointwise layers are shared with ``network``, not copied,
        under the same names: training or ``eval()`` of one affects the other. Traced in the
        mode of ``network``; equality with shift-and-stitch needs eval mode where there is
        batch normalisation or dropout.

    Raises
    ------
    ModelError
        A layer pads, depends on the whole map, upsamples, or is unknown, or ``forward`` branches
        on its input; the stride is not a divisor.
    GeometryError
        Branches merge whose cells do not lie on the same pixels.

    Notes
    -----
    ``ceil_mode`` of a pooling adds windows that reach beyond the map. Only whole windows have
    neighbours between them, so those cells are left out, as if it rounded down.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.MaxPool2d(2), nn.Conv2d(8, 5, 3))
    >>> network(torch.zeros(1, 3, 31, 31)).shape, rarefy(network)(torch.zeros(1, 3, 31, 31)).shape
    (torch.Size([1, 5, 5, 5]), torch.Size([1, 5, 19, 19]))
    """
    if not isinstance(stride, int) or stride < 1:
        raise ModelError(f"found stride {stride!r}, expected a whole number from 1 that divides the network's stride")
    rarefier = _Rarefier(network, stride, pointwise)
    if any(axis.stride != stride for axis in rarefier.grid):
        strides = "×".join(str(axis.geometry.stride) for axis in rarefier.grid)
        raise ModelError(f"found stride {stride} to be left of a network of stride {strides}, expected a divisor of it")
    rarefier.module.delete_all_unused_submodules()
    rarefier.module.recompile()
    return rarefier.module


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


class _Rarefier:
    """One pass over a network's graph that computes each node's grid and rewrites each kernel layer."""

    def __init__(self, network: nn.Module, output_stride: int, pointwise: tuple[type[nn.Module], ...]) -> None:
        try:
            graph = _Tracer(pointwise).trace(network)
        except Exception as error:  # with a proxy instead of a tensor, a forward pass can fail in any way
            raise ModelError(
                f"cannot trace {type(network).__name__} ({reason(error)}): expected a forward that does not branch on its input; "
                "name layers that act on each cell alone in 'pointwise'"
            ) from None
        self.network = network
        self.module = fx.GraphModule(network, graph, f"Rarefied{type(network).__name__}")
        self.module.training = network.training
        self.output_stride, self.pointwise = output_stride, pointwise
        self.grids: dict[fx.Node, Grid] = {}
        self.copies: dict[tuple[Any, ...], str] = {}
        if sum(node.op == "placeholder" for node in graph.nodes) != 1:
            raise ModelError(f"found a {type(network).__name__} of several inputs, expected one: images (N, C, H, W)")
        for node in list(graph.nodes):
            self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.grids[node] = (GridAxis(), GridAxis())
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0] not in self.grids:
                raise ModelError("found a network that returns something else than one map of its input: expected one tensor")
            self.grid = self.grids[node.args[0]]
        elif any(source in self.grids for source in node.all_input_nodes):  # others compute with weights only
            grid = self._merge_inputs(node)
            if (kernel := self._kernel(node)) is not None:
                grid = self._rewrite(node, kernel, grid)
            elif node.target is operator.getitem:
                grid = self._crop(node, grid)
            elif not is_pointwise(node, self._layer(node), self.pointwise):
                raise ModelError(f"{self._name(node)} is neither a sliding kernel nor pointwise, or is unknown: {_SUPPORTED}")
            self.grids[node] = grid

    def _merge_inputs(self, node: fx.Node) -> Grid:
        """Return the common grid of a node's input maps, with the largest of their receptive fields."""
        merged, *others = [self.grids[source] for source in node.all_input_nodes if source in self.grids]
        for other in others:
            for axis, other_axis in zip(merged, other, strict=True):
                if not axis.coincides(other_axis):
                    raise GeometryError(
                        f"branches of {_shown(axis)} and {_shown(other_axis)} merge at {self._name(node)}: "
                        "expected cells on the same pixels; give them equal strides, and crop the wider one"
                    )
            merged = (_wider(merged[0], other[0]), _wider(merged[1], other[1]))
        return merged

    def _kernel(self, node: fx.Node) -> KernelSpec | None:
        layer, weight = self._layer(node), None
        if getattr(layer, "return_indices", False) or node.kwargs.get("return_indices", False):
            raise ModelError(f"{self._name(node)} returns its indices: {_SUPPORTED}")
        if node.target in (F.conv2d, torch.conv2d):
            source = argument(node, 1, "weight")
            if not isinstance(source, fx.Node) or source.op != "get_attr":
                raise ModelError(f"{self._name(node)} computes its weight, so that its size is unknown: {_SUPPORTED}")
            weight = operator.attrgetter(str(source.target))(self.network)
        return read_kernel(node, layer, weight)

    def _rewrite(self, node: fx.Node, spec: KernelSpec, grid: Grid) -> Grid:
        """Set the strides and dilations of one layer, and return the grid after it."""
        if any(spec.padding):
            raise ModelError(
                f"{self._name(node)} pads by {spec.padding[0]}×{spec.padding[1]}, and zeros beside a coarse map lie elsewhere "
                "than beside a fine one: expected padding 0 throughout; pad the image once instead"
            )
        rows, columns = (
            axis.layer(spec.kernel[at], spec.stride[at], spec.dilation[at], self.output_stride) for at, axis in enumerate(grid)
        )
        stride = (rows.stride // grid[0].stride, columns.stride // grid[1].stride)
        dilation = (spec.dilation[0] * grid[0].dilation, spec.dilation[1] * grid[1].dilation)
        layer = self._layer(node)
        if isinstance(layer, nn.Conv2d):
            node.target = self._shared_copy(str(node.target), layer, stride, dilation)
        elif node.target in (F.conv2d, torch.conv2d):
            groups = argument(node, 6, "groups", 1)
            _call(node, F.conv2d, argument(node, 1, "weight"), argument(node, 2, "bias", None), stride, 0, dilation, groups)
        elif isinstance(layer, nn.AvgPool2d) or node.target is F.avg_pool2d:
            divisor = layer.divisor_override if isinstance(layer, nn.AvgPool2d) else argument(node, 6, "divisor_override", None)
            _call(node, _average, spec.kernel, stride, dilation, divisor or spec.kernel[0] * spec.kernel[1])
        else:
            _call(node, F.max_pool2d, spec.kernel, stride, 0, dilation)
        return rows, columns

    def _shared_copy(self, name: str, layer: nn.Conv2d, stride: tuple[int, int], dilation: tuple[int, int]) -> str:
        """Add a convolution with the same parameters under its old name, or a new one where it is called with two settings."""
        key = (name, stride, dilation)
        if key not in self.copies:
            copied = copy.copy(layer)  # shallow: it holds the very same dict of parameters
            copied.stride, copied.dilation = stride, dilation
            times = sum(other[0] == name for other in self.copies)
            self.copies[key] = f"{name}_{times}" if times else name
            self.module.add_submodule(self.copies[key], copied)
        return self.copies[key]

    def _crop(self, node: fx.Node, grid: Grid) -> Grid:
        """Crop the same stretch of the image, in finer cells."""
        crops = read_crop(node)
        if crops is None:
            raise ModelError(
                f"{self._name(node)} indexes with {node.args[1]}: expected a crop of rows and columns such as x[..., 1:-1, 1:-1]"
            )
        finer = [(first * axis.dilation, last * axis.dilation) for axis, (first, last) in zip(grid, crops, strict=True)]
        node.args = (node.args[0], (slice(None), slice(None), *(slice(first, -last or None) for first, last in finer)))
        return grid[0].crop(*crops[0]), grid[1].crop(*crops[1])

    def _layer(self, node: fx.Node) -> nn.Module | None:
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _name(self, node: fx.Node) -> str:
        layer = self._layer(node)
        called = type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))
        return f"layer '{node.target}' ({called})" if layer is not None else f"the call '{called}'"


def _average(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], divisor: int) -> Tensor:
    """Average-pool with dilation, which torch lacks: a depthwise convolution by ones."""
    ones = x.new_ones(()).expand(x.shape[1], 1, *kernel)
    return F.conv2d(x, ones, None, stride, 0, dilation, x.shape[1]) / divisor


def _call(node: fx.Node, function: Callable[..., Tensor], *settings: Any) -> None:
    """Make a node call ``function`` on its input map."""
    image = argument(node, 0, "input")
    node.op, node.target, node.args, node.kwargs = "call_function", function, (image, *settings), {}


def _wider(axis: GridAxis, other: GridAxis) -> GridAxis:
    return axis if axis.geometry.receptive_field >= other.geometry.receptive_field else other


def _shown(axis: GridAxis) -> str:
    return f"stride {axis.geometry.stride}, offset {float(axis.geometry.offset):g}, shrunk by {axis.shrinkage} pixels"


_SUPPORTED = (
    "expected convolutions, max and average poolings, element-wise layers, normalisation by fixed numbers, sums, concatenated "
    "channels, and the types in 'pointwise'"
)
