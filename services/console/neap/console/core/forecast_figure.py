"""A forecast as a picture: what was used, what was expected a day before, what is expected now, with bands. Plain SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from neap.common.model.forecast import Forecast
from neap.common.units import DAY, HOUR, Seconds
from neap.console.core.foretold import amount, moment
from neap.foresight.series import Series

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 430, 84, 40, 92, 46
INK, GRID = "#333333", "#e2e2e2"
USED, EXPECTED, WIDE, NARROW = "#1f4e79", "#d1495b", "#fbe3e6", "#f3bcc4"


class Frame:
    """Where times and values lie on the page."""

    def __init__(self, begin: Seconds, end: Seconds, highest: float) -> None:
        self.begin, self.end, self.highest = begin, end, highest

    def x(self, at: Seconds) -> float:
        """Across."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - self.begin) / (self.end - self.begin)

    def y(self, value: float) -> float:
        """Down."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(value, 0.0) / self.highest, 1.0))


def draw(forecasts: Sequence[Forecast], used: Series | None, *, title: str) -> str:
    """The picture as SVG text. The last of the forecasts is that of now; those before it were over when they were made."""
    now = forecasts[-1]
    begin = min([told.start for told in forecasts] + ([used.start] if used is not None and len(used) else []))
    end = now.start + len(now.values) * now.step
    seen = [value for value in used.values.tolist() if math.isfinite(value)] if used is not None else []
    tops = [value for told in forecasts for value in (*told.p90, *told.values)]
    frame = Frame(begin, end, 1.08 * max([*seen, *tops, 1e-12]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{escape(title)}</text>',
        f'<text x="{LEFT}" y="43" fill="{INK}">{escape(_judgement(now))}</text>',
        *_legend(used is not None),
        *_grid(frame, now.resource),
    ]
    for told in forecasts:
        parts += _band(frame, told)
    if used is not None:
        parts += _line(frame, used.start, used.step, used.values.tolist(), USED, 1.3)
    for told in forecasts:
        parts += _line(frame, told.start, told.step, told.values, EXPECTED, 1.8)
        x = frame.x(told.start)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{INK}" stroke-dasharray="3 3"/>'
        )
        label = "now" if told is now else "expected from here"
        parts.append(f'<text x="{x + 4:.1f}" y="{TOP - 5}" fill="{INK}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _judgement(forecast: Forecast) -> str:
    if not forecast.cards:
        return "not judged"
    card = forecast.cards[0]
    rivals = [(card.seasonal_mape, "as yesterday"), (card.naive_mape, "it stays as it is")]
    beside = ", ".join(f"{error:.1%} ({who})" for error, who in rivals if error is not None)
    state = "" if card.on else "Switched off. "
    return f"{state}Mean error on this series' past: {card.mape:.1%}" + (f", beside {beside}" if beside else "")


def _grid(frame: Frame, resource: str) -> list[str]:
    parts = []
    rough = 10 ** math.floor(math.log10(frame.highest / 5))
    step = next(rough * factor for factor in (1, 2, 2.5, 5, 10) if rough * factor * 5 >= frame.highest * 0.9)
    for part in range(int(frame.highest / step) + 1):
        value = step * part
        y = frame.y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        text = escape(amount(value, resource))
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{text}</text>')
    apart = next(
        (length for length in (HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY) if (frame.end - frame.begin) / length <= 13),
        DAY * math.ceil((frame.end - frame.begin) / DAY / 12),
    )
    at = math.ceil(frame.begin / apart) * apart
    while at <= frame.end:
        x = frame.x(at)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" stroke="{INK}"/>'
        )
        day, clock = moment(at).rsplit(" ", 1)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle" fill="{INK}">{clock}</text>')
        if at % DAY < apart:
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 33}" text-anchor="middle" fill="{INK}">{day}</text>')
        at += apart
    return parts


def _band(frame: Frame, told: Forecast) -> list[str]:
    parts = []
    for high, low, fill in ((told.p99, told.p90, WIDE), (told.p90, told.values, NARROW)):
        if not high:
            continue
        above = [
            f"{frame.x(told.start + (i + 0.5) * told.step):.1f},{frame.y(value):.1f}" for i, value in enumerate(high)
        ]
        below = [
            f"{frame.x(told.start + (i + 0.5) * told.step):.1f},{frame.y(value):.1f}" for i, value in enumerate(low)
        ]
        parts.append(f'<polygon points="{" ".join([*above, *below[::-1]])}" fill="{fill}"/>')
    return parts


def _line(frame: Frame, start: Seconds, step: Seconds, values: Sequence[float], colour: str, wide: float) -> list[str]:
    """A line with holes where nothing is known."""
    runs: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if math.isfinite(value):
            runs[-1].append(f"{frame.x(start + (place + 0.5) * step):.1f},{frame.y(value):.1f}")
        elif runs[-1]:
            runs.append([])
    shape = f'fill="none" stroke="{colour}" stroke-width="{wide}" stroke-linejoin="round"'
    return [f'<polyline points="{" ".join(run)}" {shape}/>' for run in runs if run]


def _legend(has_used: bool) -> list[str]:
    items = [(EXPECTED, "expected", 100), (NARROW, "up to here 9 of 10 values", 190), (WIDE, "99 of 100", 100)]
    parts, x = [], float(LEFT)
    for colour, text, width in [*([(USED, "used", 70)] if has_used else []), *items]:
        parts.append(f'<rect x="{x}" y="56" width="14" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="65" fill="{INK}">{text}</text>')
        x += width
    return parts
