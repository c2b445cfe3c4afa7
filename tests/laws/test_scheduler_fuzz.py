"""Messages nobody should send, on every channel the scheduler hears: no exception escapes, and its invariants hold.

Lawful messages are mangled as JSON: numbers and texts become extreme, fields vanish, list items repeat or are of
another message. What the channel refuses to decode is refused; what it decodes goes to the machine, among lawful
messages, ticks, deletions and answers to its appends, with every plugin in use. `validate` runs after each.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import (
    APART,
    DEVICES,
    EVICTING,
    HEADROOM,
    MACHINE_TYPES,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    PROFILES,
    RATIOS,
    TIDES,
    TOPOLOGY,
    WORKLOAD,
)
from neap.common.contract.channel import Channel
from neap.common.errors import WireError
from neap.common.model.affinity import DeviceAsk
from neap.common.model.apart import Apart, Pair
from neap.common.model.device import Allocation, CardState, DeviceState, Enforcement
from neap.common.model.evicting import Closure, Evicting
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, GpuShare, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.profile import MEMORY_BANDWIDTH, MachineType, MachineTypes, Observation, ServiceProfile, Window
from neap.common.model.qos import QosClass
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.scheduling import (
    Constraints,
    Expression,
    Gang,
    NodeTerm,
    Operator,
    PodTerm,
    Spread,
    Taint,
    Toleration,
)
from neap.common.model.tide import Side, TideNode, TidePool, Turning
from neap.common.model.topology import Device, NumaNode, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Append, Arrived, Done, Event, Failed, Gone, Synced, Tick
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside
from neap.common.units import GIB
from neap.scheduler.core.choice.framework import Plugin
from neap.scheduler.core.flow.machine import FIRST, SchedulerMachine
from neap.scheduler.settings import SCORERS, Settings
from neap.scheduler.wiring import PACKAGE, policies, wire
from tests.unit.scheduler_world import Streams, a_guest, a_node, a_usage, an_offer, an_owner

NODE_NAMES: Final = ("n1", "n2", "nobody")
EXTREME: Final[dict[type, tuple[Any, ...]]] = {
    bool: (True, False),
    int: (0, -1, 1, 7, 100, 1 << 31, 1 << 53, (1 << 53) + 1, 1 << 63, -(1 << 63), 10**30, -(10**30), 10**400),
    float: (0.0, -0.0, -1.0, 0.5, 1.0, 5e-324, 1e30, -1e30, 1e308, -1e308, 1e9),
    str: ("", "n1", "n2", "u1", "cpu", "a" * 300, "\x00", "é\u2028", "*", "a.b", "x y", "-1", "1e999", "true"),
}


def topology(node: str) -> Any:
    """Two NUMA nodes, two cards, a network card."""
    plain = a_node(node, cores=16, cards=2)
    numa = tuple(
        NumaNode(index=i, cpus=f"{8 * i}-{8 * i + 7}", memory=16 * GIB, distances={0: 10, 1: 21}) for i in (0, 1)
    )
    paths = ("pci0000:00", "0000:00:01.0")
    devices = tuple(
        Device(kind=kind, address=f"0000:0{i}:00.0", names=(f"d{i}",), numa=i % 2, path=paths)
        for i, kind in enumerate((ZoneKind.GPU, ZoneKind.GPU, ZoneKind.RDMA))
    )
    zones = tuple(Zone(kind=ZoneKind.NUMA, index=i, cpus=f"{8 * i}-{8 * i + 7}", capacity={CPU: 8000}) for i in (0, 1))
    machine = Zone(kind=ZoneKind.MACHINE, index=0, children=zones)
    cards = tuple(msgspec.structs.replace(card, numa=i, pci=f"0000:0{i}:00.0") for i, card in enumerate(plain.cards))
    labels = {"zone": "a", "kubernetes.io/hostname": node}
    return msgspec.structs.replace(plain, labels=labels, numa=numa, devices=devices, machine=machine, cards=cards)


def workloads() -> tuple[Workload, ...]:
    """One of every sort."""
    hostname = "kubernetes.io/hostname"
    mine = (Expression(key="app", operator=Operator.IN, values=("web",)),)
    wishes = Constraints(
        tolerations=(Toleration(key="dedicated", exists=True),),
        node_required=(NodeTerm(expressions=(Expression(key="zone", operator=Operator.IN, values=("a",)),)),),
        node_preferred=(
            NodeTerm(expressions=(Expression(key="cores", operator=Operator.GREATER, values=("4",)),), weight=5),
        ),
        near_preferred=(PodTerm(topology="zone", selector=mine, weight=10),),
        apart=(PodTerm(topology=hostname, selector=mine),),
        spread=(Spread(topology="zone", selector=mine),),
    )
    both = Container(name="c", requests={CPU: 1000, MEMORY: GIB, GPU_CORE: 30, GPU_MEMORY: 4000}, limits={CPU: 2000})
    return (
        an_owner("u1", cores=2, labels={"app": "web"}, constraints=wishes, node_selector={"zone": "a"}),
        an_owner("u2", gpu=(30, 4000), gpu_models=("T4",), owner="Deployment/web", images=("img:1",), datasets=("d",)),
        a_guest("u3", priority=5),
        an_owner("u4", containers=(both,), gang=Gang(name="g", least=1, domain="zone")),
        an_owner("u5", gpu=(100, 0), devices=DeviceAsk(gpus=1, nics=1)),
        an_owner(
            "u6", cores=2, qos=QosClass.DEDICATED, annotations={"neap.io/memory-enhancement": '{"numa_binding":"true"}'}
        ),
    )


def lawful() -> Iterator[tuple[Channel[Any], Any, str]]:
    """Channel, message, subject: what the machine hears on a good day."""
    for node in NODE_NAMES:
        told: list[tuple[Channel[Any], Any]] = [
            (TOPOLOGY, topology(node)),
            (HEADROOM, an_offer(node)),
            (APART, Apart(at=0.0, source="advisor", node=node, pairs=(
                Pair(owner="shop/u1", guest="batch/g1", until=600.0, why="cpi"),))),
            (EVICTING, Evicting(at=0.0, source="evictor", node=node, until=30.0,
                                closed=(Closure(rule="memory_pressure", why="512Mi, 1Gi wanted", until=30.0),))),
            (NODE_USAGE, a_usage(node, cpu=3.0, containers={"u1": 1.0, "u3": 0.5})),
            (RATIOS, NodeRatios(at=0.0, source="planner", node=node, kinds=(
                KindRatio(resource=CPU, ratio=1.5, set=2.0, foreseen=1.6, peak=1, requested=1, original=1, arithmetic="a"),
            ))),
            (NODES, NodeObject(at=0.0, source="gateway", node=node, labels={"zone": "b", "cores": "16"}, images={"img:1": GIB},
                               taints=(Taint(key="dedicated", qos=("shared_cores",)),), datasets=("d",),
                               ratios={CPU: 2.0}, original={CPU: 16_000}, topology_policy="restricted")),
            (DEVICES, device_state(node)),
        ]  # fmt: skip
        yield from ((channel, message, channel.at(node=node).subject) for channel, message in told)
        for entry in entries(node):
            yield PLACEMENTS, entry, PLACEMENTS.at(node=node).subject
    for workload in workloads():
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        yield WORKLOAD, Submitted(at=0.0, source="t", workload=workload), subject
        yield WORKLOAD, Started(at=1.0, source="t", uid=workload.uid, node="n1", attempt=1), subject
        for reason in (EndReason.EVICTED, EndReason.FINISHED):
            yield WORKLOAD, Ended(at=2.0, source="t", uid=workload.uid, node="n1", attempt=1, reason=reason), subject
    seen = Observation(kind=MEMORY_BANDWIDTH, machine="m1", windows=(Window(start=0.0, containers={"main": 5e8}),))
    profile = ServiceProfile(at=0.0, source="planner", key="shop/Deployment/web", version="v1", observations=(seen,),
                             portrait={CPU: (100.0,) * 24})  # fmt: skip
    yield PROFILES, profile, PROFILES.at(namespace="shop", kind="Deployment", name="web").subject
    types = tuple(
        MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed}) for name, speed in (("M1", 1.0), ("M2", 2.0))
    )
    turning = TideNode(node="n2", side=Side.ONLINE, turning=Turning.BLOCKED, blockers=("batch/g1",), why="1 guest")
    tide = TidePool(at=0.0, source="planner", pool="web", nodes=(TideNode(node="n1", side=Side.OFFLINE), turning))
    yield TIDES, tide, TIDES.at(pool="web").subject
    yield MACHINE_TYPES, MachineTypes(at=0.0, source="planner", types=types), MACHINE_TYPES.at(cluster="local").subject


def entries(node: str) -> Iterator[Any]:
    workload = an_owner(f"of-{node}", cores=1, gpu=(30, 4000))
    share = GpuShare(container="main", card=0, core=30, memory_mib=4000)
    placement = Placement(workload=workload, charged=workload.requests, gpus=(share,), numa=(0,))
    yield Placed(at=0.0, source="scheduler", node=node, placement=placement, reason="r", score=1.0)
    yield Checkpoint(at=0.0, source="scheduler", node=node, placements=(placement,))
    yield Released(at=0.0, source="scheduler", node=node, uid=f"of-{node}", reason="r")


def device_state(node: str) -> DeviceState:
    share = GpuShare(container="main", card=0, core=30, memory_mib=4000)
    taken = Allocation(uid="u2", share=share, enforced=Enforcement.MPS)
    cards = tuple(
        CardState(card=card, core_free=70, memory_free_mib=9000, allocations=(taken,)) for card in topology(node).cards
    )
    return DeviceState(at=0.0, source="gpushare", node=node, ledger_seq=3, cards=cards, refused={"u2": "too much"})


GOOD: Final = tuple(lawful())
TREES: Final = tuple(msgspec.json.decode(channel.encode(message)) for channel, message, _ in GOOD)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a JSON tree."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, below in items:
        yield from places(below, (*path, key))


def mangled(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with one to three places changed; others are shared with the original."""
    tree = msgspec.json.decode(msgspec.json.encode(tree))
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(tree))
        if not paths:
            return tree
        *above, last = draw(st.sampled_from(paths))
        holder = tree
        for key in above:
            holder = holder[key]
        holder[last] = changed(draw, holder[last])
        if holder[last] is ...:
            del holder[last]
        if isinstance(holder, dict) and draw(st.integers(0, 9)) == 0:
            holder[draw(st.sampled_from(EXTREME[str]))] = draw(st.sampled_from(EXTREME[int]))
    return tree


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Something else of the same type, mostly; `...` stands for nothing."""
    what = draw(st.integers(0, 9))
    if what == 0:
        return ...
    if isinstance(value, list) and value:
        return [*value, *value] if what < 6 else [] if what < 8 else value * 70
    if isinstance(value, dict):
        return (
            {}
            if what < 4
            else {**value, draw(st.sampled_from(EXTREME[str])): draw(st.sampled_from([*value.values(), 1, "x"]))}
        )
    kind = type(value) if type(value) in EXTREME and what < 9 else draw(st.sampled_from(list(EXTREME)))
    return draw(st.sampled_from(EXTREME[kind]))


def happening(draw: st.DrawFn) -> tuple[str, Any]:
    """One thing that happens; what cannot be decoded is not heard."""
    what = draw(st.sampled_from(["good", "good", "bad", "bad", "bad", "bad", "gone", "tick", "sync", "fail"]))
    index = draw(st.integers(0, len(GOOD) - 1))
    channel, message, subject = GOOD[index]
    match what:
        case "good":
            return "arrived", (channel, message, subject)
        case "bad":
            payload = msgspec.json.encode(mangled(draw, TREES[index]))
            try:
                return "arrived", (channel, channel.decode(payload, subject), subject)
            except WireError:
                return "tick", 0.0
        case "gone":
            return what, (channel, subject)
    return what, draw(st.sampled_from([0.2, 60.0, 400.0, 4000.0]))


def uids(entry: LedgerEntry) -> list[str]:
    """Whom an entry places."""
    match entry:
        case Placed(placement=placement):
            return [placement.workload.uid]
        case Checkpoint(placements=placements):
            return [placement.workload.uid for placement in placements]
    return []


class Sufferer:
    """A scheduler with every plugin on streams that answer, or fail when told to."""

    def __init__(self) -> None:
        every = load(PACKAGE, Plugin)
        order = (*Settings().order, *(name for name in every if name not in Settings().order and name not in SCORERS))
        settings = Settings(order=(*order, *SCORERS))
        self.machine = SchedulerMachine(settings, policies(settings), seed=1)
        self.streams, self.at, self.failing, self._heard = Streams(), 0.0, False, 0
        for channel in FIRST:
            self.tell(Synced(0.0, channel))

    def tell(self, event: Event) -> None:
        waiting = [event]
        while waiting:
            for instruction in self.machine.handle(waiting.pop(0)):
                if isinstance(instruction, Append):
                    answer: Event = Done(self.at, instruction, self.streams.append(instruction))
                    if self.failing:
                        self.failing, answer = False, Failed(self.at, instruction, "no", may_retry=True)
                    waiting.append(answer)
            self.machine.validate()
            if not waiting and self._heard < len(self.streams.ledger):
                self._heard += 1
                entry = self.streams.ledger[self._heard - 1]
                waiting.append(Arrived(self.at, entry, PLACEMENTS.at(node=entry.node).subject, self._heard))

    def is_ours(self, uid: str, node: str) -> bool:
        """Whether another scheduler would not place this here: it is elsewhere, or on its way."""
        elsewhere = any(uid in held for other, held in self.streams.held.items() if other != node)
        return elsewhere or self.machine._appends.of(uid) is not None

    def happen(self, what: str, told: Any) -> None:
        match what:
            case "arrived":
                channel, message, subject = told
                if channel is PLACEMENTS:  # somebody else appended it, who has a shard of its own
                    if any(self.is_ours(uid, message.node) for uid in uids(message)):
                        return
                    self.streams.held[message.node] = fold(self.streams.held.get(message.node, {}), message)
                    self.streams.ledger.append(message)
                    self.streams.last[message.node] = len(self.streams.ledger)
                    self.tell(Tick(self.at, "nothing"))
                else:
                    self.tell(Arrived(self.at, message, subject, 1))
            case "gone":
                channel, subject = told
                self.tell(Gone(self.at, channel, subject))
            case "sync":
                self.tell(Synced(self.at, TOPOLOGY, 1))
            case "fail":
                self.failing = True
            case "tick":
                self.at += told
                self.tell(Tick(self.at, "cycle"))


@given(st.lists(st.composite(happening)(), min_size=10, max_size=40))
def test_no_message_stops_the_scheduler(history: list[tuple[str, Any]]) -> None:
    scheduler = Sufferer()
    for channel, message, subject in GOOD:
        if channel in (TOPOLOGY, HEADROOM):
            scheduler.happen("arrived", (channel, message, subject))
    for what, told in history:
        scheduler.happen(what, told)
    finish(scheduler)


def finish(scheduler: Sufferer) -> None:
    """People may still ask, and a sane pod is placed on a sane node."""
    for uid in ("u1", "u2"):
        scheduler.machine.explain(ExplainRequest(namespace="shop", name=uid))
    well = an_owner("well", cores=0.1, gib=0)
    node = topology("sane")
    scheduler.happen("arrived", (TOPOLOGY, msgspec.structs.replace(node, at=scheduler.at), ""))
    subject = WORKLOAD.at(namespace="shop", name="well").subject
    scheduler.happen("arrived", (WORKLOAD, Submitted(at=scheduler.at, source="t", workload=well), subject))
    scheduler.failing = False
    for _ in range(4):
        scheduler.streams.forget_ids()  # a checkpoint nobody should have written makes old placements new ones
        scheduler.happen("tick", 60.0)
    assert any(isinstance(e, Placed) and e.placement.workload.uid == "well" for e in scheduler.streams.ledger), (
        "one that asks for little on a sane node is placed, whatever came before"
    )


def test_every_channel_the_scheduler_hears_is_among_them() -> None:
    outside = cast("Outside", SimpleNamespace(seed=0))
    hears = {route.only.channel.title() for route in wire(Settings(), outside).routes if hasattr(route, "only")}
    assert hears <= {channel.title() for channel, _, _ in GOOD}
