"""Rewrite a classifier's head, from the layer that turns its map into a vector, for a grid of windows.

==========================  =======================================================
in the classifier           in the grid
==========================  =======================================================
average over the h×w map    average over h×w cells, stride 1
maximum over the h×w map    maximum over h×w cells, stride 1
flatten a (C, h, w) map     removed
linear over the flat map    h×w convolution
linear over a vector        1×1 convolution
norm over a vector          norm over the channels of each cell
adaptive pooling            pooling with the kernel that gives the same size
==========================  =======================================================

Operations are recognised by what they do to random maps. Those that act on each cell as they do
on a vector (activations, dropout, 1×1 convolutions) stay; all others are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import skip_init

from upscore.dense_classifiers.fx_trace import dominators
from upscore.errors import ModelError

__all__ = ["linear_to_conv", "rewrite_head"]


def linear_to_conv(linear: nn.Linear, *, kernel: int | tuple[int, int], in_channels: int) -> nn.Conv2d:
    """Return the convolution that does to each window what ``linear`` does to one flattened map.

    Parameters
    ----------
    linear : nn.Linear
        Takes ``in_channels * kernel_h * kernel_w`` features, flattened from (C, h, w) in that
        order, as torch flattens; it is not changed.
    kernel : int or (int, int)
        Height and width of the map that was flattened; 1 for a layer that follows a linear one.
    in_channels : int
        C of the map that was flattened.

    Returns
    -------
    nn.Conv2d
        Stride 1, no padding; copies of the weights, on the same device and of the same dtype.

    Raises
    ------
    ModelError
        The layer takes another number of features.

    Examples
    --------
    >>> linear_to_conv(nn.Linear(512 * 7 * 7, 4096, device="meta"), kernel=7, in_channels=512)
    Conv2d(512, 4096, kernel_size=(7, 7), stride=(1, 1))
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if linear.in_features != in_channels * height * width:
        raise ModelError(
            f"found a linear layer that takes {linear.in_features} features, expected {in_channels}×{height}×{width} = "
            f"{in_channels * height * width}: give the size of the map it was trained on"
        )
    weight, bias = linear.weight, linear.bias
    form = {"bias": bias is not None, "device": weight.device, "dtype": weight.dtype}
    conv = skip_init(nn.Conv2d, in_channels, linear.out_features, (height, width), **form)  # type: ignore[no-untyped-call]
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight.copy_(weight.reshape(conv.weight.shape))
        if conv.bias is not None:
            conv.bias.copy_(bias)
    return conv.train(linear.training).requires_grad_(weight.requires_grad)


def rewrite_head(traced: fx.GraphModule, example: Tensor) -> None:
    """Rewrite a traced classifier, in eval mode, in place, so that it gives a grid of scores; changed layers are replaced by copies.

    ``example`` is an image (1, C, H, W) of the classifier's input size. A ModelError is raised where the map becomes a vector in
    another way than those above, or a later layer is none of them.
    """
    survey = _Survey(traced)
    survey.run(example)
    if not survey.collapsed:
        raise ModelError(
            "found a network without a classifier's head: expected a map that is flattened, or averaged over its positions, into one vector"
        )
    replaced_by: dict[fx.Node, fx.Node] = {}
    for node, replacement in survey.replacements.items():
        new = replaced_by.get(survey.source[node], survey.source[node])
        if replacement is not None:
            traced.add_submodule(f"{node.name}_dense", replacement)
            with traced.graph.inserting_before(node):
                new = traced.graph.call_module(f"{node.name}_dense", (new,))
        node.replace_all_uses_with(new)
        traced.graph.erase_node(node)
        replaced_by[node] = new
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()


