"""Read what ``torch.save`` wrote without running any of it, whatever objects the file holds besides tensors.

A pickle names classes and functions and calls them. torch's own reader of weights refuses a
file that names others than it knows: the ``argparse.Namespace`` and the NumPy number of many
a checkpoint, or a network that was saved as a whole. Here such names become inert
objects, which store their state and do nothing; only the functions that rebuild a tensor
are the real ones. The tensors of a whole saved network are then found under the
names where every ``nn.Module`` stores them.

A few bytes can ask for much memory and work: tuples of tuples that a dict must hash, modules
that hold one another, a far index in the memo of the pickle machine. So a pickle is
scanned once before it is read, without building anything, and refused where it asks for too much.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import torch
from torch import Tensor

from upscore.errors import ModelError

__all__ = ["Foreign", "read_torch_file", "tensors_of_module"]

MAX_PICKLE = 2**26
"""Bytes of the part of a file that describes its tensors; for a large network it is a megabyte."""

MAX_NAMES = 2000
"""Different classes and functions that a file may name; a whole saved network names about fifty."""

MAX_STEPS = 1_000_000
"""Operations of a pickle, and indices of its memo; two thousand layers with their optimizer take about a hundred thousand."""

MAX_SHARED = 10_000_000
"""Values that tuples repeat from earlier tuples: as keys of a dict all of them are hashed, however few bytes ask for it."""

MAX_MODULES = 100_000
"""Modules of a whole saved network."""

MAX_DEPTH = 100
"""Modules inside one another."""


class Foreign:
    """Stands for an object of a class that is not imported: it stores its state, and does nothing."""

    origin: ClassVar[str] = ""  #: the class or function that the file names
    state: Mapping[Any, Any]  #: that was saved; empty if that is no mapping

    def __new__(cls, *args: Any, **values: Any) -> Foreign:
        """Create an object from whatever arguments the file passes to the class."""
        created = object.__new__(cls)
        created.state = {}
        return created

    def __init__(self, *args: Any, **values: Any) -> None:
        pass

    def __call__(self, *args: Any, **values: Any) -> Foreign:
        """Return the object itself: nothing that a file names is called."""
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an element of a list."""

    def extend(self, values: Any) -> None:
        """Ignore the elements of a list."""


