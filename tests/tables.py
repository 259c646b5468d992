"""Tables as the commands print them, read back."""

import re


def read_table(text: str, *, after: str, rows: list[str]) -> dict[str, dict[str, str]]:
    """Return the cells of a printed table by row and column.

    Parameters
    ----------
    text : str
        What was printed.
    after : str
        The first column's heading, at the beginning of the heading's last line; "" where it has none, as the heading is the line
        before the first row.
    rows : list of str
        The first column's cells, in order.

    Returns
    -------
    dict of dict of str
        A heading of several lines is joined by spaces; above "before" and "after" an empty line repeats the heading to its left.
    """
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"{rows[0]} ") and (lines[i - 1].startswith(after) or not after))
    body = lines[begin : begin + len(rows)]
    assert [line[: len(name) + 1].rstrip() for line, name in zip(body, rows, strict=True)] == rows
    first = begin - 1
    while first > 0 and lines[first - 1].startswith("   "):
        first -= 1
    block = lines[first : begin + len(rows)]
    width = max(map(len, block))
    block = [line.ljust(width) for line in block]
    blank = "".join(" " if all(line[i] == " " for line in block) else "x" for i in range(width))
    spans = [match.span() for match in re.finditer(r"x+( x+)*", blank)]
    cells = [[line[start:end].strip() for start, end in spans] for line in block]
    headings, left = [], ""
    for parts in zip(*cells[: begin - first], strict=True):
        left = parts[0] or left
        repeated = parts[-1] in ("before", "after")
        headings.append(f"{left} {parts[-1]}" if repeated and len(parts) > 1 else " ".join(filter(None, parts)))
    return {row[0]: dict(zip(headings[1:], row[1:], strict=True)) for row in cells[begin - first :]}


def percent(value: float | None) -> str:
    """Return a fraction as the commands print it; a dash for what is not a number."""
    return "–" if value is None or value != value else f"{100 * value:.2f}"
