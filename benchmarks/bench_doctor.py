"""How often `upscore doctor` and the checks of `train` read each file of a dataset, and how their memory grows with the number of images.

strace (Linux) counts opens and bytes of every file below the dataset, in native code too. Memory is the peak of a process of its own, on
folders of generated images.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from timing import machine, measure_process, report

UPSCORE = str(Path(sys.executable).with_name("upscore"))
_OPENED = re.compile(r"^openat\(.*\) = \d+<(.*)>$")
_READ = re.compile(r"^(?:read|pread64|readv)\(\d+<(.*?)>, .* = (\d+)$")


def count_reads(words: list[str], data: Path) -> dict[str, Any]:
    """Return how many files of ``data`` a command opens how often, and how many bytes it reads of each byte that they hold."""
    opened, read = Counter[str](), Counter[str]()
    root = f"{os.path.realpath(data)}/"
    with tempfile.TemporaryDirectory() as folder:
        strace = ["strace", "-ff", "-qq", "-y", "-s", "0", "-e", "trace=openat,read,pread64,readv", "-e", "signal=none"]
        finished = subprocess.run(
            [*strace, "-o", f"{folder}/thread", UPSCORE, *words], capture_output=True, text=True, check=False, cwd=folder
        )
        assert finished.returncode in (0, 1), finished.stderr
        for trace in Path(folder).glob("thread.*"):
            with trace.open(errors="replace") as lines:
                for line in map(str.rstrip, lines):
                    if (found := _OPENED.match(line)) and found[1].startswith(root) and not Path(found[1]).is_dir():
                        opened[found[1]] += 1
                    elif (found := _READ.match(line)) and found[1].startswith(root):
                        read[found[1]] += int(found[2])
    often = {path: read[path] / max(1, Path(path).stat().st_size) for path in opened}
    return {
        "files": len(opened),
        "files_by_opens": {str(times): count for times, count in sorted(Counter(opened.values()).items())},
        "files_by_reads": dict(sorted(Counter(map(_times, often.values())).items())),
        "bytes_read_of_each": round(sum(read.values()) / max(1, sum(Path(path).stat().st_size for path in opened)), 3),
    }


def _times(fraction: float) -> str:
    """Return how often the bytes of a file were read, in words."""
    return "a part" if fraction < 0.99 else f"{fraction:.1f} times"


def write_images(root: Path, count: int) -> Path:
    """Write ``count`` images of 64×64 pixels, a fifth for validation, each a link to one of a thousand with a name of its own."""
    rng = np.random.default_rng(0)
    for number in range(count):
        split = "val" if number % 5 == 4 else "train"
        paths = [root / kind / split / f"{number:06}.png" for kind in ("images", "masks")]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
        left, top = rng.integers(0, 40, 2)
        mask = np.zeros((64, 64), np.uint8)
        mask[top : top + 20, left : left + 20] = 1
        image[mask > 0] = rng.integers(0, 256, 3)
        for path, pixels in zip(paths, (image, mask), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
    yaml = root / "dataset.yaml"
    yaml.write_text("path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: [background, object]\n")
    return yaml


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data", type=Path, nargs="*", default=[], help="dataset.yaml files whose reads are counted")
    flags.add_argument("--run", type=Path, help="a run on the first of them, for doctor --run")
    flags.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000], help="numbers of generated images")
    values = flags.parse_args()
    reads: dict[str, Any] = {}
    for data in values.data if shutil.which("strace") else []:
        commands = {
            "doctor --json": ["doctor", str(data), "--json"],
            "doctor": ["doctor", str(data)],
            "doctor --mend": ["doctor", str(data), "--mend", "mended"],
            "train --dry-run": ["train", str(data), "--out", "run", "--dry-run", "--device", "cpu"],
        }
        if values.run is not None and data == values.data[0]:
            commands["doctor --run"] = ["doctor", str(data), "--run", str(values.run), "--device", "cpu"]
        reads[data.parent.name] = {name: count_reads([*words], data.parent.absolute()) for name, words in commands.items()}
    memory: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in values.counts:
            data = write_images(Path(folder) / str(count), count)
            out = str(Path(folder) / f"{count}.html")
            memory[f"{count} images"] = {
                "doctor --json": measure_process([UPSCORE, "doctor", str(data), "--json"]),
                "doctor": measure_process([UPSCORE, "doctor", str(data), "--out", out]),
            }
    report(
        {
            "what": "reads of each file by the doctor, and its peak memory",
            "results": {"reads": reads, "memory": memory},
            **machine("numpy"),
        }
    )


if __name__ == "__main__":
    main()
