"""From a recipe to a bundle: read the data, choose what was left open, make the run folder, train.

A run folder holds ``recipe.toml`` (complete), ``log.csv``, ``checkpoint.safetensors`` (the
last state), ``best/`` and, once the run is over, ``last/`` (bundles), and TensorBoard's
event files where that is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

import upscore
from upscore.data.census import Census, check_splits
from upscore.data.dataset import Dataset
from upscore.data.open_dataset import describe_readers, open_dataset
from upscore.data.overlap import identify, shared_images, tell_shared
from upscore.errors import DataError, ModelError, RecipeError, RunInterrupted, TrainingError
from upscore.evaluation.result import policy_of
from upscore.losses import class_weights
from upscore.metrics import SegmentationMetrics
from upscore.models.architectures import find_architecture
from upscore.models.backbones import OWN_BACKBONES, current_name, import_timm
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model, score_layers
from upscore.models.weights import Report, silent
from upscore.models.weights.transplant import normalization_of, start_from
from upscore.settings import InferenceSettings
from upscore.training.auto_config import Choice, Machine, choose
from upscore.training.batches import augmentation_of, separation_of
from upscore.training.checkpoint import CHECKPOINT, Progress, read_progress
from upscore.training.crops import count_crops, cropped
from upscore.training.interrupts import heeded
from upscore.training.loop import ProgressListener, SilentListener, TrainingInputs, fit
from upscore.training.memory import check_memory, kept_in, levers, memory_errors_explained
from upscore.training.optimization import objective_of
from upscore.training.precise_bn import check_has_statistics
from upscore.training.recipe import MAY_CHANGE, Lengthening, Recipe
from upscore.training.run_logger import RunLogger

__all__ = ["Plan", "Run", "plan", "resume", "train"]


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start: nothing left to choose, nothing about the data left to find out.

    Parameters
    ----------
    recipe : Recipe
        Complete.
    choices : list of Choice
        What was chosen, and why.
    census : Census
        Of the training split.
    notes : list of str
        What a user should know before it starts.
    train, val : Dataset
        What is learned from and evaluated on: images, or cuts of them.
    warnings : list of str
        What makes the network, or the scores of the validation, mean less than they seem to.
    identity : str
        Which images are learned from; see :func:`upscore.data.overlap.identify`.
    """

    recipe: Recipe
    choices: list[Choice]
    census: Census
    notes: list[str]
    train: Dataset
    val: Dataset
    warnings: list[str]
    identity: str

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.recipe.run.out
        return Path(self.recipe.run.out)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Parameters
    ----------
    folder : Path
        Where everything is.
    best : Path
        The bundle with the best validation mIoU.
    progress : Progress
        How it went; ``progress.history`` has a row per epoch, or per evaluated part of one.
    warnings : list of str
        The plan's.
    """

    folder: Path
    best: Path
    progress: Progress
    warnings: list[str]


def plan(
    recipe: Recipe,
    *,
    machine: Machine | None = None,
    checking: Callable[[int, int], None] | None = None,
    resumed: bool = False,
) -> Plan:
    """Check the data, choose every open setting, name the run folder and try the network; nothing is written.

    Parameters
    ----------
    recipe : Recipe
        With ``data.path`` set.
    machine : Machine, optional
        Looked at when not given.
    checking : callable, optional
        Called with (images read, of how many); those that are cut are read twice.
    resumed : bool
        It is a run's own recipe, to go on with: its folder is there, and the weights that it began from may be gone.

    Raises
    ------
    UpscoreError
        Whatever can be known before training to be wrong with the data, the recipe, the
        weights or the place to write to.
    """
    notes: list[str] = []
    if not resumed:
        recipe = _with_todays_backbone(recipe, report=notes.append)
    if not recipe.data.path:
        raise RecipeError(f"no data given: name {describe_readers()}")
    machine = machine or Machine.look(recipe.run.device)
    train, val = (open_dataset(recipe.data.path, split) for split in (recipe.data.train, recipe.data.val))
    if difference := train.labels.difference(val.labels):
        raise DataError(f"{recipe.data.path}: the splits differ in their classes: {difference}")
    images = len(train) + len(val)
    total = images if recipe.crops.of == "images" else 2 * images
    report = checking or (lambda done, of: None)
    counted, _ = check_splits(train, val, progress=lambda done, _: report(done, total))
    seen = cropped(recipe.crops, train, val, progress=lambda read: report(images + read, total))
    census = counted if recipe.crops.of == "images" else count_crops(seen.train)
    chosen, choices = choose(recipe, census, machine)
    if recipe.model.weights is None and chosen.model.weights == "imagenet":
        chosen, choices = _only_if_fetched(chosen, choices, census)
    if not resumed:
        chosen, choices = _normalized_as_weights_demand(chosen, choices)
    chosen.data.fingerprint = _fingerprint(train, counted)
    if chosen.run.out is None:
        chosen.run.out = str(_next_folder(recipe))
    if not resumed:
        _refuse_taken(Path(chosen.run.out))
    _check_fit(chosen, machine)
    _check_loss(chosen, seen.train, census)
    _check_network(chosen, census, machine, resumed=resumed, report=notes.append)
    warnings = [str(finding) for finding in counted.findings]
    if told := tell_shared(shared_images(train, val), "the training data", f"the validation data ({val.split})", len(val)):
        warnings.append(told)
    notes = list(dict.fromkeys([*train.warnings, *val.warnings, *seen.warnings, *notes]))
    return Plan(chosen, choices, census, notes, seen.train, seen.val, warnings, identify(train))


def train(recipe: Recipe | Plan, *, display: Callable[[], ProgressListener] = SilentListener) -> Run:
    """Train a network as ``recipe`` says and return the finished run.

    Parameters
    ----------
    recipe : Recipe or Plan
        A recipe is planned first.
    display : callable
        Makes the display, in the process that trains; importable by name when
        ``run.devices`` is more than 1.

    Returns
    -------
    Run
        Its ``best`` is a bundle.

    Raises
    ------
    UpscoreError
        Anything a user can mend, before training where it can be known.
    """
    ready = recipe if isinstance(recipe, Plan) else plan(recipe)
    _refuse_taken(ready.folder)
    with _removed_if_not_begun(ready.folder):
        with memory_errors_explained(ready.recipe, ready.folder):
            model = _build(ready.recipe, ready.census)
        _remove_remains(ready.folder)
        ready.recipe.save(ready.folder / "recipe.toml")
        return _launch(ready, model, display)


def resume(
    folder: str | Path, *, changes: Mapping[str, Any] | None = None, display: Callable[[], ProgressListener] = SilentListener
) -> Run:
    """Continue the run in ``folder`` from its last checkpoint, to the weights it would have had unbroken.

    Parameters
    ----------
    folder : path
        A run folder; one killed before its first checkpoint starts at the beginning.
    changes : mapping of str to value, optional
        New values by dotted name, for settings of :data:`upscore.training.recipe.MAY_CHANGE`.
        Another device, or another number of them, changes the weights by rounding (and what
        batch normalisation averages over); the rest changes nothing. A larger ``run.epochs``, or ``run.steps``,
        lengthens the run, whether it is finished, was stopped early or is neither: from the last checkpoint on,
        the learning rate is that of the longer schedule, and the recipe's ``run.lengthened`` says since when.

    Raises
    ------
    TrainingError
        The folder is no run, its data has changed, the checkpoint is damaged, or ``changes``
        would make it another run.
    """
    folder = Path(folder)
    if not os.path.isfile(folder / "recipe.toml"):
        if os.path.isdir(folder) and (remains := _remains(folder)) is not None and remains:
            raise TrainingError(f"{folder}: the run was ended before anything was kept: start it again with this --out, without --resume")
        raise TrainingError(f"{folder}: holds no recipe.toml: --resume continues a run folder that 'upscore train' made")
    kept = Recipe.load(folder / "recipe.toml")
    recipe = kept.with_values(dict(changes or {}))
    for name in changes or {}:
        if name not in (*MAY_CHANGE, *LENGTH, "run.out") and recipe.value_of(name) != kept.value_of(name):
            raise TrainingError(
                f"{folder}: this run has {name} = {kept.value_of(name)!r}, found {recipe.value_of(name)!r}: --resume finishes a run as it "
                f"was begun; leave that out, or begin another run{_from_these_weights(folder, name, recipe.value_of(name))}"
            )
    recipe.run.out = str(folder)
    recipe.run.lengthened = kept.run.lengthened
    if still_open := [name for name in recipe.open_settings() if name not in OPTIONAL]:
        raise TrainingError(f"{folder}/recipe.toml: {still_open[0]} is not set: it is not the recipe this run was started with")
    ready = plan(recipe, resumed=True)
    if recipe.data.fingerprint != ready.recipe.data.fingerprint:
        raise TrainingError(f"{recipe.data.path}: the images or masks have changed since {folder} was started: start a new run")
    recipe = ready.recipe
    if any(recipe.value_of(name) != kept.value_of(name) for name in LENGTH):
        _lengthen(recipe, kept, folder, steps_an_epoch=-(-len(ready.train) // (recipe.run.batch_size or 1)))
    for part in folder.glob(".*.part"):  # what a process that was killed had begun to write
        part.unlink(missing_ok=True)
    if recipe != kept:
        recipe.save(folder / "recipe.toml")
    begun = (folder / CHECKPOINT).exists()
    with memory_errors_explained(recipe, folder):
        model = _build(recipe, ready.census, empty=begun)
    return _launch(ready, model, display)


LENGTH = ("run.epochs", "run.steps")
"""Settings that a resumed run may be given anew to be lengthened."""


def _lengthen(recipe: Recipe, kept: Recipe, folder: Path, *, steps_an_epoch: int) -> None:
    """Write into ``recipe``, which differs from the run's own in its length, since when it does.

    One file says it, and what was saved until then stays: a process that is killed leaves the run as it was, or lengthened.

    Raises
    ------
    TrainingError
        It would be shorter, or the checkpoint is damaged or another run's.
    """
    run, before = recipe.run, kept.run.steps_in_all(an_epoch=steps_an_epoch)
    epochs_given, steps_given = (recipe.value_of(name) != kept.value_of(name) for name in LENGTH)
    if epochs_given and not steps_given:
        run.steps = None  # it would end the run where it ended before
    elif steps_given and not epochs_given and run.steps:
        run.epochs = max(run.epochs or 1, -(-run.steps // steps_an_epoch))
    now = run.steps_in_all(an_epoch=steps_an_epoch)
    if now <= before:
        raise TrainingError(
            f"{folder}: this run has {kept.run.epochs} epochs and {before} steps, found {run.epochs} and {now}: "
            "--resume can lengthen a run, not shorten it; stop it with Ctrl-C where it is long enough, its best network is kept"
        )
    checkpoint = folder / CHECKPOINT
    taken = read_progress(checkpoint, runs=kept.digests()).step if checkpoint.exists() else 0
    if taken:
        run.lengthened = [*kept.run.lengthened, Lengthening(step=taken, of=before, recipe=kept.digest())]
        recipe.chosen["run.epochs"] = f"lengthened from {kept.run.epochs} after step {taken}"


def _from_these_weights(folder: Path, name: str, value: Any) -> str:
    """Return a clause with the command that begins another run from this one's weights, with a setting changed; "" where none does."""
    if value is None or name.startswith(("model.", "data.")):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    words = ["upscore", "train", "--recipe", str(folder / "recipe.toml"), "--weights", "none", "--start-from", str(folder)]
    return f" from these weights: {shlex.join([*words, '--set', f'{name}={text}'])}"


