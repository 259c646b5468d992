"""Validation in the middle of a run: the network as its bundle would predict, and its measured statistics of batch normalisation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.inference.segmenter import runs_channels_last
from upscore.metrics import ConfusionMatrix, SegmentationMetrics
from upscore.training.batches import batches_from
from upscore.training.memory import explain_out_of_memory
from upscore.training.precise_bn import measure_statistics
from upscore.training.progress_listener import ProgressListener
from upscore.training.recipe_sections import LossSection
from upscore.training.run_state import RunState, stop_if_asked
from upscore.types import Batch

__all__ = ["measure_batch_norm", "validate"]


def validate(state: RunState, listener: ProgressListener) -> SegmentationMetrics:
    """Evaluate the network as :func:`upscore.evaluation.evaluate.evaluate` would its bundle: same path, same precision, same numbers.

    Raises
    ------
    TrainingError
        Memory ran out.
    RunInterrupted
        A signal asked the run to stop.
    """
    recipe, accelerator = state.recipe, state.accelerator
    if state.validated is not state.averaged:
        state.validated.load_state_dict(state.averaged.state_dict())
    if recipe.run.precise_bn:
        measure_batch_norm(state, state.validated)
    matrix = ConfusionMatrix(len(state.inputs.labels))

    def report(done: int, total: int) -> None:
        if state.is_first:
            listener.validating(done, total)
        if state.interrupts.asked:
            raise _Interrupted

    # A process that is asked to stop still takes part in the sums below, which the others wait for.
    with contextlib.suppress(_Interrupted), explain_out_of_memory(recipe, state.inputs.folder, validating=True):
        predictor = Predictor.of(
            state.validated,
            state.inputs.labels,
            device=str(accelerator.device),
            precision=recipe.run.inference_precision,
            channels_last=runs_channels_last(accelerator.device),
        )
        shard = (accelerator.process_index, accelerator.num_processes)
        if not state.interrupts.asked:
            matrix = evaluate(predictor, state.inputs.val, shard=shard, progress=report).matrix
    counts = torch.from_numpy(matrix.counts).to(accelerator.device)
    ignored = torch.tensor(matrix.ignored, device=accelerator.device)
    counts, ignored = (accelerator.reduce(number, reduction="sum") for number in (counts, ignored))
    state.exchange_signals()
    stop_if_asked(state)
    return ConfusionMatrix.of(counts.cpu().numpy(), ignored=int(ignored)).metrics()


class _Interrupted(Exception):
    """A signal came during a validation, whose result is then of no use."""


def measure_batch_norm(state: RunState, network: nn.Module) -> None:
    """Measure the statistics of batch normalisation over the run's first batches, on all processes together."""
    recipe, accelerator = state.recipe.model_copy(update={"loss": LossSection()}), state.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = batches_from(state.inputs.train, recipe, first_step=0, steps=recipe.run.precise_bn, rank=rank, world=world)

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
