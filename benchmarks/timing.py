"""How every benchmark here measures: variants in turn in one process, medians, and what machine it was."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10
"""In the unit of ``ru_maxrss``: bytes on a Mac, KiB elsewhere."""


def is_installed(peer: str) -> bool:
    """Return whether a peer can be imported; one that cannot is named on standard error, and is left out."""
    found = importlib.util.find_spec(peer) is not None
    if not found:
        print(f"{peer} is not installed and is left out: 'make bench' installs it", file=sys.stderr)
    return found


def interleave(
    variants: dict[str, Callable[[], object]], *, rounds: int, warmup: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of each variant in each round; a round runs every variant once."""
    for _ in range(warmup):
        for run in variants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return seconds


def summary(seconds: dict[str, list[float]], *, peer: str) -> dict[str, Any]:
    """Return median and spread of each variant, and how many times faster than ``peer`` it is (median of the rounds' ratios)."""
    return {
        name: {
            "median_ms": round(1000 * statistics.median(times), 3),
            "min_ms": round(1000 * min(times), 3),
            "max_ms": round(1000 * max(times), 3),
            "times_faster": round(statistics.median(p / t for p, t in zip(seconds[peer], times, strict=True)), 2),
        }
        for name, times in seconds.items()
    }


def multiply_adds(run: Callable[[], object]) -> int:
    """Return how many multiply-adds convolutions and matrix products of ``run`` take; pools and activations are not counted."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def measure_process(words: list[str]) -> dict[str, float]:
    """Return the peak resident memory in MiB, and the processor time in seconds, of a command.

    The memory is at least that of this process, which a new process shares until it runs its own program.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), words
    return {"peak_mib": round(used.ru_maxrss / MEBIBYTE, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}


def machine(*packages: str) -> dict[str, Any]:
    """Return processor, Python and package versions."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {"processor": models[0] if models else platform.processor(), "cores": len(models), "python": platform.python_version(), **found}


def report(values: dict[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(values, indent=2))
