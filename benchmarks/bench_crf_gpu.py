"""The dense CRF on a GPU: the lattice and all pairs: time of a mean-field step, and agreement.

The peer is the compiled lattice on one thread of the CPU. Building (features, lattices or
tiles, row sums) is timed apart from steps. Beside them stands fused attention in bfloat16 with
features split into high and low parts, which the CRF does not use; the figures here tell whether it
should. Every variant's answer is compared before it is timed. Without a GPU nothing is measured;
``--tiny`` runs a small image on the CPU, to see that the script works.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from timing import interleave, machine, report, summary
from torch import Tensor

from upscore.crf import Bilateral, DenseCRF
from upscore.crf.engines import make_engine
from upscore.crf.engines.torch_exact import TorchExactFilter
from upscore.crf.engines.torch_meanfield import TorchEngine
from upscore.crf.pairwise import build_pairwise
from upscore.crf.unary import Unary


def scene(size: tuple[int, int], classes: int, image: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (H, W, K) of blobs and an image (H, W, 3) uint8: the one given, or smooth noise with grain."""
    rng = np.random.default_rng(0)

    def smooth(channels: int, reach: float) -> np.ndarray:
        blurred = [cv2.GaussianBlur(rng.normal(size=size), (0, 0), reach) for _ in range(channels)]
        return np.stack([plane / plane.std() for plane in blurred], -1)

    reach = size[0] / 25
    drawn = np.clip(128 + 50 * smooth(3, reach) + rng.normal(0, 5, (*size, 3)), 0, 255).astype(np.uint8)
    if image is not None:
        drawn = cv2.resize(cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB), size[::-1], interpolation=cv2.INTER_AREA)
    weights = np.exp(1.5 * smooth(classes, reach)).astype(np.float32)
    return weights / weights.sum(-1, keepdims=True), drawn


class Variant:
    """An engine with its mean field built, whose steps can be repeated."""

    def __init__(self, engine: Any, probs: np.ndarray, image: np.ndarray, wait: Callable[[], None]) -> None:
        classes, self.wait = probs.shape[-1], wait
        self.building = []
        for _ in range(2):  # the first time loads kernels
            started = time.perf_counter()
            pairwise = [
                build_pairwise(engine, kernel.features(image.shape[:2], image), kernel.compatibility, kernel.normalization, classes)
                for kernel in DenseCRF().kernels
            ]
            self.mean_field = engine.mean_field(Unary(probs.reshape(-1, classes), "probabilities"), pairwise, self_message=True)
            wait()
            self.building.append(1000 * (time.perf_counter() - started))
        self.marginals = self.mean_field.advance(None, 0)

    def answer(self, steps: int = 5) -> np.ndarray:
        return self.mean_field.to_array(self.mean_field.advance(None, steps))

    def step(self) -> None:
        self.mean_field.advance(self.marginals, 1)
        self.wait()


def split_in_parts(values: Tensor, parts: int) -> list[Tensor]:
    """Return bfloat16 tensors whose sum is ``values``, greatest first."""
    found = []
    for _ in range(parts):
        found.append(values.to(torch.bfloat16))
        values = values - found[-1].to(values.dtype)
    return found


def attend(features: Tensor, values: Tensor) -> Tensor:
    """Return the kernel times ``values`` (N, C), divided by its row sums, by fused attention in bfloat16."""
    centred = features - features.mean(0)
    high, low = split_in_parts(centred, 2)
    biases = split_in_parts(centred.square().sum(1, keepdim=True) / -2, 3)
    ones = torch.ones_like(high[:, :1])
    queries = torch.cat([high, high, low, ones, ones, ones], 1)
    keys = torch.cat([high, low, high, *biases], 1)
    width = max(queries.shape[1], values.shape[1])
    width += -width % 8
    padded = [F.pad(x, (0, width - x.shape[1]))[None, None] for x in (queries, keys, values.to(torch.bfloat16))]
    return F.scaled_dot_product_attention(*padded, scale=1.0)[0, 0, :, : values.shape[1]].float()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--tiny", action="store_true", help="24×32 on the CPU")
    flags.add_argument("--device", default="cuda")
    flags.add_argument("--image", type=Path, help="a photograph, in device_name of smooth noise")
    flags.add_argument("--size", type=int, nargs=2, default=(375, 500))
    flags.add_argument("--classes", type=int, default=21)
    flags.add_argument("--rounds", type=int, default=7)
    values = flags.parse_args()
    if values.tiny:
        values.device, values.size, values.rounds = "cpu", (24, 32), 2
    elif not torch.cuda.is_available():
        print("no GPU here, nothing measured; --tiny runs a small image on the CPU")
        return
    device = torch.device(values.device)
    torch.set_num_threads(1)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    probs, image = scene(tuple(values.size), values.classes, values.image)
    engines = {
        "compiled lattice on the CPU": make_engine("lattice"),
        "lattice on tensors": TorchEngine(device),
        "all pairs, float32": TorchEngine(device, TorchExactFilter),
        "all pairs, float64": TorchEngine(device, TorchExactFilter, torch.float64),
    }
    peer = next(iter(engines))
    memory = {}
    variants = {}
    for name, engine in engines.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        variants[name] = Variant(engine, probs, image, wait)
        variants[name].step()
        if device.type == "cuda":
            memory[name] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    answers = {name: variant.answer() for name, variant in variants.items()}
    exact = answers["all pairs, float64"]
    agreement = {
        name: {
            "largest_difference": {
                "from the compiled lattice": float(np.abs(answer - answers[peer]).max()),
                "from all pairs in float64": float(np.abs(answer - exact).max()),
            },
            "labels_as_all_pairs_in_float64": float((answer.argmax(1) == exact.argmax(1)).mean()),
        }
        for name, answer in answers.items()
    }
    features = torch.from_numpy(Bilateral().features(image.shape[:2], image)).to(device)
    marginals = torch.from_numpy(probs.reshape(-1, values.classes)).to(device)
    tiles = TorchExactFilter(features, torch.float64)
    rows = tiles.multiply(torch.ones(len(features), 1, dtype=torch.float64, device=device))
    error = (attend(features, marginals) - tiles.multiply(marginals.double()) / rows).abs()
    single = TorchExactFilter(features)
    filters: dict[str, Callable[[], object]] = {
        "tiles, float32": lambda: (single.multiply(marginals), wait()),
        "attention, bfloat16 in parts": lambda: (attend(features, marginals), wait()),
    }
    results = {
        "a step of mean field": summary(interleave({n: v.step for n, v in variants.items()}, rounds=values.rounds), peer=peer),
        "building_ms, first and second time": {name: [round(ms, 1) for ms in v.building] for name, v in variants.items()},
        "peak_memory_mib": memory,
        "after five steps": agreement,
        "the bilateral filter alone": summary(interleave(filters, rounds=values.rounds), peer="tiles, float32"),
        "attention's error in the normalised filter": {"largest": float(error.max()), "mean": float(error.mean())},
        "fraction of pairs computed": {
            kernel: round(sum(map(len, term.kernel.kernel.near)) / len(term.kernel.kernel.near) ** 2, 4)
            for kernel, term in zip(("gaussian", "bilateral"), variants["all pairs, float32"].mean_field.pairwise, strict=True)
        },
    }
    setting: dict[str, Any] = {name: getattr(values, name) for name in ("size", "classes", "rounds")}
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    what = "the dense CRF on a GPU, default kernels"
    report(
        {
            "what": what,
            "device": device_name,
            "image": str(values.image or "smooth noise"),
            **setting,
            "results": results,
            **machine("torch"),
        }
    )


if __name__ == "__main__":
    main()
