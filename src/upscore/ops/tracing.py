"""Follow a network's forward pass as a graph of steps that can be rewritten (``torch.fx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from upscore.errors import ModelError
from upscore.text import reason

__all__ = ["follow", "spine"]


class _Follower(fx.Tracer):
    """Look into every module that has parts and can be followed; one that asks for sizes or values is a single step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = len(self.graph.nodes)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # what a forward pass does with a stand-in for a tensor can fail in any way
            for node in list(self.graph.nodes)[: known - 1 : -1]:
                self.graph.erase_node(node)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


def follow(model: nn.Module) -> fx.GraphModule:
    """Return the steps of a network, which share its layers.

    Raises
    ------
    ModelError
        Its forward pass depends on what it is given, and cannot be written down as steps.
    """
    try:
        graph = _Follower().trace(model)
    except Exception as error:  # as above
        raise ModelError(
            f"the forward pass of {type(model).__name__} cannot be followed ({reason(error)}): "
            "only networks whose steps do not depend on the image can be made convolutional"
        ) from error
    for node in [n for n in graph.nodes if n.target is torch._assert]:
        graph.erase_node(node)
    traced = fx.GraphModule(model, graph)
    traced.training = model.training
    return traced


def spine(graph: fx.Graph) -> list[fx.Node]:
    """Return the steps that every path from the input to the output passes, in order.

    A gate or a branch is not among them; a classifier's last layers are.
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