OPTIONAL = ("model.start_from", "model.backbone", "run.steps")
"""Settings that may stay open in a complete recipe."""


def _with_todays_backbone(recipe: Recipe, *, report: Report) -> Recipe:
    """Write down the name that timm gives a backbone today, where the recipe has an earlier one."""
    name = recipe.model.backbone
    if name is None or name in OWN_BACKBONES or (today := current_name(name, report=report)) == name:
        return recipe
    return recipe.with_values({"model.backbone": today})


def _only_if_fetched(recipe: Recipe, choices: list[Choice], census: Census) -> tuple[Recipe, list[Choice]]:
    """Choose no weights instead of ImageNet's where these cannot be fetched; who asks for them by name gets the error."""
    try:
        _build(recipe, census)
    except ModelError:
        why = "ImageNet's cannot be fetched here; give --weights FILE for a far better result"
        choices = [Choice("model.weights", "none", why) if choice.setting == "model.weights" else choice for choice in choices]
        recipe = recipe.with_values({"model.weights": "none"})
        recipe.chosen["model.weights"] = why
    return recipe, choices


def _normalized_as_weights_demand(recipe: Recipe, choices: list[Choice]) -> tuple[Recipe, list[Choice]]:
    """Write down the normalisation that a weights file or a coarser network brings, so that bundles of the run are built with it."""
    model = recipe.model
    known = model.backbone in OWN_BACKBONES or not find_architecture(model.name).takes_backbone
    if not known or "normalization" in model.arguments or model.arguments.get("in_channels", 3) != 3:
        return recipe, choices
    if model.start_from:
        found, why = Bundle.load(model.start_from).arguments.get("normalization"), "the network it starts from sees such images"
    else:
        found, why = normalization_of(model.weights), "the weights file was trained on such images"
    if found is None:
        return recipe, choices
    setting = "model.arguments.normalization"
    recipe = recipe.with_values({setting: found})
    recipe.chosen[setting] = why
    return recipe, [*choices, Choice(setting, found, why)]


