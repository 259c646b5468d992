"""How well the lattice approximates the CRF: labels and marginals compared with those over all pairs of pixels.

Each image is shrunk, labelled by the bundle's network and refined twice with the same kernels, by the
lattice and over all pairs in float32 on the device, in time quadratic in the number of pixels. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from timing import machine, report

from upscore import Predictor
from upscore.crf import Bilateral, DenseCRF, Gaussian


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--side", type=int, default=160, help="the longer side of the shrunk image")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.bundle)
    results = []
    for path in arguments.images:
        image = Image.open(path).convert("RGB")
        image.thumbnail((arguments.side, arguments.side))
        pixels = np.array(image)
        probs = predictor.predict(pixels, probs=True).probs
        assert probs is not None
        for name, kernels in {"both": (Gaussian(), Bilateral()), "gaussian": (Gaussian(),)}.items():
            for steps in arguments.steps:
                lattice = DenseCRF(kernels, steps).refine(probs, pixels)
                exact = DenseCRF(kernels, steps, engine="torch_exact", device=arguments.device).refine(probs, pixels)
                results.append(
                    {
                        "image": Path(path).name,
                        "kernels": name,
                        "steps": steps,
                        "labels_equal": round(float((lattice.argmax(0) == exact.argmax(0)).mean()), 5),
                        "greatest_difference": round(float(np.abs(lattice - exact).max()), 4),
                        "mean_difference": round(float(np.abs(lattice - exact).mean()), 6),
                    }
                )
    report({"what": "lattice beside all pairs", "side": arguments.side, "results": results} | machine("numpy", "torch"))


if __name__ == "__main__":
    main()
