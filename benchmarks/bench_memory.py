"""Peak memory of `upscore predict`, each image in a process of its own: FCN-8s on backbones that see the whole image, in blended tiles."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import machine, measure_process, report

from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--backbones", nargs="+", default=["pvt_v2_b0", "efficientnet_b0"])
    flags.add_argument("--sizes", nargs="+", default=["1000x1000", "12000x8400"], help="width x height")
    values = flags.parse_args()
    torch.manual_seed(0)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for backbone in values.backbones:
            network = create_model("fcn8s", backbone=backbone, num_classes=21)
            bundle = Bundle.of("fcn8s", {"backbone": backbone}, network, LabelSpace(tuple(f"class {i}" for i in range(21))))
            bundle.save(Path(folder) / backbone)
            for size in values.sizes:
                width, height = map(int, size.split("x"))
                noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
                image = Path(folder) / f"{size}.png"
                Image.fromarray(np.tile(noise, (height // 64 + 1, width // 64 + 1, 1))[:height, :width]).save(image, compress_level=1)
                words = ["predict", str(Path(folder) / backbone), str(image), "--out", str(Path(folder) / f"{backbone}-{size}")]
                results[f"{backbone}, {size}"] = measure_process([str(Path(sys.executable).with_name("upscore")), *words])
    report({"what": "peak memory of prediction", "results": results, **machine("torch", "timm")})


if __name__ == "__main__":
    main()