def _fingerprint(dataset: Dataset, census: Census) -> str:
    """Return 16 hexadecimal digits that change with any key, size, class or label count of the training split."""
    facts = [dataset.labels.names, list(dataset.keys), census.sizes.tolist(), census.class_pixels.tolist(), census.ignored_pixels]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def _next_folder(recipe: Recipe) -> Path:
    path = Path(recipe.data.path or "")
    name = path.parent.resolve().name if path.suffix in (".yaml", ".yml") else path.resolve().name
    stem = Path("runs") / f"{name or 'data'}-{recipe.model.name}"
    return next(folder for n in range(1, 100_000) if not os.path.exists(folder := stem if n == 1 else stem.with_name(f"{stem.name}-{n}")))


def _refuse_taken(folder: Path) -> None:
    if os.path.isfile(folder / "recipe.toml"):
        raise TrainingError(f"{folder}: already holds a run: choose another --out, or continue that run with --resume")
    if os.path.exists(folder) and (not folder.is_dir() or _remains(folder) is None):
        raise TrainingError(f"{folder}: already holds something that is no run: choose another --out")


def _remains(folder: Path) -> list[Path] | None:
    """Return what a run left in ``folder`` that had kept nothing yet; None if there is something else."""
    found = list(folder.iterdir())
    return found if all(any(fnmatch(path.name, pattern) for pattern in REMAINS) for path in found) else None


