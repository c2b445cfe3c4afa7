"""A pool of nodes lived through on paper: recorded pods come and go, nodes drain, whoever finds no node waits. Pure.

One step is 15 minutes. Within it: pods come and go, owners leave draining nodes as their budget lets them (a tenth of a
service at once, at least one pod), who waits is placed (the largest first, on the emptiest node), the tide's pass is
made. Guests leave a node within a step. Where pods really ran plays no part: they are placed anew. Memory is not in the
export and not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.tide import Side, TideNode, Turning
from neap.common.units import MINUTE, MilliCores, Seconds
from neap.foresight.tide import step
from neap.foresight.tide_demand import Demand
from neap.foresight.tide_room import Ask
from neap.foresight.tide_rule import Node, Plan, Rule

STEP: Final[Seconds] = 15 * MINUTE
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Pods:
    """Equal pods of each kind: what one asks (milli-cores), and how many there are at every step."""

    asks: Whole
    counts: Whole  # shape (steps, kinds)

    @property
    def asked(self) -> Whole:
        """Milli-cores at every step."""
        return np.asarray(self.counts @ self.asks)


@dataclass
class Pool:
    """See module docstring."""

    cpu: Sequence[MilliCores]
    names: Sequence[str]
    pods: Pods
    nodes: list[TideNode] = field(init=False)
    on: Whole = field(init=False)  # pods, a row per node, a column per kind
    waiting: Whole = field(init=False)
    lingering: Whole = field(init=False)  # 1: guests of this step are still there

    def __post_init__(self) -> None:
        self.nodes = [TideNode(node=name, side=Side.ONLINE) for name in self.names]
        self.on = np.zeros((len(self.names), len(self.pods.asks)), dtype=np.int64)
        self.waiting = np.zeros(len(self.pods.asks), dtype=np.int64)
        self.lingering = np.zeros(len(self.names), dtype=np.int64)
        self._cpu = np.array(self.cpu, dtype=np.int64)

    def follow(self, place: int) -> int:
        """The pods of a step; how many find no node."""
        wanted = self.pods.counts[place]
        for kind in np.flatnonzero(wanted != self.on.sum(axis=0) + self.waiting).tolist():
            self._resize(kind, int(wanted[kind]))
        self._leave(wanted)
        self._place()
        return int(self.waiting.sum())

    def asks(self) -> list[Ask]:
        """Of who waits."""
        return [Ask(int(self.pods.asks[kind]), 0, int(self.waiting[kind])) for kind in np.flatnonzero(self.waiting)]

    def turn(self, foreseen: Demand | str, rule: Rule, at: Seconds) -> Plan:
        """One pass of the tide."""
        kinds = [int(ask) for ask in self.pods.asks]
        found = []
        for state, cpu, row, lingers in zip(
            self.nodes, self.cpu, self.on.tolist(), self.lingering.tolist(), strict=True
        ):
            online = tuple(Ask(ask, 0, count) for ask, count in zip(kinds, row, strict=True) if count)
            offline = state.side is Side.OFFLINE and state.turning is Turning.STEADY
            found.append(Node(state, cpu, 0, online, guests=1 if offline or lingers else 0))
        plan = step(found, foreseen, self.asks(), rule, at)
        before = {state.node: state for state in self.nodes}
        states = {state.node: state for state in plan.nodes}
        self.nodes = [states[name] for name in self.names]
        came_back = [before[n.node].side is Side.OFFLINE and n.side is Side.ONLINE for n in self.nodes]
        was_guests = [before[n.node].turning is Turning.STEADY for n in self.nodes]
        self.lingering = np.array([int(back and was) for back, was in zip(came_back, was_guests, strict=True)])
        return plan

    def _resize(self, kind: int, wanted: int) -> None:
        have = int(self.on[:, kind].sum() + self.waiting[kind])
        if wanted >= have:
            self.waiting[kind] += wanted - have
            return
        spared = min(int(self.waiting[kind]), have - wanted)
        self.waiting[kind] -= spared
        for _ in range(have - wanted - spared):  # from where most of its kind are
            self.on[int(self.on[:, kind].argmax()), kind] -= 1

    def _leave(self, wanted: Whole) -> None:
        draining = [
            place
            for place, node in enumerate(self.nodes)
            if node.side is Side.OFFLINE and node.turning is not Turning.STEADY and self.on[place].any()
        ]
        allowed = np.maximum(1, wanted // 10) - self.waiting
        for place in draining:
            leaving = np.minimum(self.on[place], np.maximum(allowed, 0))
            allowed -= leaving
            self.on[place] -= leaving
            self.waiting += leaving

    def _place(self) -> None:
        free = self._cpu - self.on @ self.pods.asks
        steady = [node.side is Side.ONLINE and node.turning is Turning.STEADY for node in self.nodes]
        online = np.flatnonzero(steady)
        for kind in sorted(np.flatnonzero(self.waiting).tolist(), key=lambda one: -int(self.pods.asks[one])):
            asks = int(self.pods.asks[kind])
            while self.waiting[kind] and len(fits := online[free[online] >= asks]):
                batch = fits[np.argsort(-free[fits], kind="stable")][
                    : max(1, min(int(self.waiting[kind]), len(fits) // 4))
                ]
                self.on[batch, kind] += 1
                free[batch] -= asks
                self.waiting[kind] -= len(batch)