class _Survey(fx.Interpreter):
    """Run a classifier once and find the replacement of each operation of its head."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.dominators = set(dominators(traced.graph))
        self.replacements: dict[fx.Node, nn.Module | None] = {}  # in order; None where the operation is removed
        self.source: dict[fx.Node, fx.Node] = {}  # the operation whose result each of them takes
        self.collapsed = False  # whether the map has become a vector
        self.pool: fx.Node | None = None  # the average of a fixed window that made it one
        self.cells = (0, 1, 1)  # C, h and w of the map that the vector was flattened from

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if not n.op.startswith("call"):
            return result
        if not isinstance(result, Tensor):
            if self.collapsed and n in self.dominators:
                raise ModelError(_not_understood(self.module, n))
            return result
        tensors = [m for m in n.all_input_nodes if isinstance(self.env[m], Tensor)]
        if n not in self.dominators or not tensors:
            if self.collapsed and tensors:
                raise ModelError(f"found a head with branches, at {_named(self.module, n)}: expected one layer after another")
            return result
        before = next((m for m in tensors if m in self.dominators or m.op == "placeholder"), tensors[0])
        given = self.env[before]
        if self.collapsed:
            self._replace_in_head(n, before, given, result)
        elif given.ndim == 4:
            self._find_head(n, before, given, result)
        return result

    def _find_head(self, node: fx.Node, before: fx.Node, given: Tensor, result: Tensor) -> None:
        rows, columns = given.shape[2:]
        operation = self._operation(node, before)
        if result.ndim == 4 and _is_adaptive(self.module, node) and result.shape[2:] != (1, 1):
            self._put(node, before, _fixed_pool(self.module, node, (rows, columns), (result.shape[2], result.shape[3])))
            return
        if (result.ndim != 2 and (result.ndim != 4 or result.shape[2:] != (1, 1))) or _has_fixed_windows(self.module, node, nn.MaxPool2d):
            return
        kind = _collapse(operation, given)
        if kind == "flatten":
            self.cells = (given.shape[1], rows, columns)
            self._put(node, before, None)
        elif kind:
            self.cells = (given.shape[1], 1, 1)
            self.pool = node if _has_fixed_windows(self.module, node, nn.AvgPool2d) else None
            pool = nn.AvgPool2d if kind == "average" else nn.MaxPool2d
            self._put(node, before, pool((rows, columns), stride=1) if (rows, columns) != (1, 1) else None)
        elif result.ndim == 2:
            raise ModelError(
                f"found {_named(self.module, node)}, which makes a vector of a {rows}×{columns} map in an unknown way: "
                "expected a flattening, an average or a maximum over its positions"
            )
        self.collapsed = bool(kind)

    def _replace_in_head(self, node: fx.Node, before: fx.Node, given: Tensor, result: Tensor) -> None:
        layer = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        channels, rows, columns = self.cells
        single = rows == columns == 1
        operation = self._operation(node, before)
        if isinstance(layer, nn.Linear) and given.ndim == 2:
            self._put(node, before, linear_to_conv(layer, kernel=(rows, columns), in_channels=channels))
            self.cells = (layer.out_features, 1, 1)
        elif isinstance(layer, nn.BatchNorm1d) and given.ndim == 2 and single:
            self._put(node, before, _norm_of_cells(layer))
        elif isinstance(layer, nn.LayerNorm) and given.ndim == 2 and single:
            self._put(node, before, ChannelNorm(layer))
        elif given.ndim == 4 and result.ndim == 2 and result.shape[1] == given.shape[1] and torch.equal(operation(given), given.flatten(1)):
            self._put(node, before, None)
        elif given.ndim == 4 and _collapse(operation, given) in ("average", "maximum"):
            # The pooling of all positions is the head: what left one cell before it is a pooling like others, which keeps its stride.
            if self.pool is not None:
                self.replacements.pop(self.pool)
                self.pool = None
            self._put(node, before, None)
        elif _acts_on_cells(operation, given, self.cells):
            self.cells = (result.shape[1], 1, 1) if single else self.cells
        else:
            raise ModelError(_not_understood(self.module, node))

    def _put(self, node: fx.Node, before: fx.Node, replacement: nn.Module | None) -> None:
        self.replacements[node], self.source[node] = replacement, before

    def _operation(self, node: fx.Node, before: fx.Node) -> Callable[[Tensor], Tensor]:
        """Return a node's operation as a function of its input map."""
        env = {m: self.env[m] for m in node.all_input_nodes}

        def apply(x: Tensor) -> Any:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda m: x if m is before else env[m])
            return getattr(self, node.op)(node.target, args, dict(kwargs))

        return apply


class ChannelNorm(nn.Module):
    """Layer normalisation of each cell over its channels, with the weights of a vector's layer norm."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W), normalised over C."""
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