REMAINS = (".*.part", "recipe.toml", "log.csv", "events.out.tfevents.*", ".best.partial", ".last.partial")
"""Names, as patterns, of what a run writes before its first checkpoint or bundle is whole."""


def _remove_remains(folder: Path) -> None:
    for path in (_remains(folder) or []) if folder.is_dir() else []:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def _removed_if_not_begun(folder: Path) -> Iterator[None]:
    """Take away what a run made that fails, or is interrupted, before it kept anything; what was there before stays."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        if int(os.environ.get("RANK", "0")) == 0:
            with contextlib.suppress(OSError):
                _remove_remains(folder)
                for place in new:  # a folder that holds something by now stays
                    place.rmdir()
        raise


def _check_fit(recipe: Recipe, machine: Machine) -> None:
    run = recipe.run
    assert run.batch_size is not None
    assert run.devices is not None
    share = run.accumulate * run.devices
    if run.batch_size % share:
        raise RecipeError(
            f"run.batch_size = {run.batch_size} cannot be dealt out evenly to {run.devices} devices × {run.accumulate} parts: "
            f"use a multiple of {share}"
        )
    if run.device == "cuda" and run.devices > machine.devices:
        raise RecipeError(f"run.devices = {run.devices}: found {machine.devices} GPU(s); use at most that many")
    if run.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("run.device = cuda: no GPU is available to PyTorch here; use --device cpu")
    if run.tensorboard and not machine.tensorboard:
        raise RecipeError("run.tensorboard = true: TensorBoard is not installed; pip install 'upscore[tensorboard]'")


def _check_loss(recipe: Recipe, train: Dataset, census: Census) -> None:
    """Say what would have no effect, what is out of range, and what the data lacks, before training does."""
    augmentation_of(recipe.augment)
    objective_of(recipe.loss, class_weights=_class_weights(recipe, census))
    separation = separation_of(recipe.loss, train.labels)
    if separation is not None:
        separation.find_objects(train[0])


def _check_network(recipe: Recipe, census: Census, machine: Machine, *, resumed: bool, report: Report) -> None:
    """Say what is wrong with the network before a folder is made. A resumed run's weights are in its checkpoint."""
    channels = recipe.model.arguments.get("in_channels", 3)
    if channels not in (1, 3):
        raise RecipeError(
            f"model.arguments.in_channels = {channels!r}: images are read as RGB, which networks of 3 channels take, "
            "and those of 1, which see its luminance: leave it out"
        )
    begins_from = (recipe.model.weights not in (None, "none") or recipe.model.start_from) and not resumed
    with torch.device("cpu" if begins_from else "meta"):
        model = _build(recipe, census, empty=resumed, report=report)
    if recipe.run.precise_bn:
        check_has_statistics(model)
    check_memory(model, recipe, memory=machine.memory)


