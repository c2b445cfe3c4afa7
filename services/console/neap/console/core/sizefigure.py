"""What was used against what is asked for: a panel per container and resource. Plain SVG, no library.

Axes: x is time, y the resource in its unit. The band reaches from the mean over the replicas to the highest sample of
any of them, hour by hour; the dashed line is the request now, the bold one the target. What was not seen is left open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from neap.common.model.recommendation import Course, Recommendation
from neap.common.model.resource import CPU
from neap.common.units import DAY, GIB, HOUR, Seconds
from neap.foresight.sizing import shown

WIDTH, PANEL, LEFT, RIGHT, HEAD, FOOT, GAP = 960, 220, 64, 200, 50, 30, 44
BAND, MEAN, NOW, TARGET, SPARE, INK, GRID = "#9fc5e0", "#1f4e79", "#8a8a8a", "#d1495b", "#f6e3c5", "#333333", "#e4e4e4"
LETTER: Final = 6.2
FONT: Final = 'font-family="sans-serif" font-size="12"'
MOST_PANELS: Final = 12


@dataclass(frozen=True)
class Panel:
    """One container and resource, in people's unit. `sizes`: what was in force over time, where that is known."""

    title: str
    unit: str
    start: Seconds
    step: Seconds
    mean: Sequence[float | None]
    highest: Sequence[float | None]
    now: float | None
    target: float | None
    note: str = ""
    sizes: Sequence[float | None] = field(default_factory=list)

    @property
    def end(self) -> Seconds:
        """Of the last step."""
        return self.start + self.step * max(len(self.mean), 1)

    @property
    def top(self) -> float:
        """Of the y axis."""
        seen = [value for line in (self.highest, self.sizes) for value in line if value is not None]
        return nice(1.08 * max([*seen, self.now or 0.0, self.target or 0.0, 1e-9]))


def panels(told: Recommendation, courses: Sequence[Course]) -> list[Panel]:
    """A panel per course that a recommendation is about."""
    found = []
    for course in courses[:MOST_PANELS]:
        size = next((each for each in told.containers if each.name == course.container), None)
        sums = [each for each in size.requests if each.resource == course.resource] if size else []
        scale = 1.0 if course.resource == CPU else 1.0 / GIB
        whole = 1 / 1000 if course.resource == CPU else 1.0 / GIB
        now = sums[0].now * whole if sums and sums[0].now is not None else None
        note = (
            f"{shown(course.resource, sums[0].target)}: {sums[0].arithmetic.partition(' = ')[2]}"
            if sums
            else "no target yet"
        )
        mean, high = ([None if each is None else each * scale for each in line] for line in (course.avg, course.max))
        unit, target = "cores" if course.resource == CPU else "GiB", sums[0].target * whole if sums else None
        title = f"{course.container}: {course.resource}"
        found.append(Panel(title, unit, course.start, HOUR, mean, high, now, target, note))
    return found


