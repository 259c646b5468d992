"""Continuing a run from its last checkpoint, to its planned length or a longer one."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from upscore.errors import TrainingError
from upscore.training.checkpoint import CHECKPOINT, check_fit, read_progress
from upscore.training.launch import Run, launch
from upscore.training.optimizers import build_optimizer
from upscore.training.own_objects import Data, Decoder, Loss, MakeOptimizer, OwnObjects, Schedule, separate_own
from upscore.training.plan import plan
from upscore.training.progress_bar import Show, listener_for, reading_bar
from upscore.training.progress_listener import ProgressListener
from upscore.training.recipe import MAY_CHANGE, Recipe
from upscore.training.recipe_sections import Lengthening
from upscore.training.run_folder import list_remains
from upscore.types import LabelSpace

__all__ = ["resume"]

LENGTH = ("run.epochs", "run.steps")  # settings that a resumed run may be given anew to be lengthened
OPTIONAL = ("input.mean", "input.std", "model.start_from", "model.backbone", "run.steps")
"""Settings that may stay open in a complete recipe."""


def resume(
    folder: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    train: Data | None = None,
    val: Data | None = None,
    labels: LabelSpace | Sequence[str] | None = None,
    model: nn.Module | None = None,
    backbone: nn.Module | None = None,
    decoder: Decoder | None = None,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    progress: Show = True,
    listener: Callable[[], ProgressListener] | None = None,
) -> Run:
    """Continue the run in ``folder`` from its last checkpoint, to the weights it would have had without an interruption.

    A run that was killed before its first checkpoint starts at the beginning. ``progress``, ``listener`` and the objects of your own
    are as in :func:`upscore.training.launch.train`; those that the run was begun with are given again.

    ``changes`` are new values by dotted name, for settings of :data:`upscore.training.recipe.MAY_CHANGE`.
    Another device, or another number of them, changes the weights by rounding (and what
    batch normalisation averages over); the rest changes nothing. A larger ``run.epochs``, or ``run.steps``,
    lengthens the run, whether it is finished, was stopped early or is neither: from the last checkpoint on,
    the learning rate is that of the longer schedule, and the recipe's ``run.lengthened`` records where.

    Raises TrainingError where the folder is no run, its data has changed, the checkpoint is damaged, or ``changes`` or an object would
    make it another run; RecipeError where an object is missing.
    """
    folder = Path(folder)
    if not os.path.isfile(folder / "recipe.toml"):
        if os.path.isdir(folder) and list_remains(folder):
            raise TrainingError(f"{folder}: the run was ended before anything was saved: start it again with this --out, without --resume")
        raise TrainingError(f"{folder}: holds no recipe.toml: --resume continues a run folder that 'upscore train' made")
    earlier = Recipe.load(folder / "recipe.toml")
    recipe = earlier.with_values(dict(changes or {}))
    for name in changes or {}:
        before, now = earlier.value_of(name), recipe.value_of(name)
        if name not in (*MAY_CHANGE, *LENGTH, "run.out") and before != now:
            raise TrainingError(
                f"{folder}: this run has {name} = {before!r}, found {now!r}: --resume finishes a run as it "
                f"was begun; leave that out, or begin another run{_from_these_weights(folder, name, now)}"
            )
    recipe, own = separate_own(
        recipe, train=train, val=val, labels=labels, model=model, backbone=backbone, decoder=decoder, loss=loss, optimizer=optimizer,
        schedule=schedule,
    )  # fmt: skip
    own.require(earlier)
    for name in own.paths:
        if earlier.own.get(name) != own.paths[name]:
            before = earlier.own.get(name, "no object")
            raise TrainingError(f"{folder}: this run has {before} as {name}, found {own.paths[name]}: give what it was begun with")
    recipe.optimizer.lr = earlier.optimizer.lr
    recipe.run.out = str(folder)
    recipe.run.lengthened = earlier.run.lengthened
    if still_open := [name for name in recipe.open_settings() if name not in (*OPTIONAL, *_replaced(own))]:
        raise TrainingError(f"{folder}/recipe.toml: {still_open[0]} is not set: it is not the recipe this run was started with")
    with reading_bar(False if listener else progress) as bar:
        ready = plan(recipe, own=own, resumed=True, progress=bar)
    if recipe.data.fingerprint != ready.recipe.data.fingerprint:
        raise TrainingError(
            f"{recipe.data.path or ready.train.name}: the images or masks have changed since {folder} was started: start a new run"
        )
    if own.paths and (folder / CHECKPOINT).exists():
        assert ready.model is not None
        check_fit(folder / CHECKPOINT, model=ready.model, optimizer=build_optimizer(ready.model, recipe.optimizer, own.optimizer))
    recipe = ready.recipe
    if any(recipe.value_of(name) != earlier.value_of(name) for name in LENGTH):
        _lengthen(recipe, earlier, folder, steps_per_epoch=-(-len(ready.train) // (recipe.run.batch_size or 1)))
    for part in folder.glob(".*.part"):  # what a process that was killed had begun to write
        part.unlink(missing_ok=True)
    if recipe != earlier:
        recipe.save(folder / "recipe.toml")
    return launch(ready, listener or listener_for(progress))


def _replaced(own: OwnObjects) -> set[str]:
    """Return the settings that stay open where objects take their place."""
    settings = {"train": ["data.path"], "optimizer": ["optimizer.name", "optimizer.weight_decay"], "schedule": ["schedule.warmup_steps"]}
    return {setting for name in own.paths for setting in settings.get(name, [])}


def _lengthen(recipe: Recipe, earlier: Recipe, folder: Path, *, steps_per_epoch: int) -> None:
    """Record in ``recipe``, which differs from the run's own in its length, from which step on it does.

    One file holds that, and what was saved until then stays: a process that is killed leaves the run as it was, or lengthened.
    Raises TrainingError where it would be shorter, or the checkpoint is damaged or another run's.
    """
    run, before = recipe.run, earlier.run.total_steps(steps_per_epoch)
    new_epochs, new_steps = (recipe.value_of(name) != earlier.value_of(name) for name in LENGTH)
    if new_epochs and not new_steps:
        run.steps = None  # it would end the run where it ended before
    elif new_steps and not new_epochs and run.steps:
        run.epochs = max(run.epochs or 1, -(-run.steps // steps_per_epoch))
    now = run.total_steps(steps_per_epoch)
    if now <= before:
        raise TrainingError(
            f"{folder}: this run has {earlier.run.epochs} epochs and {before} steps, found {run.epochs} and {now}: "
            "--resume can lengthen a run, not shorten it; stop it with Ctrl-C where it is long enough, its best network stays"
        )
    checkpoint = folder / CHECKPOINT
    taken = read_progress(checkpoint, runs=earlier.digests()).step if checkpoint.exists() else 0
    if taken:
        run.lengthened = [*earlier.run.lengthened, Lengthening(step=taken, of=before, recipe=earlier.digest())]
        recipe.chosen["run.epochs"] = f"lengthened from {earlier.run.epochs} after step {taken}"


def _from_these_weights(folder: Path, name: str, value: Any) -> str:
    """Return a clause with the command that begins another run from this one's weights, with a setting changed; "" where none does."""
    if value is None or name.startswith(("model.", "data.")):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    words = ["upscore", "train", "--recipe", str(folder / "recipe.toml"), "--weights", "none", "--start-from", str(folder)]
    return f" from these weights: {shlex.join([*words, '--set', f'{name}={text}'])}"