def _class_weights(recipe: Recipe, census: Census) -> Tensor | None:
    method = recipe.loss.class_weights
    return None if method in (None, "none") else class_weights(census.class_pixels, census.pixels_with_class, weighting=method)


def _build(recipe: Recipe, census: Census, *, empty: bool = False, report: Report = silent) -> nn.Module:
    """Return the network to train; an ``empty`` one is for a checkpoint to fill, and what the run began from may be gone.

    What was done to make a weights file fit is told to ``report``; a plan does, and training does not say it again.
    """
    torch.manual_seed(recipe.run.seed)
    settings = recipe.model
    weights = None if empty or settings.weights in (None, "none") else settings.weights
    own = settings.arguments | {"backbone": settings.backbone, "num_classes": len(census.labels)}
    model = create_model(settings.name, weights=weights, report=report, **own)
    if settings.start_from and not empty:
        earlier = Bundle.load(settings.start_from)
        difference = earlier.labels.difference(census.labels)
        if difference and not settings.new_classes:
            raise ModelError(
                f"{settings.start_from}: its classes differ from the data's: {difference}; to keep everything but the score layers, "
                "which begin anew, give --new-classes"
            )
        anew: frozenset[str] = frozenset()
        if settings.new_classes:
            anew = score_layers(settings.name, own) | score_layers(earlier.architecture, earlier.arguments)
            layers = sorted({name.rpartition(".")[0] for name in anew if name in model.state_dict()})
            report(f"{settings.start_from} gives everything but the score layers, which begin anew: {', '.join(layers)}")
        start_from(model, earlier.weights, anew=anew)
    elif settings.new_classes and not empty:
        raise RecipeError(
            "model.new_classes is for other classes than those of a run to start from: name it with --start-from, or leave it"
        )
    return model


def _launch(ready: Plan, model: nn.Module, display: Callable[[], ProgressListener]) -> Run:
    recipe = ready.recipe
    assert recipe.run.devices
    if recipe.run.devices == 1 or "WORLD_SIZE" in os.environ:  # one process, or torchrun has made them
        _work(ready, model, display)
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        model.share_memory()
        _spawn(ready, (recipe.run.devices, port, _Timm(), ready, model, display))
    # The checkpoint is the one account of the run that every process agrees on.
    return Run(ready.folder, ready.folder / "best", _progress_of(ready.folder), ready.warnings)


def _spawn(ready: Plan, arguments: tuple[Any, ...]) -> None:
    """Run the processes of a run, and pass on to them what this one is asked."""
    processes: list[Any] = []

    def forward(number: int) -> None:
        for process in processes:
            with contextlib.suppress(OSError, ValueError):  # it has ended
                os.kill(process.pid, number)

    with heeded(waiting=WAITING, forward=forward) as interrupts:
        try:
            context: Any = spawn(_worker, arguments, nprocs=arguments[0], join=False)  # type: ignore[no-untyped-call]
            processes += context.processes
            if interrupts.asked:  # while they were made
                forward(interrupts.asked)
            while not context.join(grace_period=GRACE):
                pass
        except ProcessRaisedException as error:
            if not interrupts.asked:
                raise _as_one_line(error) from None
        except ProcessExitedException as error:
            if not interrupts.asked and error.signal_name == "SIGKILL":
                raise TrainingError(
                    f"a training process was killed, as happens when memory runs out: {levers(ready.recipe)}{kept_in(ready.folder)}"
                ) from None
            if not interrupts.asked and error.exit_code <= 128:
                raise TrainingError(f"a training process ended by itself ({error}){kept_in(ready.folder)}") from None
            interrupts.asked = interrupts.asked or error.exit_code - 128
        except BaseException:  # asked twice
            for process in processes:
                process.kill()
            raise
    if interrupts.asked:
        saved = f"go on with upscore train --resume --out {ready.folder}" if (ready.folder / CHECKPOINT).exists() else "nothing was saved"
        raise RunInterrupted(f"interrupted: {saved}", number=interrupts.asked)


