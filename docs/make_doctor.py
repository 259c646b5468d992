"""Write the table of checks of docs/doctor.md: ``python docs/make_doctor.py``."""

from __future__ import annotations

from pathlib import Path

from upscore.doctor.checks import CHECKS

PAGE = Path(__file__).with_name("doctor.md")
BEGIN, END = "<!-- checks: made by docs/make_doctor.py -->", "<!-- end of the checks -->"


def doctor_page() -> str:
    """Return the page with a table of all checks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    rows = ["| id | at most | what is wrong | what the copy of `--mend` does |", "|---|---|---|---|"]
    for check in CHECKS:
        mends = check.mends + (f" (with `--only {check.id}`)" if check.asked else "")
        rows.append(f"| `{check.id}` | {check.severity} | {check.title}{' (with `--run`)' if check.needs_run else ''} | {mends} |")
    return before + BEGIN + "\n" + "\n".join(rows) + "\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(doctor_page(), encoding="utf-8")
