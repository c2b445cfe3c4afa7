"""What a lending policy would have offered over a recorded load, and whether it kept its word. Pure.

One node is replayed at a time. Its advisor is the real one, with the policy's settings: it hears a report per period
and says advice and headroom; nothing else of the cluster is there. Between two samples the load is a straight line.

    promised  what the node said would be there for 10 minutes; a policy that makes no promise promises its offer
    kept      share of promises that held: what was promised at t could be used at every report in (t, t + 10 min]
    whole     the same of all that was offered (`offer_kept`), beside what was promised
    room      the same against the hardware alone: capacity − owners' use at every such report was not less
    churn     |offer(t + 5 min) − offer(t)| / capacity, 99th percentile
    risk      minutes in which owners' use and what guests were allowed come to more than the node
    could use = min(what the last advice allows guests, capacity − owners' use)                              [cores]

In a gap of the record nobody knows what owners left: what guests did there counts for nothing, a promise that reaches
into it is not judged, and its minutes are no minutes without risk.
Guests, for evictions and utilisation: sold.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import NODE_USAGE
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.launch import find_room
from neap.common.runtime.machine import Arrived, Event, Instruction, Machine, Put, Synced, Tick
from neap.common.runtime.service import Follow, Watch
from neap.common.runtime.settings import Sources
from neap.common.units import DAY, GIB, MINUTE, Cores, Ratio, Seconds
from neap.virtual.policies import LendingPolicy
from neap.virtual.sold import Guests, Sold, allowance

PROMISED_FOR: Final[Seconds] = 10 * MINUTE
CHURN_OVER: Final[Seconds] = 5 * MINUTE
SMALLEST: Final[Cores] = 1e-6
GUESTS: Final = "class/besteffort"
MEANS: Final = ("owners", "offered", "promised", "utilisation", "lost", "kept", "offer_kept", "room", "unknown")
NODE: Final = "replayed"  # to the advisor; a record's own name may be no word of a subject
NOWHERE: Final[Any] = None  # an advisor touches nothing, its machine is fed by hand: it needs no outside
EPOCH: Final[Seconds] = 1_000_000.0  # ages are differences; no report is at zero
MEMORY_PER_CORE: Final = 4 * GIB  # of a replayed node; nothing is said about its memory
LONGEST_GAP: Final = 3  # samples that may be missing in a row before a gap is a gap: then no report comes


@dataclass(frozen=True)
class Owner:
    """One workload of a node: what it asked for, and what it used at each sample (None: unknown)."""

    name: str
    request: Cores
    used: tuple[Cores | None, ...]


@dataclass(frozen=True)
class Load:
    """One node's recorded life: CPUs, and owners sampled every `step` seconds."""

    node: str
    capacity: int
    step: Seconds
    owners: tuple[Owner, ...]

    @property
    def samples(self) -> int:
        """How many there are."""
        return max((len(owner.used) for owner in self.owners), default=0)


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy came to on one node, or on several together."""

    node: str
    policy: str
    days: float
    owners: Ratio  # of the capacity, on average
    offered: Ratio
    promised: Ratio
    utilisation: Ratio
    lost: Ratio  # of the capacity: work of guests that had to leave
    kept: Ratio
    offer_kept: Ratio
    room: Ratio
    churn: Ratio
    risk_minutes: float
    evictions: int
    guest_days: float
    unknown: Ratio = 0.0  # share of reports that did not come because the record has a gap

    @property
    def evictions_per_guest_day(self) -> float:
        """Evictions over the days guests ran, all together."""
        return self.evictions / self.guest_days if self.guest_days else 0.0

    @property
    def risky(self) -> Ratio:
        """Share of the minutes of which something is known in which there was a risk."""
        known = self.days * (1 - self.unknown)
        return self.risk_minutes * MINUTE / (known * DAY) if known > 0 else 0.0


@dataclass(slots=True)
class Course:
    """What happened, report by report, in cores. `could` is what guests could use in the period before the report.

    None: nobody knows.
    """

    used: list[Cores | None] = field(default_factory=list)
    offer: list[Cores] = field(default_factory=list)
    promise: list[Cores] = field(default_factory=list)
    could: list[Cores | None] = field(default_factory=list)
    allowed: list[Cores] = field(default_factory=list)


def replay(load: Load, policy: LendingPolicy, *, period: Seconds = MINUTE, guests: Guests | None = None) -> Replayed:
    """Replay one node under one policy. Cost: about a millisecond per report.

    Raises:
        SettingsError: the policy's settings do not hold.
        InputError: there is nothing to replay.
    """
    if load.capacity < 1 or load.samples < 2 or not load.step > 0:
        raise InputError(f"node {load.node}: nothing to replay ({load.samples} samples on {load.capacity} CPUs)")
    course = Course()
    advisor = Advisor(load, policy, period)
    for at, used in reports(load, period):
        total = None if used is None else sum(used)
        course.used.append(total)
        course.could.append(None if total is None else min(advisor.allowed, max(0.0, load.capacity - total)))
        course.allowed.append(advisor.allowed)
        advisor.report(at, used)
        course.offer.append(advisor.offer)
        course.promise.append(advisor.promise)
    return _judged(load, policy, course, period, guests or Guests())


def reports(load: Load, period: Seconds) -> Iterator[tuple[Seconds, list[Cores] | None]]:
    """Use per owner at every report; None where nobody knows."""
    filled = [_bridged(owner.used, load.samples) for owner in load.owners]
    for turn in range(int((load.samples - 1) * load.step / period) + 1):
        place = turn * period / load.step
        left = min(int(place), load.samples - 1)
        right, part = min(left + 1, load.samples - 1), place - left
        used = [_between(line[left], line[right], part) for line in filled]
        yield turn * period, None if None in used else [cores for cores in used if cores is not None]


def _between(left: Cores | None, right: Cores | None, part: Ratio) -> Cores | None:
    if part == 0 or left is None:
        return left
    return None if right is None else left + (right - left) * part


def _bridged(used: Sequence[Cores | None], count: int) -> list[Cores | None]:
    """Short gaps filled by a straight line; what is not finite or below zero is unknown."""
    line = [cores if cores is not None and 0 <= cores < math.inf else None for cores in used]
    line += [None] * (count - len(line))
    known = [i for i, cores in enumerate(line) if cores is not None]
    for left, right in pairwise(known):
        if 1 < right - left <= LONGEST_GAP + 1:
            for i in range(left + 1, right):
                line[i] = _between(line[left], line[right], (i - left) / (right - left))
    return line


# -- the advisor ---------------------------------------------------------------------------------------------------------


class Advisor:
    """The real advisor's machine on one node; `offer`, `promise` and `allowed` are its last words, in cores."""

    def __init__(self, load: Load, policy: LendingPolicy, period: Seconds) -> None:
        room = find_room("advisor")
        pairs = (pair.partition("=") for pair in policy.at(period) if pair.startswith("advisor."))
        sources = Sources(overrides={"advisor.period": str(period)} | {key: value for key, _, value in pairs})
        settings = msgspec.structs.replace(sources.load(room.settings, room.name), node=NODE)
        service = room.wire(settings, NOWHERE)
        self._machine: Machine = service.machine
        self._load, self._period, self._seq, self._promises = load, period, 0, policy.promises
        self.offer: Cores = 0.0
        self.promise: Cores = 0.0
        self.allowed: Cores = 0.0
        stored = [route.only.channel for route in service.routes if isinstance(route, Watch | Follow)]
        for event in (*_born(load), *(Synced(EPOCH, channel) for channel in dict.fromkeys(stored))):
            self._hear(self._machine.handle(event))

    def report(self, at: Seconds, used: Sequence[Cores] | None) -> None:
        """One more report, or the time for it passing without one."""
        if used is None:
            self._hear(self._machine.handle(Tick(at + EPOCH, "advise")))
            return
        self._seq += 1
        usage = NodeUsage(
            at=at + EPOCH,
            source="replay",
            node=NODE,
            seq=self._seq,
            period=self._period,
            cpu=sum(used),
            memory_available=self._load.capacity * MEMORY_PER_CORE // 2,
            containers=tuple(
                ContainerUsage(uid=owner.name, container=owner.name, cgroup=owner.name, cpu=cores, memory=GIB)
                for owner, cores in zip(self._load.owners, used, strict=True)
            ),
        )
        topic = NODE_USAGE.at(node=NODE)
        self._hear(self._machine.handle(Arrived(at + EPOCH, usage, topic.subject)))

    def _hear(self, said: Iterable[Instruction]) -> None:
        for act in said:
            match act:
                case Put(value=Headroom() as headroom):
                    self.offer = headroom.offer.get(RECLAIMED_CPU, 0) / 1000
                    told = headroom.promised if self._promises else headroom.offer
                    self.promise = told.get(RECLAIMED_CPU, 0) / 1000
                case Put(value=NodeAdvice() as advice):
                    self.allowed = _allowed(advice)


