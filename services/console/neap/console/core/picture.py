"""A machine as a picture: its zones as boxes in boxes, CPUs as cells, devices where they hang. Plain SVG, no library.

Every zone becomes a Box, laid out from the inside: children flow into rows whose count makes the whole about as wide
as a page. CPUs kept for the system are grey and those the kernel isolates are striped; the rest can be given away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

from neap.common.cpuset import parse_cpuset
from neap.common.model.describe import headline, zone_label
from neap.common.model.topology import NodeTopology, Zone, ZoneKind

PAGE: Final = 1.7  # width over height
GAP: Final = 8
HEAD: Final = 22  # room for a label
CELL: Final = (26, 20)
LETTER: Final = 6.7  # width of one, at the size used
INK: Final = "#2b2b2b"
WARNING: Final = "#b3261e"
KEPT: Final = "#c9c9c9"
GIVEN: Final = "#9fd8cf"
STRIPES: Final = "url(#isolated)"
FILLS: Final = {
    ZoneKind.PACKAGE: "#eef3f8",
    ZoneKind.DIE: "#e3ebf3",
    ZoneKind.CLUSTER: "#f3f8f6",
    ZoneKind.NUMA: "#dde8f1",
    ZoneKind.L3: "#fbfcfd",
    ZoneKind.BRIDGE: "#f7f2e6",
    ZoneKind.GPU: "#cfe3a8",
    ZoneKind.NIC: "#f3d9a4",
    ZoneKind.RDMA: "#f0c27b",
    ZoneKind.STORAGE: "#ddd3e8",
}
DEFINITIONS: Final = (
    '<defs><pattern id="isolated" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<rect width="6" height="6" fill="white"/><rect width="3" height="6" fill="{KEPT}"/></pattern></defs>'
)

Drawn: TypeAlias = list[str]
Colour: TypeAlias = Callable[[int], str]


@dataclass(frozen=True)
class Box:
    """Something with a size that can be drawn at a place."""

    width: float
    height: float
    draw: Callable[[float, float], Drawn]


def draw_machine(topology: NodeTopology) -> str:
    """The picture as SVG text."""
    body = _flow([_zone(zone, _colours(topology)) for zone in topology.machine.children] or [_label("no zones")])
    below = [*_legend(topology), *((f"! {text}", WARNING, "") for text in topology.warnings)]
    texts = [headline(topology), *(text for text, _, _ in below)]
    width = max([body.width, *(LETTER * len(text) for text in texts)]) + 2 * GAP
    height = body.height + 2 * HEAD + HEAD * len(below) + GAP
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="sans-serif" font-size="12">'
        ),
        DEFINITIONS,
        f'<rect width="100%" height="100%" fill="white"/>{_text(GAP, HEAD - 5, headline(topology), size=14)}',
        *body.draw(GAP, HEAD + GAP),
    ]
    for row, (text, colour, fill) in enumerate(below):
        y = body.height + HEAD + GAP + HEAD * (row + 1)
        lines += [_rect(GAP, y - 11, 14, 14, fill)] if fill else []
        lines.append(_text(GAP + (20 if fill else 0), y, text, colour=colour))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _colours(topology: NodeTopology) -> Colour:
    isolated = parse_cpuset(topology.machine.attributes.get("isolated", ""))
    kept = parse_cpuset(topology.system_cpus)
    return lambda cpu: STRIPES if cpu in isolated else KEPT if cpu in kept else GIVEN


def _legend(topology: NodeTopology) -> list[tuple[str, str, str]]:
    rows = [("CPUs that pods may get", INK, GIVEN), ("CPUs kept for the system, never lent", INK, KEPT)]
    if isolated := topology.machine.attributes.get("isolated"):
        rows.append((f"CPUs isolated by the kernel ({isolated})", INK, STRIPES))
    return rows


def _zone(zone: Zone, colour: Colour) -> Box:
    cores = [_cells(sorted(parse_cpuset(core.cpus)), colour) for core in zone.children if core.kind is ZoneKind.CORE]
    inner = [_zone(child, colour) for child in zone.children if child.kind is not ZoneKind.CORE]
    if not cores and not inner and zone.cpus:  # a machine whose cores nobody knows
        cores = [_cells([cpu], colour) for cpu in sorted(parse_cpuset(zone.cpus))]
    parts = ([_flow(cores, gap=4)] if cores else []) + inner
    label = zone_label(zone, with_cpus=False)
    return _framed(label, FILLS.get(zone.kind, "white"), _flow(parts) if parts else None, hint=zone_label(zone))


def _framed(label: str, fill: str, content: Box | None, *, hint: str) -> Box:
    """A labelled frame around something, or just a labelled plate; `hint` shows under the pointer."""
    width = max(content.width if content else 0, LETTER * len(label)) + 2 * GAP
    height = HEAD + (content.height + GAP if content else 4)

    def draw(x: float, y: float) -> Drawn:
        lines = [_rect(x, y, width, height, fill, hint), _text(x + GAP, y + 16, label)]
        return lines + (content.draw(x + GAP, y + HEAD) if content else [])

    return Box(width, height, draw)


def _cells(cpus: Sequence[int], colour: Colour) -> Box:
    """One core: its threads side by side."""
    wide, high = CELL

    def draw(x: float, y: float) -> Drawn:
        lines = []
        for place, cpu in enumerate(cpus):
            lines.append(_rect(x + place * wide, y, wide, high, colour(cpu)))
            lines.append(_text(x + (place + 0.5) * wide, y + 14, str(cpu), anchor="middle", size=10))
        return lines

    return Box(wide * len(cpus), high, draw)


def _label(text: str) -> Box:
    return Box(LETTER * len(text), HEAD, lambda x, y: [_text(x, y + 14, text)])


def _flow(boxes: Sequence[Box], gap: float = GAP) -> Box:
    """Rows of boxes, as many in each as makes the whole look most like a page."""
    layouts = (_rows(boxes, columns) for columns in range(1, len(boxes) + 1))
    return min((_stack(rows, gap) for rows in layouts), key=lambda box: abs(box.width / box.height - PAGE))


def _rows(boxes: Sequence[Box], columns: int) -> list[Sequence[Box]]:
    return [boxes[start : start + columns] for start in range(0, len(boxes), columns)]


def _stack(rows: Sequence[Sequence[Box]], gap: float) -> Box:
    heights = [max(box.height for box in row) for row in rows]
    tops = [0.0, *itertools.accumulate(height + gap for height in heights)]

    def draw(x: float, y: float) -> Drawn:
        lines: Drawn = []
        for row, top in zip(rows, tops, strict=False):
            left = x
            for box in row:
                lines += box.draw(left, y + top)
                left += box.width + gap
        return lines

    return Box(max(_width(row, gap) for row in rows), tops[-1] - gap, draw)


def _width(row: Iterable[Box], gap: float) -> float:
    return sum(box.width + gap for box in row) - gap


def _rect(x: float, y: float, width: float, height: float, fill: str, hint: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"'
    return f'<rect {place} fill="{fill}" stroke="{INK}" stroke-width="0.6"><title>{escape(hint)}</title></rect>'


def _text(x: float, y: float, text: str, *, colour: str = INK, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
    )
