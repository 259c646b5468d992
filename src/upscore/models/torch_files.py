"""Read what ``torch.save`` wrote without running any of it, whatever objects the file holds besides tensors.

A pickle names classes and functions and calls them. torch's own reader of weights refuses a
file that names others than it knows: the ``argparse.Namespace`` and the NumPy number of many
a checkpoint, or a network that was saved as a whole. Here such names stand for an inert
object that keeps what it is given and does nothing; only the functions that put a tensor
together are the real ones. The tensors of a network saved as a whole are then found by the
names under which every ``nn.Module`` keeps them.
"""

from __future__ import annotations

import collections
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from upscore.errors import ModelError

__all__ = ["Foreign", "read_torch_file", "tensors_of_module"]

MAX_PICKLE = 2**26
"""Bytes of the part of a file that says what its tensors are; a large network's has a megabyte."""

MAX_NAMES = 2000
"""Different classes and functions that a file may name; a network saved as a whole names some fifty."""


class Foreign:
    """Stands for an object of a class that is not looked up: it keeps its state, and does nothing.

    Attributes
    ----------
    origin : str
        The class or function that the file names.
    state : mapping
        What the object was saved with; empty where that is no mapping.
    """

    origin: ClassVar[str] = ""
    state: Mapping[Any, Any]

    def __new__(cls, *args: Any, **values: Any) -> Foreign:
        """Make one of whatever the file would give the class."""
        made = object.__new__(cls)
        made.state = {}
        return made

    def __init__(self, *args: Any, **values: Any) -> None:
        pass

    def __call__(self, *args: Any, **values: Any) -> Foreign:
        """Return the object itself: what the file would call is not called."""
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Take no notice of an element of a list."""

    def extend(self, values: Any) -> None:
        """Take no notice of the elements of a list."""


def read_torch_file(path: Path) -> Any:
    """Return what a file of ``torch.save`` holds, tensors on the CPU, all else that is no plain value as :class:`Foreign`.

    Raises
    ------
    ModelError
        It is a TorchScript archive, or asks for more memory than its size explains.
    Exception
        Whatever torch raises for a damaged file.
    """
    archive = zipfile.is_zipfile(path)
    if archive:
        _check_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch doubts pickles that are newer than its own
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        except pickle.UnpicklingError:
            # Either damaged, which shows again, or it holds objects beside its tensors.
            return torch.load(path, map_location="cpu", weights_only=False, mmap=archive, pickle_module=_InertPickle)


def tensors_of_module(module: Foreign) -> dict[str, Tensor]:
    """Return the parameters and saved buffers of a network that was saved as a whole, as its ``state_dict()`` would; {} if it is none."""
    return dict(_tensors_of(module, "", set()))


def _tensors_of(module: Foreign, prefix: str, above: set[int]) -> Iterator[tuple[str, Tensor]]:
    if id(module) in above:  # a module inside itself, which only a made-up file has
        return
    passing = module.state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        held = module.state.get(kind)
        for name, tensor in held.items() if isinstance(held, Mapping) else ():
            if isinstance(tensor, Tensor) and not (kind == "_buffers" and isinstance(passing, set) and name in passing):
                yield f"{prefix}{name}", tensor.detach()
    inner = module.state.get("_modules")
    for name, child in inner.items() if isinstance(inner, Mapping) else ():
        if isinstance(child, Foreign):
            yield from _tensors_of(child, f"{prefix}{name}.", above | {id(module)})


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [member.filename.rpartition("/")[2] for member in members]
    if "constants.pkl" in names:
        raise ModelError(
            f"'{path}' is a TorchScript archive, whose code is not run here: save its weights where you trust it, with "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    described = sum(member.file_size for member, name in zip(members, names, strict=True) if name == "data.pkl")
    if described > MAX_PICKLE or sum(member.file_size for member in members) > path.stat().st_size:
        raise ModelError(f"'{path}' asks for more memory than a weights file of {path.stat().st_size} bytes needs: it is damaged")


_REAL = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
} | {("torch", str(kind).partition(".")[2]): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
"""What a file may call: it puts a tensor together, or is a plain container."""


class _Sparing:
    """A file of which no more is read at once than a pickle may hold: room is made before it turns out that there is less."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if size > MAX_PICKLE:
            raise pickle.UnpicklingError(f"it claims {size} bytes for one value")
        return bytes(self._file.read(size))


class _Inert(pickle._Unpickler):
    """An unpickler that looks up nothing but :data:`_REAL`; storages are torch's affair, by their kind.

    It is the one written in Python: for a number in eleven bytes the one in C makes room for
    that many objects, and both do for a bytearray, which no weights file holds.
    """

    dispatch: ClassVar[dict[int, Any]] = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, file: Any, **values: Any) -> None:
        super().__init__(_Sparing(file), **values)
        self._foreign: dict[tuple[str, str], type[Foreign]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL:
            return _REAL[module, name]
        if (module, name) not in self._foreign:
            if len(self._foreign) == MAX_NAMES:
                raise pickle.UnpicklingError(f"it names more than {MAX_NAMES} classes")
            self._foreign[module, name] = type("Foreign", (Foreign,), {"origin": f"{module}.{name}"})
        return self._foreign[module, name]


class _InertPickle:
    """What torch.load calls in place of the module ``pickle``."""

    Unpickler = _Inert
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **values: Any) -> Any:
        return _Inert(file, **values).load()
