"""Allocation over arrival as a picture: ours on openb's default list against what was published. Plain SVG.

python -m tests.bench.openb_figure        (a minute; writes docs/figures/allocation.svg)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from neap.scheduler.core.nodes.view import Numbers
from tests.bench.openb import mean
from tests.bench.openb_trace import SEEDS, published

OUT: Final = Path(__file__).resolve().parents[2] / "docs" / "figures" / "allocation.svg"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 380, 56, 150, 44, 40
FIRST, LAST, LOW, HIGH = 80, 130, 80.0, 98.0  # percent arrived, percent allocated
INK, GRID = "#333333", "#dddddd"
COLOURS: Final = {"neap": "#d1495b", "FGD": "#1f4e79", "BestFit": "#4fb0a5", "GpuPacking": "#8a8a8a", "DotProd": "#b9a44c",
                  "Random": "#c0c0c0"}  # fmt: skip


def draw(curves: Mapping[str, Numbers], *, title: str) -> str:
    """Curves by arrived percent, the best one on top of the legend."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{title}</text>',
    ]
    for level in range(int(LOW), int(HIGH), 5):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(level):.1f}" y2="{_y(level):.1f}" stroke="{GRID}"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{_y(level) + 4:.1f}" text-anchor="end" fill="{INK}">{level} %</text>')
    parts += [
        f'<text x="{_x(arrived):.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="{INK}">{arrived} %</text>'
        for arrived in range(FIRST, LAST + 1, 10)
    ]
    for place, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{_x(i):.1f},{_y(max(LOW, curve[i])):.1f}" for i in range(FIRST, LAST + 1))
        y, x = TOP + 14 + 22 * place, WIDTH - RIGHT + 14
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="{INK}">{name} {curve[LAST]:.1f} %</text>')
    parts.append(f'<text x="{WIDTH - RIGHT + 26}" y="{HEIGHT - 16}" fill="{INK}">of all cards asked</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(arrived: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (arrived - FIRST) / (LAST - FIRST)


def _y(percent: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (percent - LOW) / (HIGH - LOW))


def write(ours: Numbers) -> None:
    """The figure, from our curve."""
    others = {name: published()["default", name, "allocation_pct"] for name in COLOURS if name != "neap"}
    title = f"openb, default list: cards allocated while pods arrive (mean of {len(SEEDS)} seeds; others as published)"
    OUT.write_text(draw({"neap": ours, **others}, title=title))


if __name__ == "__main__":
    write(mean("default", "ours").allocated)
