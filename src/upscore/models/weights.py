"""Weights files: read them without running code, name their tensors as ours, and fit them exactly."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.caffe_arrays import read_caffe_arrays

__all__ = ["load_exactly", "name_mismatch", "read_weights"]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, from Caffe's blobs as ``.npz``, or from anything that ``torch.save`` wrote.

    A state dict wrapped as ``{"state_dict": …}`` or ``{"model": …}`` is unwrapped.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    ModelError
        There is no such file, it cannot be read without running code, or it holds no tensors.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ModelError(f"no weights file at '{path}'")
    if path.suffix == ".npz":
        return dict(read_caffe_arrays(path))
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch.load and safetensors raise a dozen unrelated kinds for a damaged or foreign file
        # Of a text torch.load says "KeyError: 101" or "pop from empty list", which is true and says little.
        told = path.suffix == ".safetensors" or isinstance(error, OSError) or zipfile.is_zipfile(path) or _is_pickle(path)
        reason = f" ({type(error).__name__}: {' '.join(str(error).split())[:120]})" if told else ""
        raise ModelError(
            f"'{path}' is not a readable weights file{reason}: expected .safetensors, Caffe's blobs as .npz, or what torch.save writes"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ModelError(f"'{path}' holds no state dict: expected tensors by name")
    return {str(name): tensor for name, tensor in found.items()}


def _is_pickle(path: Path) -> bool:
    """Whether the file begins as what torch.save wrote before it wrote archives."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def name_mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say in words how ``found`` differs from ``expected`` in names or shapes; ``""`` if it does not."""
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
    return "; ".join(parts)


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Load weights whose names and shapes are exactly the module's.

    Raises
    ------
    ModelError
        Names are missing or extra, or shapes differ.
    """
    mismatch = name_mismatch(module.state_dict(), weights)
    if mismatch:
        raise ModelError(f"the weights '{source}' do not fit this network: the file {mismatch}")
    module.load_state_dict(dict(weights))
