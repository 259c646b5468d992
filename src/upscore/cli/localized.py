"""What is printed of images in which the classes of a classifier were localised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscore.cli.console import aside, console, escape, make_table, percent, print_unit, short_name
from upscore.text import visible

if TYPE_CHECKING:
    from upscore.localization.localize_files import LocalizedImage

__all__ = ["print_localization", "print_localized"]


def print_localized(image: LocalizedImage) -> None:
    """Print the best classes of an image with their boxes, or why there are none."""
    if image.error:
        aside.print(f"upscore: {escape(visible(image.error))}", style="red", soft_wrap=True)
        return
    for warning in image.warnings:
        aside.print(escape(visible(f"{image.file}: {warning}")), soft_wrap=True)
    named = ", ".join(f"{short_name(each.name)} {percent(each.score)} % {each.box}" for each in image.classes)
    console.print(f"{escape(image.file)}: {named}", soft_wrap=True)


def print_localization(summary: Mapping[str, Any], out: Path) -> None:
    """Print how many images were done, the errors where the truth is known, and where the files are."""
    failed = sum(image["error"] is not None for image in summary["images"])
    if "localization_error" in summary:
        print_unit()
        table = make_table(["error", "top 1", "top 5"], left=["error"])
        for kind in ("localization", "classification"):
            errors = summary[f"{kind}_error"]
            table.add_row(kind, percent(errors["top1"]), percent(errors["top5"]))
        console.print(table)
    counts = [f"{len(summary['images']) - failed} localized"] + ([f"[red]{failed} failed[/red]"] if failed else [])
    console.print(f"{', '.join(counts)}: [bold]{escape(out)}[/bold]", soft_wrap=True)
