"""The folder of a run: its name, what may already be in it, and its removal where a run did not begin."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from upscore.errors import TrainingError
from upscore.training.recipe import Recipe

__all__ = ["list_remains", "next_folder", "refuse_taken", "remove_remains", "removed_if_not_begun", "resume_command"]

REMAINS = (".*.part", "recipe.toml", "skipped.txt", "log.csv", "events.out.tfevents.*", ".best.partial", ".last.partial")
"""Names, as patterns, of what a run writes before its first checkpoint or bundle is complete."""


def next_folder(recipe: Recipe, *, data: str = "") -> Path:
    """Return the first of ``runs/DATA-MODEL``, ``runs/DATA-MODEL-2``, … that does not exist; ``data`` names data without a path."""
    path = Path(recipe.data.path or re.sub(r"[^\w.-]+", "-", data))
    name = path.parent.resolve().name if path.suffix in (".yaml", ".yml") else path.resolve().name
    stem = Path("runs") / f"{name or 'data'}-{recipe.model.name}"
    return next(folder for n in range(1, 100_000) if not os.path.exists(folder := stem if n == 1 else stem.with_name(f"{stem.name}-{n}")))


def resume_command(folder: Path, own: Iterable[str] = ()) -> str:
    """Return what continues the run in a folder: a command, quoted for a shell, or Python where it has objects of the caller's ``own``.

    >>> resume_command(Path("my runs/a"))
    "upscore train --resume --out 'my runs/a'"
    """
    given = "".join(f", {name}=..." for name in own)
    return (
        f"upscore.resume({str(folder)!r}{given}), from Python"
        if given
        else shlex.join(["upscore", "train", "--resume", "--out", str(folder)])
    )


def refuse_taken(folder: Path) -> None:
    """Raise TrainingError where ``folder`` holds a run already, or something else."""
    if os.path.isfile(folder / "recipe.toml"):
        raise TrainingError(f"{folder}: already holds a run: choose another --out, or continue that run with --resume")
    if os.path.exists(folder) and (not folder.is_dir() or list_remains(folder) is None):
        raise TrainingError(f"{folder}: already holds something that is no run: choose another --out")


def list_remains(folder: Path) -> list[Path] | None:
    """Return what a run that saved nothing left in ``folder``; None if there is something else."""
    found = list(folder.iterdir())
    return found if all(any(fnmatch(path.name, pattern) for pattern in REMAINS) for path in found) else None


def remove_remains(folder: Path) -> None:
    """Remove what a run that saved nothing left in ``folder``."""
    for path in (list_remains(folder) or []) if folder.is_dir() else []:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextlib.contextmanager
def removed_if_not_begun(folder: Path) -> Iterator[None]:
    """Remove what a run made that fails, or is interrupted, before it saved anything; what was there before stays."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        if int(os.environ.get("RANK", "0")) == 0:
            with contextlib.suppress(OSError):
                remove_remains(folder)
                for path in created:  # a folder that holds something by now stays
                    path.rmdir()
        raise
