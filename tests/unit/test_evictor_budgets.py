"""Budgets that nodes share, the last look, pauses, dry runs, and closing the node: what happens and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.contract.catalogue import ADVICE, EVICTING, EVICTION_TOKENS
from neap.common.model.advice import CgroupAdvice, Knobs, NodeAdvice, PoolAdvice
from neap.common.model.evicting import Evicting
from neap.common.model.lifecycle import Preemption
from neap.common.model.scheduling import Gang
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, DeviceUsage, NumaUsage, Stall
from neap.common.runtime.machine import Arrived, Failed, Gone, Put
from neap.common.units import GIB, MIB
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.plugins.cpu_load import Settings as CpuLoad
from neap.evictor.plugins.disk_pressure import Settings as DiskPressure
from neap.evictor.plugins.memory_bandwidth import Settings as MemoryBandwidth
from neap.evictor.plugins.network_pressure import Settings as NetworkPressure
from neap.evictor.settings import Settings
from tests.unit.evictor_world import TokenBus, World, a_guest, placed, released, shows, uids


def tight(**fields: Any) -> SharedBudgets:
    return SharedBudgets(**({"window": 100.0} | fields))


def hungry(world: World, at: float, **fields: Any) -> list[str]:
    """A report of a node without memory: somebody leaves at once."""
    seen = [shows(uid, working_set=GIB) for uid in "abcdef"]
    return uids(world.report(at, *seen, memory_available=100 * MIB, **fields))


# -- shared budgets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "scope"),
    [(tight(cluster=1), "cluster"), (tight(namespace=1), "namespace"), (tight(workload=1), "workload")],
)
def test_one_budget_holds_on_two_nodes(budgets: SharedBudgets, scope: str) -> None:
    bus = TokenBus()
    mine = World(a_guest("a", owner="Job/j"), bus=bus, shared=budgets)
    other = World(a_guest("b", owner="Job/j"), bus=bus, shared=budgets)
    assert hungry(mine, 100.0) == ["a"]
    assert hungry(other, 100.0) == [], "it has not heard of the token, and the bus refuses"
    assert other.counted["refused_total", "lost race"] == 1
    key, (revision, token) = next((k, v) for k, v in bus.stored.items() if k.startswith(scope))
    other.live(Arrived(100.5, token, key, revision))
    assert hungry(other, 101.0) == []
    assert other.counted["held_back_total", f"{scope} budget"] == 1
    assert hungry(other, 199.0) == []
    assert hungry(other, 201.0) == ["b"], "a window later the slot is free"


def test_budgets_of_others_do_not_count() -> None:
    bus = TokenBus()
    budgets = tight(namespace=1, workload=1)
    mine = World(a_guest("a", owner="Job/j"), bus=bus, shared=budgets)
    other = World(a_guest("b", owner="Job/j", namespace="other"), bus=bus, shared=budgets)
    assert hungry(mine, 100.0) == ["a"]
    assert hungry(other, 100.0) == ["b"]


def test_another_family_goes_where_the_first_choice_has_no_budget() -> None:
    bus, budgets = TokenBus(), tight(workload=1)
    other = World(a_guest("x", owner="Job/j"), bus=bus, shared=budgets)
    world = World(a_guest("a", owner="Job/k"), a_guest("b", owner="Job/j"), bus=bus, shared=budgets)
    assert uids(other.report(100.0, shows("x", working_set=GIB), memory_available=0)) == ["x"]
    for key, (revision, token) in bus.stored.items():
        world.live(Arrived(100.5, token, key, revision))
    assert hungry(world, 101.0) == ["a"]


def test_an_eviction_says_which_budgets_it_is_taken_from() -> None:
    world = World(a_guest("a"), shared=tight())
    assert hungry(world, 100.0) == ["a"]
    told = {one.scope: (one.spent, one.most) for one in world.commands[0].budgets}
    assert told == {"node": (1, 2), "workload": (1, 50), "namespace": (1, 200), "cluster": (1, 500)}
    assert "budget: node 1 of 2, workload 1 of 50, namespace 1 of 200, cluster 1 of 500" in world.trail[0].why


def test_without_the_bus_only_an_emergency_of_the_node_evicts_and_only_on_its_own_budget() -> None:
    world = World(*(a_guest(uid) for uid in "abcdef"), most=1)
    world.bus.away = True
    assert world.oversold(1.0, 90, 99) == []
    assert world.counted["refused_total", "bus away"] > 0
    assert hungry(world, 100.0) == ["f"]
    world.ledger(released("f", 100.5))
    assert hungry(world, 101.0) == [], "the node's own budget holds"
    assert [one.scope for one in world.commands[0].budgets] == ["node"]


def test_a_node_alone_counts_on_its_own_budget_only() -> None:
    world = World(a_guest("a"), shared=SharedBudgets(on=False))
    world.bus.away = True
    assert hungry(world, 100.0) == ["a"]
    assert world.bus.stored == {}


def test_nobody_is_chosen_before_the_budgets_were_read_but_in_an_emergency() -> None:
    world = World(a_guest("a"), a_guest("b"))
    world.machine._asking.tokens.synced = False
    assert world.oversold(0.0, 90, 99) == []
    assert world.counted["held_back_total", "budgets not read"] > 0
    assert hungry(world, 100.0) == ["b"]


def test_a_repeated_command_takes_no_second_token() -> None:
    world = World(a_guest("a"), grace=1.0, confirm_after=1, most=10, shared=tight(workload=1))
    assert hungry(world, 100.0) == ["a"]
    for at in range(101, 110):
        hungry(world, float(at))
    assert "a.1.evict.2" in world.ids
    assert len(world.bus.stored) == 3


def test_a_slot_the_channel_forgot_is_free() -> None:
    world = World(a_guest("a"), a_guest("b"), shared=tight(cluster=1), most=10)
    assert hungry(world, 100.0) == ["b"]
    world.ledger(released("b", 100.5))
    assert hungry(world, 101.0) == []
    for key in world.bus.stored:
        world.live(Gone(101.5, EVICTION_TOKENS, key))
    world.bus.stored.clear()
    assert hungry(world, 102.0) == ["a"]


# -- the last look ---------------------------------------------------------------------------------------------------


class Slow(TokenBus):
    """A bus that answers later: what it was asked waits in `waiting`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Put] = []

    def put(self, put: Put, at: float) -> Any:
        self.waiting.append(put)
        return _Nothing(at)

    def answer(self, world: World, at: float) -> list[str]:
        answers = [TokenBus.put(self, put, at) for put in self.waiting]
        self.waiting.clear()
        return uids(world.live(*answers))


