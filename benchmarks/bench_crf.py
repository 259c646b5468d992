"""The dense CRF beside pydensecrf, on the same image and probabilities: labels, marginals, time and memory.

From probabilities to probabilities, building the lattices included: pydensecrf gets what its
own ``unary_from_softmax`` makes of them. Kernels and iterations are the usual ones. Times are
medians of interleaved rounds in one process: processor time for one thread, wall clock for
more, which asks for a quiet machine. Peak memory is each engine's in a process of its own,
above what it had once everything was imported and the input made.

The peer is not on the list of extras, since it has no wheels: ``pip install pydensecrf2``
with a compiler, or give the folder of its site-packages with ``--peer``.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from timing import interleave, machine, report, summary

from upscore.crf import DenseCRF
from upscore.crf.engines.native_lattice import is_compiled

Floats = npt.NDArray[np.float32]


def scene(image: str | None, height: int, width: int, labels: int) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return an image (H, W, 3) and probabilities (K, H, W) as coarse as a network's."""
    rng = np.random.default_rng(0)
    if image is None:
        coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    else:
        pixels = np.array(Image.open(image).convert("RGB").resize((width, height)))
    scores = rng.normal(size=(labels, height // 16 + 1, width // 16 + 1)).astype(np.float32) * 2
    weights = np.exp(scores.repeat(16, 1).repeat(16, 2)[:, :height, :width])
    return pixels, np.ascontiguousarray(weights / weights.sum(0))


def by_peer(probs: Floats, image: npt.NDArray[np.uint8], steps: int) -> Floats:
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import unary_from_softmax

    labels, height, width = probs.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary_from_softmax(probs))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    return np.array(crf.inference(steps)).reshape(probs.shape)


def by_upscore(probs: Floats, image: npt.NDArray[np.uint8], steps: int, **settings: Any) -> Floats:
    return DenseCRF(iterations=steps, **settings).refine(probs, image)


def peak_mib(run: Any) -> float:
    """Return by how many MiB ``run`` raises this process's peak above what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status_mib("VmRSS")
    run()
    return _status_mib("VmHWM") - before


def _status_mib(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=(375, 500), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 21, 150])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--image", help="in place of one made on the spot")
    parser.add_argument("--peer", help="folder that holds the package pydensecrf")
    parser.add_argument("--numpy", action="store_true", help="the NumPy engine too")
    parser.add_argument("--memory", choices=["peer", "lattice", "numpy_lattice"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        sys.path.append(arguments.peer)
    there = importlib.util.find_spec("pydensecrf") is not None
    peer = "pydensecrf" if there else "upscore"
    if not there:
        print("pydensecrf is not here: upscore is measured alone", file=sys.stderr)
    height, width = arguments.size
    if arguments.memory:
        image, probs = scene(arguments.image, height, width, arguments.labels[0])
        if arguments.memory == "peer":
            by_peer(probs[:, :2, :2].copy(), image[:2, :2].copy(), 1)
            print(peak_mib(lambda: by_peer(probs, image, arguments.steps)))
        else:
            by_upscore(probs[:, :2, :2].copy(), image[:2, :2].copy(), 1, engine=arguments.memory)
            print(peak_mib(lambda: by_upscore(probs, image, arguments.steps, engine=arguments.memory)))
        return
    results: dict[str, Any] = {}
    for labels in arguments.labels:
        image, probs = scene(arguments.image, height, width, labels)
        engines: dict[str, Any] = {"upscore": lambda probs=probs, image=image: by_upscore(probs, image, arguments.steps, threads=1)}
        if there:
            engines = {"pydensecrf": lambda probs=probs, image=image: by_peer(probs, image, arguments.steps)} | engines
        if arguments.numpy:
            engines["upscore in NumPy"] = lambda probs=probs, image=image: by_upscore(probs, image, arguments.steps, engine="numpy_lattice")
        expected = engines[peer]()
        equal = {}
        for name, run in engines.items():
            found = run()
            equal[name] = {
                "labels_equal": float((found.argmax(0) == expected.argmax(0)).mean()),
                "greatest_difference": float(np.abs(found - expected).max()),
            }
        one = summary(interleave(engines, rounds=arguments.rounds, clock=time.process_time), peer=peer)
        both = {
            peer: engines[peer],
            "upscore, 2 threads": lambda probs=probs, image=image: by_upscore(probs, image, arguments.steps, threads=2),
        }
        two = summary(interleave(both, rounds=arguments.rounds), peer=peer)
        command = [sys.executable, __file__, "--labels", str(labels), "--size", str(height), str(width), "--steps", str(arguments.steps)]
        command += ["--image", arguments.image] if arguments.image else []
        command += ["--peer", arguments.peer] if arguments.peer else []
        memory = {
            which: round(float(subprocess.run([*command, "--memory", which], check=True, capture_output=True, text=True).stdout))
            for which in (*(["peer"] if there else []), "lattice", *(["numpy_lattice"] if arguments.numpy else []))
        }
        results[f"{labels} labels"] = {"equal": equal, "one thread": one, "wall clock": two, "peak MiB": memory}
    values = {"what": "dense CRF", "size": [height, width], "steps": arguments.steps, "compiled": is_compiled(), "results": results}
    report(values | machine("numpy", "scipy", "pydensecrf2"))


if __name__ == "__main__":
    main()