GRACE = 5.0
"""Seconds that the other processes have to leave by themselves when one has ended badly."""

WAITING = "upscore: stopping after this step; a second Ctrl-C stops at once, and what came after the last checkpoint is lost"
"""Said when a run is asked to stop."""


class _Timm:
    """Imports timm where it is unpickled: before a network of timm's, whose classes would be imported without care for torchvision."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return (import_timm, ())


def _worker(rank: int, world: int, port: int, timm: object, ready: Plan, model: nn.Module, display: Callable[[], ProgressListener]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    if ready.recipe.run.device == "cpu":
        torch.set_num_threads(max(1, Machine.look("cpu").cores // world))
    try:
        _work(ready, model, display)
    except RunInterrupted as stop:
        sys.exit(128 + stop.number)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _work(ready: Plan, model: nn.Module, display: Callable[[], ProgressListener]) -> None:
    recipe, folder = ready.recipe, ready.folder
    train, val = ready.train, ready.val
    on_a_backbone = {"backbone": recipe.model.backbone} if recipe.model.backbone else {}
    arguments = {**on_a_backbone, "num_classes": len(train.labels), **recipe.model.arguments}

    def bundle_of(network: nn.Module, progress: Progress, metrics: dict[str, Any] | None) -> Bundle:
        card = {
            "recipe": recipe.model_dump(mode="json", exclude_none=True),
            "recipe_digest": recipe.digest(),
            "data": {
                "path": recipe.data.path,
                "split": recipe.data.train,
                "images": len(train),
                "fingerprint": recipe.data.fingerprint,
                "identity": ready.identity,
            },
            "epoch": progress.history[-1]["epoch"],
            "history": progress.history,
            "versions": {"upscore": upscore.__version__, "torch": torch.__version__},
        } | ({"metrics": metrics} if metrics else {})
        return Bundle.of(
            recipe.model.name, arguments, network, train.labels, inference=InferenceSettings(precision=recipe.run.precision), card=card
        )

    def keep_best(network: nn.Module, progress: Progress, metrics: SegmentationMetrics) -> None:
        policy = policy_of(metrics, precision=recipe.run.precision)
        bundle_of(network, progress, metrics.as_dict(train.labels) | {"policy": policy}).save(folder / "best")

    weights = _class_weights(recipe, ready.census)
    materials = TrainingInputs(
        model=model, labels=train.labels, train=train, val=val, class_weights=weights, keep_best=keep_best, folder=folder
    )
    first = int(os.environ.get("RANK", "0")) == 0
    shown: ProgressListener = RunLogger(display(), folder, bool(recipe.run.tensorboard)) if first else SilentListener()
    alone = "WORLD_SIZE" not in os.environ  # else whoever started the processes insists, or does not
    with heeded(insist=alone, waiting=WAITING if alone else "") as interrupts, memory_errors_explained(recipe, folder):
        progress = fit(recipe, materials, display=shown, interrupts=interrupts)
        if first:
            bundle_of(model, progress, None).save(folder / "last")
    if interrupts.asked:
        raise RunInterrupted(f"interrupted, but the run in {folder} was just finished", number=interrupts.asked)


def _progress_of(folder: Path) -> Progress:
    return read_progress(folder / CHECKPOINT)


def _as_one_line(error: Exception) -> TrainingError:
    """Return what a process that was started said last: its traceback ends in ``upscore.errors.Name: message``."""
    last = str(error).strip().splitlines()[-1]
    return TrainingError(last.partition(": ")[2] or last)
