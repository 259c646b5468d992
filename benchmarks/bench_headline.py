"""The headline of the FCN paper, measured again: one dense pass against the 100 patches it replaces.

Long, Shelhamer and Darrell (2015), §3.1: AlexNet takes 1.2 ms to classify one 227×227 image, and
made fully convolutional 22 ms for the 10×10 grid of a 500×500 one, more than five times less than
100 × 1.2 ms; backward 37 ms against 100 × 2.4 ms.

The peer is CaffeNet with its linear layers, fed with the 100 windows that the grid's cells see, 1, 10 or
100 at a time. The windows of the last row and column reach 15 pixels beyond the image, which
is continued by zeros for them; the grid has these cells because Caffe's pooling rounds up. Equality
is asserted first, on a network without padding in its convolutions and on an image of 515 pixels,
which holds all 100 windows; with CaffeNet's padding, which each window has at its own edges, the
two differ, and by how much is reported. The bound is the ratio of multiply-adds.
One thread is measured in processor time, more in wall-clock time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import interleave, machine, multiply_adds, report, summary
from torch import Tensor, nn

from upscore.dense_classifiers.convolutionalize import convolutionalize

WINDOW, STRIDE, SIZE = 227, 32, 500
PAPER = {
    "forward_ms": {"dense": 22, "one patch": 1.2, "times_faster": 5.5},
    "backward_ms": {"dense": 37, "one patch": 2.4, "times_faster": 6.5},
}


def caffenet(width: float, *, padded: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the backbone and the linear layers; without padding the last map is 2×2 and not 6×6."""
    two, one = (2, 1) if padded else (0, 0)
    a, b, c, d = (2 * round(channels * width / 2) for channels in (96, 256, 384, 4096))
    features = nn.Sequential(
        *(nn.Conv2d(3, a, 11, 4), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5)),
        *(nn.Conv2d(a, b, 5, padding=two, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5)),
        *(nn.Conv2d(b, c, 3, padding=one), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3, padding=one, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(c, b, 3, padding=one, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)),
    )
    cells = 6 if padded else 2
    linear = [nn.Flatten(), nn.Linear(b * cells**2, d), nn.ReLU(inplace=True), nn.Linear(d, d), nn.ReLU(inplace=True)]
    return features.eval(), nn.Sequential(*linear, nn.Linear(d, 1000)).eval()


def windows_of(images: Tensor) -> Tensor:
    """Return the 100 windows (100, 3, 227, 227) of an image that is continued by zeros to 515 pixels."""
    reach = 9 * STRIDE + WINDOW - images.shape[-1]
    padded = nn.functional.pad(images, (0, reach, 0, reach))
    return padded.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)[0].permute(1, 2, 0, 3, 4).reshape(100, 3, WINDOW, WINDOW)


def apart(features: nn.Sequential, classifier: nn.Sequential, images: Tensor) -> float:
    """Return the largest difference of dense pass and patches, relative to the largest score."""
    dense = convolutionalize(nn.Sequential(features, classifier), input_size=WINDOW)
    with torch.no_grad():
        grid = dense(images)[0].flatten(1).T
        scores = torch.cat([classifier(features(part)) for part in windows_of(images).split(10)])
    return float((grid - scores).abs().max() / scores.abs().max())


def forward(network: nn.Module, x: Tensor, batch: int) -> None:
    with torch.no_grad():
        for part in x.split(batch):
            network(part)


def both_ways(network: nn.Module, x: Tensor, batch: int) -> None:
    network.zero_grad(set_to_none=True)
    for part in x.split(batch):
        network(part).sum().backward()


def count(network: nn.Module, first: nn.Module, x: Tensor) -> dict[str, int]:
    """Return multiply-adds; each gradient costs a forward pass, but the image needs none. (torch miscounts those of grouped layers.)"""
    once = multiply_adds(partial(forward, network, x[:1], 1)) * len(x)
    return {"forward": once, "forward and backward": 3 * once - multiply_adds(partial(forward, first, x[:1], 1)) * len(x)}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--width", type=float, default=1.0, help="a fraction of CaffeNet's channels")
    values = flags.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(max(values.threads))
    images, whole = torch.randn(1, 3, SIZE, SIZE), torch.randn(1, 3, 9 * STRIDE + WINDOW, 9 * STRIDE + WINDOW)
    unpadded = apart(*caffenet(values.width, padded=False), whole)
    assert unpadded < 1e-5, unpadded
    features, classifier = caffenet(values.width, padded=True)
    padded = apart(features, classifier, whole)
    patches = nn.Sequential(features, classifier)
    dense = convolutionalize(patches, input_size=WINDOW)
    with torch.no_grad():
        assert dense(images).shape == (1, 1000, 10, 10)
    windows = windows_of(images).contiguous()
    counts = {name: count(network, features[0], x) for name, network, x in (("dense", dense, images), ("patches", patches, windows))}
    bound = {name: round(counts["patches"][name] / counts["dense"][name], 2) for name in counts["dense"]}
    results: dict[str, Any] = {}
    for threads in values.threads:
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        for name, work in (("forward", forward), ("forward and backward", both_ways)):
            variants: dict[str, Callable[[], object]] = {"dense": partial(work, dense, images, 1)}
            variants |= {f"patches, {batch} at a time": partial(work, patches, windows, batch) for batch in (1, 10, 100)}
            seconds = interleave(variants, rounds=values.rounds, warmup=0 if work is both_ways else 1, clock=clock)
            rows = {variant: summary(seconds, peer=variant)["dense"]["times_faster"] for variant in seconds if variant != "dense"}
            results[f"{name}, threads {threads}"] = {
                "dense_times_faster_than": rows,
                "measured": summary(seconds, peer="patches, 100 at a time"),
            }
    report(
        {
            "what": "one dense pass of AlexNet over 500×500 against the 100 patches of its 10×10 grid",
            "rounds": values.rounds,
            "width": values.width,
            "largest_relative_difference": {"without padding, 515×515": unpadded, "with CaffeNet's padding, 515×515": padded},
            "multiply_adds": counts | {"bound": bound},
            "paper": PAPER,
            "results": results,
            **machine("torch"),
        }
    )


if __name__ == "__main__":
    main()
