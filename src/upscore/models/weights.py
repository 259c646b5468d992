"""Weights files: read them without running code, find the state dict in them, and fit its names exactly.

Trainers wrap a state dict in a checkpoint (``{"state_dict": …, "epoch": 90}``) and put names
before those of its tensors (``module.conv1.weight``). Both are taken off, the names only
where every tensor then fits; what was done is reported.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from upscore.errors import ModelError, UpscoreWarning
from upscore.models.caffe_arrays import read_caffe_arrays
from upscore.models.torch_files import Foreign, read_torch_file, tensors_of_module
from upscore.text import reason

__all__ = ["Report", "bare", "load_fitting", "name_mismatch", "read_weights", "silent", "warn", "without_wrappers"]

Report = Callable[[str], None]
"""Takes a sentence on what was done to a file's weights to make them fit."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATE = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
"""Keys under which trainers keep a state dict. A running mean of the weights comes first: it is what they evaluate."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Names that DataParallel, torch.compile, Lightning and others put before those of all tensors."""

ENCODERS = ("backbone.", "encoder.")
"""Names of the part of a larger network that may be taken alone."""


def warn(message: str) -> None:
    """Report as a Python warning of kind :class:`~upscore.errors.UpscoreWarning`."""
    warnings.warn(message, UpscoreWarning, stacklevel=4)


def silent(message: str) -> None:
    """Report nothing: it was said before."""


