"""Trace a classifier's forward pass as a graph that can be rewritten (``torch.fx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from upscore.errors import ModelError
from upscore.text import reason

__all__ = ["dominators", "trace"]


class _Tracer(fx.Tracer):
    """Trace into every module that has children; one that depends on sizes or values becomes a single node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = len(self.graph.nodes)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # with a proxy instead of a tensor, a forward pass can fail in any way
            for node in list(self.graph.nodes)[: known - 1 : -1]:
                self.graph.erase_node(node)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


def trace(model: nn.Module) -> fx.GraphModule:
    """Return a network's graph, of its very layers; ModelError where its forward pass depends on the values or sizes of its input."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # as above
        raise ModelError(
            f"the forward pass of {type(model).__name__} cannot be traced ({reason(error)}): "
            "only networks whose operations do not depend on the image can be made convolutional"
        ) from error
    for node in [n for n in graph.nodes if n.target is torch._assert]:
        graph.erase_node(node)
    traced = fx.GraphModule(model, graph)
    traced.training = model.training
    return traced


def dominators(graph: fx.Graph) -> list[fx.Node]:
    """Return the operations that every path from the input to the output passes, in order.

    Gates and branches are not among them; a classifier's last layers are.
    """
    (output,) = (node for node in graph.nodes if node.op == "output")
    (image, *_) = (node for node in graph.nodes if node.op == "placeholder")
    return [node for node in graph.nodes if node.op.startswith("call") and not _reaches(image, output, without=node)]


def _reaches(first: fx.Node, last: fx.Node, *, without: fx.Node) -> bool:
    seen, open_ = {first, without}, [first]
    while open_:
        node = open_.pop()
        if node is last:
            return True
        new = [user for user in node.users if user not in seen]
        seen.update(new)
        open_ += new
    return False
