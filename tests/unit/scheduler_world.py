"""Builders for the scheduler's tests, and a small model of the streams it lives on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import NODES, PLACEMENTS, PROFILES, TIDES, TOPOLOGY, WORKLOAD
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Started, Submitted
from neap.common.model.placement import LedgerEntry, Placed, Placement, fold
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Append, Arrived, Decide, Done, Emit, Event, Instruction, Synced, Tick
from neap.common.units import GIB
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.flow.machine import SchedulerMachine
from neap.scheduler.plugins import (
    allocation,
    device_affinity,
    evicting,
    fit,
    gpu_share,
    load_aware,
    node_selector,
    numa,
    overcommit,
    profile_rating,
    tide,
)
from neap.scheduler.settings import Settings


def policies(*names: str) -> list[Policy]:
    modules = {
        "node_selector": node_selector,
        "fit": fit,
        "device_affinity": device_affinity,
        "gpu_share": gpu_share,
        "load_aware": load_aware,
        "allocation": allocation,
    }
    more = {
        "numa": numa,
        "profile_rating": profile_rating,
        "overcommit": overcommit,
        "evicting": evicting,
        "tide": tide,
    }  # where named
    return [Policy(name, (modules | more)[name].PLUGIN) for name in names or modules]


def a_card(index: int, memory: int = 16000, model: str = "T4") -> Card:
    return Card(index=index, uuid=f"GPU-{index}", model=model, memory_mib=memory)


def a_node(
    name: str = "n1",
    *,
    cores: float = 8,
    gib: int = 32,
    cards: int = 0,
    model: str = "T4",
    at: float = 0.0,
    **labels: str,
) -> NodeTopology:
    amounts = {CPU: int(cores * 1000), MEMORY: gib * GIB}
    return NodeTopology(
        at=at, source="reporter", node=name, machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(),
        cards=tuple(a_card(i, model=model) for i in range(cards)), capacity=amounts, allocatable=amounts, labels=labels,
    )  # fmt: skip


def a_usage(
    node: str = "n1",
    *,
    at: float = 1.0,
    cpu: float | None = 0.0,
    free: int | None = 32 * GIB,
    period: float = 1.0,
    containers: dict[str, float] | None = None,
) -> NodeUsage:
    seen = tuple(
        ContainerUsage(uid=uid, container=uid, cgroup=uid, cpu=used) for uid, used in (containers or {}).items()
    )
    return NodeUsage(
        at=at, source="reporter", node=node, seq=1, period=period, cpu=cpu, memory_available=free, containers=seen
    )


def an_offer(node: str = "n1", *, at: float = 0.0, cores: float = 4) -> Headroom:
    return Headroom(at=at, source="advisor", node=node, offer={RECLAIMED_CPU: int(cores * 1000)}, arithmetic={})


def an_owner(
    uid: str = "u1", *, cores: float = 1, gib: int = 1, gpu: tuple[int, int] | None = None, **more: Any
) -> Workload:
    requests = {CPU: int(cores * 1000), MEMORY: gib * GIB}
    if gpu:
        requests |= {GPU_CORE: gpu[0]} | ({GPU_MEMORY: gpu[1]} if gpu[1] else {})
    return Workload(
        **{
            "uid": uid,
            "namespace": "shop",
            "name": uid,
            "qos": QosClass.SHARED,
            "containers": (Container(name="main", requests=requests),),
        }
        | more
    )


def a_guest(uid: str = "g1", *, cores: float = 1, **more: Any) -> Workload:
    container = Container(name="main", requests={RECLAIMED_CPU: int(cores * 1000)})
    return Workload(
        **{"uid": uid, "namespace": "batch", "name": uid, "qos": QosClass.RECLAIMED, "containers": (container,)} | more
    )


def known(at: float = 0.0) -> tuple[Synced, ...]:
    """All that is said of nodes and services was read."""
    return tuple(Synced(at, channel) for channel in (TOPOLOGY, NODES, PROFILES, TIDES))


class Streams:
    """What the bus stores: one stream of workloads, one of ledgers, both with dedupe by id, and what was heard of them."""

    def __init__(self) -> None:
        self.workloads: list[tuple[str, LifecycleEvent]] = []
        self.ledger: list[LedgerEntry] = []
        self.last: dict[str, int] = {}
        self.held: dict[str, dict[str, Placement]] = {}
        self._ids: dict[str, int] = {}

    def emit(self, subject: str, event: LifecycleEvent, id: str) -> None:
        if id not in self._ids:
            self._ids[id] = 0
            self.workloads.append((subject, event))

    def forget_ids(self) -> None:
        """The dedupe window has passed."""
        self._ids.clear()

    def append(self, append: Append, *, race_first: bool = False) -> Stored | LostRace:
        node, late = append.entry.node, self.last.get(append.entry.node, 0) != append.seen
        if late and race_first:
            return LostRace(append.seen)
        if append.id in self._ids:
            return Stored(self._ids[append.id], duplicate=True)
        if late:
            return LostRace(append.seen)
        self.ledger.append(append.entry)
        self._ids[append.id] = self.last[node] = len(self.ledger)
        self.held[node] = fold(self.held.get(node, {}), append.entry)
        return Stored(len(self.ledger))


class World:
    """A scheduler on streams that answer at once; what a test drives by hand goes through `tell`."""

    def __init__(self, *nodes: NodeTopology, settings: Settings | None = None, names: Sequence[str] = ()) -> None:
        self.streams, self.nodes, self.at = Streams(), list(nodes), 0.0
        self._settings, self._names = settings or Settings(), names
        self.trail: dict[str, Decide] = {}
        self._hearing = False
        self.starts = True  # nodes confirm what they run
        self.holds_answers = False  # appends travel until `answer`
        self._travelling: list[Append] = []
        self.instructions: list[Instruction] = []
        self.start()

    def start(self) -> None:
        """A new process: everything stored is replayed."""
        self.machine = SchedulerMachine(self._settings, policies(*self._names), seed=1)
        self._heard_workloads = self._heard_ledger = 0
        self.tell(*(Arrived(self.at, node) for node in self.nodes), *known(self.at))
        self.hear()
        self.tell(Synced(self.at, WORKLOAD), Synced(self.at, PLACEMENTS))

    def tell(self, *events: Event) -> None:
        for event in events:
            for instruction in self.machine.handle(event):
                self.instructions.append(instruction)
                match instruction:
                    case Decide(entry=entry):
                        self.trail[entry.id] = instruction
                    case Emit(to=to, message=message, id=id):
                        self.streams.emit(to.subject, message, id)
                    case Append():
                        self._travelling.append(instruction)
                        if not self.holds_answers:
                            self.answer()
            self.machine.validate()
        self.hear()

    def answer(self) -> None:
        """What travels is stored, and answered."""
        while self._travelling:
            append = self._travelling.pop(0)
            self.tell(Done(self.at, append, self.streams.append(append)))

    def hear(self) -> None:
        """What was stored reaches the scheduler, one at a time."""
        if self._hearing:
            return
        self._hearing = True
        try:
            while self._heard_workloads < len(self.streams.workloads) or self._heard_ledger < len(self.streams.ledger):
                self._hear_stored()
        finally:
            self._hearing = False

    def _hear_stored(self) -> None:
        while self._heard_workloads < len(self.streams.workloads):
            subject, event = self.streams.workloads[self._heard_workloads]
            self._heard_workloads += 1
            self.tell(Arrived(self.at, event, subject, self._heard_workloads))
        while self._heard_ledger < len(self.streams.ledger):
            entry = self.streams.ledger[self._heard_ledger]
            self._heard_ledger += 1
            if isinstance(entry, Placed) and self.starts:
                self._started(entry)
            self.tell(Arrived(self.at, entry, PLACEMENTS.at(node=entry.node).subject, self._heard_ledger))

    def _started(self, entry: Placed) -> None:
        """The node says that it runs what it was given."""
        workload = entry.placement.workload
        uid, attempt = workload.uid, workload.attempt
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        started = Started(at=self.at, source="test", uid=uid, node=entry.node, attempt=attempt)
        self.streams.emit(subject, started, f"{uid}.{attempt}.started")

    def submit(self, *workloads: Workload) -> None:
        for workload in workloads:
            subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
            self.streams.emit(
                subject,
                Submitted(at=self.at, source="test", workload=workload),
                f"{workload.uid}.{workload.attempt}.submitted",
            )
        self.hear()

    def end(self, workload: Workload, reason: EndReason, *, attempt: int = 1, detail: str = "") -> None:
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        ended = Ended(
            at=self.at,
            source="test",
            uid=workload.uid,
            node=self.node_of(workload.uid),
            attempt=attempt,
            reason=reason,
            detail=detail,
        )
        self.streams.emit(subject, ended, f"{workload.uid}.{attempt}.{reason}")
        self.hear()

    def pass_time(self, seconds: float) -> None:
        self.at += seconds
        self.tell(Tick(self.at, "cycle"))

    def node_of(self, uid: str) -> str:
        return next((node for node, held in self.streams.held.items() if uid in held), "")

    def why(self, id: str) -> str:
        return self.trail[id].entry.why
