"""Processor time of `upscore --help`, beside that of an empty typer program's."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import interleave, machine, report, summary

EMPTY = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None:\n    pass\napp()\n"


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=int, default=15)
    values = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        commands = {
            "empty typer program": [sys.executable, str(empty), "--help"],
            "upscore --help": [str(Path(sys.executable).with_name("upscore")), "--help"],
            "upscore train --help": [str(Path(sys.executable).with_name("upscore")), "train", "--help"],
        }
        variants = {name: (lambda words=words: subprocess.run(words, check=True, capture_output=True)) for name, words in commands.items()}
        seconds = interleave(variants, rounds=values.rounds, warmup=2 if values.rounds > 1 else 0, clock=children_cpu)
    result = summary(seconds, peer="empty typer program")
    for value in result.values():
        value["times_the_cost"] = round(1 / value.pop("times_faster"), 2)
    report({"what": "CPU time of help", "results": result, **machine("typer", "rich")})


if __name__ == "__main__":
    main()
