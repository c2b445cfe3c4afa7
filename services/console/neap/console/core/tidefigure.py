"""A pool's tide as a picture: how many nodes were on which side, and how many online services needed and will need.

x is time, y nodes, stacked from below: online, blocked, on their way, offline. The line is what online services needed,
after now (dashed upright) what they will by forecast. Plain SVG, no library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from neap.common.model.tide import TideMoment
from neap.common.units import DAY, HOUR, Seconds
from neap.console.core.figure import BOTTOM, GRID, HEIGHT, INK, LEFT, RIGHT, TOP, WIDTH
from neap.console.core.tideclock import at_clock, local

ONLINE: Final = "#1f4e79"
OFFLINE: Final = "#8fd3c8"
TURNING: Final = "#edae49"
BLOCKED: Final = "#d1495b"
NEEDED: Final = "#ff7f50"
SLOT: Final[Seconds] = 1800.0  # of what is needed ahead


@dataclass(frozen=True)
class Timeline:
    """What is drawn."""

    title: str
    course: Sequence[TideMoment]
    now: Seconds
    ahead: Sequence[int] = ()
    ahead_from: Seconds = 0.0
    ready_by: Seconds = 0.0
    zone: str = "+00:00"


def draw(line: Timeline) -> str:
    """The picture as SVG text; with nothing to draw, the title and axes."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{escape(line.title)}</text>',
    ]
    ahead_to = line.ahead_from + len(line.ahead) * SLOT
    first = min([moment.at for moment in line.course] + [line.now])
    axes = _Axes(
        first, max(line.now, ahead_to, first + HOUR), max((_nodes(one) for one in line.course), default=1), line.zone
    )
    parts += axes.grid()
    if line.course:
        parts += axes.stack([*line.course, _at(line.course[-1], line.now)])
    parts += axes.needed(line)
    return "\n".join([*parts, *_legend(line), "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Axes:
    first: Seconds
    last: Seconds
    nodes: int
    zone: str

    def x(self, at: Seconds) -> float:
        share = (min(max(at, self.first), self.last) - self.first) / (self.last - self.first)
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(self, nodes: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(nodes / max(1, self.nodes), 1.0))

    def grid(self) -> list[str]:
        parts = []
        for quarter in range(5):
            count = self.nodes * quarter / 4
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(count):.1f}" y2="{self.y(count):.1f}" stroke="{GRID}"/>'
            )
            parts.append(
                f'<text x="{LEFT - 8}" y="{self.y(count) + 4:.1f}" text-anchor="end" fill="{INK}">{count:g}</text>'
            )
        length = self.last - self.first
        step = next((hours * HOUR for hours in (1, 3, 6, 12, 24, 48, 168) if length / (hours * HOUR) <= 10), length)
        tick = math.ceil(local(self.first, self.zone) / step) * step
        while tick <= local(self.last, self.zone):
            at = self.first + tick - local(self.first, self.zone)
            words = at_clock(at, self.zone) if step < DAY else f"day {1 + math.floor((at - self.first) / DAY)}"
            parts.append(
                f'<text x="{self.x(at):.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="{INK}">{words}</text>'
            )
            tick += step
        return parts

    def stack(self, course: Sequence[TideMoment]) -> list[str]:
        levels = [
            (OFFLINE, [_nodes(one) for one in course]),
            (TURNING, [one.online + one.blocked + one.turning for one in course]),
            (BLOCKED, [one.online + one.blocked for one in course]),
            (ONLINE, [one.online for one in course]),
        ]
        times = [one.at for one in course]
        return [self._area(times, heights, colour) for colour, heights in levels]

    def _area(self, times: Sequence[Seconds], heights: Sequence[int], colour: str) -> str:
        steps = " ".join(self._steps(times, heights))
        left, right, floor = self.x(times[0]), self.x(times[-1]), self.y(0)
        return f'<polygon points="{left:.1f},{floor:.1f} {steps} {right:.1f},{floor:.1f}" fill="{colour}"/>'

    def _steps(self, times: Sequence[Seconds], heights: Sequence[int]) -> list[str]:
        points = []
        for place, (at, height) in enumerate(zip(times, heights, strict=True)):
            if place:
                points.append(f"{self.x(at):.1f},{self.y(heights[place - 1]):.1f}")
            points.append(f"{self.x(at):.1f},{self.y(height):.1f}")
        return points

    def needed(self, line: Timeline) -> list[str]:
        past = [(one.at, one.needed) for one in line.course if one.needed]
        coming = [(line.ahead_from + place * SLOT, count) for place, count in enumerate(line.ahead)]
        parts = []
        for known, dash in (
            (past, ""),
            ([(max(at, line.now), count) for at, count in coming], ' stroke-dasharray="6 3"'),
        ):
            if len(known) > 1:
                points = " ".join(self._steps([at for at, _ in known], [count for _, count in known]))
                parts.append(f'<polyline points="{points}" fill="none" stroke="{NEEDED}" stroke-width="2"{dash}/>')
        x = self.x(line.now)
        if coming:
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.y(0):.1f}" stroke="{INK}" stroke-dasharray="2 3"/>'
            )
            parts.append(f'<text x="{x + 4:.1f}" y="{TOP - 4}" fill="{INK}">now</text>')
        if line.now < line.ready_by <= self.last:
            due = self.x(line.ready_by)
            parts.append(f'<line x1="{due:.1f}" x2="{due:.1f}" y1="{TOP}" y2="{self.y(0):.1f}" stroke="{NEEDED}"/>')
            words = f"back by {at_clock(line.ready_by, self.zone)}"
            parts.append(f'<text x="{due + 4:.1f}" y="{TOP + 12}" fill="{INK}">{words}</text>')
        return parts


def _nodes(moment: TideMoment) -> int:
    return moment.online + moment.offline + moment.turning + moment.blocked


def _at(moment: TideMoment, at: Seconds) -> TideMoment:
    return TideMoment(max(at, moment.at), moment.online, moment.offline, moment.turning, moment.blocked, moment.needed)


def _legend(line: Timeline) -> list[str]:
    last = line.course[-1] if line.course else TideMoment(0.0, 0, 0, 0)
    rows = [
        (OFFLINE, f"offline {last.offline}"),
        (TURNING, f"on their way {last.turning}"),
        (BLOCKED, f"blocked {last.blocked}"),
        (ONLINE, f"online {last.online}"),
        (NEEDED, "needed online"),
    ]
    x, parts = WIDTH - RIGHT + 14, []
    for place, (colour, words) in enumerate(rows):
        y = TOP + 14 + 22 * place
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="{INK}">{words}</text>')
    return parts
