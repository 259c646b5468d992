"""Fit a file's tensors to a network exactly: prefixes removed, channels adapted, every difference named.

Trainers and wrappers put a prefix before all names (``module.conv1.weight``). It is removed only
if every tensor then fits, and what was done is reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from upscore.errors import ModelError, UpscoreWarning

__all__ = ["ExtraBands", "Report", "load_fitting", "name_mismatch", "quote_names", "silent", "strip_prefixes", "strippings", "warn"]

Report = Callable[[str], None]
"""Takes a sentence on what was done to make a file's weights fit."""

ExtraBands = Literal["repeat", "mean"]
"""The filters of a first convolution of RGB for other bands: "repeat" has those of red, green and blue in turn, scaled to the same sum, as
timm; "mean" leaves the first three as they are and gives every band behind them the mean of the three, as FCN's release for depth."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Prefixes that DataParallel, torch.compile, Lightning and others put before the names of all tensors."""

ENCODERS = ("backbone.", "encoder.")
"""Prefixes of the part of a larger network that may be loaded alone."""


def warn(message: str) -> None:
    """Report as a Python warning of kind :class:`~upscore.errors.UpscoreWarning`."""
    warnings.warn(message, UpscoreWarning, stacklevel=4)


def silent(message: str) -> None:
    """Report nothing: it was reported before."""


def name_mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Describe how ``found`` differs from ``expected`` in names, shapes or kinds of numbers, after "the file"; ``""`` if it does not.

    >>> import torch
    >>> name_mismatch({"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    "lacks 'a' and holds 'b' instead"
    >>> name_mismatch({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
    "has 'a' of shape (3,), expected (2,)"
    """
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    other = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    parts = []
    if missing:
        parts.append(f"lacks {quote_names(missing)}" + (f" and holds {quote_names(extra)} instead" if extra else ""))
    elif extra:
        parts.append(f"holds {quote_names(extra)}, which the network has not")
    if other:
        shown = [f"'{n}' of shape {tuple(found[n].shape)}, expected {tuple(expected[n].shape)}" for n in other[:2]]
        parts.append("has " + ", ".join(shown) + (f" and {len(other) - 2} more of other shapes" if len(other) > 2 else ""))
    integers = [n for n in expected if n in found and expected[n].is_floating_point() and not found[n].is_floating_point()]
    if integers and not parts:
        parts.append(f"has '{integers[0]}' of type {found[integers[0]].dtype}, expected floating-point numbers")
    return "; ".join(parts)


def quote_names(names: list[str], maximum: int = 3) -> str:
    """Return the first names in quotes, and the number of the others.

    >>> quote_names(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 more"
    """
    return ", ".join(f"'{name}'" for name in names[:maximum]) + (f" and {len(names) - maximum} more" if len(names) > maximum else "")


def load_fitting(
    module: nn.Module,
    found: Mapping[str, Tensor],
    *,
    source: str | Path,
    report: Report,
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
    extra_bands: ExtraBands = "repeat",
) -> None:
    """Load a file's weights into ``module``, with a trainer's prefixes removed from their names if all of them then fit.

    Counters of batch normalisation, which older and foreign files lack, stay the module's own;
    weights for RGB are adapted to a module of other channels as ``extra_bands`` says.

    Parameters
    ----------
    found : mapping of str to Tensor
        By the file's names.
    source : path
        The file, for errors.
    report : callable
        Receives a sentence for each thing that was removed, ignored or adapted.
    rename : callable
        From a file's tensors to those under the module's names.
    extra_bands : {"repeat", "mean"}
        The filters of other bands than three.

    Raises
    ------
    ModelError
        Names are missing or extra, or shapes differ. The message uses the names as they are in the file.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> wrapped = {f"module.{name}": tensor for name, tensor in layer.state_dict().items()}
    >>> load_fitting(layer, wrapped, source="w.pth", report=print)
    w.pth: the prefix 'module.' was removed from all names
    """
    own = module.state_dict()
    first_mismatch = ""
    for changes, tensors in strippings(found):
        adapted, adaptations = _adapt_channels(_with_counters(rename(tensors), own), own, extra_bands)
        mismatch = name_mismatch(own, adapted)
        if not mismatch:
            for sentence in (*changes, *adaptations):
                report(f"{source}: {sentence}")
            module.load_state_dict(adapted)
            return
        first_mismatch = first_mismatch or mismatch
    raise ModelError(f"the weights '{source}' do not fit this network: the file {first_mismatch}")


def strippings(found: Mapping[str, Tensor]) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Yield a file's tensors with fewer and fewer prefixes before their names, each with sentences that tell what was removed.

    First as they are, then without each of :data:`WRAPPERS` and :data:`ENCODERS` that all
    names have in common, and last the tensors of an encoder alone.
    """
    for prefix, tensors in _without_prefixes(found):
        changes = [f"the prefix '{prefix}' was removed from all names"] if prefix else []
        yield changes, tensors
    for encoder in ENCODERS:
        inside = {name.removeprefix(encoder): tensor for name, tensor in tensors.items() if name.startswith(encoder)}
        if inside:
            outside = [name for name in tensors if not name.startswith(encoder)]
            yield [*changes, f"'{encoder[:-1]}' is used; {len(outside)} other tensors ({quote_names(outside, 2)}) are ignored"], inside


def strip_prefixes(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without all of :data:`WRAPPERS` and :data:`ENCODERS` that their names have in common.

    >>> list(strip_prefixes({"module.model.conv.weight": Tensor(), "module.model.conv.bias": Tensor()}))
    ['conv.weight', 'conv.bias']
    """
    return list(_without_prefixes(found))[-1][1]


def _without_prefixes(found: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    removed, rest = "", dict(found)
    yield removed, rest
    while prefix := next((p for p in (*WRAPPERS, *ENCODERS) if rest and all(name.startswith(p) for name in rest)), ""):
        removed, rest = removed + prefix, {name.removeprefix(prefix): tensor for name, tensor in rest.items()}
        yield removed, rest


def _with_counters(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the module's own counters of batches where a file has the statistics without them."""
    counters = {name: name.replace("num_batches_tracked", "running_mean") for name in own if name.endswith(".num_batches_tracked")}
    return {name: own[name] for name, mean in counters.items() if mean in found} | found


def _adapt_channels(found: dict[str, Tensor], own: Mapping[str, Tensor], extra_bands: ExtraBands) -> tuple[dict[str, Tensor], list[str]]:
    """Adapt a first convolution of RGB to other channels: summed for one, otherwise by :data:`ExtraBands`."""
    changes = []
    for name, kernel in found.items():
        wanted = own.get(name)
        if wanted is None or kernel.ndim != 4 or kernel.shape == wanted.shape or kernel.shape[1] != 3:
            continue
        if (kernel.shape[0], *kernel.shape[2:]) != (wanted.shape[0], *wanted.shape[2:]):
            continue
        channels = wanted.shape[1]
        if channels == 1:
            adapted, how = kernel.sum(dim=1, keepdim=True), "summed over them"
        elif extra_bands == "mean" and channels > 3:
            adapted = torch.cat([kernel, kernel.mean(dim=1, keepdim=True).expand(-1, channels - 3, -1, -1)], dim=1)
            how = f"followed by their mean for each band from 4 to {channels}, as in FCN's release"
        else:
            adapted = kernel.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
            how = f"repeated in turn for {channels}"
        found = found | {name: adapted}
        changes.append(f"'{name}', made for 3 channels, is {how}")
    return found, changes
