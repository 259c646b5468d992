"""Validation in the middle of a run: the network as its bundle would predict, and its measured statistics of batch normalisation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.inference.sinks import MemorySink, Sink
from upscore.inference.tile_grid import Window
from upscore.metrics import ConfusionMatrix, SegmentationMetrics
from upscore.training.batches import batches_from
from upscore.training.memory import explain_out_of_memory
from upscore.training.objective import build_objective, count_units
from upscore.training.precise_bn import measure_statistics
from upscore.training.progress_listener import ProgressListener
from upscore.training.recipe_sections import LossSection
from upscore.training.run_state import RunState, stop_if_asked, validates_channels_last
from upscore.types import Batch, Sample

__all__ = ["measure_batch_norm", "validate"]


def validate(state: RunState, listener: ProgressListener) -> tuple[SegmentationMetrics, float | None]:
    """Evaluate the network as :func:`upscore.evaluation.evaluate.evaluate` would its bundle: same path, same precision, same numbers.

    Returns the metrics, and the objective of training over the validation images, without loss sampling and weights of pixels; None
    in its place for a loss of the caller's own, since validation has probabilities, of which such a loss may not be a function.
    Raises TrainingError where memory ran out, and RunInterrupted where a signal asked the run to stop.
    """
    recipe, accelerator = state.recipe, state.accelerator
    if state.validated is not state.averaged:
        state.validated.load_state_dict(state.averaged.state_dict())
    if recipe.run.precise_bn:
        measure_batch_norm(state, state.validated)
    matrix = ConfusionMatrix(len(state.inputs.labels))
    weights = state.inputs.class_weights
    loss = ValidationLoss(recipe.loss, class_weights=None if weights is None else weights.to(accelerator.device))

    def report(done: int, total: int) -> None:
        if state.is_first:
            listener.validating(done, total)
        if state.interrupts.asked:
            raise _Interrupted

    # A process that is asked to stop still takes part in the sums below, which the others wait for.
    with contextlib.suppress(_Interrupted), explain_out_of_memory(recipe, state.inputs.folder, validating=True):
        predictor = Predictor(
            state.validated,
            labels=state.inputs.labels,
            input=recipe.input.spec(),
            device=str(accelerator.device),
            precision=recipe.run.inference_precision,
            channels_last=validates_channels_last(recipe, accelerator.device),
        )
        shard = (accelerator.process_index, accelerator.num_processes)
        if not state.interrupts.asked:
            sinks = loss.sinks if state.inputs.own.loss is None else _no_sinks
            matrix = evaluate(predictor, state.inputs.val, shard=shard, progress=report, sinks=sinks).matrix
    device = accelerator.device
    total_type = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.from_numpy(matrix.counts), torch.tensor([matrix.ignored, loss.units]), torch.tensor(loss.total, dtype=total_type)
    counts, (ignored, units), total = (accelerator.reduce(number.to(device), reduction="sum").cpu() for number in sums)
    state.exchange_signals()
    stop_if_asked(state)
    metrics = ConfusionMatrix.of(counts.numpy(), ignored=int(ignored)).metrics()
    return metrics, float(total) / max(1, int(units)) if state.inputs.own.loss is None else None


def _no_sinks(sample: Sample) -> list[Sink]:
    return []


class ValidationLoss:
    """The objective of training over validation images, from the probabilities that they are labelled by.

    Loss sampling and the weights of pixels are left out. An image that is labelled in several windows counts as several images
    to losses that are not sums over pixels. The loss of a pixel is 87 or less: the smallest float32 is a probability of exp(-87).
    """

    def __init__(self, settings: LossSection, *, class_weights: Tensor | None) -> None:
        plain = settings.model_copy(update={"sampling": 1.0, "border_weight": 0.0})
        self.settings, self.objective = settings, build_objective(plain, class_weights=class_weights)
        self.total, self.units = 0.0, 0
        """Sum of the losses, and what it is to be divided by."""

    def sinks(self, sample: Sample) -> list[Sink]:
        """Return the sink that adds a sample's loss."""
        labels = torch.tensor(sample.label)[None]
        self.units += int(count_units(self.settings, labels))
        return [_LossSink(self, labels)]


class _LossSink(MemorySink):
    def __init__(self, loss: ValidationLoss, labels: Tensor) -> None:
        self.loss, self.labels = loss, labels

    @torch.inference_mode()
    def write(self, window: Window, probs: Tensor) -> None:
        logits = probs.clamp(min=torch.finfo(probs.dtype).tiny).log()[None]
        labels = self.labels[(slice(None), *window.slices)].to(probs.device)
        self.loss.total += float(self.loss.objective(logits, labels))


class _Interrupted(Exception):
    """A signal came during a validation, whose result is then of no use."""


def measure_batch_norm(state: RunState, network: nn.Module) -> None:
    """Measure the statistics of batch normalisation over the run's first batches, on all processes together."""
    recipe, accelerator = state.recipe.model_copy(update={"loss": LossSection()}), state.accelerator
    shard = (accelerator.process_index, accelerator.num_processes)
    batches = batches_from(state.inputs.train, recipe, first_step=0, steps=recipe.run.precise_bn, shard=shard)

    def until_asked(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if state.interrupts.asked:
                return
            yield batch

    half = accelerator.autocast() if recipe.run.inference_precision == "bf16" else contextlib.nullcontext()
    with half, explain_out_of_memory(recipe, state.inputs.folder):
        measure_statistics(
            network,
            until_asked(batches),
            device=accelerator.device,
            reduce=lambda mean: accelerator.reduce(mean, reduction="mean"),
            frozen=recipe.model.freeze,
        )
