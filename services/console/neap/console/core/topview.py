"""`neap top`: one line per node, folded from usage, headroom and topology. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neap.common.model.advice import Headroom
from neap.common.model.placement import Checkpoint, Placed, Placement, Released, fold
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, RECLAIMED_CPU
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage, completed
from neap.common.units import format_bytes

HEADINGS = ("node", "cpus", "busy", "owners", "guests", "offer", "pods", "memory free", "stalled", "age")


@dataclass
class TopView:
    """The newest of everything, by node."""

    topology: dict[str, NodeTopology] = field(default_factory=dict)
    usage: dict[str, NodeUsage] = field(default_factory=dict)
    full: dict[str, NodeUsage] = field(default_factory=dict)  # the last reports that listed every container
    headroom: dict[str, Headroom] = field(default_factory=dict)
    held: dict[str, dict[str, Placement]] = field(default_factory=dict)

    def see(self, message: Any) -> None:
        """Fold one message."""
        match message:
            case NodeTopology(node=node):
                self.topology[node] = message
            case NodeUsage(node=node):
                if not message.since:
                    self.full[node] = message
                self.usage[node] = completed(message, self.full.get(node)) or message
            case Headroom(node=node):
                self.headroom[node] = message
            case Placed(node=node) | Released(node=node) | Checkpoint(node=node):
                self.held[node] = fold(self.held.get(node, {}), message)

    def rows(self, now: float) -> list[tuple[str, ...]]:
        """One row per node, sorted by name; unknown is "?"."""
        return [self._row(node, now) for node in sorted(self.topology | self.usage, key=_natural)]

    def _row(self, node: str, now: float) -> tuple[str, ...]:
        topology, usage, headroom = self.topology.get(node), self.usage.get(node), self.headroom.get(node)
        guests = {uid for uid, placed in self.held.get(node, {}).items() if placed.workload.qos is QosClass.RECLAIMED}
        busy = {True: 0.0, False: 0.0}
        for container in usage.containers if usage else ():
            busy[container.uid in guests] += container.cpu or 0.0
        stalled = usage.cpu_stall.some10 if usage and usage.cpu_stall else None
        return (
            node,
            f"{topology.capacity.get(CPU, 0) / 1000:.0f}" if topology else "?",
            _cores(usage.cpu if usage else None),
            _cores(busy[False] if usage else None),
            _cores(busy[True] if usage else None),
            _cores(headroom.offer.get(RECLAIMED_CPU, 0) / 1000 if headroom else None)
            + (" stale" if headroom and headroom.stale else ""),
            str(len(self.held.get(node, {}))),
            format_bytes(usage.memory_available) if usage and usage.memory_available is not None else "?",
            f"{stalled:.0%}" if stalled is not None else "?",
            f"{max(0.0, now - usage.at):.0f} s" if usage else "?",
        )


def _cores(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"


def _natural(node: str) -> tuple[str, int, str]:
    head = node.rstrip("0123456789")
    digits = node[len(head) :]
    return head, int(digits) if digits else -1, node
