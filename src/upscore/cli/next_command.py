"""What a user runs after a command, as a line that can be copied."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from upscore.cli.arguments import given_command, given_words
from upscore.cli.console import MAX_COMMAND, console, escape
from upscore.cli.reading_flags import ReadingFlags

if TYPE_CHECKING:
    from upscore.doctor.diagnosis import Diagnosis
    from upscore.doctor.mend import Mended

__all__ = ["after_diagnosis", "labelling_command", "print_next"]


def print_next(command: str | None) -> None:
    """Print the command to run next, on one line so that it can be copied."""
    if command is not None:
        console.print(f"next: {escape(command, MAX_COMMAND)}", soft_wrap=True)


def labelling_command(tool: str, tasks: Path, *, root: Path, images: Path | None = None) -> str | None:
    """Return the command that opens tasks in a labelling tool; None where the tool has none.

    ``tasks`` is the folder that a writer of this name wrote, ``root`` what Label Studio serves images from, and ``images`` the folder of
    the images where they are not in ``tasks``.
    """
    if tool == "labelme":
        words = [str(tasks)] if images is None else [str(images), "--output", str(tasks)]
        return shlex.join(["labelme", *words, "--labels", str(tasks / "labels.txt")])
    if tool == "label-studio":
        files = ["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true", f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root.absolute()}"]
        return shlex.join(["env", *files, "label-studio", "start"])
    return None


def after_diagnosis(
    context: typer.Context, diagnosis: Diagnosis, mended: Mended | None, reviewed: Path | None, corrected: Sequence[object]
) -> str | None:
    """Return what to run after the verb ``doctor``: open the review, examine the copy, write one, or train; None where nothing helps.

    ``corrected`` are the findings that a corrected copy does something about.
    """
    data, review = str(context.params["data"]), diagnosis.snapshot.review
    if reviewed is not None and review is not None and review.regions:
        return labelling_command("labelme", reviewed / "labelme", root=reviewed.parent)
    if mended is not None:
        return shlex.join(["upscore", "doctor", str(mended.folder)])
    leave_out = ("out", "json", "strict")
    if corrected:
        return given_command(context, "--mend", _new_folder(data, "mended"), leave_out=leave_out)
    if review is not None:
        return given_command(context, "--review", _new_folder(data, "review"), leave_out=leave_out) if review.regions else None
    if diagnosis.counts["error"] or context.params["only"] or context.params["skip"]:
        return None
    reading = given_words(context, {field.name for field in dataclasses.fields(ReadingFlags)})
    return shlex.join(["upscore", "train", data, *reading])


def _new_folder(data: str, word: str) -> str:
    """Return the name of a folder that does not exist, after that of a dataset."""
    path = Path(data)
    name = f"{(path if path.is_dir() else path.absolute().parent).absolute().name}-{word}"
    return next(free for number in range(1, 10_000) if not Path(free := name if number == 1 else f"{name}-{number}").exists())
