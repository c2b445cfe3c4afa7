"""Laws of the advisor as a machine and of its policies: any pods, any usage, any order of events."""

from __future__ import annotations

import csv
import math
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Claim, HeadroomPolicy, HeadroomView, PodView, Policy, PoolView, ProvisionPolicy
from neap.advisor.core.remembered import Memory
from neap.advisor.core.waking import STORED, AskReports
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, HEADROOM
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Decide, Event, Failed, Instruction, Put, Synced, Tick
from neap.common.runtime.plugins import load
from neap.common.runtime.remembering import TellMemory
from neap.common.units import GIB

POLICIES = load("neap.advisor.plugins", Policy)
PROVISION = [name for name, policy in POLICIES.items() if isinstance(policy, ProvisionPolicy)]
HEADROOMS = [name for name, policy in POLICIES.items() if isinstance(policy, HeadroomPolicy)]
PERIOD = 60.0
CURVE = Path(__file__).parents[2] / "examples" / "curves" / "ali2018.csv"


def a_topology(cpus: int, *, at: float = 0.0, offline: Iterable[int] = (), system: str = "0") -> NodeTopology:
    half = cpus // 2
    online = set(range(cpus)) - set(offline)
    nodes = tuple(
        NumaNode(index=i, cpus=format_cpuset(cpu for cpu in online if cpu % half * 2 // half == i), memory=64 * GIB)
        for i in (0, 1)
    )
    return NodeTopology(
        at=at,
        source="reporter",
        node="n",
        machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus=format_cpuset(online)),
        numa=nodes,
        siblings={cpu: format_cpuset({cpu % half, cpu % half + half}) for cpu in range(cpus)},
        system_cpus=system,
    )


def a_placement(uid: str, qos: QosClass, milli: int, pool: str = "") -> Placement:
    guest = qos is QosClass.RECLAIMED
    requests = {RECLAIMED_CPU: milli, RECLAIMED_MEMORY: GIB} if guest else {CPU: milli, MEMORY: 2 * GIB}
    workload = Workload(
        uid=uid, namespace="shop", name=uid, qos=qos, pool=pool, containers=(Container(name="main", requests=requests),)
    )
    return Placement(workload=workload, charged=requests)


def a_report(at: float, cores: dict[str, float | None], *, stall: float | None = None, other: float = 0.5) -> NodeUsage:
    containers = tuple(
        ContainerUsage(
            uid=uid,
            container="c",
            cgroup="c",
            cpu=cpu,
            working_set=GIB,
            cpu_stall=None if stall is None else Stall(some10=stall),
        )
        for uid, cpu in cores.items()
    )
    busy = sum(cpu or 0.0 for cpu in cores.values()) + other
    return NodeUsage(
        at=at,
        source="reporter",
        node="n",
        seq=int(at),
        period=PERIOD,
        cpu=busy,
        memory_available=100 * GIB,
        containers=containers,
    )


def a_machine(
    topology: NodeTopology,
    placements: Sequence[Placement] = (),
    *,
    last: NodeAdvice | None = None,
    memory: Memory | None = None,
    at: float = 0.0,
) -> AdvisorMachine:
    machine = AdvisorMachine(Settings(node="n", period=PERIOD), POLICIES)
    if memory is not None:
        machine.recall(memory, at)
    events: list[Event] = [
        Arrived(at, topology),
        Arrived(at, Checkpoint(at=at, source="s", node="n", placements=tuple(placements))),
    ]
    events += [Arrived(at, last)] if last else []
    for event in [*events, *(Synced(at, channel) for channel in STORED)]:
        for asked in machine.handle(event):
            assert isinstance(asked, AskReports), "decided something from history"
            said = machine.handle(Failed(at, asked, "nobody serves it", may_retry=False))
            assert all(isinstance(one, TellMemory) for one in said), "decided something from history"
    return machine


def advice_in(instructions: Sequence[Instruction]) -> NodeAdvice | None:
    return next((i.value for i in instructions if isinstance(i, Put) and i.key.channel == ADVICE), None)


def headroom_in(instructions: Sequence[Instruction]) -> Headroom | None:
    return next((i.value for i in instructions if isinstance(i, Put) and i.key.channel == HEADROOM), None)


def pool(advice: NodeAdvice, name: str) -> frozenset[int]:
    return next((parse_cpuset(pool.cpus) for pool in advice.pools if pool.name == name), frozenset())


UIDS = ("a", "b", "c", "d", "e")


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What may happen to a node of 12 CPUs in some periods, in any order, good input and bad."""
    events: list[Event] = []
    at = 0.0
    for _ in range(draw(st.integers(1, 14))):
        at += draw(st.sampled_from((0.0, PERIOD, PERIOD, 20 * PERIOD)))
        uid = draw(st.sampled_from(UIDS))
        match draw(st.sampled_from(("usage", "usage", "usage", "tick", "placed", "placed", "released", "topology"))):
            case "usage":
                amount = st.none() | st.floats(-1, 40, width=32)
                cores = draw(st.dictionaries(st.sampled_from(UIDS), amount))
                message: Any = a_report(at, cores, stall=draw(st.none() | st.floats(0, 1)))
            case "tick":
                events.append(Tick(at, "advise"))
                continue
            case "placed":
                placement = a_placement(
                    uid,
                    draw(st.sampled_from(QosClass)),
                    draw(st.integers(0, 9000)),
                    draw(st.sampled_from(("", "web", "reclaimed"))),
                )
                message = Placed(at=at, source="s", node="n", placement=placement, reason="")
            case "released":
                message = Released(at=at, source="s", node="n", uid=uid, reason="")
            case _:
                message = a_topology(12, at=at, offline=draw(st.sets(st.integers(0, 11), max_size=6)))
        events.append(Arrived(at, message))
    return events


@given(histories())
def test_whatever_happens_the_cut_is_lawful_and_offers_stay_within_the_machine(events: list[Event]) -> None:
    machine = a_machine(a_topology(12))
    seq, before, newest, since = 0, None, -math.inf, 0.0  # since: the last report, or fall of the offer
    for event in events:
        said, usage = machine.handle(event), getattr(event, "message", None)
        machine.validate()
        if advice := advice_in(said):
            assert advice.seq > seq
            assert advice.expires > advice.at == event.at
            seq = advice.seq
            for cgroup in advice.cgroups:
                assert cgroup.knobs.cpus != "", "an empty list would mean every CPU of the parent"
        if headroom := headroom_in(said):
            offer = headroom.offer[RECLAIMED_CPU]
            assert 0 <= offer <= 12_000
            if before is not None and not before.stale and offer > before.offer[RECLAIMED_CPU]:
                assert isinstance(event, Arrived), "rose though nothing was heard"
                most = 12_000 * 0.0075 * (event.at - since) / 60 + len(events)
                assert offer <= before.offer[RECLAIMED_CPU] * 1.01 + most, "rose faster than it may"
            if before is not None and offer < before.offer[RECLAIMED_CPU]:  # as of the last report, while one counts
                since = event.at if headroom.stale or isinstance(usage, NodeUsage) else newest
            before = headroom
        if isinstance(usage, NodeUsage) and newest < usage.at <= event.at:
            newest = usage.at
            if 0 <= (usage.cpu or 0) <= 12:  # nobody believes that the machine uses more, and then no offer rises
                since = event.at
        ids = [line.entry.id for line in said if isinstance(line, Decide)]
        assert len(set(ids)) == len(ids)


@given(histories())
def test_the_same_events_lead_to_the_same_instructions(events: list[Event]) -> None:
    one, two = a_machine(a_topology(12)), a_machine(a_topology(12))
    assert [one.handle(event) for event in events] == [two.handle(event) for event in events]


@given(st.permutations(list(UIDS)), st.data())
def test_the_order_of_pods_and_containers_does_not_matter(order: list[str], data: st.DataObject) -> None:
    placements = [
        a_placement(uid, data.draw(st.sampled_from(QosClass)), data.draw(st.integers(1, 4)) * 1000) for uid in UIDS
    ]
    cores: dict[str, float | None] = {uid: data.draw(st.integers(0, 3)) * 1.0 for uid in UIDS}
    one = a_machine(a_topology(24), placements).handle(Arrived(PERIOD, a_report(PERIOD, cores)))
    by_uid = {placement.workload.uid: placement for placement in placements}
    shuffled = a_machine(a_topology(24), [by_uid[uid] for uid in order])
    assert shuffled.handle(Arrived(PERIOD, a_report(PERIOD, {uid: cores[uid] for uid in order}))) == one


@given(st.lists(st.floats(0, 30), min_size=2, max_size=40), st.integers(1, 4))
def test_when_owners_use_more_their_pool_does_not_shrink(walk: list[float], pods: int) -> None:
    owners = [f"o{i}" for i in range(pods)]
    machine = a_machine(a_topology(24), [a_placement(uid, QosClass.SHARED, 2000) for uid in owners])
    size = used = 0.0
    for index, total in enumerate(walk):
        at = (index + 1) * PERIOD
        advice = advice_in(machine.handle(Arrived(at, a_report(at, dict.fromkeys(owners, total / pods)))))
        now = len(pool(advice, "share")) if advice else size
        assert now >= size or total <= used
        assert now >= min(total, 23) or total > 24, "owners use more than their pool holds"
        size, used = now, total


# a pool that holds an odd number on its way down does not take the other half of a core because of a restart
ON_ITS_WAY_DOWN = [
    *((QosClass.DEDICATED, cpus) for cpus in (3, 5)),
    *((QosClass.SHARED, cpus) for cpus in (4, 5, 5)),
]


@given(st.lists(st.tuples(st.sampled_from(list(QosClass)), st.integers(1, 5)), min_size=1, max_size=6), st.floats(0, 3))
@example(ON_ITS_WAY_DOWN, 0.0)
def test_after_a_restart_nobody_moves_who_would_not_have_moved_and_nobody_is_told_again(
    pods: list[tuple[QosClass, int]], use: float
) -> None:
    placements = [a_placement(f"p{i}", qos, cpus * 1000) for i, (qos, cpus) in enumerate(pods)]
    cores: dict[str, float | None] = {placement.workload.uid: use for placement in placements}
    machine = a_machine(a_topology(24), placements)
    last = None
    for round_ in range(1, 12):
        last = advice_in(machine.handle(Arrived(round_ * PERIOD, a_report(round_ * PERIOD, cores)))) or last
    assert last is not None
    at = 12 * PERIOD
    reborn = a_machine(a_topology(24), placements, last=last, memory=machine.memory, at=at)
    said, report = reborn.handle(Arrived(at, a_report(at, cores))), Arrived(at, a_report(at, cores))
    steady, again = advice_in(machine.handle(report)) or last, advice_in(said)
    assert again is not None
    assert again.seq > last.seq
    assert [(part.name, part.cpus) for part in again.pools] == [(part.name, part.cpus) for part in steady.pools]
    assert again.cgroups == steady.cgroups
    assert not [line for line in said if isinstance(line, Decide)]


# -- policies: every plugin in the folder ----------------------------------------------------------------------------

CORES = st.floats(0, 100)
PODS = st.builds(
    PodView,
    uid=st.uuids().map(str),
    request=CORES,
    limit=st.none() | CORES,
    now=st.none() | CORES,
    smooth=st.none() | CORES,
    peak=st.none() | CORES,
    stall=st.none() | st.floats(0, 1),
    settled=st.booleans(),
)


@pytest.mark.parametrize("name", PROVISION)
@given(pods=st.lists(PODS, max_size=5), more=st.floats(0, 10), data=st.data())
def test_a_provision_policy_is_finite_ordered_and_wants_more_when_more_is_used(
    name: str, pods: list[PodView], more: float, data: st.DataObject
) -> None:
    policy = POLICIES[name]
    assert isinstance(policy, ProvisionPolicy)

    def cores(views: Sequence[PodView]) -> float:
        return policy.advise(PoolView(name="share", pods=tuple(views)), policy.settings(), policy.start)[0].cores

    one = cores(pods)
    assert 0 <= one < 1e6
    assert cores(data.draw(st.permutations(pods))) == pytest.approx(one)
    grown = [
        PodView(
            uid=pod.uid, request=pod.request, limit=pod.limit, now=pod.now, stall=pod.stall, settled=pod.settled,
            smooth=None if pod.smooth is None else pod.smooth + more, peak=None if pod.peak is None else pod.peak + more,
        )
        for pod in pods
    ]  # fmt: skip
    assert cores(grown) >= one - 1e-9


@pytest.mark.parametrize("name", HEADROOMS)
@given(
    capacity=st.floats(0, 512), reserved=st.floats(0, 64), system=st.none() | st.floats(0, 64),
    claims=st.lists(st.builds(Claim, st.floats(0, 200), st.just("online"), st.floats(0.5, 3)), max_size=4),
)  # fmt: skip
def test_an_offer_is_within_the_machine_and_its_printed_sum_adds_up(
    name: str, capacity: float, reserved: float, system: float | None, claims: list[Claim]
) -> None:
    policy = POLICIES[name]
    assert isinstance(policy, HeadroomPolicy)
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=capacity, reserved=reserved, system=system, claims=tuple(claims))
    offer = policy.advise(view, policy.settings())
    assert 0 <= offer.amount <= capacity
    left, right = offer.arithmetic.replace("−", "-").split("because ")[-1].split(" = ")
    total = float(eval(re.sub(r"[A-Za-z]{2,}", "", right).replace("x", "*")))
    assert float(left) == pytest.approx(
        total, abs=0.06 + sum(0.06 * claim.ratio + 0.006 * claim.amount for claim in claims) + 0.1
    )
    assert max(float(left), 0) == pytest.approx(offer.amount, abs=0.06)


# -- the closed loop -------------------------------------------------------------------------------------------------


def test_over_days_of_a_real_curve_owners_always_find_a_cpu_and_half_the_machine_is_lent() -> None:
    """A plant: usage = min(demand, pool). Demand follows examples/curves/ali2018.csv scaled to 25 % of 128 CPUs."""
    rows = csv.DictReader(CURVE.read_text().splitlines())
    levels = [float(row["cpu_util_percent"]) for row in rows][: 3 * 288]
    scale = 0.25 * 128 / (sum(levels) / len(levels))
    owners, rng = [f"o{i}" for i in range(8)], random.Random(7)
    machine = a_machine(a_topology(128, system="0,64"), [a_placement(uid, QosClass.SHARED, 8000) for uid in owners])
    size, lent_now, lent, short, minutes = 64, 0, 0, 0, (len(levels) - 1) * 5
    for minute in range(minutes):
        step, part = divmod(minute, 5)
        level = (levels[step] * (5 - part) + levels[step + 1] * part) / 5 * scale
        demand = {uid: level / 8 * (1 + 0.1 * rng.uniform(-1, 1)) for uid in owners}
        total = sum(demand.values())
        short += total > size
        served = min(1.0, size / total)
        at = (minute + 1) * PERIOD
        advice = advice_in(
            machine.handle(Arrived(at, a_report(at, {uid: cpu * served for uid, cpu in demand.items()})))
        )
        if advice:
            size, lent_now = len(pool(advice, "share")), len(pool(advice, "reclaimed"))
        lent += lent_now
    machine.validate()
    assert short / minutes < 0.001, f"{short} of {minutes} minutes short of CPUs"
    assert lent / minutes / 128 >= 0.5, f"lent {lent / minutes / 128:.3f} of the machine"
