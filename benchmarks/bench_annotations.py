"""COCO annotations: opening a file of 100,000 beside json.load, and filling polygons beside pycocotools.

Opening includes the search for the images, empty files beside the JSON. json.load is timed as it is, and with Python's collector of cyclic
garbage off, as it is while upscore reads the file. The memory is the process's after opening and at its highest, beside that of json.load
alone, each in a process of its own. pycocotools fills each polygon into a mask of the whole image,
upscore into the rectangle around it, which is what drawing needs. Processor time.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import interleave, is_installed, machine, report, summary

from upscore.data.annotations.polygons import fill_polygon
from upscore.data.open_dataset import open_dataset


def write_coco(root: Path, images: int, annotations: int, points: int) -> Path:
    """Write a file of random polygons in hundredths of a pixel, with an empty file for each image."""
    rng = np.random.default_rng(0)
    for number in range(images):
        (root / f"{number:06}.jpg").touch()
    of_image, category = rng.integers(images, size=annotations).tolist(), rng.integers(80, size=annotations).tolist()
    rings = (rng.integers(0, 48_000, (annotations, 2 * points)) / 100).tolist()
    content = {
        "images": [{"id": number, "file_name": f"{number:06}.jpg", "width": 640, "height": 480} for number in range(images)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(80)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": label, "iscrowd": 0, "bbox": [1.0, 2.0, 3.5, 4.5], "segmentation": [ring]}
            for number, (image, label, ring) in enumerate(zip(of_image, category, rings, strict=True))
        ],
    }  # fmt: skip
    file = root / "annotations.json"
    file.write_text(json.dumps(content))
    return file


def blob(rng: np.random.Generator, points: int, radius: float) -> list[float]:
    angles, radii = np.sort(rng.uniform(0, 2 * np.pi, points)), radius * rng.uniform(0.7, 1, points)
    return np.stack([320 + radii * np.cos(angles), 240 + radii * np.sin(angles)], axis=1).ravel().tolist()


def fillers(points: int, radius: float, count: int) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(points)
    polygons = [blob(rng, points, radius) for _ in range(count)]

    def ours() -> None:
        for polygon in polygons:
            fill_polygon([polygon], 480, 640)

    variants: dict[str, Callable[[], object]] = {"upscore": ours}
    if is_installed("pycocotools"):
        from pycocotools import mask

        def coco() -> None:
            for polygon in polygons:
                mask.decode(mask.frPyObjects([polygon], 480, 640))

        variants["pycocotools"] = coco
    return variants


def json_without_collector(file: Path) -> object:
    gc.disable()
    try:
        return json.loads(file.read_text())
    finally:
        gc.enable()


def status_mib(key: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


def memory_mib(which: str, file: Path) -> dict[str, int]:
    """Return what opening adds to this process: what stays, and what it takes at its highest."""
    before = status_mib("VmRSS")
    opened = open_dataset(file) if which == "upscore" else json.loads(file.read_text())
    gc.collect()
    found = {"after MiB": round(status_mib("VmRSS") - before), "peak MiB": round(status_mib("VmHWM") - before)}
    del opened
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=14_000)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(memory_mib(arguments.memory[0], Path(arguments.memory[1]))))
        return
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = write_coco(Path(folder), arguments.images, arguments.annotations, 24)
        variants = {
            "json.load": lambda: json.loads(file.read_text()),
            "json.load, collector off": lambda: json_without_collector(file),
            "upscore": lambda: open_dataset(file),
        }
        rows = interleave(variants, rounds=arguments.rounds, clock=time.process_time)
        sizes = {"megabytes": round(file.stat().st_size / 1e6), "annotations": arguments.annotations, "images": arguments.images}
        result["open"] = sizes | summary(rows, peer="json.load")
        result["memory"] = {
            which: json.loads(
                subprocess.run([sys.executable, __file__, "--memory", which, str(file)], check=True, capture_output=True).stdout
            )
            for which in ("json.load", "upscore")
        }
    for points, radius in ((20, 30), (60, 150), (200, 230)):
        variants = fillers(points, radius, 200)
        rows = interleave(variants, rounds=arguments.rounds, clock=time.process_time)
        result[f"200 polygons of {points} points, radius {radius}"] = summary(rows, peer="pycocotools" if len(variants) > 1 else "upscore")
    report(
        {
            "what": "opening COCO's annotations, in CPU time; filling polygons",
            "rounds": arguments.rounds,
            "results": result,
            **machine("numpy", "pycocotools", "pydantic-core"),
        }
    )


if __name__ == "__main__":
    main()
