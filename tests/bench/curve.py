"""A measured curve as a picture: both axes logarithmic, one line per series, readable on light and dark ground.

Plain SVG, no library. The ink follows the reader's colour scheme; there is no background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

WIDTH: Final = 720
HEIGHT: Final = 360
LEFT: Final = 76
RIGHT: Final = 176
TOP: Final = 48
BOTTOM: Final = 52
COLOURS: Final = ("#2f8f83", "#d1782f", "#5b7fc4")
STYLE: Final = (
    "text{fill:#3b4048}.grid{stroke:#3b4048;stroke-opacity:.16}.faint{stroke:#3b4048;stroke-opacity:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#d5dae1}.grid,.faint{stroke:#d5dae1}}"
)


class Line(NamedTuple):
    """One series; a faint one is dashed and only to compare with."""

    name: str
    points: tuple[tuple[float, float], ...]  # above 0
    faint: bool = False


class Curve(NamedTuple):
    """What is drawn, and the units of both axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


def draw(curve: Curve) -> str:
    """The picture as SVG text."""
    points = [point for line in curve.lines for point in line.points]
    x = _scale([at for at, _ in points], LEFT, WIDTH - RIGHT)
    decades = _decades([value for _, value in points])
    y = _scale([10.0 ** decades[0], 10.0 ** decades[-1]], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="22" font-size="15">{escape(curve.title)}</text>',
        f'<text x="{LEFT}" y="{TOP - 8}">{escape(curve.y)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(curve.x)}</text>',
    ]
    for decade in decades:
        height = y(10.0**decade)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 10}" y="{height + 4:.1f}" text-anchor="end">{10**decade:,}</text>')
    for at in sorted({at for at, _ in points}):
        parts.append(f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at:,.0f}</text>')
    for line, colour in zip(curve.lines, COLOURS, strict=False):
        parts += _line(line, colour, x, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(line: Line, colour: str, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    along = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
    last_x, last_y = x(line.points[-1][0]) + 10, y(line.points[-1][1]) + 4
    name = f'<text x="{last_x:.1f}" y="{last_y:.1f}">{escape(line.name)}</text>'
    if line.faint:
        return [f'<polyline class="faint" points="{along}" fill="none" stroke-dasharray="5 4"/>', name]
    dots = [
        f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}">'
        f"<title>{at:,.0f}: {value:,.0f}</title></circle>"
        for at, value in line.points
    ]
    return [f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots, name]


def _decades(values: Sequence[float]) -> range:
    """Powers of ten that hold all values between them."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return range(low, max(high, low + 1) + 1)


def _scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    low, high = log10(min(values)), log10(max(values))
    return lambda value: first + (last - first) * (log10(value) - low) / ((high - low) or 1.0)
