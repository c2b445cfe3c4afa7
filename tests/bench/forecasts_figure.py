"""Gained room over violations as a picture: a curve per forecast, a dot per margin. Plain SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

PLOT, GAP, TOP, BOTTOM, LEFT = 400, 76, 76, 64, 64
WIDTH, HEIGHT = LEFT + 2 * PLOT + GAP + 24, 440
MOST, LEAST = 45.0, 40.0  # percent of violations shown, of room
INK, GRID = "#333333", "#dddddd"
COLOURS: Final = {"neap": "#d1495b", "seasonal naive": "#1f4e79", "naive": "#8a8a8a"}
SAID: Final = {"neap": "neap's forecast", "seasonal naive": "as yesterday", "naive": "it stays as it is"}

TITLE: Final = "Room lent a day ahead, and how often it was not there: up and left is better"
HINT: Final = "A dot per margin that is kept back: 0, 5, 10, 15 points of the cluster, from right to left"

Curves = Mapping[str, Sequence[tuple[float, float, float, float]]]  # who -> margin, room, violations, excess


def draw(found: Mapping[str, Curves]) -> str:
    """One panel per cluster."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{TITLE}</text>',
        f'<text x="{LEFT}" y="42" fill="{INK}">{HINT}</text>',
    ]
    for place, (name, curves) in enumerate(found.items()):
        parts += _panel(LEFT + place * (PLOT + GAP), name, curves)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: float, name: str, curves: Curves) -> list[str]:
    high = TOP + 16
    size = HEIGHT - BOTTOM - high
    x = lambda violated: left + PLOT * violated / MOST  # noqa: E731
    y = lambda room: high + size * (1 - (room - LEAST) / (110 - LEAST))  # noqa: E731
    parts = [f'<text x="{left}" y="{TOP}" font-weight="bold" fill="{INK}">{name}</text>']
    for room in range(int(LEAST), 111, 10):
        parts.append(f'<line x1="{left}" x2="{left + PLOT}" y1="{y(room):.1f}" y2="{y(room):.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(room) + 4:.1f}" text-anchor="end" fill="{INK}">{room}</text>')
    for violated in range(0, int(MOST) + 1, 5):
        at = f'x="{x(violated):.1f}" y="{HEIGHT - BOTTOM + 18}"'
        parts.append(f'<text {at} text-anchor="middle" fill="{INK}">{violated} %</text>')
    parts.append(
        f'<text x="{left + PLOT / 2}" y="{HEIGHT - 22}" text-anchor="middle" fill="{INK}">time in which more was lent '
        "than there was</text>"
    )
    parts.append(
        f'<text transform="translate({left - 40},{high + size / 2}) rotate(-90)" text-anchor="middle" fill="{INK}">'
        "room lent, % of what there was</text>"
    )
    for place, (who, colour) in enumerate(COLOURS.items()):
        shown = [point for point in curves[who] if point[2] <= MOST and point[1] >= LEAST]
        line = " ".join(f"{x(point[2]):.1f},{y(point[1]):.1f}" for point in shown)
        wide = 2.4 if who == "neap" else 1.6
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        for point in [point for point in shown if point[0] % 5 == 0]:
            spot = f'cx="{x(point[2]):.1f}" cy="{y(point[1]):.1f}"'
            parts.append(f'<circle {spot} r="3.5" fill="{colour}"><title>margin {point[0]:.0f}</title></circle>')
        low = HEIGHT - BOTTOM - 52 + 17 * place
        parts.append(f'<rect x="{left + PLOT - 132}" y="{low - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + PLOT - 114}" y="{low}" fill="{INK}">{SAID[who]}</text>')
    return parts
