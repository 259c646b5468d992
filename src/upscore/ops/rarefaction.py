"""Filter rarefaction: the same weights at stride 1, their filters made rare instead of the grid coarse.

Long, Shelhamer and Darrell (2015), §3.2, the algorithme à trous (Mallat 1999). A layer of
stride s throws away all but every s-th cell. Set its stride to 1, and the next filter must
skip what was not thrown away; it is enlarged by zeros, f'_ij = f_{i/s, j/s} where s divides
both i and j, which is dilation by s::

    stride 2, then 3 levels            stride 1, then 3 levels, dilated by 2

    pixels   o o o o o o o o o       o o o o o o o o o
             │   │   │   │           │ │ │ │ │ │ │ │
    cells    o   o   o   o           o o o o o o o o
             └───┴───┘               └───┴───┘           cell 0: the same three
                 └───┴───┘             └───┴───┘         cell 1: between those of before

Layer by layer to the end, and the network has a cell for every pixel. What it computes is
exactly what :func:`upscore.ops.stitch.shift_and_stitch` puts together out of shifted runs.

This holds where nothing is padded: zeros beside a coarse map lie elsewhere than those beside
a fine one. A network is followed layer by layer (``torch.fx``), so branches may part and meet
where their grids agree; anything that looks at more than a window or a cell is refused.
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

from upscore.errors import GeometryError, ModelError
from upscore.ops.geometry import Geometry
from upscore.ops.steps import Window, argument, is_pointwise, read_crop, read_window

__all__ = ["Axis", "follow", "rarefy"]


@dataclass(frozen=True)
class Axis:
    """A grid of a network without padding, along one axis.

    Parameters
    ----------
    geometry : Geometry
        Where the network's own cells lie on the image.
    lost : int
        Pixels of the image at which no window begins: ``size - lost`` dense cells fit in.
    stride : int
        Pixels between the cells once it is rarefied; it divides the jump.
    """

    geometry: Geometry = field(default_factory=Geometry)
    lost: int = 0
    stride: int = 1

    @property
    def dilation(self) -> int:
        """How far apart the network's own neighbours are among the rarefied cells."""
        return int(self.geometry.stride / self.stride)

    def layer(self, kernel: int, stride: int, dilation: int, wanted: int) -> Axis:
        """Return the grid after a window layer whose stride is kept as far as it divides ``wanted``."""
        lost = self.lost + (kernel - 1) * dilation * int(self.geometry.stride)
        return Axis(self.geometry.conv(kernel, stride, 0, dilation), lost, self.stride * gcd(stride, wanted // self.stride))

    def crop(self, lead: int, trail: int) -> Axis:
        """Return the grid without its first ``lead`` and last ``trail`` cells."""
        jump = self.geometry.stride
        shifted = replace(self.geometry, offset=self.geometry.offset + lead * jump)
        return replace(self, geometry=shifted, lost=self.lost + (lead + trail) * int(jump))

    def meets(self, other: Axis) -> bool:
        """Whether cells of both lie on the same pixels, for every size of image."""
        return (self.geometry.stride, self.geometry.offset, self.lost) == (other.geometry.stride, other.geometry.offset, other.lost)


Grid = tuple[Axis, Axis]
"""Rows and columns."""


def follow(network: nn.Module, *, pointwise: tuple[type[nn.Module], ...] = ()) -> Grid:
    """Return where the cells of a network without padding lie: along rows, and along columns.

    Parameters and errors are those of :func:`rarefy`.
    """
    return _Walk(network, 1, pointwise).grid


def rarefy(network: nn.Module, *, stride: int = 1, pointwise: tuple[type[nn.Module], ...] = ()) -> fx.GraphModule:
    """Return the network with the same weights and stride 1, its later filters and poolings dilated.

    Parameters
    ----------
    network : nn.Module
        (N, C, H, W) to (N, K, h, w). Convolutions, max and average poolings without padding, as
        modules or function calls; element-wise layers, batch normalisation, local response
        normalisation and softmax over channels; sums and concatenations of branches whose
        grids agree; crops (``x[..., 1:-1, 1:-1]``). It is not changed.
    stride : int
        What is left of the network's stride, a divisor of it; the first layers keep theirs.
        1 gives a cell for each pixel; 8, on a VGG16, is what DeepLab runs.
    pointwise : tuple of module types
        Your own layers that treat each cell alike and by itself: kept as they are.

    Returns
    -------
    fx.GraphModule
        (N, C, H, W) to (N, K, (H - lost - 1) // stride + 1, …), ``lost`` of :func:`follow`. Weights
        and all layers without windows are shared with ``network``, not copied, under the same
        names: training one trains the other, and so does ``eval()``. Traced in the mode in
        which ``network`` is; equality with the shifted runs needs eval mode where
        there is batch normalisation or dropout.

    Raises
    ------
    ModelError
        A layer pads, looks at the whole map, upsamples, or is unknown, or ``forward`` decides
        by what it is given; the stride is not a divisor.
    GeometryError
        Branches meet whose cells do not lie on the same pixels.

    Notes
    -----
    ``ceil_mode`` of a pooling adds windows that reach beyond the map. Only whole windows have
    neighbours between them, so those cells are left out, as if it rounded down.
    """
    if not isinstance(stride, int) or stride < 1:
        raise ModelError(f"found stride {stride!r}, expected a whole number from 1 that divides the network's stride")
    walk = _Walk(network, stride, pointwise)
    if any(axis.stride != stride for axis in walk.grid):
        jumps = "×".join(str(axis.geometry.stride) for axis in walk.grid)
        raise ModelError(f"found stride {stride} to be left of a network of stride {jumps}, expected a divisor of it")
    walk.module.delete_all_unused_submodules()
    walk.module.recompile()
    return walk.module


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


class _Walk:
    """One pass over a network's graph: each node learns its grid, each window layer is rewritten."""

    def __init__(self, network: nn.Module, wanted: int, pointwise: tuple[type[nn.Module], ...]) -> None:
        try:
            graph = _Tracer(pointwise).trace(network)
        except Exception as error:  # whatever a forward does with a stand-in for a tensor
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"cannot follow {type(network).__name__} layer by layer ({reason[:120]}): expected a forward that decides nothing by "
                "its input; name layers that treat each cell by itself in 'pointwise'"
            ) from None
        self.network = network
        self.module = fx.GraphModule(network, graph, f"Rarefied{type(network).__name__}")
        self.module.training = network.training
        self.wanted, self.pointwise = wanted, pointwise
        self.grids: dict[fx.Node, Grid] = {}
        self.twins: dict[tuple[Any, ...], str] = {}
        if sum(node.op == "placeholder" for node in graph.nodes) != 1:
            raise ModelError(f"found a {type(network).__name__} of several inputs, expected one: images (N, C, H, W)")
        for node in list(graph.nodes):
            self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.grids[node] = (Axis(), Axis())
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0] not in self.grids:
                raise ModelError("found a network that returns something else than one map of its input: expected one tensor")
            self.grid = self.grids[node.args[0]]
        elif any(source in self.grids for source in node.all_input_nodes):  # the rest is arithmetic on weights
            grid = self._meet(node)
            if (window := self._window(node)) is not None:
                grid = self._rewrite(node, window, grid)
            elif node.target is operator.getitem:
                grid = self._crop(node, grid)
            elif not is_pointwise(node, self._layer(node), self.pointwise):
                raise ModelError(f"{self._name(node)} looks at more than a window or a cell, or is unknown here: {_SUPPORTED}")
            self.grids[node] = grid

    def _meet(self, node: fx.Node) -> Grid:
        """Return the grid that all maps which enter a node share; it sees what the furthest of them sees."""
        met, *others = [self.grids[source] for source in node.all_input_nodes if source in self.grids]
        for other in others:
            for mine, theirs in zip(met, other, strict=True):
                if not mine.meets(theirs):
                    raise GeometryError(
                        f"branches of {_shown(mine)} and {_shown(theirs)} meet at {self._name(node)}: "
                        "expected cells on the same pixels; give them equal strides, and crop the wider one"
                    )
            met = (_wider(met[0], other[0]), _wider(met[1], other[1]))
        return met

    def _window(self, node: fx.Node) -> Window | None:
        layer, weight = self._layer(node), None
        if getattr(layer, "return_indices", False) or node.kwargs.get("return_indices", False):
            raise ModelError(f"{self._name(node)} returns its switches: {_SUPPORTED}")
        if node.target in (F.conv2d, torch.conv2d):
            source = argument(node, 1, "weight")
            if not isinstance(source, fx.Node) or source.op != "get_attr":
                raise ModelError(f"{self._name(node)} computes its weight, so that its size is unknown: {_SUPPORTED}")
            weight = operator.attrgetter(str(source.target))(self.network)
        return read_window(node, layer, weight)

    def _rewrite(self, node: fx.Node, window: Window, grid: Grid) -> Grid:
        """Set the strides and dilations of one layer, and return the grid after it."""
        if any(window.padding):
            raise ModelError(
                f"{self._name(node)} pads by {window.padding[0]}×{window.padding[1]}, and zeros beside a coarse map lie elsewhere "
                "than beside a fine one: expected padding 0 throughout; pad the image once instead"
            )
        rows, columns = (axis.layer(window.kernel[at], window.stride[at], window.dilation[at], self.wanted) for at, axis in enumerate(grid))
        stride = (rows.stride // grid[0].stride, columns.stride // grid[1].stride)
        dilation = (window.dilation[0] * grid[0].dilation, window.dilation[1] * grid[1].dilation)
        layer = self._layer(node)
        if isinstance(layer, nn.Conv2d):
            node.target = self._twin(str(node.target), layer, stride, dilation)
        elif node.target in (F.conv2d, torch.conv2d):
            groups = argument(node, 6, "groups", 1)
            _call(node, F.conv2d, argument(node, 1, "weight"), argument(node, 2, "bias", None), stride, 0, dilation, groups)
        elif isinstance(layer, nn.AvgPool2d) or node.target is F.avg_pool2d:
            divisor = layer.divisor_override if isinstance(layer, nn.AvgPool2d) else argument(node, 6, "divisor_override", None)
            _call(node, _average, window.kernel, stride, dilation, divisor or window.kernel[0] * window.kernel[1])
        else:
            _call(node, F.max_pool2d, window.kernel, stride, 0, dilation)
        return rows, columns

    def _twin(self, name: str, layer: nn.Conv2d, stride: tuple[int, int], dilation: tuple[int, int]) -> str:
        """Place a convolution with the same parameters under its old name, or a new one where it is used twice in two ways."""
        key = (name, stride, dilation)
        if key not in self.twins:
            twin = copy.copy(layer)  # shallow: it holds the very same dict of parameters
            twin.stride, twin.dilation = stride, dilation
            times = sum(other[0] == name for other in self.twins)
            self.twins[key] = f"{name}_{times}" if times else name
            self.module.add_submodule(self.twins[key], twin)
        return self.twins[key]

    def _crop(self, node: fx.Node, grid: Grid) -> Grid:
        """Crop as many times more cells as there are now."""
        cuts = read_crop(node)
        if cuts is None:
            raise ModelError(f"{self._name(node)} picks out {node.args[1]}: expected a crop of rows and columns such as x[..., 1:-1, 1:-1]")
        finer = [(first * axis.dilation, last * axis.dilation) for axis, (first, last) in zip(grid, cuts, strict=True)]
        node.args = (node.args[0], (slice(None), slice(None), *(slice(first, -last or None) for first, last in finer)))
        return grid[0].crop(*cuts[0]), grid[1].crop(*cuts[1])

    def _layer(self, node: fx.Node) -> nn.Module | None:
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _name(self, node: fx.Node) -> str:
        layer = self._layer(node)
        called = type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))
        return f"layer '{node.target}' ({called})" if layer is not None else f"the call '{called}'"


def _average(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], divisor: int) -> Tensor:
    """Pool by averages of cells that lie ``dilation`` apart, which torch has no function for: a convolution of each channel by ones."""
    ones = x.new_ones(()).expand(x.shape[1], 1, *kernel)
    return F.conv2d(x, ones, None, stride, 0, dilation, x.shape[1]) / divisor


def _call(node: fx.Node, function: Callable[..., Tensor], *settings: Any) -> None:
    """Make a node call ``function`` on the map that it was given."""
    image = argument(node, 0, "input")
    node.op, node.target, node.args, node.kwargs = "call_function", function, (image, *settings), {}


def _wider(axis: Axis, other: Axis) -> Axis:
    return axis if axis.geometry.receptive_field >= other.geometry.receptive_field else other


def _shown(axis: Axis) -> str:
    start = axis.geometry.offset
    return f"stride {axis.geometry.stride} from pixel {float(start):g} (cut by {axis.lost})"


_SUPPORTED = (
    "expected convolutions, max and average poolings, element-wise layers, normalisation by fixed numbers, sums, concatenated "
    "channels, and what 'pointwise' names"
)
