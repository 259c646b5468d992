"""Read a weights file without running code, and find the state dict in it.

Trainers wrap a state dict in a checkpoint, ``{"state_dict": …, "epoch": 90}``; it is found under
the keys that they use.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from upscore.errors import ModelError
from upscore.models.weights.caffe_arrays import read_caffe_arrays
from upscore.models.weights.caffemodel import read_caffemodel
from upscore.models.weights.load import Report, quote_names, silent
from upscore.models.weights.matconvnet import read_matconvnet
from upscore.models.weights.torch_files import Foreign, read_torch_file, tensors_of_module
from upscore.text import reason

__all__ = ["FROM_CAFFE", "read_weights"]

FROM_CAFFE = {".caffemodel": read_caffemodel, ".mat": read_matconvnet, ".npz": read_caffe_arrays}
"""Readers of Caffe's networks and of what is converted from them, by the endings of the files' names."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATE = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
"""Keys under which trainers save a state dict. A running mean of the weights comes first: trainers evaluate that."""

_EXPECTED = "expected tensors by name: load the file where you trust it, and save torch.save(network.state_dict(), 'weights.pth')"


def read_weights(path: str | Path, *, report: Report = silent) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, a network of Caffe or MatConvNet, or anything that ``torch.save`` wrote.

    Caffe's networks are read as they are published, ``.caffemodel``, and as arrays, ``.npz``; MatConvNet's are ``.mat``.

    A state dict inside a checkpoint is found under the keys of :data:`AVERAGED` and
    :data:`STATE`, that of a whole saved network under its modules' names. The rest of the file
    is ignored, and none of it is run. ``report`` receives a sentence if there are several state dicts: which of them was read.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    ModelError
        The file does not exist, cannot be read, or holds no tensors by name.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/checkpoint.pth"
    >>> torch.save({"state_dict": {"conv.weight": torch.zeros(2, 3, 1, 1)}, "epoch": 90}, path)
    >>> {name: tuple(tensor.shape) for name, tensor in read_weights(path).items()}
    {'conv.weight': (2, 3, 1, 1)}
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ModelError(f"no weights file at '{path}'")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"the weights file '{path}' cannot be read ({error.strerror or reason(error)})") from None
    if path.suffix in FROM_CAFFE:
        return dict(FROM_CAFFE[path.suffix](path))
    try:
        found = load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except ModelError:
        raise
    except Exception as error:  # torch.load and safetensors raise a dozen unrelated kinds for a damaged or foreign file
        # For a text file torch.load reports "KeyError: 101" or "pop from empty list", which helps nobody.
        telling = path.suffix == ".safetensors" or isinstance(error, OSError) or zipfile.is_zipfile(path) or _is_pickle(path)
        why = f" ({type(error).__name__}: {reason(error)})" if telling else ""
        raise ModelError(
            f"'{path}' is not a readable weights file{why}: expected .safetensors, .caffemodel, Caffe's blobs as .npz, "
            "MatConvNet's .mat, or what torch.save writes"
        ) from error
    state = _state_dict_in(found, report)
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"'{path}' holds no state dict: found {_describe(state)}, {_EXPECTED}")
    others = [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]
    if others:
        raise ModelError(f"'{path}' holds no state dict: found {_describe(state[others[0]])} under '{others[0]}', {_EXPECTED}")
    if odd := next((name for name, tensor in state.items() if not _is_plain(tensor)), None):
        raise ModelError(
            f"'{path}' holds in '{odd}' a {_storage_kind(state[odd])} tensor, expected plain numbers: save the weights of a dense network"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized and not tensor.is_nested


def _storage_kind(tensor: Tensor) -> str:
    """Return in a word why a tensor is not plain."""
    return "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else tensor.device.type if tensor.is_meta else "sparse"


def _state_dict_in(found: Any, report: Report) -> Any:
    """Return the state dict in the content of a file: all of it, or what lies under a trainer's key, to a depth of three."""
    for _ in range(3):
        if isinstance(found, Foreign):
            return tensors_of_module(found) or found
        if not isinstance(found, Mapping):
            return found
        present = [key for key in (*AVERAGED, *STATE) if isinstance(found.get(key), Mapping | Foreign) and _holds_tensors(found[key])]
        if not present:
            return found
        if len(present) > 1:
            report(f"the file holds weights as {quote_names(present)}: '{present[0]}' is used")
        found = found[present[0]]
    return found


def _holds_tensors(value: Any) -> bool:
    """Whether there are tensors in a state dict, in a checkpoint inside another, or in a whole network."""
    if isinstance(value, Foreign):
        return bool(tensors_of_module(value))
    return any(isinstance(held, Tensor | Mapping | Foreign) for held in value.values())


def _describe(value: Any) -> str:
    """Describe what was found instead of tensors."""
    if isinstance(value, Foreign):
        return f"an object of the class {value.origin}"
    if isinstance(value, Mapping):
        return f"a mapping of {quote_names([str(key) for key in value])}" if value else "nothing"
    return f"an object of the class {type(value).__module__}.{type(value).__qualname__}"


def _is_pickle(path: Path) -> bool:
    """Whether the file begins like those that torch.save wrote before it wrote archives."""
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO
