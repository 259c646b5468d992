"""Parts of a network by the prefix of their modules' names, such as ``backbone``: which are frozen, which learn at another rate."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from upscore.errors import RecipeError, nearest_name

__all__ = ["freeze", "longest_prefix", "require_parts", "set_training_mode"]


def longest_prefix(name: str, prefixes: Iterable[str]) -> str | None:
    """Return the longest of ``prefixes`` that a dotted name begins with; None where it begins with none.

    >>> longest_prefix("backbone.conv1.weight", ["backbone", "backbone.conv"])
    'backbone'
    """
    return max((prefix for prefix in prefixes if f"{name}.".startswith(f"{prefix}.")), key=len, default=None)


def require_parts(model: nn.Module, prefixes: Iterable[str], *, setting: str, trainable: bool = False) -> None:
    """Raise RecipeError unless every prefix names a module or parameter of the model that has parameters, trainable ones if asked."""
    parameters = {name for name, parameter in model.named_parameters() if parameter.requires_grad or not trainable}
    for prefix in prefixes:
        if any(longest_prefix(name, [prefix]) for name in parameters):
            continue
        if any(longest_prefix(name, [prefix]) for name, _ in model.named_parameters()):
            raise RecipeError(f"{setting} names '{prefix}', which is frozen (model.freeze): leave one of the two out")
        names = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
        top = dict.fromkeys(name.partition(".")[0] for name in names)
        raise RecipeError(f"{setting}: the network has no part '{prefix}'{nearest_name(prefix, names)}; its parts are {', '.join(top)}")


def freeze(model: nn.Module, prefixes: Iterable[str]) -> None:
    """Exclude parts of a network from training, in place; raises RecipeError where a prefix names no part, or nothing is left to train."""
    prefixes = tuple(prefixes)
    require_parts(model, prefixes, setting="model.freeze")
    for name, parameter in model.named_parameters():
        if longest_prefix(name, prefixes):
            parameter.requires_grad_(False)
    if prefixes and not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError(f"model.freeze = {list(prefixes)} leaves nothing to train: leave some part out")


def set_training_mode(model: nn.Module, *, frozen: Iterable[str]) -> None:
    """Put a network into training mode, but its frozen parts into evaluation mode.

    These normalise by their running statistics, which stay as they are, and their dropout is off.
    """
    model.train()
    frozen = tuple(frozen)
    for name, module in model.named_modules() if frozen else ():
        if longest_prefix(name, frozen):
            module.eval()
