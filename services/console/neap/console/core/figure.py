"""The day as a picture: owners and guests stacked over the hours, evictions as marks. Plain SVG, no library.

Axes: x is the time of day, y the share of all usable CPUs. One polygon per layer, drawn from minute samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from neap.common.units import HOUR, Ratio, Seconds

WIDTH: Final = 960
HEIGHT: Final = 380
LEFT: Final = 56
RIGHT: Final = 150
TOP: Final = 44
BOTTOM: Final = 40
OWNERS: Final = "#1f4e79"
GUESTS: Final = "#4fb0a5"
EVICTED: Final = "#d1495b"
LINES: Final = ("#4fb0a5", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#2e4057")
INK: Final = "#333333"
GRID: Final = "#dddddd"


class Sample(msgspec.Struct, frozen=True):
    """One minute: shares of all usable CPUs, and evictions since the day began."""

    at: Seconds  # from the day's start
    owners: Ratio
    guests: Ratio
    evictions: int


def draw(samples: Sequence[Sample], *, length: Seconds, title: str, online_only: Ratio) -> str:
    """The picture as SVG text; `online_only` is the other run's average, drawn as a dashed line."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{escape(title)}</text>',
        *_grid(length),
    ]
    if len(samples) > 1:
        both = [(item.at, item.owners + item.guests) for item in samples]
        parts += [_area(both, length, GUESTS), _area([(item.at, item.owners) for item in samples], length, OWNERS)]
        parts += _marks(samples, length)
        parts += _legend(samples, online_only)
    level = _y(online_only)
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="white" stroke-dasharray="5 4"/>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_policies(courses: Mapping[str, Sequence[Sample]], *, length: Seconds, title: str) -> str:
    """The same day under several policies: what all CPUs were used for, a line each, above the owners' area."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{escape(title)}</text>',
        *_grid(length),
    ]
    drawn = {name: course for name, course in courses.items() if len(course) > 1}
    if drawn:
        first = next(iter(drawn.values()))
        parts.append(_area([(item.at, item.owners) for item in first], length, OWNERS))
    x = WIDTH - RIGHT + 14
    for index, (name, course) in enumerate(drawn.items()):
        colour, y = LINES[index % len(LINES)], TOP + 14 + 22 * index
        points = " ".join(f"{_x(item.at, length):.1f},{_y(item.owners + item.guests):.1f}" for item in course)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        mean = sum(item.owners + item.guests for item in course) / len(course)
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="{INK}">{escape(name[:14])} {mean:.1%}</text>')
    y = TOP + 14 + 22 * len(drawn)
    parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{OWNERS}"/>')
    parts.append(f'<text x="{x + 18}" y="{y}" fill="{INK}">owners</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(at: Seconds, length: Seconds) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / length


def _y(share: Ratio) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0))


def _area(points: Sequence[tuple[Seconds, Ratio]], length: Seconds, colour: str) -> str:
    line = " ".join(f"{_x(at, length):.1f},{_y(share):.1f}" for at, share in points)
    first, last = _x(points[0][0], length), _x(points[-1][0], length)
    return f'<polygon points="{first:.1f},{_y(0):.1f} {line} {last:.1f},{_y(0):.1f}" fill="{colour}"/>'


def _grid(length: Seconds) -> list[str]:
    parts = []
    for percent in range(0, 101, 25):
        y = _y(percent / 100)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{percent} %</text>')
    step = max(1, round(length / HOUR / 8))
    for hour in range(0, int(length / HOUR) + 1, step):
        x = _x(hour * HOUR, length)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="{INK}">{hour:02d}:00</text>')
    return parts


def _marks(samples: Sequence[Sample], length: Seconds) -> list[str]:
    """A tick on the top edge for every minute in which a guest was evicted."""
    return [
        f'<line x1="{_x(now.at, length):.1f}" x2="{_x(now.at, length):.1f}" y1="{TOP - 6}" y2="{TOP + 2}" stroke="{EVICTED}"/>'
        for before, now in itertools.pairwise(samples)
        if now.evictions > before.evictions
    ]


def _legend(samples: Sequence[Sample], online_only: Ratio) -> list[str]:
    owners = sum(item.owners for item in samples) / len(samples)
    guests = sum(item.guests for item in samples) / len(samples)
    rows = [
        (GUESTS, f"guests {guests:.1%}"),
        (OWNERS, f"owners {owners:.1%}"),
        (EVICTED, f"{samples[-1].evictions} evictions"),
    ]
    x = WIDTH - RIGHT + 14
    parts = []
    for index, (colour, text) in enumerate(rows):
        y = TOP + 14 + 22 * index
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="{INK}">{escape(text)}</text>')
    parts.append(f'<text x="{x}" y="{TOP + 92}" fill="{INK}">dashed: the day</text>')
    parts.append(f'<text x="{x}" y="{TOP + 108}" fill="{INK}">without guests,</text>')
    parts.append(f'<text x="{x}" y="{TOP + 124}" fill="{INK}">{online_only:.1%} on average</text>')
    return parts
