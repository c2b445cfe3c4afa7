"""Who hears usage decides alike whether every report is full, or most are short and some of those are lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.settings import Settings as AdvisorSettings
from neap.common.contract.catalogue import ADVICE, HEADROOM, NODES, PLACEMENTS, POLICY, TOPOLOGY
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Emit, Instruction, Machine, Put, Synced
from neap.common.runtime.plugins import load
from neap.common.units import GIB, MIB
from neap.console.core.topview import TopView
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.rule import Rule
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.settings import Settings as EvictorSettings
from neap.reporter.core.telling import Telling
from neap.reporter.settings import Settings
from neap.scheduler.core.nodes.load import AT, USED, USED_BY_OWNERS
from neap.scheduler.core.nodes.table import NodeTable

TOPOLOGY_OF_N = NodeTopology(
    at=0.0, source="reporter", node="n", machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus="0-15"),
    numa=(NumaNode(index=0, cpus="0-15", memory=64 * GIB),), capacity={CPU: 16_000, MEMORY: 64 * GIB},
    allocatable={CPU: 15_000, MEMORY: 62 * GIB}, system_cpus="0",
)  # fmt: skip


def placed(uid: str, *, guest: bool) -> Placement:
    requests = {RECLAIMED_CPU if guest else CPU: 2000, RECLAIMED_MEMORY if guest else MEMORY: GIB}
    qos = QosClass.RECLAIMED if guest else QosClass.SHARED
    workload = Workload(uid=uid, namespace="a", name=uid, qos=qos, containers=(Container(name="c", requests=requests),))
    return Placement(workload=workload, charged=requests)


PODS = (placed("own", guest=False), placed("calm", guest=False), placed("lent", guest=True))
PLACED = Checkpoint(at=0.0, source="scheduler", node="n", placements=PODS)


def life() -> list[NodeUsage]:
    """Sixty reports in which containers take turns to move, one never does, and memory runs short in the end."""
    reports = []
    for seq in range(1, 61):
        cpus = {"own": 1.0 + seq // 2 * 0.25, "calm": 0.5, "lent": 0.5 + (seq + 1) // 2 * 0.05}
        containers = tuple(
            ContainerUsage(uid=uid, container="c", cgroup=f"kubepods/pod{uid}/c", cpu=cpu, memory=GIB,
                           working_set=GIB, cpu_stall=Stall(some10=0.01))
            for uid, cpu in cpus.items()
        )  # fmt: skip
        available = 20 * GIB if seq < 45 else 100 * MIB
        reports.append(
            NodeUsage(at=float(seq), source="reporter", node="n", seq=seq, period=1.0, cpu=sum(cpus.values()),
                      memory_available=available, memory_stall=Stall(), containers=containers)
        )  # fmt: skip
    return reports


def told(full_every: int) -> list[NodeUsage]:
    telling = Telling(Settings(full_every=full_every, moved_ratio=0.0, moved_cores=0.0, moved_bytes=0, moved_pages=0.0))
    return [message for usage in life() if (message := telling.tell(usage)) is not None]


def decided(machine: Machine, reports: Sequence[NodeUsage]) -> list[Sequence[Instruction]]:
    for channel, message in (
        (TOPOLOGY, TOPOLOGY_OF_N),
        (PLACEMENTS, PLACED),
        (ADVICE, None),
        (HEADROOM, None),
        (POLICY, None),
        (NODES, None),
    ):
        if message is not None:
            machine.handle(Arrived(0.0, message, seq=1))
        machine.handle(Synced(0.0, channel))
    found = [machine.handle(Arrived(usage.at, usage)) for usage in reports]
    machine.validate()
    return found


def an_advisor() -> Machine:
    return AdvisorMachine(AdvisorSettings(node="n"), load("neap.advisor.plugins", Policy))


def an_evictor() -> Machine:
    return EvictorMachine(EvictorSettings(node="n", shared=SharedBudgets(on=False)), load("neap.evictor.plugins", Rule))


@pytest.mark.parametrize("make", [an_advisor, an_evictor])
def test_a_room_decides_the_same_from_short_reports(make: Any) -> None:
    short = told(10)
    assert sum(bool(usage.since) for usage in short) >= 40
    with_all, with_short = decided(make(), told(1)), decided(make(), short)
    assert any(with_all)
    assert with_short == with_all


def said_at_last(said: Sequence[Sequence[Instruction]]) -> list[Any]:
    """The pools the advisor ends with (it smooths, so a loss fades), and whom the evictor sent away."""
    every = [one for each in said for one in each]
    pools = [one.value.pools for one in every if isinstance(one, Put) and isinstance(one.value, NodeAdvice)]
    sizes = [(pool.name, pytest.approx(pool.requirement, rel=0.05)) for pool in (pools[-1] if pools else ())]
    return [*sizes, *(one.message.uid for one in every if isinstance(one, Emit))]


@pytest.mark.parametrize("make", [an_advisor, an_evictor])
def test_a_lost_full_report_leaves_a_room_working_and_right_again_with_the_next(make: Any) -> None:
    reports = told(10)
    assert not reports[10].since
    heard, missed = decided(make(), reports), decided(make(), [*reports[:10], *reports[11:]])
    assert len(missed) == len(heard) - 1
    assert said_at_last(missed) == said_at_last(heard) != []


def load_of(reports: Sequence[NodeUsage]) -> list[dict[str, float]]:
    table, found = NodeTable(), []
    table.describe(TOPOLOGY_OF_N)
    for placement in PLACED.placements:
        table.charge("n", placement, at=0.0)
    for usage in reports:
        table.measure(usage, usage.at)
        found.append({name: round(float(table.columns[name][0]), 6) for name in (*USED, *USED_BY_OWNERS, AT)})
    return found


def test_the_scheduler_knows_what_guests_use_from_short_reports() -> None:
    everything = load_of(told(1))
    assert load_of(told(10)) == everything
    assert everything[-1]["used/cpu"] > everything[-1]["used/cpu/owners"] > 0


def test_the_scheduler_goes_on_with_the_last_known_guests_when_a_full_report_was_lost() -> None:
    reports = told(10)
    found = load_of([*reports[:10], *reports[11:]])
    lent = [row["used/cpu"] - row["used/cpu/owners"] for row in found]
    assert lent[10] == pytest.approx(lent[9]), "unchanged, for all it knows"
    assert lent[-1] == pytest.approx(life()[-1].containers[2].cpu * 1000)  # type: ignore[operator]


def test_the_live_view_shows_all_containers() -> None:
    view = TopView()
    view.see(TOPOLOGY_OF_N)
    view.see(PLACED)
    for usage in told(10):
        view.see(usage)
        busy = sum(container.cpu or 0.0 for container in view.usage["n"].containers)
        assert busy == pytest.approx(usage.cpu)