def read_weights(path: str | Path, *, report: Report = silent) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, from Caffe's blobs as ``.npz``, or from anything that ``torch.save`` wrote.

    A state dict inside a checkpoint is found under the keys of :data:`AVERAGED` and
    :data:`STATE`, that of a network saved as a whole under its modules' names. What else the
    file holds is left alone, and none of it is run.

    Parameters
    ----------
    path : path
        The file.
    report : callable
        Told which state dict was taken where there are several.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    ModelError
        There is no such file, it cannot be read, or it holds no tensors by name.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ModelError(f"no weights file at '{path}'")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"the weights file '{path}' cannot be read ({error.strerror or reason(error)})") from None
    if path.suffix == ".npz":
        return dict(read_caffe_arrays(path))
    try:
        found = load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except ModelError:
        raise
    except Exception as error:  # torch.load and safetensors raise a dozen unrelated kinds for a damaged or foreign file
        # Of a text torch.load says "KeyError: 101" or "pop from empty list", which is true and says little.
        told = path.suffix == ".safetensors" or isinstance(error, OSError) or zipfile.is_zipfile(path) or _is_pickle(path)
        why = f" ({type(error).__name__}: {reason(error)})" if told else ""
        raise ModelError(
            f"'{path}' is not a readable weights file{why}: expected .safetensors, Caffe's blobs as .npz, or what torch.save writes"
        ) from error
    state = _state_dict_in(found, report)
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"'{path}' holds no state dict: found {_described(state)}, {_EXPECTED}")
    others = [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]
    if others:
        raise ModelError(f"'{path}' holds no state dict: found {_described(state[others[0]])} under '{others[0]}', {_EXPECTED}")
    if odd := next((name for name, tensor in state.items() if not _is_plain(tensor)), None):
        raise ModelError(
            f"'{path}' holds in '{odd}' a {_kind(state[odd])} tensor, expected plain numbers: save the weights of a dense network"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized and not tensor.is_nested


def _kind(tensor: Tensor) -> str:
    """Say in a word why a tensor is not plain."""
    return "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else tensor.device.type if tensor.is_meta else "sparse"


_EXPECTED = "expected tensors by name: load the file where you trust it, and save torch.save(network.state_dict(), 'weights.pth')"


def _state_dict_in(found: Any, report: Report) -> Any:
    """Return the state dict in what a file holds: all of it, or what lies under a trainer's key, to a depth of three."""
    for _ in range(3):
        if isinstance(found, Foreign):
            return tensors_of_module(found) or found
        if not isinstance(found, Mapping):
            return found
        there = [key for key in (*AVERAGED, *STATE) if isinstance(found.get(key), Mapping | Foreign) and _holds_tensors(found[key])]
        if not there:
            return found
        if len(there) > 1:
            report(f"the file holds weights as {_listed(there)}: '{there[0]}' is taken")
        found = found[there[0]]
    return found


def _holds_tensors(value: Any) -> bool:
    """Whether there are tensors in a state dict, in a checkpoint inside another, or in a whole network."""
    if isinstance(value, Foreign):
        return bool(tensors_of_module(value))
    return any(isinstance(held, Tensor | Mapping | Foreign) for held in value.values())


def _described(value: Any) -> str:
    """Say what was found in the place of tensors."""
    if isinstance(value, Foreign):
        return f"an object of the class {value.origin}"
    if isinstance(value, Mapping):
        return f"a mapping of {_listed([str(key) for key in value])}" if value else "nothing"
    return f"an object of the class {type(value).__module__}.{type(value).__qualname__}"


def _is_pickle(path: Path) -> bool:
    """Whether the file begins as what torch.save wrote before it wrote archives."""
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def name_mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say in words how ``found`` differs from ``expected`` in names, shapes or kinds of numbers; ``""`` if it does not."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    other = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    parts = []
    if missing:
        parts.append(f"lacks {_listed(missing)}" + (f" and holds {_listed(extra)} instead" if extra else ""))
    elif extra:
        parts.append(f"holds {_listed(extra)}, which the network has not")
    if other:
        shown = [f"'{n}' of shape {tuple(found[n].shape)}, expected {tuple(expected[n].shape)}" for n in other[:2]]
        parts.append("has " + ", ".join(shown) + (f" and {len(other) - 2} more of other shapes" if len(other) > 2 else ""))
    whole = [n for n in expected if n in found and expected[n].is_floating_point() and not found[n].is_floating_point()]
    if whole and not parts:
        parts.append(f"has '{whole[0]}' of type {found[whole[0]].dtype}, expected floating-point numbers")
    return "; ".join(parts)


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def load_fitting(
    module: nn.Module,
    found: Mapping[str, Tensor],
    *,
    source: str | Path,
    report: Report,
    name_as: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load a file's weights, first taking off what a trainer put before their names where all of them then fit.

    Batch normalisation's counters, which files of old or of others lack, are the module's own;
    weights for RGB fit a module of other channels as timm adapts them.

    Parameters
    ----------
    module : nn.Module
        Filled in place.
    found : mapping of str to Tensor
        By the file's names.
    source : path
        The file, for errors.
    report : callable
        Told what was taken off, left out or adapted.
    name_as : callable
        Gives a file's tensors the names of the module's.

    Raises
    ------
    ModelError
        Names are missing or extra, or shapes differ; said of the names as they are in the file.
    """
    own = module.state_dict()
    as_it_is = ""
    for words, tensors in without_wrappers(found):
        adapted, channels = _adapt_channels(_with_counters(name_as(tensors), own), own)
        mismatch = name_mismatch(own, adapted)
        if not mismatch:
            for sentence in (*words, *channels):
                report(f"{source}: {sentence}")
            module.load_state_dict(adapted)
            return
        as_it_is = as_it_is or mismatch
    raise ModelError(f"the weights '{source}' do not fit this network: the file {as_it_is}")


def without_wrappers(found: Mapping[str, Tensor]) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Yield tensors with fewer and fewer words before their names.

    First as they are, then without each of :data:`WRAPPERS` and :data:`ENCODERS` that all
    names share, and last the tensors of an encoder alone.

    Yields
    ------
    words : list of str
        What was done, a sentence each; empty for the names as they are.
    tensors : dict of str to Tensor
    """
    for taken, tensors in _stripped(found):
        words = [f"'{taken}' before all names is taken off"] if taken else []
        yield words, tensors
    for encoder in ENCODERS:
        inside = {name.removeprefix(encoder): tensor for name, tensor in tensors.items() if name.startswith(encoder)}
        if inside:
            outside = [name for name in tensors if not name.startswith(encoder)]
            yield [*words, f"'{encoder[:-1]}' is taken; {len(outside)} tensors beside it ({_listed(outside, 2)}) are left out"], inside


def bare(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without all of :data:`WRAPPERS` and :data:`ENCODERS` that their names share."""
    return list(_stripped(found))[-1][1]


def _stripped(found: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    taken, rest = "", dict(found)
    yield taken, rest
    while shared := next((prefix for prefix in (*WRAPPERS, *ENCODERS) if rest and all(name.startswith(prefix) for name in rest)), ""):
        taken, rest = taken + shared, {name.removeprefix(shared): tensor for name, tensor in rest.items()}
        yield taken, rest


def _with_counters(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the module's own counters of batches where a file has the statistics they belong to without them."""
    counters = {name: name.replace("num_batches_tracked", "running_mean") for name in own if name.endswith(".num_batches_tracked")}
    return {name: own[name] for name, mean in counters.items() if mean in found} | found


def _adapt_channels(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Adapt a first convolution of RGB to other channels: summed for one, repeated in turn and scaled for more, as timm does."""
    words = []
    for name, kernel in found.items():
        wanted = own.get(name)
        if wanted is None or kernel.ndim != 4 or kernel.shape == wanted.shape or kernel.shape[1] != 3:
            continue
        if (kernel.shape[0], *kernel.shape[2:]) != (wanted.shape[0], *wanted.shape[2:]):
            continue
        channels = wanted.shape[1]
        if channels == 1:
            adapted = kernel.sum(dim=1, keepdim=True)
        else:
            adapted = kernel.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
        found = found | {name: adapted}
        words.append(f"'{name}', made for 3 channels, is {'summed over them' if channels == 1 else f'repeated in turn for {channels}'}")
    return found, words