def _norm_of_cells(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    """Return the batch normalisation of maps with the very tensors of one for vectors."""
    cells = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    cells.weight, cells.bias = norm.weight, norm.bias
    cells.running_mean, cells.running_var, cells.num_batches_tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
    return cells.train(norm.training)


def _collapse(operation: Callable[[Tensor], Any], given: Tensor) -> str:
    """Return what an operation does to a map: "flatten", "average", "maximum", or "" for none of them."""
    x = torch.rand_like(given)
    y = _tried(operation, x)
    if y is not None and y.ndim == 2 and torch.equal(y, x.flatten(1)):
        return "flatten"
    if given.shape[2:] == (1, 1):  # the average of a single cell is that cell: test on more cells
        x = torch.rand(*given.shape[:2], 2, 3, dtype=given.dtype, device=given.device)
        y = _tried(operation, x)
    if y is None or y.shape[:2] != x.shape[:2] or y.numel() != x.shape[0] * x.shape[1]:
        return ""
    y = y.flatten(1)
    if torch.allclose(y, x.mean((2, 3)), rtol=1e-3, atol=1e-3):
        return "average"
    return "maximum" if torch.equal(y, x.amax((2, 3))) else ""


def _acts_on_cells(operation: Callable[[Tensor], Any], given: Tensor, cells: tuple[int, int, int]) -> bool:
    """Return whether an operation on a vector, or on a single cell, does the same to each cell of a map."""
    x = torch.randn_like(given)
    if given.ndim == 2:
        of_vector, of_map = _tried(operation, x), _tried(operation, x.reshape(len(x), *cells))
        if of_vector is None or of_map is None or of_vector.shape != x.shape or not torch.allclose(of_map.flatten(1), of_vector):
            return False
        if cells[1:] != (1, 1):
            return True
    x = torch.randn(1, given.shape[1], 2, 2, dtype=given.dtype, device=given.device)
    of_map = _tried(operation, x)
    if of_map is None or of_map.ndim != 4 or of_map.shape[2:] != (2, 2):
        return False
    of_cells = (operation(x[..., i : i + 1, j : j + 1])[..., 0, 0] for i in (0, 1) for j in (0, 1))
    return torch.allclose(of_map.flatten(2), torch.stack(list(of_cells), dim=-1), rtol=1e-3, atol=1e-5)


def _tried(operation: Callable[[Tensor], Any], x: Tensor) -> Tensor | None:
    """Return an operation's result, or None where it fails or is no tensor."""
    try:
        y = operation(x.clone())
    except (IndexError, RuntimeError, ValueError):
        return None
    return y if isinstance(y, Tensor) else None


def _is_adaptive(traced: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    return node.target in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)


def _has_fixed_windows(traced: nn.Module, node: fx.Node, kind: type[nn.AvgPool2d] | type[nn.MaxPool2d]) -> bool:
    """Return whether an operation is this pooling: of an average over the whole map, it may be the head; a maximum keeps its stride."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), kind)
    return node.target in ((F.avg_pool2d,) if kind is nn.AvgPool2d else (F.max_pool2d, torch.max_pool2d))


def _fixed_pool(traced: nn.Module, node: fx.Node, given: tuple[int, int], wanted: tuple[int, int]) -> nn.Module | None:
    """Return the pooling from ``given`` to ``wanted`` cells, or None where they are equal."""
    if given == wanted:
        return None
    if given[0] % wanted[0] or given[1] % wanted[1]:
        raise ModelError(
            f"found {_named(traced, node)}, which pools {given[0]}×{given[1]} cells to {wanted[0]}×{wanted[1]}: "
            "their windows differ in size; choose an input_size whose map is a multiple"
        )
    kernel = (given[0] // wanted[0], given[1] // wanted[1])
    layer = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    maximum = isinstance(layer, nn.AdaptiveMaxPool2d) or node.target is F.adaptive_max_pool2d
    return nn.MaxPool2d(kernel) if maximum else nn.AvgPool2d(kernel)


def _not_understood(traced: nn.Module, node: fx.Node) -> str:
    return (
        f"found {_named(traced, node)} after the map became a vector: "
        "only linear layers, norms and element-wise layers can be made convolutional"
    )


def _named(traced: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"layer '{node.target}' of type {type(traced.get_submodule(str(node.target))).__name__}"
    return f"'{getattr(node.target, '__name__', node.target)}'"
