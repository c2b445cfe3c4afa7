"""The advisor and a simulated kernel, closed into a loop at one report a second: what owners feel, and guests.

Report and enforcement are reduced to reading and writing the host's files; the real ones have tests of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.core.waking import STORED
from neap.advisor.settings import Settings
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.host.memory import Folder
from neap.common.host.port import Refused
from neap.common.model.advice import CgroupAdvice, NodeAdvice
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Put, Synced
from neap.common.runtime.plugins import load
from neap.common.units import GIB, KIB, MIB, Cores
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Curve, Demand, Memory, ServiceModel, VirtualContainer, VirtualPod, Work
from neap.virtual.snapshot import NumaShare, Snapshot

POLICIES = load("neap.advisor.plugins", Policy)
ROOT = "/sys/fs/cgroup/kubepods"
HOME = {QosClass.RECLAIMED: ("besteffort/", KubeQos.BEST_EFFORT), QosClass.SHARED: ("burstable/", KubeQos.BURSTABLE)}
FILES = {
    "cpus": "cpuset.cpus",
    "memory_low": "memory.low",
    "memory_high": "memory.high",
    "memory_max": "memory.max",
}
STEP_AT = 40.0


def a_step(request: Cores, low: float, high: float) -> Curve:
    """A share of the request until `STEP_AT`, another one after it, at once."""
    points = (*[low] * int(STEP_AT * 4), *[high] * 4000)
    return Curve(points=points, step=0.25, scale=request)


class Loop:
    """One machine of four NUMA nodes, its pods, its advisor."""

    def __init__(self, cpus: int, memory: int, **tuning: Any) -> None:
        quarter = cpus // 4
        numa = {i: frozenset(range(i * quarter, (i + 1) * quarter)) for i in range(4)}
        folders: Folder = {f"node{i}": {} for i in numa}
        self.host = VirtualHost(
            Snapshot(
                name="loop",
                tree={"sys": {"devices": {"system": {"node": folders}}}},
                cpus=frozenset(range(cpus)),
                present=frozenset(range(cpus)),
                numa={i: NumaShare(part, memory // 4) for i, part in numa.items()},
                memory=memory,
            ),
            node="n",
        )
        self.topology = NodeTopology(
            at=0,
            source="reporter",
            node="n",
            machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus=f"0-{cpus - 1}"),
            numa=tuple(NumaNode(index=i, cpus=format_cpuset(part), memory=memory // 4) for i, part in numa.items()),
            capacity={MEMORY: memory},
            allocatable={MEMORY: memory * 7 // 8},
            system_cpus="0",
        )
        self.machine = AdvisorMachine(Settings(node="n", period=1.0, **tuning), POLICIES)
        self.placements: list[Placement] = []
        self.paths: dict[str, str] = {}
        self.before: dict[str, float] = {}
        self.guests: frozenset[int] = frozenset()
        self.advice: NodeAdvice | None = None

    def start(self, uid: str, qos: QosClass, cores: Cores, request: int, demand: Demand, memory: Memory) -> None:
        """A pod on the host and in the ledger."""
        group, kube = HOME[qos]
        guest = qos is QosClass.RECLAIMED
        kinds = (RECLAIMED_CPU, RECLAIMED_MEMORY) if guest else (CPU, MEMORY)
        size = dict(zip(kinds, (int(cores * 1000), request), strict=True))
        service = None if guest else ServiceModel(mean=0.01, objective=0.2)
        container = VirtualContainer(id=f"{uid}-c", requests={} if guest else size, demand=demand, memory=memory)
        self.host.start(VirtualPod(uid=uid, qos=kube, containers=(container,), service=service))
        self.paths[uid] = f"{ROOT}/{group}pod{uid}"
        workload = Workload(uid=uid, namespace="x", name=uid, qos=qos, containers=(Container(name="c", requests=size),))
        self.placements.append(Placement(workload=workload, charged=size))

    def begin(self) -> None:
        """The advisor hears what is stored."""
        self.hear(self.topology)
        self.hear(Checkpoint(at=0, source="s", node="n", placements=tuple(self.placements)))
        for channel in STORED:
            self.machine.handle(Synced(0.0, channel))

    def second(self) -> None:
        """Time passes, a report is made, its advice is written."""
        self.host.advance(self.host.now + 1.0)
        self.hear(self.report())

    def hear(self, message: object) -> None:
        for said in self.machine.handle(Arrived(self.host.now, message)):
            if isinstance(said, Put) and isinstance(said.value, NodeAdvice):
                self.advice = said.value
                self.guests = parse_cpuset(self.knob("class/besteffort").knobs.cpus or "")
                for cgroup in said.value.cgroups:
                    self.write(cgroup)
        self.machine.validate()

    def knob(self, target: str) -> CgroupAdvice:
        assert self.advice is not None
        return next(cgroup for cgroup in self.advice.cgroups if cgroup.target == target)

    def write(self, cgroup: CgroupAdvice) -> None:
        kind, name = cgroup.target.split("/")
        path = self.paths.get(name, "") if kind == "pod" else f"{ROOT}/{name}".removesuffix("/guaranteed")
        if not path:
            return
        for field, file in FILES.items():
            if (value := getattr(cgroup.knobs, field)) is not None:
                self.host.write(f"{path}/{file}", str(value))
        if cgroup.knobs.cpu_idle:
            self.host.write(f"{path}/cpu.idle", "1")
        level, now = cgroup.knobs.memory_down_to, int(self.host.read(f"{path}/memory.current"))
        if level is not None and now > level:
            try:
                self.host.write(f"{path}/memory.reclaim", str(now - level))
            except Refused as error:
                raise AssertionError(f"asked for more than there is: {error}") from None

    def report(self) -> NodeUsage:
        """What the reporter would say."""
        now = self.host.now
        containers = tuple(self.usage(uid, path) for uid, path in sorted(self.paths.items()))
        rows = {line.split()[0]: int(line.split()[1]) for line in self.host.read("/proc/meminfo").splitlines()}
        return NodeUsage(
            at=now,
            source="r",
            node="n",
            seq=int(now * 1000),
            period=1.0,
            cpu=sum(one.cpu or 0.0 for one in containers),
            memory_available=rows["MemAvailable:"] * KIB,
            numa=tuple(NumaUsage(index=i, memory_free=self.free(i)) for i in range(4)),
            containers=containers,
        )

    def free(self, numa: int) -> int:
        text = self.host.read(f"/sys/devices/system/node/node{numa}/meminfo")
        return next(int(line.split()[3]) * KIB for line in text.splitlines() if "MemFree:" in line)

    def usage(self, uid: str, path: str) -> ContainerUsage:
        stat = {line.split()[0]: int(line.split()[1]) for line in self.host.read(f"{path}/memory.stat").splitlines()}
        seconds = int(self.host.read(f"{path}/cpu.stat").split()[1]) / 1e6
        used, self.before[uid] = seconds - self.before.get(uid, 0.0), seconds
        current = int(self.host.read(f"{path}/memory.current"))
        return ContainerUsage(
            uid=uid,
            container=f"{uid}-c",
            cgroup=path.removeprefix("/sys/fs/cgroup/"),
            cpu=used,
            memory=current,
            working_set=current - stat["inactive_file"],
            file_cache=stat["file"],
            cpu_stall=Stall(some10=self.pressure(uid, "cpu")),
        )

    def pressure(self, uid: str, resource: str) -> float:
        """PSI some, last 10 s, 0..1."""
        return float(self.host.read(f"{self.paths[uid]}/{resource}.pressure").split()[1].partition("=")[2]) / 100

    def events(self, group: str) -> dict[str, int]:
        """memory.events of a class."""
        text = self.host.read(f"{ROOT}/{group}/memory.events")
        return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}

    def held(self, uid: str) -> int:
        return int(self.host.read(f"{self.paths[uid]}/memory.current"))


# -- row 5: an owner's load steps up ---------------------------------------------------------------------------------


def stepping(cpus: int, owners: int, late: float) -> Loop:
    """Owners with two thirds of the machine between them, and guests that take all they are given."""
    loop, request = Loop(cpus, 4 * GIB), cpus * 2 / 3 / owners
    for index in range(owners):
        curve = a_step(request, 0.2, 0.9)
        demand = Curve(points=curve.points[int(late * 4) :], step=curve.step, scale=curve.scale)
        loop.start(f"s{index}", QosClass.SHARED, request, 64 * MIB, demand, Memory(start=32 * MIB))
    for index in range(4):
        work = Work(core_seconds=1e9, width=cpus / 2)
        loop.start(f"g{index}", QosClass.RECLAIMED, cpus / 4, 64 * MIB, work, Memory(start=32 * MIB))
    loop.begin()
    return loop


@pytest.mark.parametrize(("cpus", "owners"), [(8, 1), (8, 3), (16, 2), (64, 1), (128, 8)])
@pytest.mark.parametrize("late", [0.0, 0.5])
def test_guests_give_way_to_a_step_from_20_to_90_percent_within_two_periods(
    cpus: int, owners: int, late: float
) -> None:
    loop = stepping(cpus, owners, late)
    while loop.host.now < STEP_AT - 1:
        loop.second()
    calm = len(loop.guests)
    assert calm >= cpus // 3, "at 20 % little is lent"
    sizes, pressures = [], []
    for _ in range(15):
        loop.second()
        sizes.append(len(loop.guests))
        pressures.append(max(loop.pressure(f"s{index}", "cpu") for index in range(owners)))
    assert sizes[1] < calm, "the first report after the step changed nothing"
    wanted = cpus * 2 / 3 * 0.9
    assert len(parse_cpuset(loop.knob("pod/s0").knobs.cpus or "")) >= wanted
    assert all(later <= now for now, later in pairwise(sizes[:6])), "guests came back while the owner still grew"
    assert cpus - 1 - sizes[2] + 2 >= wanted, "two periods after the step owners have not what they want"
    assert pressures[-1] < 0.10, f"owners still wait: {pressures}"
    states = loop.host.observe().services
    assert not any(state.violated for state in states)


# -- row 6: a guest takes memory -------------------------------------------------------------------------------------


def crowded(guests: Sequence[Memory]) -> Loop:
    """8 CPUs, 4 GiB; an owner that holds 1 GiB and 128 MiB of cache, half of it idle."""
    loop = Loop(8, 4 * GIB)
    steady = Curve(points=(1.0,), step=60.0, scale=1.0)
    memory = Memory(start=GIB, cache=128 * MIB, cache_per_core_second=64 * MIB)
    loop.start("s", QosClass.SHARED, 2, 2 * GIB, steady, memory)
    for index, wants in enumerate(guests):
        work = Work(core_seconds=1e9, width=2)
        loop.start(f"g{index}", QosClass.RECLAIMED, 2, 0, work, wants)
    loop.begin()
    return loop


@pytest.mark.parametrize(
    "guests",
    [
        [Memory(start=64 * MIB, cache=16 * GIB, cache_per_core_second=128 * MIB)] * 2,
        [Memory(start=64 * MIB, per_second=96 * MIB)] * 2,
        [
            Memory(start=GIB, per_second=64 * MIB),
            Memory(start=64 * MIB, cache=8 * GIB, cache_per_core_second=256 * MIB),
        ],
    ],
    ids=["page cache", "allocations", "both"],
)
def test_a_guest_that_takes_memory_takes_none_of_an_owner(guests: list[Memory]) -> None:
    loop = crowded(guests)
    for _ in range(20):
        loop.second()
    held = loop.held("s")
    least = 4 * GIB
    for _ in range(100):
        loop.second()
        assert loop.held("s") == held
        assert loop.pressure("s", "memory") == 0.0
        least = min(least, loop.report().memory_available or 0)
    assert least > 64 * MIB, "the node came near to OOM"
    group, events = loop.knob("class/besteffort").knobs, loop.events("besteffort")
    assert int(loop.host.read(f"{ROOT}/besteffort/memory.current")) <= (group.memory_max or 0)
    assert events["high"] > 0, "guests were never slowed"
    assert events["oom_kill"] <= events["oom"], "the machine killed a guest, not its own limit"
    assert loop.events("burstable")["oom_kill"] == 0


def test_cache_of_a_guest_is_taken_back_when_free_memory_gets_short() -> None:
    loop = crowded([Memory(start=64 * MIB, cache=3 * GIB, cache_per_core_second=256 * MIB)])
    taken = 0
    for _ in range(60):
        loop.second()
        taken += any(cgroup.knobs.memory_down_to is not None for cgroup in (loop.advice.cgroups if loop.advice else ()))
    assert taken > 3
    stat = loop.host.read(f"{ROOT}/besteffort/memory.stat")
    assert int(stat.split("pgsteal ")[1].split()[0]) > 0


def test_an_owner_that_grows_gets_its_memory_from_guests() -> None:
    loop = crowded([Memory(start=64 * MIB, cache=8 * GIB, cache_per_core_second=256 * MIB)])
    for _ in range(40):
        loop.second()
    full = loop.held("g0")
    growing = Curve(points=(0.5,), step=60.0, scale=1.0)
    loop.start("t", QosClass.SHARED, 1, GIB, growing, Memory(start=64 * MIB, per_second=20 * MIB, ceiling=GIB))
    loop.hear(Checkpoint(at=0, source="s", node="n", placements=tuple(loop.placements)))
    for _ in range(60):
        loop.second()
        assert loop.pressure("t", "memory") == loop.pressure("s", "memory") == 0.0
    assert loop.held("t") == GIB
    assert loop.held("g0") <= full - 700 * MIB
