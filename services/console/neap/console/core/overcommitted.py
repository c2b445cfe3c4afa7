"""`neap overcommit`: what nodes may sell, how that came about, and whom a lower ratio would leave on what is not there.

n9   cpu  set 1.50  foreseen 1.42  in force 1.40  peak 18.2  asked 30.0  of 32.0 cores   1.40 = min(...)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from neap.common.model.node import NodeObject
from neap.common.model.overcommit import in_the_way, owned_cpu, sold
from neap.common.model.placement import Placement
from neap.common.model.policy import pool_of
from neap.common.model.ratios import NodeRatios
from neap.common.model.resource import CPU, MEMORY, Resources
from neap.common.model.topology import NodeTopology
from neap.common.units import GIB, Ratio
from neap.console.core.columns import columns

UNITS: Final[Mapping[str, tuple[float, str]]] = {CPU: (1000.0, "cores"), MEMORY: (float(GIB), "GiB")}
SHOWN: Final = 10  # pods named of one node


@dataclass
class NodeSale:
    """One node, as far as it was told."""

    name: str
    topology: NodeTopology | None = None
    object: NodeObject | None = None
    ratios: NodeRatios | None = None
    held: dict[str, Placement] = field(default_factory=dict)

    @property
    def pool(self) -> str:
        """The pool of nodes it is in."""
        labels = self.topology.labels if self.topology is not None else {}
        return pool_of(self.object.labels if self.object is not None else {}, labels)

    @property
    def original(self) -> Resources:
        """What it has, by kind."""
        machine = self.topology.allocatable if self.topology is not None else {}
        return machine | (self.object.original if self.object is not None else {})

    @property
    def is_pinned(self) -> bool:
        """Whether its kubelet gives whole CPUs away."""
        return self.object is not None and self.object.pinned_cpu


def refusal(node: NodeSale, ratios: Mapping[str, Ratio]) -> str:
    """Why a node cannot do with such ratios: "n9: Σrequests 47.0 > 44.8 = 32 x 1.4; pods: a, b"; empty: it can.

    Source: story S9; requirements 001-08.
    """
    placements = list(node.held.values())
    original = {kind: node.original[kind] for kind in ratios if kind in node.original}
    said = []
    for kind, pods in in_the_way(original, ratios, placements, pinned=node.is_pinned).items():
        unit, name = UNITS.get(kind, (1.0, kind))
        asked = sum(placement.charged.get(kind, 0) for placement in placements)
        owned = owned_cpu(placements, pinned=node.is_pinned) if kind == CPU else 0
        room, limit = original[kind] - owned, sold(original[kind], ratios[kind], owned)
        product = f"{room / unit:g} × {max(1.0, ratios[kind]):g}"
        if owned:
            product = f"({original[kind] / unit:g} − {owned / unit:g}) × {ratios[kind]:g} + {owned / unit:g}"
        named = ", ".join(pods[:SHOWN]) + f" and {len(pods) - SHOWN} more" * (len(pods) > SHOWN)
        of = "" if kind == CPU else f" {name}"
        said.append(f"{node.name}: Σrequests {asked / unit:.1f} > {limit / unit:.1f}{of} = {product}; pods: {named}")
    return "\n".join(said)


def accepted(node: NodeSale, ratios: Mapping[str, Ratio]) -> list[str]:
    """What a node will do with ratios it can do with."""
    known = {kind.resource: kind for kind in node.ratios.kinds} if node.ratios is not None else {}
    said = []
    for kind, ratio in ratios.items():
        unit, name = UNITS.get(kind, (1.0, kind))
        if kind not in node.original:
            said.append(f"{node.name}: has no {kind}")
            continue
        placements = list(node.held.values())
        owned = owned_cpu(placements, pinned=node.is_pinned) if kind == CPU else 0
        limit = sold(node.original[kind], ratio, owned) / unit
        line = f"{node.name}: {kind} up to {limit:.1f} {name} = {node.original[kind] / unit:g} × {ratio:g}"
        told = known.get(kind)
        if told is not None and told.peak:
            line += f"; predicted peak {told.peak / unit:.1f}, {told.foreseen:.2f} foreseen"
        else:
            line += "; its peak is not known yet: dynamic nodes wait for two hours of reports"
        lower = node.object.ratios.get(kind) if node.object is not None else None
        if lower is not None and lower < ratio:
            line += f"; its own object says {lower:g}, which is lower and counts"
        said.append(line)
    return said


def table(nodes: Iterable[NodeSale]) -> str:
    """All that was said of over-commitment, a line per node and kind."""
    head = ("NODE", "KIND", "SET", "FORESEEN", "IN FORCE", "PEAK", "ASKED", "HAS", "")
    rows = [head, *(row for node in nodes for row in _rows(node))]
    if len(rows) == 1:
        return "no node sells more than it has: nobody names a ratio above 1 (neap overcommit set cpu=1.5)"
    return "\n".join(columns(rows))


def _rows(node: NodeSale) -> Sequence[tuple[str, ...]]:
    told = {kind.resource: kind for kind in node.ratios.kinds} if node.ratios is not None else {}
    rows = []
    for kind in told.values():
        unit, name = UNITS.get(kind.resource, (1.0, kind.resource))
        peak = f"{kind.peak / unit:.1f}" if kind.peak else "unknown"
        rows.append((
            node.name, kind.resource, f"{kind.set:.2f}", f"{kind.foreseen:.2f}", f"{kind.ratio:.2f}", peak,
            f"{kind.requested / unit:.1f}", f"{kind.original / unit:.1f} {name}", kind.arithmetic,
        ))  # fmt: skip
    for kind_name, ratio in sorted(node.object.ratios.items()) if node.object is not None else ():
        if kind_name not in told and ratio > 1:
            only = "as its object says; nothing is foreseen"
            rows.append((node.name, kind_name, f"{ratio:.2f}", "unknown", f"{ratio:.2f}", "unknown", "", "", only))
    if node.ratios is not None and node.ratios.lowered:
        rows.append((node.name, "", "", "", "", "", "", "", f"lowered: {node.ratios.lowered}"))
    return rows


def as_json(nodes: Iterable[NodeSale]) -> list[Any]:
    """The same for programs."""
    return [msgspec.to_builtins(node.ratios) for node in nodes if node.ratios is not None]
