"""What becomes of an eviction when a part fails: restarts, lost reports, silent buses, clocks that differ, odd numbers."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import EVICTING, EVICTION_TOKENS, PLACEMENTS
from neap.common.model.evicting import Token
from neap.common.model.lifecycle import Preemption
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.resource import MEMORY, RECLAIMED_MEMORY
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, DeviceUsage, FilesystemUsage, NodeUsage, NumaUsage, Stall
from neap.common.model.workload import Container
from neap.common.runtime.machine import Arrived, Failed, Put, Synced
from neap.common.runtime.remembering import MOST
from neap.common.units import GIB
from neap.evictor.core.history import History
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.memory import Memory
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.plugins.cpu_usage import Settings as CpuUsage
from neap.evictor.plugins.disk_pressure import Settings as DiskPressure
from neap.evictor.plugins.memory_pressure import Settings as MemoryPressure
from neap.evictor.plugins.rootfs_pressure import Settings as RootfsPressure
from neap.evictor.settings import Settings
from tests.unit.evictor_world import RULES, TokenBus, World, a_guest, a_report, lends, placed, released, shows, uids
from tests.unit.test_evictor_budgets import Slow, hungry, waiting


def kept(world: World) -> Memory:
    """What the next life gets to know."""
    return msgspec.json.decode(msgspec.json.encode(world.machine.memory), type=Memory)


def restarted(world: World, at: float, *ledger: Any, **settings: Any) -> World:
    """The next life: memory, then the ledger as it is stored by then, then everything is read."""
    after = World(bus=world.bus, **settings)
    after.machine = EvictorMachine(Settings(node="n1", **settings), RULES)
    for seq, entry in enumerate(ledger, start=100):
        after.live(Arrived(at, entry, seq=seq))
    after.machine.recall(kept(world), at)
    after.live(Synced(at, PLACEMENTS), Synced(at, EVICTION_TOKENS))
    return after


def a_checkpoint(at: float, *workloads: Any) -> Checkpoint:
    placements = tuple(Placement(workload=workload, charged=workload.requests) for workload in workloads)
    return Checkpoint(at=at, source="scheduler", node="n1", placements=placements)


# -- who leaves: what is known of a guest outlives resizes and restarts ----------------------------------------------


def test_a_guest_that_is_resized_in_place_keeps_its_age_and_what_it_cost_to_start() -> None:
    world = World()
    for uid, cost in (("dear", 700.0), ("cheap", 1.0)):
        world.ledger(placed(a_guest(uid), 100.0 if uid == "dear" else 900.0))
        world.report(800.0 if uid == "dear" else 901.0, shows("dear"), *[shows("cheap")] * (uid == "cheap"))
        assert world.machine.memory.start_costs[uid] == cost
    world.ledger(placed(a_guest("dear", cores=3.9), 950.0))
    world.report(951.0, shows("dear"), shows("cheap"))
    (command, *_) = world.oversold(4.0, 960, 964)
    assert command.uid == "cheap"
    assert {one.uid: (one.start_cost, one.age) for one in command.contenders} == {
        "cheap": (1.0, 64.0),
        "dear": (700.0, 864.0),
    }


def test_the_youngest_goes_after_a_restart_too_when_the_ledger_begins_with_a_checkpoint() -> None:
    world = World(a_guest("new", priority=0))
    world.ledger(placed(a_guest("a_old"), 1.0))
    world.ledger(released("new", 2.0))
    world.ledger(placed(a_guest("new"), 90.0))
    world.ledger(a_checkpoint(95.0, a_guest("a_old"), a_guest("new")))
    after = restarted(world, 99.0, a_checkpoint(95.0, a_guest("a_old"), a_guest("new")))
    (command,) = after.oversold(4.0, 100, 104)
    assert command.uid == "new"
    assert [one.age for one in command.contenders] == [14.0, 103.0]


def test_what_an_earlier_run_cost_to_start_is_not_held_to_be_what_this_one_cost() -> None:
    world = World()
    world.ledger(placed(a_guest("a"), 0.0))
    world.report(700.0, shows("a"))
    assert world.machine.memory.start_costs == {"a": 700.0}
    after = restarted(world, 800.0, a_checkpoint(790.0, a_guest("a", attempt=2)))
    assert after.machine.memory.start_costs == {}


# -- reports: lost, mangled, of another time -------------------------------------------------------------------------


def short(at: int, since: int, *containers: ContainerUsage) -> Arrived[NodeUsage]:
    report = msgspec.structs.replace(a_report(float(at), *containers), since=since)
    return Arrived(report.at, report)


def test_a_full_report_that_is_lost_brings_no_old_numbers_back() -> None:
    world = World(a_guest("fat"))
    world.report(100.0, shows("fat", working_set=9 * GIB))
    world.live(short(101, 100, shows("fat", working_set=GIB)))
    for at in range(103, 112):  # the full one of 102 was lost
        assert world.live(short(at, 102)) == [], "it has shrunk since the last full report that was heard"


def test_a_period_that_is_none_changes_no_wait() -> None:
    world = World(a_guest("a"), a_guest("b"), grace=1.0, confirm_after=1, most=1, window=2)
    assert hungry(world, 100.0, period=1e308) == ["b"]
    assert world.machine.memory.sent["b"].until == 102.0
    assert world.closings[-1].until < 200.0
    world.report(101.0, shows("a"), memory_available=0, period=60.0)
    world.report(102.0, shows("a"), memory_available=0, period=0.0)
    assert world.machine.memory.period == 60.0


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -float("inf")])
def test_a_report_of_no_time_is_not_heard_and_silences_none_after_it(at: float) -> None:
    world = World(a_guest("a"))
    world.live(Arrived(100.0, msgspec.structs.replace(a_report(100.0), at=at)))
    assert world.machine.memory.heard is None
    assert hungry(world, 101.0) == ["a"]


def test_reports_that_stop_are_said_as_soon_as_anything_else_is_heard() -> None:
    world = World(a_guest("a"))
    world.report(100.0, shows("a"))
    world.lends(9.0, 105.0)
    assert ("stale_total", "usage") not in world.counted
    for at in range(106, 120):
        world.lends(9.0, float(at))
    assert world.counted["stale_total", "usage"] == 1
    world.report(120.0, shows("a"))
    world.lends(9.0, 130.0)
    assert world.counted["stale_total", "usage"] == 2


def test_what_is_listed_twice_in_one_report_counts_once() -> None:
    world = World(a_guest("a"), rootfs_pressure=RootfsPressure(reports=4, dry_run=False))
    full = FilesystemUsage(path="/var", size=100 * GIB, free=GIB)
    writes = ContainerUsage(uid="a", container="c", cgroup="/k/a", io_write=1e6)
    for at in range(100, 103):
        assert world.report(float(at), writes, filesystems=(full, full)) == []
    assert uids(world.report(103.0, writes, filesystems=(full, full))) == ["a"]


def test_an_average_that_still_falls_evicts_nobody_once_the_stall_is_over() -> None:
    world = World(a_guest("a"), a_guest("b"), most=10)
    seen = (shows("a"), shows("b"))
    assert uids(world.report(100.0, *seen, memory_stall=Stall(full10=0.6, full=0.9))) == ["b"]
    world.ledger(released("b", 100.5))
    for after, average in ((101, 0.5), (102, 0.4), (103, 0.3)):
        assert world.report(float(after), *seen, memory_stall=Stall(full10=average, full=0.0)) == []
    assert uids(world.report(104.0, *seen, memory_stall=Stall(full10=0.3, full=0.3))) == ["a"]


def test_a_disk_that_is_waited_for_no_longer_evicts_nobody() -> None:
    world = World(a_guest("a"), disk_pressure=DiskPressure(reports=2, dry_run=False))
    moves = ContainerUsage(uid="a", container="c", cgroup="/k/a", io_read=1e9, io_write=0.0)
    disks = (DeviceUsage(name="sda", busy=0.99),)
    for at in range(100, 110):
        assert world.report(float(at), moves, io_stall=Stall(some60=0.9, some=0.1), disks=disks) == []
    for at in (110.0, 111.0):
        world.report(at, moves, io_stall=Stall(some60=0.9, some=0.7), disks=disks)
    assert uids(world.commands) == ["a"]


# -- clocks of others ------------------------------------------------------------------------------------------------


def test_an_offer_of_an_advisor_whose_clock_is_behind_its_last_life_counts_at_once() -> None:
    world = World(a_guest("a"), a_guest("b"), offer_stale_after=1000)
    world.oversold(4.0, 100, 103)
    world.live(Arrived(103.5, lends(99.0, 50.0)))
    for at in range(104, 120):
        assert world.report(float(at)) == []


def test_a_planner_whose_clock_runs_ahead_is_believed_no_longer_than_another() -> None:
    world = World(a_guest("a"))
    here = TideNode(node="n1", side=Side.ONLINE, turning=Turning.DRAINING)
    world.live(Arrived(100.0, TidePool(at=100.0 + 5 * LAPSE, source="planner", pool="web", nodes=(here,))))
    assert world.oversold(100.0, int(101 + LAPSE), int(110 + LAPSE)) == []


# -- the bus: answers that never come, words that nobody heard -------------------------------------------------------


def test_an_emergency_waits_no_longer_for_an_answer_than_for_a_report() -> None:
    world, bus = waiting(a_guest("a"))
    for at in range(101, 105):
        assert hungry(world, float(at)) == []
    assert hungry(world, 105.0) == ["a"]
    assert bus.answer(world, 106.0) == [], "an answer that comes late asks nobody twice"


def test_an_answer_that_never_comes_keeps_nobody_from_being_chosen_later() -> None:
    bus = Slow()
    world = World(a_guest("a"), a_guest("b"), bus=bus)
    world.oversold(4.0, 100, 104)
    assert len(bus.waiting) == 3
    bus.waiting.clear()
    world.oversold(4.0, 105, 109)
    assert world.counted["refused_total", "bus away"] == 1
    assert not bus.waiting, "a bus that is away is spared for a while"
    world.oversold(4.0, 110, 115)
    assert len(bus.waiting) == 3, "and the same guest takes the same slots"
    assert bus.answer(world, 109.5) == ["b"]


def a_token(slot: int, until: float) -> Token:
    return Token(
        at=until - 6.0,
        source="evictor",
        scope="cluster",
        name=hashlib.blake2b(b"all", digest_size=8).hexdigest(),
        slot=slot,
        of="all",
        until=until,
        node="n9",
        uid=f"z{slot}",
        attempt=1,
    )


def test_a_window_begins_with_the_command_and_not_with_a_token_taken_in_vain_before() -> None:
    budgets, bus = SharedBudgets(window=6.0, workload=1, namespace=0, cluster=2), TokenBus()
    mine, other = (World(a_guest(uid, owner="Job/j"), bus=bus, shared=budgets, most=9) for uid in "ab")
    for slot in range(2):  # the cluster's are taken, and nobody has heard of it
        key = EVICTION_TOKENS.at(scope="cluster", name=a_token(slot, 0.0).name, slot=str(slot))
        bus.revision += 1
        bus.stored[key.subject] = (bus.revision, a_token(slot, until=104.0))
    assert hungry(mine, 100.0) == [], "it has a token of its workload, and has lost the race for one of the cluster"
    for subject, (revision, token) in [*bus.stored.items()]:
        mine.live(Arrived(104.9, token, subject, revision))
    assert hungry(mine, 105.0) == ["a"]
    for subject, (revision, token) in [*bus.stored.items()]:
        other.live(Arrived(106.4, token, subject, revision))
    assert hungry(other, 106.5) == [], "one of the same workload left 1.5 s ago"
    assert hungry(other, 111.0) == ["b"]


def test_a_victim_that_does_not_go_is_no_shield_for_the_others() -> None:
    world = World(a_guest("a"), a_guest("stuck"), grace=1.0, confirm_after=1, most=9)
    for at in range(100, 110):
        seen = [shows(uid, working_set=GIB) for uid in ("a", "stuck")]
        world.report(float(at), *seen, memory_available=100 * 2**20)
    assert world.ids == ["stuck.1.evict", "stuck.1.evict.2", "a.1.evict", "a.1.evict.2", "stuck.1.evict.3"]
    assert "asked in vain: stuck" in world.trail[2].why
    assert [one.uid for one in world.commands[2].contenders] == ["a", "stuck"]


def test_a_pressure_that_nobody_may_leave_for_keeps_no_owner_waiting() -> None:
    world = World(a_guest("fat", labels={"neap.io/protected": "true"}), *(a_guest(uid) for uid in "abc"), most=1)
    over = shows("fat", working_set=9 * GIB)
    for at in range(90, 100):
        world.report(float(at), over)
    asked = Preemption(
        at=100.0, source="s", node="n1", victims=("a", "b"), attempts=(1, 1), beneficiary="o", reason="r"
    )
    assert uids(world.live(Arrived(100.0, asked))) == ["a"]
    world.ledger(released("a", 100.5))
    for at in range(101, 120):
        world.report(float(at), over)
    assert uids(world.commands) == ["a", "b"]


def test_that_a_node_is_open_again_is_said_again_if_nobody_heard_it() -> None:
    world = World(a_guest("a"), a_guest("b"), grace=2.0)
    world.oversold(4.0, 100, 104)
    world.ledger(released("b", 105.0))
    world.oversold(8.0, 105, 112)
    opened = world.closings[-1]
    assert not opened.closed
    world.live(Failed(112.5, Put(EVICTING.at(node="n1"), opened), "no connection", may_retry=True))
    said = len(world.closings)
    world.oversold(8.0, 113, 115)
    assert [one.closed for one in world.closings[said:]] == [()]


def test_a_pause_that_was_lifted_while_the_evictor_was_away_is_not_left_standing() -> None:
    world = World(a_guest("a"), pause_until=5000.0, pause_reason="INC-1")
    world.report(100.0, shows("a"))
    assert world.closings[-1].paused_until == 5000.0
    after = restarted(world, 200.0, a_checkpoint(90.0, a_guest("a")))
    after.report(201.0, shows("a"))
    assert [one.paused_until for one in after.closings] == [0.0]


# -- never one too many ----------------------------------------------------------------------------------------------


def test_no_choice_takes_more_of_a_family_than_it_can_spare() -> None:
    keeps: dict[str, Any] = {"labels": {"neap.io/min-available": "2"}, "owner": "Job/j"}
    short = MemoryPressure(low=2 * GIB)
    dry = msgspec.structs.replace(short, dry_run=True)
    world = World(*(a_guest(uid, **keeps) for uid in "abc"), memory_pressure=dry)
    hungry(world, 100.0)
    assert world.counted["would_evict_total", "memory_pressure"] == 1
    bus = TokenBus()
    acting = World(*(a_guest(uid, **keeps) for uid in "abc"), a_guest("d", priority=1), bus=bus, memory_pressure=short)
    assert hungry(acting, 100.0) == ["c", "d"], "and who can be spared instead goes at once"
    assert len(bus.stored) == 6, "nobody's token is taken in vain"


def test_a_victim_that_is_named_twice_takes_one_token_of_each_budget() -> None:
    bus = Slow()
    world = World(a_guest("a"), a_guest("b"), bus=bus)
    asked = Preemption(
        at=100.0, source="s", node="n1", victims=("a", "a"), attempts=(1, 1), beneficiary="o", reason="r"
    )
    world.live(Arrived(100.0, asked))
    assert len(bus.waiting) == 3
    assert bus.answer(world, 100.1) == ["a"]


def test_a_request_of_no_time_is_no_request() -> None:
    world = World(a_guest("a"))
    asked = Preemption(
        at=float("nan"), source="s", node="n1", victims=("a",), attempts=(1,), beneficiary="o", reason="r"
    )
    assert world.live(Arrived(100.0, asked)) == []


def test_a_guest_is_held_to_what_all_its_containers_ask_for_in_either_kind() -> None:
    mixed = (
        Container(name="sidecar", requests={RECLAIMED_MEMORY: GIB}),
        Container(name="main", requests={MEMORY: 8 * GIB}),
    )
    world = World(msgspec.structs.replace(a_guest("a"), containers=mixed))
    for at in range(100, 110):
        assert world.report(float(at), shows("a", working_set=6 * GIB)) == []


def test_guests_that_nobody_knows_where_they_run_are_no_usage_of_owners() -> None:
    world = World(a_guest("a"), a_guest("b"), cpu_usage=CpuUsage(reports=1, dry_run=False))
    machine = Zone(kind=ZoneKind.MACHINE, index=0)
    numa = (NumaNode(index=0, cpus="0-9", memory=GIB),)
    world.live(Arrived(99.0, NodeTopology(at=99.0, source="r", node="n1", machine=machine, numa=numa)))
    known = ContainerUsage(uid="a", container="c", cgroup="/k/a", cpu=1.0, cpuset="0-9")
    assert world.report(100.0, known, shows("b", cpu=8.5), numa=(NumaUsage(index=0, cpu=10.5),)) == []
    assert uids(world.report(101.0, known, shows("b", cpu=0.0), numa=(NumaUsage(index=0, cpu=10.0),))) == []
    assert uids(world.report(102.0, known, shows("b", cpu=0.0), numa=(NumaUsage(index=0, cpu=11.0),))) == ["a"]


def test_all_that_may_be_remembered_of_evictions_fits_into_a_memory() -> None:
    history = History({}, {})
    for family in range(3000):
        for minute in range(70):
            history.count(a_guest("g", owner=f"Job/{family:0100}"), 1e9 + minute + 0.123456)
    size = len(msgspec.json.encode(Memory(evicted=history.evicted)))
    assert size < 0.8 * MOST, f"{size} bytes"
