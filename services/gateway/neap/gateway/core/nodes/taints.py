"""Telling other schedulers that a node is short: taints, only where asked for.

    none       no taints; neap's scheduler knows by itself
    neap       neap.io/evicting:NoSchedule while an evictor makes room
    katalyst   node.katalyst.kubewharf.io/MemoryPressure and /CPUPressure, by the rule that closed the node

They keep everybody away who does not tolerate them, owners too: that is what Katalyst's users expect of theirs. Neap's
own scheduler reads them as what they mean (nodes.py). A taint goes when its time is over, whoever said it.
Source: Katalyst tutorials (names); requirements, journeys UJ-8 and UJ-9.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from neap.common.kube.objects import Node, NodeTaint
from neap.common.model.evicting import Evicting
from neap.common.runtime.machine import Instruction
from neap.common.units import Seconds
from neap.gateway.core.acts import TaintNode
from neap.gateway.core.nodes.views import EVICTING, OWN_TAINTS, PRESSURES

Taints: TypeAlias = Literal["none", "neap", "katalyst"]
NO_SCHEDULE: Final = "NoSchedule"


class Tainting:
    """See module docstring."""

    def __init__(self, kind: Taints) -> None:
        self._kind = kind
        self._shown: dict[str, frozenset[str]] = {}  # node -> our taints, where it has some
        self._closed: dict[str, Evicting] = {}
        self._under_way: set[str] = set()

    def see(self, node: Node) -> None:
        """The taints a node has."""
        mine = frozenset(taint.key for taint in node.spec.taints or ()) & OWN_TAINTS
        if mine:
            self._shown[node.metadata.name] = mine
        else:
            self._shown.pop(node.metadata.name, None)

    def forget(self, node: str) -> None:
        """The API has it no more."""
        self._shown.pop(node, None)
        self._closed.pop(node, None)

    def hear(self, said: Evicting) -> None:
        """How a node's evictor stands."""
        if said.closed and self._kind != "none":
            self._closed[said.node] = said
        else:
            self._closed.pop(said.node, None)

    def over(self, node: str) -> None:
        """A change of taints was made, or failed."""
        self._under_way.discard(node)

    def tick(self, at: Seconds) -> list[Instruction]:
        """Whatever differs from what should be there."""
        told: list[Instruction] = []
        for node in sorted({*self._shown, *self._closed} - self._under_way):
            wanted = self._wanted(node, at)
            shown = self._shown.get(node, frozenset())
            put = tuple(NodeTaint(key=key, effect=NO_SCHEDULE) for key in sorted(wanted - shown))
            take = tuple(sorted(shown - wanted)) if self._kind != "none" else ()
            if put or take:
                self._under_way.add(node)
                self._shown[node] = wanted
                told.append(TaintNode(node, put, take))
        return told

    def _wanted(self, node: str, at: Seconds) -> frozenset[str]:
        said = self._closed.get(node)
        rules = [one.rule for one in said.closed if one.until > at] if said is not None else []
        if self._kind == "neap":
            return frozenset({EVICTING} if rules else ())
        memory, cpu = PRESSURES
        return frozenset(cpu if "cpu" in rule else memory if "memory" in rule else EVICTING for rule in rules)