class _Nothing:
    def __init__(self, at: float) -> None:
        self.at = at


def waiting(*workloads: Any, **settings: Any) -> tuple[World, Slow]:
    bus = Slow()
    world = World(*workloads, bus=bus, **settings)
    assert hungry(world, 100.0) == []
    assert bus.waiting
    return world, bus


def test_the_command_is_said_when_all_tokens_are_there() -> None:
    world, bus = waiting(a_guest("a"))
    assert bus.answer(world, 100.2) == ["a"]
    assert world.commands[0].at == 100.2


def test_a_guest_that_is_gone_meanwhile_is_not_evicted() -> None:
    world, bus = waiting(a_guest("a"))
    world.ledger(released("a", 100.1))
    assert bus.answer(world, 100.2) == []
    assert world.counted["refused_total", "gone"] == 1


def test_the_next_attempt_is_another_guest() -> None:
    world, bus = waiting(a_guest("a"))
    world.ledger(placed(a_guest("a", attempt=2), 100.1))
    assert bus.answer(world, 100.2) == []
    assert world.counted["refused_total", "gone"] == 1


def test_a_guest_that_is_protected_meanwhile_stays() -> None:
    world, bus = waiting(a_guest("a"))
    world.ledger(placed(a_guest("a", labels={"neap.io/protected": "true"}), 100.1))
    assert bus.answer(world, 100.2) == []
    assert world.counted["refused_total", "protected"] == 1


def test_a_pressure_that_is_over_meanwhile_evicts_nobody() -> None:
    world, bus = waiting(a_guest("a"))
    assert world.report(101.0, shows("a"), memory_available=9 * GIB) == []
    assert bus.answer(world, 101.2) == []
    assert world.counted["refused_total", "recovered"] == 1


def test_a_measurement_that_is_unknown_meanwhile_evicts_nobody() -> None:
    world, bus = waiting(a_guest("a"))
    world.report(101.0, shows("a"), memory_available=None)
    assert bus.answer(world, 101.2) == []
    assert world.counted["refused_total", "not known any more"] == 1
    world, bus = waiting(a_guest("a"))
    world.report(101.0, ContainerUsage(uid="a", container="c", cgroup="/k/a"), memory_available=0)
    assert bus.answer(world, 101.2) == []
    assert world.counted["refused_total", "no help any more"] == 1


def test_a_report_that_is_too_old_meanwhile_evicts_nobody() -> None:
    world, bus = waiting(a_guest("a"))
    assert bus.answer(world, 106.0) == []
    assert world.counted["refused_total", "stale report"] == 1


# -- minimum ---------------------------------------------------------------------------------------------------------


