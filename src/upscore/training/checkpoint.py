"""A run's state on disk, replaced as a whole or not at all.

One safetensors file holds the weights, their running mean and the optimiser's state under
plain names, and the counters and history as JSON in its header: no pickle, no code that
runs when it is read. A reader finds the old file or the new one, never a mixture, even if
the writer is killed in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from upscore.errors import TrainingError
from upscore.files import write_atomically
from upscore.import_path import import_path
from upscore.models.weights import name_mismatch

__all__ = ["CHECKPOINT", "Progress", "check_fit", "read_checkpoint", "read_progress", "write_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
"""Its name in a run folder."""

FORMAT = "upscore-checkpoint-1"


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0  #: optimiser steps taken
    best_miou: float = -1.0  #: the best validation mIoU so far, in [0, 1]; -1 before the first
    best_epoch: float = 0  #: epochs after which it was reached, a fraction where epochs are validated in parts; 0 before the first
    stale: int = 0  #: validations since then
    stopped: bool = False  #: the run ended early, because validation did not improve
    seconds: float = 0.0  #: spent training, without validation
    history: list[dict[str, float]] = field(default_factory=list)
    """A row for each finished epoch, or part of one between validations: what the log and the learning curves show."""
    running_loss: list[float] = field(default_factory=lambda: [0.0, 0])  #: sum of the step losses since the last row, and their number


def write_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    average: dict[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    run: str,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write the run's state to ``path``, atomically.

    That is the model's parameters and buffers, their running mean (``average``, by the same names), the optimiser's state under the
    names of its parameters with the numbers of its groups, the progress, the recipe's digest (``run``), so that the state of another
    run is refused, and the scale of ``scaler`` with the steps since that changed.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in (average or {}).items()}
    numbers: dict[str, float] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            name = f"optimizer/{names[parameter]}/{key}"
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, int | float):
                numbers[name] = value
            elif value is not None:
                found = f"the optimizer {type(optimizer).__name__} stores {type(value).__name__} under '{key}'"
                raise TrainingError(f"{found}, which a checkpoint cannot hold: expected tensors and numbers")
    groups = [{key: value for key, value in group.items() if _is_number(value)} for group in optimizer.param_groups]
    header = {"format": FORMAT, "run": run, "progress": json.dumps(asdict(progress)), "numbers": json.dumps(numbers)}
    header |= {"groups": json.dumps(groups), "optimizer": import_path(optimizer)}
    if scaler is not None:
        header["scaler"] = json.dumps(scaler.state_dict())
    # A copy unties tensors in the same memory: safetensors stores each under its own name.
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, metadata=header))


def read_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    average: dict[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    runs: Collection[str],
    scaler: torch.amp.GradScaler | None = None,
) -> Progress:
    """Read a file of :func:`write_checkpoint` into the same values; return how far the run had come.

    ``runs`` are the digests of the recipe, now and before the run was lengthened. Raises TrainingError where the file is damaged, or
    belongs to a run with another recipe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise TrainingError(
                    f"{path}: found format '{header.get('format')}', expected '{FORMAT}': this is not a checkpoint of upscore"
                )
            _check_run(path, header, runs)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a safetensors file is no dict)
        progress = Progress(**json.loads(header["progress"]))
        for group, values in zip(optimizer.param_groups, json.loads(header["groups"]), strict=True):
            group |= {key: value for key, value in values.items() if _is_number(value) and key in group}
        _copy(tensors, "model/", model.state_dict())
        if average is not None:
            _copy(tensors, "average/", average)
        if scaler is not None:
            scaler.load_state_dict(json.loads(header["scaler"]))
        parameters = dict(model.named_parameters())
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                parameter_name, _, key = rest.rpartition("/")
                parameter = parameters[parameter_name]
                # AdamW has its step counter on the CPU; moments are stored with their parameter.
                value: Any = tensor if tensor.ndim == 0 else tensor.to(parameter.device, copy=True)
                if tensor.ndim == 4 and tensor.shape == parameter.shape:
                    value = torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter][key] = value
        for name, number in json.loads(header["numbers"]).items():
            parameter_name, _, key = name.removeprefix("optimizer/").rpartition("/")
            optimizer.state[parameters[parameter_name]][key] = number
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path}: the checkpoint is damaged ({error}): delete it to start the run again") from None
    return progress


def check_fit(path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise TrainingError where the checkpoint is of another network or optimiser, or damaged; its tensors are not read."""
    try:
        with safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {})["optimizer"]
            names = [name for name in file.keys() if name.startswith("model/")]  # noqa: SIM118
            found = {name.removeprefix("model/"): torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}
    except (SafetensorError, OSError, KeyError) as error:
        raise TrainingError(f"{path}: cannot be read as a checkpoint ({error})") from None
    if mismatch := name_mismatch(model.state_dict(), found):
        raise TrainingError(f"{path}: belongs to another network: it {mismatch}: resume with the one that the run was begun with")
    if recorded != import_path(optimizer):
        raise TrainingError(f"{path}: the run has the optimizer {recorded}, found {import_path(optimizer)}: give the same again")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _copy(tensors: dict[str, Tensor], prefix: str, into: dict[str, Tensor]) -> None:
    found = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    if found != set(into):
        odd = sorted(found ^ set(into))[0]
        raise ValueError(f"{prefix}{odd} is not in both the file and the network")
    with torch.no_grad():
        for name, target in into.items():
            target.copy_(tensors[prefix + name])


def _check_run(path: Path, header: Mapping[str, str], runs: Collection[str]) -> None:
    if header.get("run") not in runs:
        raise TrainingError(
            f"{path}: belongs to recipe {header.get('run')}, this run is {next(iter(runs))}: resume with the run folder's own recipe"
        )


def read_progress(path: Path, *, runs: Collection[str] | None = None) -> Progress:
    """Return how far the run in checkpoint ``path`` has come, without reading its tensors.

    Raises TrainingError where the file is missing or damaged, or, where ``runs`` are given, belongs to none of these recipes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if runs is not None:
                _check_run(path, header, runs)
            return Progress(**json.loads(header["progress"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read as a checkpoint ({error})") from None
