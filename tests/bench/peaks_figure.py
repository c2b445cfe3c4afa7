"""Peaks as a picture: violations over savings, ours as a curve over its margin, the published ones as points. SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.foresight.peaking import Outcome

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 420, 64, 40, 52, 56
LOW, HIGH, MOST = 58.0, 74.6, 22.0  # percent saved, percent violated
INK, GRID, OURS, THEIRS = "#333333", "#dddddd", "#d1495b", "#1f4e79"
TITLE: Final = (
    "Predicted peaks of 7 hosts with 20 VMs each: how often too low, over what they save (right and down is better)"
)
NAMES: Final = {
    "ns5": "mean + 5 σ", "ns3": "mean + 3 σ", "rc99": "Σ own p99", "rc95": "Σ own p95", "max5_99": "max(5 σ, p99)",
}  # fmt: skip
PLACES: Final = {"ns5": ("middle", 0, -14), "rc99": ("middle", 0, -38), "max5_99": ("end", -10, 4)}  # of the labels


def draw(curve: Mapping[float, Outcome], rivals: Mapping[str, Outcome], named: Sequence[float]) -> str:
    """One dot per predictor; whatever is right of a dot and below it, is better in both."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{TITLE}</text>',
        *_grid(),
    ]
    seen = [(found.savings, found.violation) for found in curve.values() if found.violation <= MOST]
    line = " ".join(f"{_x(savings):.1f},{_y(violation):.1f}" for savings, violation in sorted(seen) if savings >= LOW)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{OURS}" stroke-width="2.5"/>')
    for margin, found in curve.items():
        if any(abs(margin - one) < 1e-6 for one in named):
            x, y = _x(found.savings), _y(found.violation)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{OURS}"/>')
            parts.append(f'<text x="{x + 9:.1f}" y="{y + 14:.1f}" fill="{OURS}">margin {margin:g}</text>')
    for name, found in rivals.items():
        if found.savings >= LOW:
            x, y = _x(found.savings), _y(found.violation)
            told = f"{NAMES[name]}  {found.violation:.1f} % / {found.savings:.1f} %"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{THEIRS}"/>')
            anchor, right, down = PLACES.get(name, ("end", -10, -8))
            at = f'x="{x + right:.1f}" y="{y + down:.1f}" text-anchor="{anchor}"'
            parts.append(f'<text {at} fill="{THEIRS}">{told}</text>')
    legend = ((OURS, "neap (ranges), over its margin"), (THEIRS, "published predictors, as they are told to be used"))
    for place, (colour, text) in enumerate(legend):
        y = TOP + 16 + 20 * place
        parts.append(f'<rect x="{LEFT + 14}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{y}" fill="{INK}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid() -> list[str]:
    parts = []
    for level in range(0, int(MOST) + 1, 5):
        y = _y(level)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{level} %</text>')
    for saved in range(int(LOW), int(HIGH) + 1, 2):
        x = _x(saved)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{INK}">{saved} %</text>')
    x = _x(74.28)
    parts.append(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{INK}" stroke-dasharray="5 4"/>'
    )
    parts.append(f'<text x="{x - 6:.1f}" y="{TOP + 12}" text-anchor="end" fill="{INK}">the future known: 74.3 %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle" fill="{INK}">saved, of the sum of all limits</text>'
    )
    parts.append(
        f'<text x="{LEFT}" y="{TOP - 8}" fill="{INK}">predictions below the true peak of the next two hours</text>'
    )
    return parts


def _x(savings: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (savings - LOW) / (HIGH - LOW)


def _y(violation: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - violation / MOST)