def test_a_family_keeps_the_minimum_it_asks_for() -> None:
    keeps: dict[str, Any] = {"labels": {"neap.io/min-available": "2"}, "owner": "Job/j"}
    world = World(*(a_guest(uid, **keeps) for uid in "abc"), most=10)
    assert hungry(world, 100.0) == ["c"]
    world.ledger(released("c", 100.5))
    assert hungry(world, 101.0) == []


def test_a_minimum_that_cannot_be_read_keeps_everybody() -> None:
    world = World(a_guest("a", annotations={"neap.io/min-available": "most"}))
    assert hungry(world, 100.0) == []


def test_a_gang_gives_its_surplus_first_and_nobody_else() -> None:
    gang = Gang(name="g", least=2)
    world = World(a_guest("a"), *(a_guest(uid, gang=gang) for uid in "bcd"), most=10)
    assert hungry(world, 100.0) == ["d"]
    assert "gang g can do without it" in world.commands[0].ranking
    world.ledger(released("d", 100.5))
    assert hungry(world, 101.0) == ["a"]


# -- pause, dry run, closing -----------------------------------------------------------------------------------------


def test_a_pause_is_honoured_said_once_and_ends_by_itself() -> None:
    world = World(a_guest("a"))
    for instruction in world.machine.tune(Settings(node="n1", pause_until=130.0, pause_reason="INC-1"), 100.0):
        if isinstance(instruction, Put):
            world.closings.append(instruction.value)
    assert world.closings[-1].paused_until == 130.0
    assert world.closings[-1].pause_reason == "INC-1"
    for at in range(101, 130):
        assert hungry(world, float(at)) == []
    asked = Preemption(at=120.0, source="s", node="n1", victims=("a",), attempts=(1,), beneficiary="o", reason="r")
    assert world.live(Arrived(129.0, asked)) == []
    assert hungry(world, 130.0) == ["a"]
    assert world.counted["pauses_total", "ended"] == 1
    assert [line.split(":")[0] for line in world.said] == ["evictor.resumed"]
    assert world.closings[-1].paused_until == 0.0


def test_a_rule_on_a_dry_run_says_whom_it_would_have_evicted_and_does_nothing() -> None:
    settings = DiskPressure(reports=3)
    world = World(a_guest("quiet"), a_guest("noisy"), disk_pressure=settings)
    disks = (DeviceUsage(name="sda", busy=0.99),)
    seen = [shows("quiet"), ContainerUsage(uid="noisy", container="c", cgroup="/k/n", io_read=9e8, io_write=1e6)]
    for at in range(100, 108):
        assert world.report(float(at), *seen, io_stall=Stall(some60=0.8), disks=disks) == []
    assert world.counted["would_evict_total", "disk_pressure"] == 1
    (line,) = world.said
    assert line.startswith("evictor.would: would have evicted batch/noisy (noisy) from n1: disk_pressure: tasks waited")
    assert world.closings == []
    on = World(a_guest("quiet"), a_guest("noisy"), disk_pressure=DiskPressure(reports=3, dry_run=False))
    commands = [
        c for at in range(100, 108) for c in on.report(float(at), *seen, io_stall=Stall(some60=0.8), disks=disks)
    ]
    assert uids(commands) == ["noisy"]


def test_who_moves_most_leaves_where_bandwidth_is_measured() -> None:
    world = World(a_guest("a"), a_guest("b"), memory_bandwidth=MemoryBandwidth(reports=1, most=1e9, dry_run=False))
    seen = [
        ContainerUsage(uid=uid, container="c", cgroup=f"/k/{uid}", bandwidth=rate, cpuset="0-1")
        for uid, rate in (("a", 1e9), ("b", 1e8))
    ]
    full = (NumaUsage(index=0, bandwidth=2e9),)
    assert world.report(100.0, *seen, numa=full) == [], "nobody is known to run there without a topology"
    numa = NumaNode(index=0, cpus="0-3", memory=GIB)
    machine = Zone(kind=ZoneKind.MACHINE, index=0)
    world.live(Arrived(100.5, NodeTopology(at=100.5, source="reporter", node="n1", machine=machine, numa=(numa,))))
    assert uids(world.report(101.0, *seen, numa=full)) == ["a"]


def test_a_full_link_closes_the_node_and_evicts_nobody() -> None:
    world = World(a_guest("a"), network_pressure=NetworkPressure(reports=1, dry_run=False))
    unknown = DeviceUsage(name="veth0", read=9e9, write=0.0)
    assert world.report(100.0, links=(unknown,)) == []
    assert world.closings == []
    assert world.report(101.0, links=(DeviceUsage(name="eth0", read=1.2e9, write=0.0, speed=1.25e9),)) == []
    assert "eth0 moves 1.118Gi/s, 96% of its speed" in world.closings[-1].closed[0].why


