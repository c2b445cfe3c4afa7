"""The evictor: when somebody leaves, who, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.contract.catalogue import HEADROOM
from neap.common.errors import SettingsError
from neap.common.model.lifecycle import Eviction
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import MEMORY
from neap.common.model.usage import ContainerUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Gone
from neap.common.units import GIB, MIB
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.settings import Settings
from tests.unit.evictor_world import RULES, World, a_guest, a_report, placed, released, shows, uids


def test_an_oversold_node_lets_the_youngest_go_after_five_reports_with_all_the_numbers() -> None:
    world = World(a_guest("old"), a_guest("mid"), a_guest("new"))
    assert world.oversold(8.0, 100, 103) == []
    (command,) = world.oversold(8.0, 104, 104)
    assert command.uid == "new"
    assert world.ids == ["new.1.evict"]
    assert command.rule == "reclaimed_overuse"
    (number,) = command.measured
    assert (number.value, number.threshold, number.window) == (12.0, 10.0, 4.0)
    assert "guests asked for 12.0 cores" in command.reason
    assert "8.0 lent" in command.reason
    assert "for 5 reports (4s)" in command.reason
    assert command.ranking == "lowest priority 0; youngest of 3: 1m42s; frees 4.0 cores of 2.0 needed"
    assert command.grace == 30.0
    (line,) = world.trail
    assert line.id == "new.1.chosen"
    assert line.numbers == command.measured
    assert command.reason in line.why
    assert line.trace


def test_one_spike_and_a_saw_tooth_below_the_patience_evict_nobody() -> None:
    world = World(a_guest("a"), a_guest("b"))
    for first in range(100, 160, 5):
        assert world.oversold(1.0, first, first + 3) == []
        assert world.oversold(8.0, first + 4, first + 4) == []


def test_pressure_that_has_risen_falls_only_when_calm() -> None:
    world = World(*(a_guest(uid, 2.0) for uid in "abcd"), most=10)
    assert len(world.oversold(5.0, 100, 104)) == 1
    world.ledger(released("d", 105.0))
    assert world.oversold(5.5, 105, 110) == []
    assert len(world.oversold(4.0, 111, 111)) == 1, "beyond again without having been calm: at once"
    world.ledger(released("c", 112.0))
    assert world.oversold(4.0, 112, 112) == [], "sold 4.0 of 4.0: calm"
    assert world.oversold(3.0, 113, 116) == []
    assert len(world.oversold(3.0, 117, 117)) == 1


def test_a_victim_counts_as_gone_until_its_release_arrives() -> None:
    world = World(a_guest("a"), a_guest("b"), a_guest("c"), most=10)
    assert uids(world.oversold(4.0, 100, 104)) == ["c", "b"]
    assert world.oversold(4.0, 105, 120) == []


def test_an_unconfirmed_eviction_is_repeated_under_a_new_id_after_its_time() -> None:
    world = World(a_guest("a"), a_guest("b"), grace=10.0, confirm_after=5, most=10)
    assert uids(world.oversold(4.0, 100, 104)) == ["b"]
    assert world.oversold(4.0, 105, 118) == []
    world.oversold(4.0, 119, 130)
    assert world.ids == ["b.1.evict", "b.1.evict.2"]
    assert world.trail[1].id == "b.1.chosen.2"
    assert world.counted["unconfirmed_total", ""] == 1


def test_nobody_else_is_asked_while_an_eviction_is_unconfirmed() -> None:
    world = World(*(a_guest(uid) for uid in "abcde"), most=1, grace=30.0)
    assert uids(world.oversold(4.0, 100, 110)) == ["e"]
    assert world.counted["held_back_total", "unconfirmed"] > 0


def test_the_budget_of_a_window_holds_although_confirmations_come_fast() -> None:
    world = World(*(a_guest(uid) for uid in "abcdefgh"), most=2, window=10)
    evicted: list[tuple[int, str]] = []
    for at in range(100, 130):
        for command in world.oversold(1.0, at, at):
            evicted.append((at, command.uid))
            world.ledger(released(command.uid, at + 0.5))
    times = [at for at, _ in evicted]
    assert all(sum(start <= at < start + 10 for at in times) <= 2 for start in range(100, 130))
    assert len(times) == 6
    assert world.counted["held_back_total", "budget"] > 0


def test_a_lower_priority_goes_first_whatever_its_age() -> None:
    world = World(a_guest("humble", priority=-5), a_guest("proud", priority=9))
    (command,) = world.oversold(4.0, 100, 104)
    assert command.uid == "humble"
    assert command.ranking.startswith("lowest priority -5; youngest of 1")


def test_of_equals_the_one_whose_size_fits_leaves() -> None:
    world = World(most=10)
    for uid, cores in (("big", 8.0), ("fits", 3.0), ("small", 1.0)):
        world.ledger(placed(a_guest(uid, cores), 0.0))
    assert uids(world.oversold(7.6, 100, 104)) == ["fits"]


@pytest.mark.parametrize(
    "shield",
    [
        {"labels": {"neap.io/protected": "true"}},
        {"annotations": {"neap.io/protected": "true"}},
        {"labels": {"neap.io/stateful": "true"}},
        {"owner": "StatefulSet/db"},
        {"qos": QosClass.SHARED},
        {"qos": QosClass.DEDICATED},
        {"qos": QosClass.SYSTEM},
    ],
)
def test_owners_and_the_protected_never_leave(shield: dict[str, Any]) -> None:
    world = World(a_guest("safe", 8.0, **shield))
    assert world.oversold(0.0, 100, 130, memory_available=1, memory_stall=Stall(full10=0.9)) == []


def test_a_guest_that_says_it_is_not_protected_is_not() -> None:
    world = World(a_guest("free", labels={"neap.io/protected": "false"}))
    assert uids(world.oversold(0.0, 100, 104)) == ["free"]


def test_memory_below_the_low_mark_waits_and_below_the_least_acts_at_once() -> None:
    seen = (shows("a", working_set=2 * GIB), shows("b", working_set=1 * GIB))
    slack = 900 * MIB
    generous = {"a": 4 * GIB, "b": 4 * GIB}
    world = World(*(a_guest(uid, memory=memory) for uid, memory in generous.items()))
    assert world.report(100.0, *seen, memory_available=slack) == []
    assert world.report(101.0, *seen, memory_available=slack) == []
    (command,) = world.report(102.0, *seen, memory_available=slack)
    assert (command.uid, command.rule) == ("b", "memory_pressure")
    at_once = World(*(a_guest(uid, memory=memory) for uid, memory in generous.items()))
    (command,) = at_once.report(100.0, *seen, memory_available=100 * MIB)
    assert "at once" in command.reason
    assert "100Mi of memory available, 1Gi wanted" in command.reason


def test_a_full_memory_stall_lets_one_guest_go_at_once() -> None:
    world = World(a_guest("a"), a_guest("b"))
    (command,) = world.report(100.0, shows("a"), shows("b"), memory_stall=Stall(full10=0.4))
    assert command.measured[0].metric == "memory stall full10"
    assert command.measured[0].value == 0.4


def test_a_guest_far_above_its_memory_request_leaves_with_the_ratio_in_the_reason() -> None:
    world = World(a_guest("lean", memory=GIB), a_guest("fat", memory=GIB))
    for at in (100.0, 101.0):
        assert world.report(at, shows("lean"), shows("fat", working_set=int(1.3 * GIB))) == []
    (command,) = world.report(102.0, shows("lean"), shows("fat", working_set=int(1.3 * GIB)))
    assert (command.uid, command.rule) == ("fat", "memory_overuse")
    assert "1.30 × its request of 1Gi, 1.2 × is allowed" in command.reason


def test_a_guest_without_a_memory_request_or_a_measurement_is_not_judged() -> None:
    world = World(a_guest("none", memory=0), a_guest("unknown"))
    unknown = ContainerUsage(uid="unknown", container="c", cgroup="/k/u")
    for at in range(100, 110):
        assert world.report(float(at), shows("none", working_set=9 * GIB), unknown) == []


def test_plain_memory_requests_count_as_well() -> None:
    pod = Workload(
        uid="p",
        namespace="b",
        name="p",
        qos=QosClass.RECLAIMED,
        containers=(Container(name="c", requests={MEMORY: GIB}),),
    )
    world = World(pod)
    assert uids([c for at in range(100, 103) for c in world.report(float(at), shows("p", working_set=2 * GIB))]) == [
        "p"
    ]


def test_a_starving_guest_leaves_after_long_and_an_idle_one_stays() -> None:
    world = World(
        a_guest("starved"), a_guest("lazy"), a_guest("patient", annotations={"neap.io/suppression-tolerance": "1e9"})
    )
    seen = (shows("starved", cpu=0.5, stalled=0.9), shows("lazy", cpu=0.0), shows("patient", cpu=2.0, stalled=0.9))
    commands: list[Eviction] = []
    for at in range(0, 361, 60):
        commands += world.report(1000.0 + at, *seen, period=60.0)
    (command,) = commands
    assert (command.uid, command.rule) == ("starved", "cpu_suppression")
    assert "gets 0.50 of 4.0 cores, 1/5 is tolerable, for 6 reports (5m)" in command.reason


def test_a_guest_that_gets_nothing_at_all_has_a_finite_rate() -> None:
    world = World(a_guest("none"))
    commands = [
        c
        for at in range(0, 601, 60)
        for c in world.report(1000.0 + at, shows("none", cpu=0.0, stalled=1.0), period=60.0)
    ]
    assert commands[0].measured[0].value == 4000.0


def test_stale_headroom_is_not_acted_on_and_said_once() -> None:
    world = World(a_guest("a"), a_guest("b"), offer_stale_after=5)
    world.lends(1.0, 90.0)
    for at in range(100, 120):
        assert world.report(float(at)) == []
    assert world.counted["stale_total", "headroom"] == 1
    world.lends(1.0, 120.0, stale="no usage for 9 s")
    assert world.report(120.0) == []
    assert len(world.oversold(1.0, 121, 125)) == 2


def test_a_late_report_is_not_acted_on_and_said_once() -> None:
    world = World(a_guest("a"), a_guest("b"))
    for at in range(100, 110):
        assert world.report(float(at), memory_available=0, late=6.0) == []
    assert world.counted["stale_total", "usage"] == 1


def test_deleted_headroom_is_unknown_headroom() -> None:
    world = World(a_guest("a"), a_guest("b"))
    world.oversold(1.0, 100, 103)
    world.live(Gone(103.5, HEADROOM, "n1"))
    for at in range(104, 110):
        assert world.report(float(at)) == []


def test_reports_far_apart_are_no_run() -> None:
    world = World(a_guest("a"), a_guest("b"))
    world.oversold(1.0, 100, 103)
    assert world.oversold(1.0, 120, 123) == []
    assert world.oversold(1.0, 124, 124)


def test_nothing_is_decided_before_the_ledger_was_read() -> None:
    machine = EvictorMachine(Settings(node="n1"), RULES)
    machine.handle(Arrived(1.0, placed(a_guest("a")), seq=1))
    assert machine.handle(Arrived(2.0, a_report(2.0, shows("a"), memory_available=0))) == ()


def test_a_checkpoint_keeps_the_age_and_forgets_who_is_not_in_it() -> None:
    world = World(a_guest("old"), a_guest("new"), a_guest("gone"))
    placements = tuple(Placement(workload=a_guest(uid), charged={}) for uid in ("old", "new"))
    world.ledger(Checkpoint(at=90.0, source="scheduler", node="n1", placements=placements))
    (command,) = world.oversold(4.0, 100, 104)
    assert command.uid == "new"
    assert "youngest of 2" in command.ranking


def test_the_next_attempt_of_an_evicted_pod_is_a_new_guest() -> None:
    world = World(a_guest("a"), a_guest("b"), most=10)
    world.oversold(4.0, 100, 104)
    world.ledger(released("b", 105.0))
    world.ledger(placed(a_guest("b", attempt=2), 106.0))
    world.oversold(4.0, 107, 112)
    assert world.ids == ["b.1.evict", "b.2.evict"]


def test_a_rule_can_be_switched_off_and_an_unknown_one_is_an_error() -> None:
    assert World(a_guest("a"), off=("reclaimed_overuse",)).oversold(0.0, 100, 120) == []
    with pytest.raises(SettingsError, match=r"evictor\.off: no rule named 'overuse' \(known: cpu_load, cpu_supp"):
        EvictorMachine(Settings(off=("overuse",)), RULES)