def _allowed(advice: NodeAdvice) -> Cores:
    """What guests may use together: their pool's CPUs, or their class's quota where that is less."""
    pool = next((pool.cpus for pool in advice.pools if pool.name == "reclaimed"), "")
    quotas = [cgroup.knobs.cpu_max for cgroup in advice.cgroups if cgroup.target == GUESTS]
    return min([float(len(parse_cpuset(pool))), *(quota for quota in quotas if quota is not None)])


def _born(load: Load) -> list[Event]:
    """What an advisor hears when it starts: the machine, and who is placed there."""
    cpus = format_cpuset(frozenset(range(load.capacity)))
    memory = load.capacity * MEMORY_PER_CORE
    size = {CPU: load.capacity * 1000, MEMORY: memory}
    topology = NodeTopology(
        at=EPOCH,
        source="replay",
        node=NODE,
        machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus=cpus),
        numa=(NumaNode(index=0, cpus=cpus, memory=memory),),
        capacity=size,
        allocatable=size,
        system_cpus="0" if load.capacity > 1 else "",
    )
    placed = Checkpoint(at=EPOCH, source="replay", node=NODE, placements=tuple(map(_placement, load.owners)))
    return [Arrived(EPOCH, topology), Arrived(EPOCH, placed, seq=1)]


