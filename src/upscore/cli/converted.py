"""What is printed of a converted dataset."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from upscore.cli.console import console, escape, print_aside, print_warnings
from upscore.cli.next_command import print_next
from upscore.text import listed

if TYPE_CHECKING:
    from upscore.data.convert import Converted

__all__ = ["print_converted"]


def print_converted(converted: Converted) -> None:
    """Print what was written, what is different when it is read, and the command that examines it."""
    print_aside(converted.messages)
    warnings = []
    if converted.unread:
        warnings.append(f"{converted.unread} of the images are not found when the folder is opened as a dataset")
    if difference := converted.original.difference(converted.labels):
        warnings.append(f"the classes differ when it is read: {difference}; they are now {listed(converted.labels.names, 6)}")
    if converted.regrouped:
        why = f": {converted.writer.name} has no objects of several parts" if "objects of several parts" in converted.writer.lacks else ""
        warnings.append(f"in {converted.regrouped:,} of the images objects are joined or divided when it is read{why}")
    print_warnings(warnings)
    images = ", ".join(f"{count:,} {split}" for split, count in converted.images.items())
    shapes = f", {converted.shapes:,} shapes" if converted.shapes else ""
    console.print(
        f"written as {escape(converted.writer.description)}: [bold]{escape(converted.folder)}[/bold] ({images} images{shapes})",
        soft_wrap=True,
    )
    fraction = converted.differing / max(1, converted.pixels)
    exact = "every pixel has the class that it had" if not converted.differing else (
        f"{converted.differing:,} of {converted.pixels:,} pixels ({100 * fraction:.2g} %) have another class than they had"
    )  # fmt: skip
    if converted.objects and not converted.regrouped:
        exact += f", and the {converted.objects:,} objects are the same"
    console.print(f"read again: {exact}", soft_wrap=True)
    print_next(shlex.join(["upscore", "doctor", str(converted.folder)]))
