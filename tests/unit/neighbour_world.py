"""A node on which a guest's memory traffic slows owners down, closed into a loop with the real advisor and evictor.

cpi(owner) = base × (1 + harm × Σ bandwidth of guests on its NUMA node / most) × noise
a guest uses min(demand(t), its quota) cores, and moves `traffic` bytes a second per core
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neap.advisor.core.interference import Interference
from neap.common.contract.catalogue import EVICTION_TOKENS, PLACEMENTS
from neap.common.model.advice import NodeAdvice
from neap.common.model.apart import Apart
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import QosClass
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.runtime.machine import Arrived, Decide, Put, Synced
from neap.common.units import GIB
from neap.evictor.plugins.interference import Settings as Rule
from tests.unit.evictor_world import World
from tests.unit.test_advisor_node import PERIOD, RECLAIMED, Node, a_pod

GB = 1e9
MOST = 100 * GB
Demand = Callable[[float], float]


@dataclass
class Actor:
    """A pod that runs: cores wanted by report number."""

    placement: Placement
    demand: Demand
    traffic: float = 1 * GB  # per core
    cpus: str = "2-15"

    @property
    def uid(self) -> str:
        return self.placement.workload.uid

    @property
    def guest(self) -> bool:
        return self.placement.workload.qos is QosClass.RECLAIMED


def an_owner(uid: str, demand: Demand, cpus: str = "2-7") -> Actor:
    return Actor(a_pod(uid, cores=8), demand, cpus=cpus)


def a_guest(uid: str, demand: Demand, traffic: float = 1 * GB, cpus: str = "8-15") -> Actor:
    return Actor(a_pod(uid, RECLAIMED, cores=4), demand, traffic, cpus)


@dataclass
class Neighbours:
    """See module docstring."""

    actors: list[Actor]
    harm: float = 3.0
    seed: int = 1
    noise: float = 0.05
    quirk: Callable[[float], float] = lambda _: 1.0  # what else makes cycles dear, by report number
    rules: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random, self.number = random.Random(self.seed), 0
        self.node = Node(
            *(one.placement for one in self.actors), interference=Interference(**{"on": True} | self.rules)
        )
        self.evictor = World(node="n", interference=Rule(dry_run=False), off=("reclaimed_overuse",))
        placements = tuple(one.placement for one in self.actors)
        self.evictor.live(
            Arrived(0.0, Checkpoint(at=0, source="s", node="n", placements=placements), seq=1),
            Synced(0.0, PLACEMENTS),
            Synced(0.0, EVICTION_TOKENS),
        )
        self.apart: Apart | None = None
        self.advice: list[NodeAdvice] = []

    def quota(self, uid: str) -> float:
        return next(one.knobs.cpu_max for one in self.node.advice.cgroups if one.target == f"pod/{uid}") or 0.0

    def used(self, one: Actor) -> float:
        wanted = max(0.0, one.demand(self.number))
        return min(wanted, self.quota(one.uid)) if one.guest and self.number > 1 else wanted

    def live(self, reports: int) -> Neighbours:
        for _ in range(reports):
            self.number += 1
            self._report()
        return self

    def _report(self) -> None:
        used = {one.uid: self.used(one) for one in self.actors}
        moved = {one.uid: used[one.uid] * one.traffic * self._jitter() for one in self.actors}
        guests = sum(moved[one.uid] for one in self.actors if one.guest)
        slow = (1 + self.harm * guests / MOST) * self.quirk(self.number)
        at = self.node.at = self.node.at + PERIOD
        report = NodeUsage(
            at=at,
            source="r",
            node="n",
            seq=self.number,
            period=PERIOD,
            cpu=sum(used.values()),
            memory_available=100 * GIB,
            memory_stall=Stall(),
            containers=tuple(
                ContainerUsage(
                    uid=one.uid,
                    container="c",
                    cgroup=f"/k/{one.uid}",
                    cpu=used[one.uid],
                    working_set=GIB,
                    cpu_stall=Stall(),
                    cpuset=one.cpus,
                    bandwidth=moved[one.uid],
                    cpi=(1.0 if one.guest else slow) * self._jitter(),
                )
                for one in self.actors
            ),
        )
        before = self.node.advice
        for said in self.node.hear(report):
            match said:
                case Put(value=Apart() as apart):
                    self.apart = apart
        if self.node.advice is not before:
            self.advice.append(self.node.advice)
            self.evictor.live(Arrived(at, self.node.advice))
        self.evictor.live(Arrived(at, report))

    def _jitter(self) -> float:
        return max(0.1, self.random.gauss(1.0, self.noise))

    @property
    def named(self) -> set[str]:
        return {one.uid for advice in self.advice for one in advice.noisy}

    def lines(self, *what: str) -> list[TrailEntry]:
        return [line for line in self.node.lines if line.what in what]


__all__ = ["GB", "MOST", "Actor", "Decide", "Neighbours", "a_guest", "an_owner"]
