"""Curves side by side as one SVG, for docs/images; on a white ground, so that they can be read on light and dark pages."""

import math
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 240, 150, 44, 34, 30
STYLE = (
    "text { font: 12px sans-serif; fill: #222 } .axis { stroke: #888; fill: none } "
    ".thin { stroke: #9db8d2; fill: none } .thick { stroke: #1f5fa8; stroke-width: 2.5; fill: none }"
)


@dataclass(frozen=True)
class Curves:
    """Values in [0, 1], one list for each curve, over common positions."""

    title: str
    unit: str
    positions: list[float]
    values: list[list[float]]
    logarithmic: bool = False


def write_charts(charts: list[Curves], name: str, description: str) -> None:
    """Write charts side by side, each curve thin and their mean thick, as docs/images/NAME."""
    parts = [draw(chart, LEFT + index * (WIDTH + LEFT + GAP)) for index, chart in enumerate(charts)]
    width, height = len(charts) * (WIDTH + LEFT + GAP), TOP + HEIGHT + 44
    target = Path(__file__).with_name("images") / name
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">\n'
        f'<title>{description}</title>\n<style>{STYLE}</style>\n<rect width="{width}" height="{height}" rx="8" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n",
        encoding="utf-8",
    )
    print(target)


def draw(chart: Curves, left: int) -> str:
    """Return one chart as SVG elements, its left axis at ``left``."""
    scale = math.log2 if chart.logarithmic else float
    first, last = scale(chart.positions[0]), scale(chart.positions[-1])
    xs = [left + WIDTH * (scale(position) - first) / (last - first) for position in chart.positions]
    mean = [sum(column) / len(column) for column in zip(*chart.values, strict=True)]
    lines = [f'<text x="{left}" y="22" font-weight="bold">{chart.title}</text>']
    for level in (0, 0.5, 1):
        y = TOP + HEIGHT * (1 - level)
        lines.append(f'<path class="axis" stroke-opacity=".5" d="M{left} {y:g}h{WIDTH}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end">{100 * level:g} %</text>')
    ticks = sorted({0, len(xs) // 4, len(xs) // 2, len(xs) - 1})
    for tick in ticks:
        suffix = f" {chart.unit}" if tick == ticks[-1] else ""
        anchor = "end" if suffix else "middle"
        lines.append(f'<text x="{xs[tick]:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="{anchor}">{chart.positions[tick]:g}{suffix}</text>')
    for kind, values in [*(("thin", curve) for curve in chart.values), ("thick", mean)]:
        points = " ".join(f"{x:.1f},{TOP + HEIGHT * (1 - value):.1f}" for x, value in zip(xs, values, strict=True))
        lines.append(f'<polyline class="{kind}" points="{points}"/>')
    return "\n".join(lines)