def read_torch_file(path: Path) -> Any:
    """Return the content of a file of ``torch.save``: tensors on the CPU, and objects of other classes as :class:`Foreign`.

    ModelError where it is a TorchScript archive, or asks for more memory or work than its size explains; else whatever torch raises
    for a damaged file.
    """
    archive = zipfile.is_zipfile(path)
    if archive:
        _check_archive(path)
    else:
        _check_stream(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickles that are newer than its own
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        except pickle.UnpicklingError:
            # Either it is damaged, and fails again, or it holds objects beside its tensors.
            return torch.load(path, map_location="cpu", weights_only=False, mmap=archive, pickle_module=_InertPickle)


def tensors_of_module(module: Foreign) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of a whole saved network, as its ``state_dict()`` would; {} for other objects."""
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Foreign, frozenset[int]]] = [("", module, frozenset())]
    for _ in range(MAX_MODULES):
        if not waiting:
            return tensors
        prefix, part, above = waiting.pop()
        not_persistent = part.state.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            held = part.state.get(kind)
            for name, tensor in held.items() if isinstance(held, Mapping) else ():
                if isinstance(tensor, Tensor) and not (kind == "_buffers" and isinstance(not_persistent, set) and name in not_persistent):
                    tensors[f"{prefix}{name}"] = tensor.detach()
        inner, above = part.state.get("_modules"), above | {id(part)}
        children = [child for child in inner.items() if isinstance(child[1], Foreign)] if isinstance(inner, Mapping) else []
        # A module inside itself is skipped; only a crafted file has one.
        waiting += [(f"{prefix}{name}.", child, above) for name, child in reversed(children) if id(child) not in above]
        if len(above) > MAX_DEPTH:
            break
    raise ModelError(
        f"a network of more than {MAX_MODULES} modules, or of more than {MAX_DEPTH} inside one another, is not read: the file was crafted"
    )


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename.rpartition("/")[2] for member in members]
        if "constants.pkl" in names:
            raise ModelError(
                f"'{path}' is a TorchScript archive, whose code is not run here: save its weights where you trust it, with "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
            )
        described = [member for member, name in zip(members, names, strict=True) if name == "data.pkl"]
        if sum(m.file_size for m in described) > MAX_PICKLE or sum(member.file_size for member in members) > path.stat().st_size:
            raise ModelError(f"'{path}' asks for more memory than a weights file of {path.stat().st_size} bytes needs: it is damaged")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ModelError(f"'{path}' holds compressed parts, which torch.save never writes: unpack it, and save the weights again")
        for member in described:
            _scan(path, io.BytesIO(archive.read(member)))


def _check_stream(path: Path) -> None:
    """Scan the pickles at the beginning of a file: torch reads up to five, whatever the first begins with."""
    with path.open("rb") as file:
        for _ in range(5):
            _scan(path, _Bounded(file))
            if not file.read(1):
                return
            file.seek(-1, io.SEEK_CUR)


def _scan(path: Path, file: IO[bytes] | _Bounded) -> None:
    """Go through a pickle without building anything, and refuse one that asks for more than its size explains.

    ``sizes`` has, for each value on the pickle machine's stack, the number of values that it contains.
    """
    sizes: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    shared = farthest = 0
    for step, (operation, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], file))):
        name = operation.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if name == "MEMOIZE" else int(argument or 0)
            memo[index], farthest = sizes[-1] if sizes else 1, max(farthest, index)
        elif name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
            sizes.append((sizes[-1] if sizes else 1) if name == "DUP" else memo.get(int(argument or 0), 1))
            shared += sizes[-1] - 1
        elif name == "MARK":
            marks.append(len(sizes))
        else:
            popped = operation.stack_before
            marked = pickletools.markobject in popped
            first = (marks.pop() if marks else 0) - popped.index(pickletools.markobject) if marked else len(sizes) - len(popped)
            size = 1 + sum(sizes[max(first, 0) :]) if "TUPLE" in name or name == "FROZENSET" else 1
            del sizes[max(first, 0) :]
            sizes.extend([size] * len(operation.stack_after))
        if step > MAX_STEPS or farthest > MAX_STEPS or shared > MAX_SHARED:
            raise ModelError(f"'{path}' asks for more work than a network's weights can need: it is damaged or crafted")


_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
} | {("torch", str(kind).partition(".")[2]): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
"""What a file may call: functions that rebuild a tensor, and plain containers."""


class _Bounded:
    """A file that refuses to read more at once than a pickle may hold: memory is allocated before the file turns out to be shorter."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if size > MAX_PICKLE:
            raise pickle.UnpicklingError(f"it claims {size} bytes for one value")
        return bytes(self._file.read(size))


class _Inert(pickle._Unpickler):
    """An unpickler that imports nothing but :data:`_REAL`; torch rebuilds storages by their dtype.

    It is the one written in Python: the one in C allocates as many objects as a number in eleven
    bytes asks for, and both do for a bytearray, which no weights file holds.
    """

    dispatch: ClassVar[dict[int, Any]] = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, file: Any, **values: Any) -> None:
        super().__init__(_Bounded(file), **values)
        self._foreign: dict[tuple[str, str], type[Foreign]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL:
            real = _REAL[module, name]
            return real if isinstance(real, type | torch.dtype) else _calling(real)
        if (module, name) not in self._foreign:
            if len(self._foreign) == MAX_NAMES:
                raise pickle.UnpicklingError(f"it names more than {MAX_NAMES} classes")
            self._foreign[module, name] = type("Foreign", (Foreign,), {"origin": f"{module}.{name}"})
        return self._foreign[module, name]


def _calling(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls ``real``: a file may change attributes of a function that it names, and this one is ours."""

    def call(*args: Any) -> Any:
        return real(*args)

    return call


class _InertPickle:
    """What torch.load calls instead of the module ``pickle``."""

    Unpickler = _Inert
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **values: Any) -> Any:
        return _Inert(file, **values).load()
