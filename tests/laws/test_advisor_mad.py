"""Laws of the advisor under numbers no machine has, and under silence: nothing breaks, and no guest gets more for it.

A node that has come to rest hears one more message, a good one or a mangled one. After the mangled one guests have no
more CPUs, and are offered no more of anything, than before it and than after the good one; and it is said aloud
where the whole message was of no use.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.refusing import Complain
from neap.advisor.core.remembered import Memory
from neap.advisor.core.waking import STORED, AskReports
from neap.advisor.metrics import IGNORED, REFUSED
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, HEADROOM
from neap.common.contract.lawful import entry_flaw
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.runtime.machine import Arrived, Count, Event, Failed, Instruction, Put, Synced, Tick
from neap.common.units import GIB
from tests.unit.test_advisor_node import POLICIES, a_pod, a_topology

PODS = (a_pod("a", cores=6), a_pod("b", cores=4, pool="web"), a_pod("d", QosClass.DEDICATED), a_pod("g", QosClass.RECLAIMED))  # fmt: skip
USES = {"a": 3.0, "b": 2.0, "d": 1.0, "g": 2.0}
CALM = 90  # reports until everything that moves by steps has arrived
PERIOD = 60.0
NAN, INF = math.nan, math.inf
HOURS = (5000.0,) * 24

numbers = st.sampled_from([None, NAN, INF, -INF, -1.0, -1e308, 1e308, 1e9])
sizes = st.sampled_from([None, -1, -(2**62), 2**62, 2**50])
shares = st.sampled_from([NAN, INF, -1.0, -1e308, 1e308])
stalls = st.none() | st.builds(Stall, some10=shares, some60=shares, full10=shares, some=st.none() | shares)
headrooms = st.sampled_from(["headroom_canonical", "headroom_utilisation", "headroom_profile", "headroom_koordinator"])
provisions = st.sampled_from(
    ["provision_canonical", "provision_profile", "provision_rama", "provision_dynamic_quota", "provision_koordinator"]
)


class Rest(NamedTuple):
    """What guests have and are offered."""

    cpus: int
    offer: dict[str, int]
    cap: float = INF

    def exceeds(self, other: Rest) -> bool:
        return (
            self.cpus > other.cpus
            or self.cap > other.cap
            or any(self.offer[kind] > other.offer[kind] for kind in self.offer)
        )


class Life(NamedTuple):
    """What is known of one that was."""

    at: float
    advice: NodeAdvice
    memory: Memory


class Node:
    """An advisor, and what it said; it goes on from an earlier life, if there was one."""

    def __init__(self, before: Life | None = None, **settings: Any) -> None:
        self.machine = AdvisorMachine(Settings(node="n", period=PERIOD, **settings), POLICIES)
        self.at, self.aloud = before.at if before is not None else 0.0, 0
        self.rest, self.said = Rest(0, {}), dict[str, int]()
        self.advice: NodeAdvice | None = None
        for message in (a_topology(), Checkpoint(at=0, source="s", node="n", placements=PODS)):
            self.hear(message)
        for profile in (a_profile(pod.workload, HOURS) for pod in PODS[:2]):
            self.hear(profile, profile.key)
        if before is not None:
            self.machine.recall(before.memory, self.at)
            self.hear(before.advice)
        for channel in STORED:
            self.tell(Synced(self.at, channel))

    def hear(self, message: Any, subject: str = "") -> Rest:
        return self.tell(Arrived(self.at, message, subject))

    def tell(self, event: Event) -> Rest:
        said = self.machine.handle(event)
        self.machine.validate()
        for one in said:
            self._keep(one)
        lending = self.machine.memory.lending  # a small change is not said; decided it is
        offer, cap = (lending.offer, lending.cap) if lending is not None else ({}, None)
        self.rest = self.rest._replace(offer=offer, cap=INF if cap is None else cap)
        return self.rest

    def _keep(self, said: Instruction) -> None:
        match said:
            case Put(key=key, value=NodeAdvice() as advice) if key.channel == ADVICE:
                assert msgspec.json.decode(msgspec.json.encode(advice), type=NodeAdvice) == advice
                self.advice = advice
                guests = next(pool.cpus for pool in advice.pools if pool.name == "reclaimed")
                self.rest = self.rest._replace(cpus=len(parse_cpuset(guests)))
            case Put(key=key, value=Headroom() as headroom) if key.channel == HEADROOM:
                assert msgspec.json.decode(msgspec.json.encode(headroom), type=Headroom) == headroom
                self.said = headroom.offer
            case AskReports():
                self.tell(Failed(self.at, said, "nobody serves it", may_retry=False))
            case Count(metric=metric) if metric in (IGNORED, REFUSED):
                self.aloud += 1
            case Complain():
                self.aloud += 1


@cache
def _calm(**settings: Any) -> Life:
    node = Node(**settings)
    for _ in range(CALM):
        node.at += PERIOD
        node.hear(a_report(node.at))
    assert node.advice is not None
    return Life(node.at, node.advice, node.machine.memory)


def a_node(**settings: Any) -> Node:
    """One that has come to rest."""
    node = Node(_calm(**settings), **settings)
    node.at += PERIOD
    node.hear(a_report(node.at))
    node.aloud = 0
    return node


def a_profile(workload: Any, hours: tuple[float, ...]) -> ServiceProfile:
    portrait = {CPU: hours, MEMORY: tuple(hour * GIB / 5000 for hour in hours)}
    swing = {CPU: tuple(1 + hour / 5000 for hour in hours)}
    return ServiceProfile(at=0.0, source="p", key=profile_key(workload), version="1", portrait=portrait, swing=swing)


def a_report(at: float, mangled: dict[str, dict[str, Any]] | None = None, **fields: Any) -> NodeUsage:
    """What everybody uses, with the fields of some container replaced."""
    plain = {
        uid: {"cpu": cores, "working_set": GIB, "memory": GIB, "cpu_stall": Stall()} for uid, cores in USES.items()
    }
    containers = tuple(
        ContainerUsage(uid=uid, container="c", cgroup=f"kubepods/{uid}", **{**plain[uid], **(mangled or {}).get(uid, {})})
        for uid in USES
        if not (mangled or {}).get(uid, {}).get("gone")
    )  # fmt: skip
    given: dict[str, Any] = {"at": at, "cpu": 14.0, "memory_available": 100 * GIB, "containers": containers} | fields
    return NodeUsage(source="r", node="n", seq=int(at), period=PERIOD, **given)


some_fields = st.fixed_dictionaries(
    {},
    optional={
        "cpu": numbers, "working_set": sizes, "memory": sizes, "cpu_stall": stalls, "memory_stall": stalls,
        "run_delay": numbers, "file_cache": sizes, "refaults": numbers, "cpi": numbers, "cpuset": st.sampled_from(["x", "9-2"]),
    },
)  # fmt: skip
gone = st.just({"gone": True})
of_pods = st.dictionaries(st.sampled_from(sorted(USES)), some_fields | gone, max_size=4)
of_node = st.fixed_dictionaries(
    {},
    optional={
        "cpu": numbers, "memory_available": sizes, "cpu_stall": stalls, "memory_stall": stalls, "run_delay": numbers,
        "period": st.sampled_from([0.0, -1.0, NAN, 1e308]),
    },
)  # fmt: skip


@given(of_pods, of_node, provisions, headrooms)
def test_a_mangled_report_makes_no_guest_wider(
    pods: dict[str, dict[str, Any]], node: dict[str, Any], provision: str, headroom: str
) -> None:
    good, mad = (a_node(provision=provision, headroom=headroom) for _ in range(2))
    before = mad.rest
    for world in (good, mad):
        world.at += PERIOD
    after = good.hear(a_report(good.at))
    period = node.pop("period", PERIOD)
    mangled = mad.hear(msgspec.structs.replace(a_report(mad.at, pods, **node), period=period))
    assert not mangled.exceeds(before)
    assert not mangled.exceeds(after)


@given(st.sampled_from([-INF, -1e9, 0.0, -PERIOD, 1e9, 1e308, INF, NAN]), headrooms)
def test_a_report_of_another_time_is_ignored_and_that_is_counted(ago: float, headroom: str) -> None:
    world = a_node(headroom=headroom)
    before, heard = world.rest, world.at
    world.at += PERIOD / 2
    report = a_report(1.0, {uid: {"cpu": 0.0, "working_set": 0} for uid in USES}, cpu=0.0)
    assert not world.hear(msgspec.structs.replace(report, at=heard + ago)).exceeds(before)
    assert world.aloud == 1


@given(headrooms, provisions, st.integers(1, 40))
def test_silence_makes_no_guest_wider_and_ends_in_the_conservative_default(
    headroom: str, provision: str, ticks: int
) -> None:
    world = a_node(headroom=headroom, provision=provision)
    before = world.rest
    for _ in range(ticks):
        world.at += PERIOD
        world.tell(Tick(world.at, "advise"))
        assert not world.rest.exceeds(before)
    if ticks > Settings().stale_after:
        assert set(world.said.values()) == {0} == set(world.rest.offer.values())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "capacity": st.sampled_from([{}, {MEMORY: -1}, {MEMORY: 0}, {MEMORY: 2**62}]),
            "allocatable": st.sampled_from([{}, {MEMORY: -1}, {MEMORY: 2**62}]),
            "system_cpus": st.sampled_from(["x", "9-2", "0-4294967295", "500-600"]),
            "siblings": st.sampled_from([{0: "x"}, {0: "9-2"}, {0: "0-31"}, {-1: "0"}, {5: "900"}]),
            "numa": st.just(()),
        },
    ),
    st.sampled_from([None, "", "x", "9-2", "0-4294967295"]),
    headrooms,
)
def test_a_mangled_topology_makes_no_guest_wider(fields: dict[str, Any], cpus: str | None, headroom: str) -> None:
    good, mad = (a_node(headroom=headroom) for _ in range(2))
    before, topology = mad.rest, a_topology()
    machine = topology.machine if cpus is None else msgspec.structs.replace(topology.machine, cpus=cpus)
    mangled: NodeTopology = msgspec.structs.replace(topology, machine=machine, **fields)
    for world, said in ((good, topology), (mad, mangled)):
        world.hear(said)
        world.at += PERIOD
        world.hear(a_report(world.at))
    assert not mad.rest.exceeds(before)
    assert not mad.rest.exceeds(good.rest)


amounts = st.sampled_from([0, 1, 999, 2**40, 2**53, -5])
texts = st.sampled_from(
    ["", "{", "null", '{"numa_binding": "maybe"}', '{"numa_binding": "true", "numa_exclusive": "true"}']
)
placements = st.builds(
    lambda uid, qos, cores, memory, pool, text, numa: Placed(
        at=0.0, source="s", node="n", reason="",
        placement=msgspec.structs.replace(
            (pod := a_pod(uid, qos)),
            workload=msgspec.structs.replace(
                pod.workload, pool=pool, annotations={"katalyst.kubewharf.io/memory_enhancement": text},
                containers=(msgspec.structs.replace(pod.workload.containers[0], requests={CPU: cores, MEMORY: memory}),),
            ),
            numa=numa,
        ),
    ),
    st.sampled_from(["x", "a", "g"]), st.sampled_from([QosClass.SHARED, QosClass.DEDICATED, QosClass.SYSTEM]),
    amounts, amounts, st.sampled_from(["", "share", "reclaimed", "isolated-a", "web@numa7"]), texts,
    st.sampled_from([(), (0,), (99,), (-1,)]),
)  # fmt: skip


@given(placements, headrooms)
def test_an_odd_placement_makes_no_guest_wider(entry: LedgerEntry, headroom: str) -> None:
    if entry_flaw(entry) or not isinstance(entry, Placed):
        return  # no reader of a ledger ever sees it
    world = a_node(headroom=headroom)
    before = world.rest
    if entry.placement.workload.uid == "x":
        assert not world.hear(entry).exceeds(before)
        world.at += PERIOD
        assert not world.hear(a_report(world.at)).exceeds(before)
    else:
        world.hear(entry)


@given(st.lists(shares | st.just(0.0), min_size=24, max_size=24) | st.lists(st.just(1.0), max_size=23), headrooms)
def test_a_mangled_profile_makes_no_guest_wider(hours: list[float], headroom: str) -> None:
    if all(0 <= hour < INF for hour in hours) and len(hours) == len(HOURS):
        return  # a service that uses nothing is odd, and can be
    world = a_node(headroom=headroom)
    before = world.rest
    profile = a_profile(PODS[0].workload, tuple(hours))
    world.hear(profile, profile.key)
    assert world.aloud == 2  # counted, and said
    for _ in range(3):
        world.at += PERIOD
        assert not world.hear(a_report(world.at)).exceeds(before)
