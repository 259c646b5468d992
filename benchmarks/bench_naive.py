"""What FCNs avoid: a classifier at every pixel, and convolutions at full resolution, beside FCN-8s on one image.

The peer is FCN-8s on VGG16 at full width. The sliding window's own classifier, rarefied
and run over the mirrored image once, computes the same logits; that is asserted first. Multiply-adds are
those of a forward pass, counted on tensors that hold nothing. One thread, processor time; of the sliding window's
patches a part is timed, and multiplied.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import interleave, machine, multiply_adds, report
from torch import Tensor

from upscore.dense_classifiers.rarefaction import rarefy
from upscore.models.factory import create_model
from upscore.models.full_resolution import FullResolution
from upscore.models.normalization import Normalization
from upscore.models.sliding_window import SlidingWindow

PEER = "FCN-8s, VGG16"


def variants_of(classes: int, size: int, rows: int) -> dict[str, tuple[Callable[[], Tensor], float]]:
    """Return what runs for each variant, and how many such runs its image takes."""
    window = SlidingWindow(num_classes=classes, normalization=Normalization.imagenet()).eval()
    small, large = (
        FullResolution(num_classes=classes, normalization=Normalization.imagenet(), depth=depth, width=width).eval()
        for depth, width in ((8, 64), (13, 512))
    )
    fcn8s = create_model("fcn8s", num_classes=classes).eval()
    dense = rarefy(window.classifier)
    images = torch.rand(1, 3, size, size)
    strip = window.mirror(window.normalization(images))[:, :, : window.patch + rows - 1]
    return {
        PEER: (lambda: fcn8s(images), 1),
        "sliding window of 65 pixels": (lambda: window.classify(strip), size / rows),
        "the same classifier, rarefied": (lambda: dense(window.mirror(window.normalization(images))), 1),
        "full resolution, 8 layers of 64": (lambda: small(images), 1),
        "full resolution, 13 layers of 512": (lambda: large(images), 1),
    }


def largest_difference() -> float:
    """Return how far the sliding window's logits are from the rarefied classifier's, relative to the largest."""
    window = SlidingWindow(num_classes=21, normalization=Normalization.imagenet()).eval()
    images = torch.rand(1, 3, 9, 10)
    logits = window(images)
    return float((rarefy(window.classifier)(window.mirror(window.normalization(images))) - logits).abs().max() / logits.abs().max())


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--size", type=int, default=128)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--classes", type=int, default=21)
    flags.add_argument("--rows", type=int, default=2, help="rows of pixels of the sliding window that are timed")
    values = flags.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with torch.no_grad():
        apart = largest_difference()
        assert apart < 1e-5, apart
        counts, ratios = {}, {}
        for size in dict.fromkeys((500, values.size)):
            with torch.device("meta"):
                total = {name: multiply_adds(run) * runs for name, (run, runs) in variants_of(values.classes, size, 1).items()}
            counts[f"{size}×{size}"] = {name: round(many / 1e9, 3) for name, many in total.items()}
            ratios[f"{size}×{size}"] = {name: round(many / total[PEER], 3) for name, many in total.items()}
        variants = variants_of(values.classes, values.size, values.rows)
        seconds = interleave({name: run for name, (run, _) in variants.items()}, rounds=values.rounds, clock=time.process_time)
    seconds = {name: [variants[name][1] * one for one in times] for name, times in seconds.items()}
    rows = {
        name: {
            "median_ms": round(1000 * statistics.median(times), 1),
            "min_ms": round(1000 * min(times), 1),
            "max_ms": round(1000 * max(times), 1),
            "times_slower": round(statistics.median(t / p for t, p in zip(times, seconds[PEER], strict=True)), 3),
        }
        for name, times in seconds.items()
    }
    setting = {name: getattr(values, name) for name in ("size", "rounds", "classes")} | {"threads": 1, "timed_rows": values.rows}
    report(
        {
            "what": "naive networks beside FCN-8s, one image, forward",
            **setting,
            "largest_relative_difference_of_window_and_rarefied": apart,
            "billions_of_multiply_adds": counts,
            "multiply_adds_over_fcn8s": ratios,
            "measured": rows,
            **machine("torch"),
        }
    )


if __name__ == "__main__":
    main()
