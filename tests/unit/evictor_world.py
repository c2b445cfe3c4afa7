"""Builders for the evictor's tests, and one evictor on a bus that answers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from neap.common.contract.catalogue import EVICTION_TOKENS, EVICTIONS, PLACEMENTS
from neap.common.model.advice import Headroom
from neap.common.model.evicting import Evicting, Token
from neap.common.model.lifecycle import Eviction
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Done, Emit, Event, Failed, Put, Synced
from neap.common.runtime.plugins import load
from neap.common.units import GIB, MIB
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.memory import Memory
from neap.evictor.core.rule import Rule
from neap.evictor.core.story import Say
from neap.evictor.settings import Settings

RULES = load("neap.evictor.plugins", Rule)


def a_guest(uid: str, cores: float = 4.0, **fields: Any) -> Workload:
    memory = fields.pop("memory", GIB)
    requests = {RECLAIMED_CPU: int(cores * 1000), RECLAIMED_MEMORY: memory}
    given = {"qos": QosClass.RECLAIMED, "namespace": "batch", "name": uid} | fields
    return Workload(uid=uid, containers=(Container(name="c", requests=requests),), **given)


def placed(workload: Workload, at: float = 0.0) -> Placed:
    placement = Placement(workload=workload, charged=workload.requests)
    return Placed(at=at, source="scheduler", node="n1", placement=placement, reason="fits")


def released(uid: str, at: float) -> Released:
    return Released(at=at, source="scheduler", node="n1", uid=uid, reason="evicted")


def lends(cores: float, at: float, stale: str = "") -> Headroom:
    return Headroom(
        at=at, source="advisor", node="n1", offer={RECLAIMED_CPU: int(cores * 1000)}, arithmetic={}, stale=stale
    )


def shows(uid: str, cpu: float = 1.0, working_set: int = 100 * MIB, stalled: float = 0.0) -> ContainerUsage:
    stall = Stall(some60=stalled)
    return ContainerUsage(uid=uid, container="c", cgroup=f"/k/{uid}", cpu=cpu, working_set=working_set, cpu_stall=stall)


def a_report(at: float, *containers: ContainerUsage, **fields: Any) -> NodeUsage:
    given: dict[str, Any] = {"memory_available": 8 * GIB, "memory_stall": Stall(), "period": 1.0} | fields
    return NodeUsage(at=at, source="reporter", node="n1", seq=int(at), containers=containers, **given)


class TokenBus:
    """Slots of the shared budgets, as the bus keeps them: written only over the revision that was seen."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[int, Token]] = {}
        self.revision = 0
        self.away = False

    def put(self, put: Put, at: float) -> Event:
        """The answer to one attempt."""
        if self.away:
            return Failed(at, put, "no connection", may_retry=True)
        if self.stored.get(put.key.subject, (0, None))[0] != put.revision:
            return Failed(at, put, "no longer at this revision", may_retry=False)
        self.revision += 1
        self.stored[put.key.subject] = (self.revision, put.value)
        return Done(at, put, self.revision)


class World:
    """One evictor and everything it said."""

    def __init__(
        self,
        *workloads: Workload,
        bus: TokenBus | None = None,
        rules: Mapping[str, Rule] = RULES,
        node: str = "n1",
        remembered: Memory | None = None,
        **settings: Any,
    ) -> None:
        self.node = node
        self.machine = EvictorMachine(Settings(node=node, **settings), rules)
        if remembered is not None:
            self.machine.recall(remembered, remembered.heard or 0.0)
        self.bus = bus or TokenBus()
        self.closings: list[Evicting] = []
        self.said: list[str] = []
        self.commands: list[Eviction] = []
        self.ids: list[str] = []
        self.trail: list[TrailEntry] = []
        self.counted: dict[tuple[str, str], float] = {}
        self.seq = 0
        for at, workload in enumerate(workloads):
            self.ledger(placed(workload, float(at)))
        self.live(Synced(0.0, PLACEMENTS), Synced(0.0, EVICTION_TOKENS))

    def live(self, *events: Event) -> Sequence[Eviction]:
        before = len(self.commands)
        waiting = list(events)
        while waiting:
            event, answers = waiting.pop(0), list[Event]()
            for instruction in self.machine.handle(event):
                match instruction:
                    case Put(value=Token()):
                        answers.append(self.bus.put(instruction, event.at))
                    case Put(value=Evicting() as closing):
                        self.closings.append(closing)
                    case Say(event=what, why=why):
                        self.said.append(f"{what}: {why}")
                    case Emit(to=to, message=Eviction() as command, id=id):
                        assert to == EVICTIONS.at(node=self.node)
                        self.commands.append(msgspec.json.decode(msgspec.json.encode(command), type=Eviction))
                        self.ids.append(id)
                    case Decide(entry=entry):
                        self.trail.append(msgspec.json.decode(msgspec.json.encode(entry), type=TrailEntry))
                    case Count(metric=metric, by=by, labels=labels):
                        key = (metric.removeprefix("neap_evictor_"), next(iter(labels.values()), ""))
                        self.counted[key] = self.counted.get(key, 0) + by
            waiting = answers + waiting
            self.machine.validate()
        return self.commands[before:]

    def ledger(self, entry: Any) -> None:
        self.seq += 1
        self.live(Arrived(entry.at, entry, seq=self.seq))

    def report(self, at: float, *containers: ContainerUsage, late: float = 0.0, **fields: Any) -> Sequence[Eviction]:
        return self.live(Arrived(at + late, a_report(at, *containers, **fields)))

    def lends(self, cores: float, at: float, stale: str = "") -> World:
        self.live(Arrived(at, lends(cores, at, stale)))
        return self

    def oversold(self, cores: float, first: int, last: int, **fields: Any) -> Sequence[Eviction]:
        """Reports first..last with a fresh offer before each."""
        before = len(self.commands)
        for at in range(first, last + 1):
            self.lends(cores, float(at))
            self.report(float(at), **fields)
        return self.commands[before:]


def uids(commands: Sequence[Eviction]) -> list[str]:
    return [command.uid for command in commands]
