"""What is printed of an examined dataset."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from upscore.cli.console import MAX_COMMAND, console, escape, print_aside
from upscore.text import one_line

if TYPE_CHECKING:
    from upscore.doctor.diagnosis import Diagnosis
    from upscore.doctor.mend import Mended

__all__ = ["print_diagnosis"]

MAX_REGIONS = 10
"""Regions with doubtful labels that are printed."""

MAX_CHANGES = 20
"""Changes of a corrected copy that are printed; all are in its changes.json."""


def print_diagnosis(diagnosis: Diagnosis, page: Path | None, mended: Mended | None, reviewed: Path | None = None, *, as_json: bool) -> None:
    """Print what was found in a dataset, errors first, what a network doubts, and what a corrected copy changed; or as JSON alone."""
    if as_json:
        changes = None if mended is None else {
            "folder": str(mended.folder),
            "changes": [dataclasses.asdict(change) for change in mended.changes],
            "remaining": [finding.id for finding in mended.remaining],
        }  # fmt: skip
        print(json.dumps(diagnosis.as_dict() | ({"mended": changes} if changes else {}), indent=2))
        return
    print_aside(diagnosis.messages)
    colours = {"error": "bold red", "warning": "bold yellow", "info": "bold"}
    for finding in diagnosis.findings:
        console.print(
            f"[{colours[finding.severity]}]{finding.severity}:[/] {escape(one_line(finding.text()), MAX_COMMAND)}", soft_wrap=True
        )
    if (review := diagnosis.snapshot.review) is not None:
        from upscore.review.review_files import first_lines

        for line in first_lines(review, MAX_REGIONS):
            console.print(f"  {escape(one_line(line))}", soft_wrap=True)
        if len(review.regions) > MAX_REGIONS:
            console.print(f"  and {len(review.regions) - MAX_REGIONS} more, listed by --json")
    counts = diagnosis.counts
    examined = f"{len(diagnosis.checks)} checks" if diagnosis.snapshot.splits else "nothing else could be examined"
    console.print(
        f"{examined}: {counts['error']} error{'s' * (counts['error'] != 1)}, "
        f"{counts['warning']} warning{'s' * (counts['warning'] != 1)}, {counts['info']} for information"
    )
    if mended is not None:
        for change in mended.changes[:MAX_CHANGES]:
            console.print(f"  {escape(change.file)}: {escape(change.what)} [dim]({escape(', '.join(change.checks))})[/dim]", soft_wrap=True)
        if len(mended.changes) > MAX_CHANGES:
            console.print(f"  and {len(mended.changes) - MAX_CHANGES} more, listed in changes.json")
        console.print(f"corrected copy: [bold]{escape(mended.yaml)}[/bold], {mended.untouched} files as they were", soft_wrap=True)
        if mended.remaining:
            console.print(f"not corrected: {escape(', '.join(dict.fromkeys(finding.id for finding in mended.remaining)))}", soft_wrap=True)
    if reviewed is not None:
        console.print(f"review list: [bold]{escape(reviewed / 'review.json')}[/bold]", soft_wrap=True)
    if page is not None:
        console.print(f"page: [bold]{escape(page)}[/bold]", soft_wrap=True)
