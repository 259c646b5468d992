"""What a score for every pixel costs: skips, shifted runs stitched together, or rarefied filters.

The network is FCN-32s on a VGG16 without padding, and its peer is this package's FCN-8s. All of them answer at
every pixel of a square image; those without padding are given the image with
half a field of view, 201.5 pixels, on each side. ``of stride 8`` are those that make the grid four
times finer, as the skips do, and leave the rest to interpolation. Multiply-adds are counted at
the paper's width and image size on tensors that hold nothing; times are taken at a fraction of both, one
thread, processor time. Of the 1024 shifted runs a few are timed, and multiplied.
Equality of stitched and rarefied scores is asserted first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from timing import interleave, machine, multiply_adds, report
from torch import Tensor, nn

from upscore.dense_classifiers.rarefaction import output_grid, rarefy
from upscore.dense_classifiers.shift_and_stitch import shift_and_stitch
from upscore.models.factory import create_model
from upscore.ops.upsample import BilinearUpsample

PEER = "skips (FCN-8s)"


def valid_vgg16(width: float, num_classes: int) -> nn.Sequential:
    """Return FCN-32s's backbone and scores without any padding."""
    layers: list[nn.Module] = []
    channels = 3
    for convolutions, full in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, channels := round(full * width), 3), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    for kernel in (7, 1):
        layers += [nn.Conv2d(channels, channels := round(4096 * width), kernel), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1)).eval()


def variants_of(width: float, num_classes: int, size: int, shifts: int, **form: Any) -> dict[str, tuple[Callable[[], Tensor], int]]:
    """Return what runs for each variant, and how many such runs its image takes."""
    network = valid_vgg16(width, num_classes)
    axis, _ = output_grid(network)
    images, wide = torch.rand(1, 3, size, size, **form), torch.rand(1, 3, size + axis.shrinkage, size + axis.shrinkage, **form)
    fcn32s, fcn8s = (create_model(name, num_classes=num_classes, width=width).eval() for name in ("fcn32s", "fcn8s"))
    times_eight = BilinearUpsample(num_classes, factor=8)
    dense, eighth = rarefy(network), rarefy(network, stride=8)
    return {
        PEER: (lambda: fcn8s(images), 1),
        "no skips (FCN-32s)": (lambda: fcn32s(images), 1),
        "rarefied, of stride 8": (lambda: times_eight(eighth(wide)), 1),
        "stitched, of stride 8": (lambda: times_eight(shift_and_stitch(network, wide, factor=4, geometry=axis.geometry)[0]), 1),
        "rarefied": (lambda: dense(wide), 1),
        "stitched": (lambda: torch.cat([network(wide) for _ in range(shifts)]), 1024 // shifts),
    }


def largest_difference(factors: Iterable[int]) -> dict[str, float]:
    """Return how far stitched and rarefied scores are apart, in float64, relative to the largest score."""
    torch.manual_seed(0)
    network = valid_vgg16(1 / 32, 2).double()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    apart = {}
    for factor in factors:
        extra = {4: 70, 32: 3}[factor]
        wide = torch.rand(1, 3, 404 + extra, 404 + extra, dtype=torch.float64)
        stitched, _ = shift_and_stitch(network, wide, factor=factor)
        rare = rarefy(network, stride=32 // factor)(wide)
        apart[f"{factor**2} runs"] = float((stitched - rare).abs().max() / rare.abs().max())
    return apart


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--width", type=float, default=1 / 8)
    flags.add_argument("--size", type=int, default=97)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--shifts", type=int, default=2)
    flags.add_argument("--classes", type=int, default=21)
    flags.add_argument("--equal", type=int, nargs="+", choices=[4, 32], default=[4, 32], help="factors at which equality is asserted")
    values = flags.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        apart = largest_difference(values.equal)
        assert max(apart.values()) < 1e-12, apart
        counts: dict[str, dict[str, float]] = {}
        for width, size in ((1.0, 500), (values.width, values.size)):
            with torch.device("meta"):
                total = {n: multiply_adds(run) * runs for n, (run, runs) in variants_of(width, values.classes, size, 1).items()}
            counts[f"width {width:g}, {size}×{size}"] = {n: round(many / 1e9, 3) for n, many in total.items()}
        variants = variants_of(values.width, values.classes, values.size, values.shifts)
        seconds = interleave({name: run for name, (run, _) in variants.items()}, rounds=values.rounds, clock=time.process_time)
    seconds = {name: [variants[name][1] * one for one in times] for name, times in seconds.items()}
    setting = {name: getattr(values, name) for name in ("width", "size", "rounds", "classes")} | {
        "threads": 1,
        "timed_shifts": values.shifts,
    }
    rows = {
        name: {
            "median_ms": round(1000 * statistics.median(times), 1),
            "min_ms": round(1000 * min(times), 1),
            "max_ms": round(1000 * max(times), 1),
            "times_slower": round(statistics.median(t / p for t, p in zip(times, seconds[PEER], strict=True)), 1),
        }
        for name, times in seconds.items()
    }
    ratios = {where: {n: round(many / row[PEER], 2) for n, many in row.items()} for where, row in counts.items()}
    report(
        {
            "what": "scores for every pixel: skips, shift-and-stitch, rarefaction",
            **setting,
            "largest_relative_difference": apart,
            "billions_of_multiply_adds": counts,
            "multiply_adds_over_skips": ratios,
            "measured": rows,
            **machine("torch"),
        }
    )


if __name__ == "__main__":
    main()