def test_a_node_is_closed_while_it_evicts_and_opens_again() -> None:
    world = World(a_guest("a"), a_guest("b"), grace=2.0)
    world.oversold(4.0, 100, 104)
    closing = world.closings[-1]
    assert [one.rule for one in closing.closed] == ["reclaimed_overuse", "evicting"]
    assert "guests asked for 8.0 cores" in closing.closed[0].why
    assert closing.until == 109.0
    world.ledger(released("b", 105.0))
    world.oversold(8.0, 105, 108)
    assert world.closings[-1].closed
    world.oversold(8.0, 109, 112)
    assert world.closings[-1] == Evicting(at=109.0, source="evictor", node="n1")


def test_a_crowded_node_takes_nobody_before_anybody_leaves() -> None:
    world = World(a_guest("a"), memory_pressure=Settings().memory_pressure)
    for at in range(100, 103):
        assert world.report(float(at), shows("a"), memory_available=1200 * MIB) == []
    (closing,) = world.closings
    assert closing.closed[0].rule == "memory_pressure"
    world.live(Failed(103.0, Put(EVICTING.at(node="n1"), closing), "no connection", may_retry=True))
    world.report(104.0, shows("a"), memory_available=1200 * MIB)
    assert len(world.closings) == 2, "what nobody heard is said again"


# -- what was tried --------------------------------------------------------------------------------------------------


def an_advice(at: float, cpus: str, **knobs: Any) -> NodeAdvice:
    return NodeAdvice(
        at=at,
        source="advisor",
        node="n1",
        seq=int(at),
        expires=at + 30.0,
        pools=(
            PoolAdvice(name="reclaimed", cpus=cpus, requirement=0.0, reason=""),
            PoolAdvice(name="share", cpus="0-3", requirement=0.0, reason=""),
        ),
        cgroups=(
            CgroupAdvice(target="pod/a", pool="reclaimed", knobs=Knobs(**knobs)),
            CgroupAdvice(target="pod/owner", pool="share", knobs=Knobs()),
        ),
    )


def test_an_eviction_says_what_was_tried_and_who_else_could_have_gone() -> None:
    world = World(*(a_guest(uid) for uid in "bcdefa"), most=1)
    world.live(Arrived(80.0, an_advice(80.0, "4-27")), Arrived(90.0, an_advice(90.0, "4-9", memory_high=GIB)))
    assert uids(world.oversold(16.0, 100, 104)) == ["a"]
    (command,) = world.commands
    throttle, reclaim = command.tried
    assert throttle.says == "guests' CPUs cut from 24 to 6, first 14s ago"
    assert reclaim.says == "its memory.high 1Gi"
    assert [one.uid for one in command.contenders] == ["a", "f", "e", "d", "c", "b"]
    assert command.contenders[0].age == 99.0
    assert "others: batch/f, batch/e, batch/d and 2 more" in world.trail[0].why
    assert "tried: throttle (guests' CPUs cut from 24 to 6" in world.trail[0].why


def test_without_advice_nothing_is_known_of_what_was_tried() -> None:
    world = World(a_guest("a"), a_guest("b"))
    world.live(Arrived(10.0, an_advice(10.0, "4-9")))
    world.oversold(4.0, 100, 104)
    assert [one.says for one in world.commands[0].tried] == ["not known: no advice is valid"] * 2
    world.live(Gone(105.0, ADVICE, "n1"))


def test_load_of_a_pool_is_what_its_members_run_and_wait_for() -> None:
    world = World(a_guest("a"), cpu_load=CpuLoad(reports=1, dry_run=False))
    world.live(Arrived(99.0, an_advice(99.0, "4-9")))
    owner = ContainerUsage(uid="owner", container="c", cgroup="/k/o", cpu=3.0, run_delay=6.0)
    assert uids(world.report(100.0, owner, shows("a"))) == ["a"]
    assert "9.0 tasks run or wait in pool share of 4 CPUs, 7.2 is allowed" in world.commands[0].reason


# -- after a load step -----------------------------------------------------------------------------------------------


def test_after_a_step_of_load_nobody_leaves_before_the_grace_and_nobody_if_shrinking_was_enough() -> None:
    helped = World(a_guest("a"), a_guest("b"))
    assert helped.oversold(8.0, 90, 99) == []
    assert helped.oversold(2.0, 100, 103) == []
    assert helped.oversold(8.0, 104, 130) == []
    not_enough = World(a_guest("a"), a_guest("b"))
    not_enough.oversold(8.0, 90, 99)
    assert not_enough.oversold(5.0, 100, 103) == [], "the grace: five reports"
    assert uids(not_enough.oversold(5.0, 104, 104)) == ["b"]