def _placement(owner: Owner) -> Placement:
    requests = {CPU: round(owner.request * 1000), MEMORY: GIB}
    workload = Workload(
        uid=owner.name,
        namespace="recorded",
        name=owner.name,
        qos=QosClass.SHARED,
        containers=(Container(name="main", requests=requests),),
    )
    return Placement(workload=workload, charged=requests)


# -- the judgement -------------------------------------------------------------------------------------------------------


def _judged(load: Load, policy: LendingPolicy, course: Course, period: Seconds, guests: Guests) -> Replayed:
    known = [used for used in course.used if used is not None]
    if not known:
        raise InputError(f"node {load.node}: not one report has all its workloads")
    ahead, over = round(PROMISED_FOR / period), round(CHURN_OVER / period)
    room = [None if used is None else load.capacity - used for used in course.used]
    moves = [abs(b - a) / load.capacity for a, b in zip(course.offer, course.offer[over:], strict=False)]
    risky = sum(
        used is not None and used + allowed > load.capacity + SMALLEST
        for used, allowed in zip(course.used, course.allowed, strict=True)
    )
    sold = Sold(*allowance(policy), guests, period)
    got = sum([sold.round(offer, could) for offer, could in zip(course.offer, course.could, strict=True)])
    count, owners = len(course.offer), sum(known) / len(known) / load.capacity
    return Replayed(
        node=load.node,
        policy=policy.name,
        days=count * period / DAY,
        owners=owners,
        offered=sum(course.offer) / count / load.capacity,
        promised=sum(course.promise) / count / load.capacity,
        utilisation=owners + got / len(known) / load.capacity,
        lost=sold.lost / (len(known) * period) / load.capacity,
        kept=held(course.promise, course.could, ahead),
        offer_kept=held(course.offer, course.could, ahead),
        room=held(course.promise, room, ahead),
        churn=percentile(moves, 0.99),
        risk_minutes=risky * period / MINUTE,
        evictions=sold.evictions,
        guest_days=sold.seconds / DAY,
        unknown=1 - len(known) / count,
    )


def held(promised: Sequence[Cores], there: Sequence[Cores | None], ahead: int) -> Ratio:
    """Share of promises that were there at each of the next `ahead` reports (a sliding minimum); 1 of none.

    Those are not judged of which one of these reports is unknown. Cost: O(reports).
    """
    kept = judged = 0
    window: deque[tuple[int, Cores]] = deque()  # reports that are the least from there on, least first
    unknown = 0  # the last report of which nothing is known
    for end in range(1, len(there)):
        if (found := there[end]) is None:
            unknown = end
            window.clear()
            continue
        while window and window[-1][1] >= found:
            window.pop()
        window.append((end, found))
        start = end - ahead
        if start < unknown:
            continue
        while window[0][0] <= start:
            window.popleft()
        judged += 1
        kept += window[0][1] >= promised[start] - 1e-3
    return kept / judged if judged else 1.0


def percentile(values: Iterable[float], share: Ratio) -> float:
    """The nearest rank; 0 of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


def together(parts: Sequence[Replayed], name: str, capacities: Sequence[int]) -> Replayed:
    """Several nodes as one line, each weighing as much as its days and CPUs; churn is that of the worst."""
    weights = [part.days * cpus for part, cpus in zip(parts, capacities, strict=True)]
    total = sum(weights)

    def mean(of: str) -> float:
        return float(sum(getattr(part, of) * weight for part, weight in zip(parts, weights, strict=True)) / total)

    return Replayed(
        node=name,
        policy=parts[0].policy,
        days=sum(part.days for part in parts),
        **{of: mean(of) for of in MEANS},
        churn=max(part.churn for part in parts),
        risk_minutes=sum(part.risk_minutes for part in parts),
        evictions=sum(part.evictions for part in parts),
        guest_days=sum(part.guest_days for part in parts),
    )
