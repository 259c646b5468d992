"""``weights.safetensors``: written by name, and read only where it is the file that was recorded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from upscore.errors import BundleError
from upscore.files import check_file
from upscore.models.manifest import Fingerprint
from upscore.text import reason

__all__ = ["STORED_DTYPES", "digest_file", "read_header", "read_weights_file"]

STORED_DTYPES = {
    "F32": torch.float32,
    "I64": torch.int64,
    "F64": torch.float64,
    "BOOL": torch.bool,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Types that a bundle holds, by their names in the file."""


@contextlib.contextmanager
def _opened(path: Path, recorded: Fingerprint) -> Iterator[None]:
    """Refuse a weights file that is not there, cannot be read or has another size than recorded; so too what reading it raises."""
    try:
        if not path.exists():
            raise FileNotFoundError
        size = check_file(path, what="weights", error=BundleError)
        path.open("rb").close()  # safetensors reports every file that it cannot open as missing
        if size != recorded.bytes:
            raise BundleError(f"'{path}' has {size} bytes, expected {recorded.bytes}: it is incomplete or was altered")
        yield
    except FileNotFoundError as error:
        raise BundleError(f"the bundle '{path.parent}' lacks {path.name}: copy it again") from error
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BundleError(f"'{path}' cannot be read ({reason(error)})") from error


def read_header(path: Path, recorded: Fingerprint) -> dict[str, Tensor]:
    """Return a file's tensors on the meta device: names, shapes and types, no numbers."""
    with _opened(path, recorded), safe_open(path, framework="pt") as file:
        headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        kinds = {name: header.get_dtype() for name, header in headers.items()}
        for name, kind in kinds.items():
            if kind not in STORED_DTYPES:
                raise BundleError(
                    f"'{path}' does not fit its architecture: it has '{name}' of type {kind}, expected {', '.join(STORED_DTYPES)}"
                )
        return {name: torch.empty(header.get_shape(), dtype=STORED_DTYPES[kinds[name]], device="meta") for name, header in headers.items()}


def read_weights_file(path: Path, recorded: Fingerprint) -> dict[str, Tensor]:
    """Return the tensors of a file that is the one recorded."""
    with _opened(path, recorded):
        if digest_file(path) != recorded.sha256:
            raise BundleError(f"'{path}' is not the file that was saved: its SHA-256 differs; copy the bundle again")
        weights: dict[str, Tensor] = load_file(path)
    return weights


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
