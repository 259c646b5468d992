"""Precise statistics against torch's own pass, written out, and over several ranks."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from upscore.errors import RecipeError
from upscore.training.precise_bn import check_has_statistics, measure_statistics
from upscore.types import Batch


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 1),
        nn.BatchNorm2d(5, momentum=0.3),
        nn.BatchNorm2d(5, track_running_stats=False),
    )


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [Batch(torch.rand(2, 3, 7, 8, generator=generator), torch.zeros(2, 7, 8, dtype=torch.int64)) for _ in range(6)]


def test_statistics_are_those_of_torchs_pass(batches):
    ours, torchs = network(), network()
    update_bn([batch.images for batch in batches], torchs)
    measure_statistics(ours, batches, device="cpu")
    for name, tensor in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, msg=name)
    assert not ours.training
    assert [m.momentum for m in ours.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.3, 0.1]


def test_the_first_layers_are_the_means_of_the_batches_means_and_variances(batches):
    model = network()
    measure_statistics(model, batches, device="cpu")
    with torch.no_grad():
        seen = [model[0](batch.images).double().numpy() for batch in batches]
    np.testing.assert_allclose(model[1].running_mean, np.mean([x.mean((0, 2, 3)) for x in seen], 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var, np.mean([x.var((0, 2, 3), ddof=1) for x in seen], 0), rtol=1e-4)


def test_dropout_is_off_and_weights_stay(batches):
    plain, dropping = network(), nn.Sequential(nn.Dropout(0.9), network())
    before = copy.deepcopy(dropping.state_dict())
    measure_statistics(plain, batches, device="cpu")
    measure_statistics(dropping, batches, device="cpu")
    for name, tensor in plain.state_dict().items():
        assert torch.equal(dropping.state_dict()[f"1.{name}"], tensor)
        if name.endswith(("weight", "bias")):
            assert torch.equal(before[f"1.{name}"], tensor)


def test_ranks_together_measure_what_one_does(batches):
    """Each rank hands its means on; the mean over ranks is the mean over all batches."""
    whole, halves = network(), [network(), network()]
    measure_statistics(whole, batches, device="cpu")
    handed: list[list[torch.Tensor]] = [[], []]
    for rank, model in enumerate(halves):
        measure_statistics(model, batches[rank::2], device="cpu", reduce=lambda mean, rank=rank: handed[rank].append(mean.clone()) or mean)
    both = iter([(a + b) / 2 for a, b in zip(*handed, strict=True)])
    measure_statistics(halves[0], batches[:1], device="cpu", reduce=lambda mean: next(both))
    for name in ("1.running_mean", "1.running_var", "4.running_mean", "4.running_var"):
        torch.testing.assert_close(halves[0].state_dict()[name], whole.state_dict()[name])


def test_a_network_without_batch_normalisation_is_refused():
    check_has_statistics(network())
    with pytest.raises(RecipeError, match="no batch normalisation"):
        check_has_statistics(nn.Conv2d(3, 4, 3))
