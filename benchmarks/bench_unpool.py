"""Max pooling with two-bit switches and the unpooling that follows, over the five VGG16 stages, beside torch's pair.

The peer is ``max_pool2d(return_indices=True, ceil_mode=True)`` and ``max_unpool2d`` in NCHW. A
stage is pooled and unpooled; forward and backward goes from a gradient of the output to one of
the input. Outputs are new memory every time, as in a network. ``floor`` moves what has to be
moved at least, by torch's sums and fills and in memory that is there already: a map read, a
quarter written and read, a map written (and the same on the way back). One thread: processor
time; more: wall clock.

Saved memory is what ``saved_tensors_hooks`` sees, each storage once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import interleave, machine, report, summary
from torch import Tensor

from upscore.ops import switches
from upscore.ops.unpool import max_pool, max_unpool

STAGES = ((64, 1), (128, 2), (256, 4), (512, 8), (512, 16))  # channels, stride

CONTENDERS = ("upscore", "upscore, channels-last")
BESIDES = ("torch, channels-last", "upscore, plain path")  # by themselves: they use so much memory that what runs next waits for it

Pair = Callable[[Tensor], Tensor]


def by_torch(x: Tensor) -> Tensor:
    y, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    return F.max_unpool2d(y, places, 2, output_size=x.shape[-2:])


def by_upscore(x: Tensor) -> Tensor:
    y, codes = max_pool(x)
    return max_unpool(y, codes, x.shape[-2:])


def plainly(x: Tensor) -> Tensor:
    """The same where nobody compiled anything."""
    compiled = switches.compiled_for
    switches.compiled_for = lambda x, *dtypes: None
    try:
        return by_upscore(x)
    finally:
        switches.compiled_for = compiled


class Plainly(torch.autograd.Function):
    """The plain path on the way back too."""

    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.out = plainly(ctx.x)
        return ctx.out.detach()

    @staticmethod
    def backward(ctx, gradient):
        compiled = switches.compiled_for
        switches.compiled_for = lambda x, *dtypes: None
        try:
            return torch.autograd.grad(ctx.out, ctx.x, gradient)[0]
        finally:
            switches.compiled_for = compiled


def floor(maps: list[Tensor]) -> Callable[[], None]:
    """Return what moves as many bytes forward, into memory that is there already: a quarter made of a map, and a map of it."""
    wholes = [torch.empty_like(x) for x in maps]
    quarters = [torch.empty_like(x[:, : x.shape[1] // 4]) for x in maps]

    def run() -> None:
        for x, whole, quarter in zip(maps, wholes, quarters, strict=True):
            x.sum()  # reads a map
            quarter.zero_()  # writes a quarter
            quarter.sum()  # reads it
            whole.zero_()  # writes a map

    return run


def forward(pair: Pair, maps: list[Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            for x in maps:
                pair(x)

    return run


def both_ways(pair: Pair, maps: list[Tensor], gradients: list[Tensor]) -> Callable[[], None]:
    def run() -> None:
        for x, gradient in zip(maps, gradients, strict=True):
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(pair(leaf), leaf, gradient)

    return run


def saved_mib(pair: Pair, size: int, batch: int) -> float:
    seen: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    total = 0
    for channels, stride in STAGES:
        side = -(-size // stride)
        x = torch.rand(1, channels, side, side, requires_grad=True)
        seen.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            pair(x)
        total += batch * sum(nbytes for at, nbytes in seen.items() if at != x.untyped_storage().data_ptr())  # x is the network's
    return round(total / 2**20, 2)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=9)
    flags.add_argument("--size", type=int, default=224)
    flags.add_argument("--batch", type=int, default=8)
    flags.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    values = flags.parse_args()
    torch.set_num_threads(values.threads)
    torch.manual_seed(0)
    clock = time.process_time if values.threads == 1 else time.perf_counter
    maps = [
        torch.randn(values.batch, channels, -(-values.size // stride), -(-values.size // stride)).to(getattr(torch, values.dtype))
        for channels, stride in STAGES
    ]
    gradients = [torch.randn_like(x) for x in maps]
    last = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    last_gradients = [x.contiguous(memory_format=torch.channels_last) for x in gradients]
    variants = {
        "torch": (by_torch, maps, gradients),
        "upscore": (by_upscore, maps, gradients),
        "upscore, channels-last": (by_upscore, last, last_gradients),
        "torch, channels-last": (by_torch, last, last_gradients),
        "upscore, plain path": (Plainly.apply, maps, gradients),
    }
    for pair, xs, back in variants.values():
        for x, gradient, other, torchs in zip(xs, back, maps, gradients, strict=True):
            leaf, peer = x.detach().requires_grad_(), other.detach().requires_grad_()
            ours, theirs = pair(leaf), by_torch(peer)
            assert torch.equal(ours, theirs)
            assert torch.equal(torch.autograd.grad(ours, leaf, gradient)[0], torch.autograd.grad(theirs, peer, torchs)[0])
    one_way = {name: forward(pair, xs) for name, (pair, xs, _) in variants.items()}
    there_and_back = {name: both_ways(*variant) for name, variant in variants.items()}
    one_way["floor"] = floor(maps)
    there_and_back["floor"] = lambda: [one_way["floor"]() for _ in range(2)]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, runs in (("forward", one_way), ("forward and backward", there_and_back)):
        results[name] = {}
        for group, rounds in ((CONTENDERS, values.rounds), (BESIDES, max(3, values.rounds // 3))):
            seconds = interleave({variant: runs[variant] for variant in ("torch", *group, "floor")}, rounds=rounds, clock=clock)
            found = summary(seconds, peer="torch")
            for variant, times in summary(seconds, peer="floor").items():
                found[variant]["of_floor"] = times["times_faster"]
            results[name] |= {variant: times for variant, times in found.items() if variant not in results[name]}
    saved = {
        str(size): {"torch": saved_mib(by_torch, size, values.batch), "upscore": saved_mib(by_upscore, size, values.batch)}
        for size in (224, 500)
    }
    setting = {name: getattr(values, name) for name in ("threads", "rounds", "size", "batch", "dtype")}
    clocked = "processor time" if values.threads == 1 else "wall clock"
    report({"what": "max pooling and unpooling", "clock": clocked, **setting, "results": results, "saved_MiB": saved, **machine("torch")})


if __name__ == "__main__":
    main()