def draw(title: str, below: str, parts: Sequence[Panel]) -> str:
    """The picture as SVG text."""
    height = HEAD + max(len(parts), 1) * (PANEL + GAP) + FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, title, size=15),
        _text(LEFT, 40, below),
    ]
    for index, panel in enumerate(parts):
        lines += _panel(panel, HEAD + 22 + index * (PANEL + GAP))
    if not parts:
        lines.append(_text(LEFT, HEAD + 40, "nothing was seen of it yet"))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(panel: Panel, top: float) -> Iterator[str]:
    high, right = panel.top, WIDTH - RIGHT

    def x(place: float) -> float:
        return LEFT + (right - LEFT) * place / max(len(panel.mean), 1)

    def y(value: float) -> float:
        return top + PANEL - 20 - (PANEL - 20) * min(max(value / high, 0.0), 1.0)

    yield _text(LEFT, top - 6, panel.title, size=13)
    yield _text(LEFT + LETTER * 1.2 * len(panel.title) + 14, top - 6, panel.note[:110])
    if panel.now is not None and panel.target is not None and panel.now > panel.target:
        yield f'<rect x="{LEFT}" y="{y(panel.now):.1f}" width="{right - LEFT}" height="{y(panel.target) - y(panel.now):.1f}" fill="{SPARE}"/>'
    for part in range(5):
        value = high * part / 4
        yield f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{GRID}"/>'
        yield _text(LEFT - 8, y(value) + 4, f"{value:.4g}", anchor="end")
    yield _text(LEFT - 44, top + (PANEL - 20) / 2, panel.unit, turned=True)
    yield from _days(panel, x, top + PANEL)
    for run in _runs(panel.highest):
        peaks = " ".join(f"{x(place + 0.5):.1f},{y(panel.highest[place] or 0):.1f}" for place in run)
        means = " ".join(f"{x(place + 0.5):.1f},{y(panel.mean[place] or 0):.1f}" for place in run)
        back = " ".join(reversed(means.split(" ")))
        yield f'<polygon points="{peaks} {back}" fill="{BAND}"/>'
        yield f'<polyline points="{means}" fill="none" stroke="{MEAN}" stroke-width="1.3"/>'
    for run in _runs(panel.sizes):
        steps = " ".join(
            f"{x(p):.1f},{y(panel.sizes[p] or 0):.1f} {x(p + 1):.1f},{y(panel.sizes[p] or 0):.1f}" for p in run
        )
        yield f'<polyline points="{steps}" fill="none" stroke="{TARGET}" stroke-width="1.6"/>'
    if panel.now is not None and panel.target is not None and y(panel.target) - y(panel.now) > 30:
        back = f"given back: {panel.now - panel.target:.4g} {panel.unit} of each replica"
        yield _text(LEFT + 10, y(panel.now) + 18, back, colour="#8a6d3b")
    yield from _levels(panel, y, right)


def _levels(panel: Panel, place: Callable[[float], float], right: float) -> Iterator[str]:
    labels: list[tuple[float, str, str]] = []
    if panel.now is not None:
        at = place(panel.now)
        yield f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{NOW}" stroke-width="1.6" stroke-dasharray="6 4"/>'
        labels.append((at, f"request now {panel.now:.4g} {panel.unit}", INK))
    if panel.target is not None:
        at = place(panel.target)
        if not panel.sizes:
            yield f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{TARGET}" stroke-width="2.2"/>'
        labels.append((at, f"{'size, now' if panel.sizes else 'target'} {panel.target:.4g} {panel.unit}", TARGET))
    seen = [value for value in panel.highest if value is not None]
    means = [value for value in panel.mean if value is not None]
    if seen and means:
        labels.append((place(max(seen[-24:])), f"hourly highest, {max(seen):.4g} at most", "#5a8fb5"))
        labels.append((place(means[-1]), f"mean, {sum(means) / len(means):.4g}", MEAN))
    last = -math.inf
    for at, label, colour in sorted(labels):
        last = max(at, last + 15)
        yield _text(right + 8, last + 4, label, colour=colour)


def _days(panel: Panel, place: Callable[[float], float], bottom: float) -> Iterator[str]:
    span = panel.end - panel.start
    each = max(1, math.ceil(span / DAY / 10)) * DAY if span > 2 * DAY else 6 * HOUR
    at = math.ceil(panel.start / each) * each
    while at <= panel.end:
        where = place((at - panel.start) / panel.step)
        label = datetime.fromtimestamp(at, UTC).strftime("%b %d" if each >= DAY else "%d. %H:%M")
        yield f'<line x1="{where:.1f}" x2="{where:.1f}" y1="{bottom - 20:.1f}" y2="{bottom - 15:.1f}" stroke="{INK}"/>'
        yield _text(where, bottom - 3, label, anchor="middle")
        at += each


def _runs(values: Sequence[float | None]) -> Iterator[list[int]]:
    for known, places in groupby(range(len(values)), key=lambda place: values[place] is not None):
        if known:
            yield list(places)


def nice(value: float) -> float:
    """The next 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (times * power for times in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if times * power >= value * (1 - 1e-9)), value
    )


def _text(
    x: float, y: float, text: str, *, size: int = 12, colour: str = INK, anchor: str = "start", turned: bool = False
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    anchored = f' text-anchor="{"middle" if turned else anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{anchored}{turn}>{escape(text)}</text>'
