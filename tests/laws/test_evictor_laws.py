"""Laws of the evictor: who may die, how few, and that repetition changes nothing."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import PLACEMENTS
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.protection import may_leave
from neap.common.model.qos import QosClass
from neap.common.model.usage import NodeUsage, Stall
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Emit, Synced
from neap.common.units import GIB, MIB
from neap.evictor.core.budget import fewest
from neap.evictor.core.rank import in_order
from neap.evictor.core.view import Guest, Victim
from neap.evictor.plugins.cpu_suppression import Settings as CpuSuppression
from neap.evictor.settings import Settings
from tests.unit.evictor_world import World, a_guest, a_report, lends, placed, released, shows

NAMES = [f"p{i}" for i in range(6)]
workloads = st.builds(
    lambda uid, cores, attempt, **fields: a_guest(uid, cores, attempt=attempt, **fields),
    uid=st.sampled_from([*NAMES, *NAMES[:3]]),
    cores=st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    attempt=st.integers(1, 3),
    qos=st.sampled_from([*[QosClass.RECLAIMED] * 6, *QosClass]),
    priority=st.integers(-1, 1),
    labels=st.sampled_from([{}, {}, {}, {"neap.io/protected": "true"}]),
    owner=st.sampled_from(["", "Job/j", "Job/k", "StatefulSet/s"]),
    memory=st.sampled_from([0, GIB]),
)
spells = st.builds(
    lambda cores, reports, available, full, seen: ("spell", cores, reports, available, full, seen),
    cores=st.sampled_from([0.0, 1.0, 6.0, 40.0, None]),
    reports=st.integers(2, 9),
    available=st.sampled_from([0, 500 * MIB, 9 * GIB, 9 * GIB, 9 * GIB, None]),
    full=st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.5]),
    seen=st.lists(
        st.builds(
            shows,
            st.sampled_from(NAMES[:4]),
            cpu=st.sampled_from([0.0, 0.05, 3.0]),
            working_set=st.sampled_from([0, GIB, GIB, 3 * GIB]),
            stalled=st.sampled_from([0.0, 0.9]),
        ),
        min_size=2,
        max_size=6,
    ),
)
pods = st.lists(workloads, min_size=2, max_size=5, unique_by=lambda workload: workload.uid)
acts = st.tuples(
    pods,
    st.lists(
        st.one_of(
            workloads,
            spells,
            spells,
            spells,
            st.tuples(st.just("release"), st.sampled_from(NAMES)),
            st.tuples(st.just("checkpoint"), pods),
        ),
        min_size=3,
        max_size=14,
    ),
).map(lambda story: [*story[0], *story[1]])


def events_of(story: list[Any]) -> list[Any]:
    """The story as events, at least one second apart; the ledger numbered. A spell is some reports alike."""
    events: list[Any] = [Synced(0.0, PLACEMENTS)]
    at = 0.0
    for seq, act in enumerate(story, start=1):
        at += 1.0
        match act:
            case Workload():
                events.append(Arrived(at, placed(act, at), seq=seq))
            case ("release", uid):
                events.append(Arrived(at, released(uid, at), seq=seq))
            case ("checkpoint", inside):
                placements = tuple(Placement(workload=pod, charged=pod.requests) for pod in inside)
                events.append(Arrived(at, Checkpoint(at=at, source="s", node="n1", placements=placements), seq=seq))
            case ("spell", cores, reports, available, full, seen):
                for _ in range(reports):
                    at += 1.0
                    if cores is not None:
                        events.append(Arrived(at, lends(cores, at)))
                    stall = Stall(full10=full)
                    report = a_report(at, *seen, memory_available=available, memory_stall=stall)
                    events.append(Arrived(at, report))
    return events


def a_world() -> World:
    starving = CpuSuppression(hold=1.0, reports=2)
    return World(most=3, window=8, grace=2.0, confirm_after=2, cpu_suppression=starving)


@given(acts)
def test_only_unprotected_guests_that_are_here_ever_leave(story: list[Any]) -> None:
    world = a_world()
    here: dict[str, Workload] = {}
    used: dict[str, set[str]] = {}
    for event in events_of(story):
        before, sent = dict(here), len(world.ids)
        match getattr(event, "message", None):
            case Checkpoint(placements=placements):
                here = {placement.workload.uid: placement.workload for placement in placements}
            case NodeUsage() | None:
                pass
            case entry if hasattr(entry, "placement"):
                here[entry.placement.workload.uid] = entry.placement.workload
            case entry if hasattr(entry, "uid"):
                here.pop(entry.uid, None)
        for command in world.live(event):
            assert may_leave(before[command.uid], Settings().protected_labels, Settings().protected_owners)
            assert before[command.uid].attempt == command.attempt
            assert command.reason
            assert command.ranking
            assert command.measured
        used = {uid: ids for uid, ids in used.items() if uid in here and here[uid].attempt == before[uid].attempt}
        for id in world.ids[sent:]:
            assert id not in used.setdefault(id.split(".")[0], set()), "an id is used twice while the guest stays"
            used[id.split(".")[0]].add(id)


@given(acts)
def test_no_window_sees_more_than_the_budget(story: list[Any]) -> None:
    world = a_world()
    times = [event.at for event in events_of(story) for _ in world.live(event)]
    assert all(sum(start < at <= start + 8 for at in times) <= 3 for start in {int(at) - 1 for at in times})


@given(acts)
def test_every_event_twice_is_the_same_as_once(story: list[Any]) -> None:
    once, twice = a_world(), a_world()
    for event in events_of(story):
        once.live(event)
        twice.live(event, event)
    assert once.commands == twice.commands
    assert once.ids == twice.ids


guests = st.builds(
    lambda uid, priority, started, frees: Victim(Guest(a_guest(f"g{uid}", priority=priority), {}, started), frees, ""),
    uid=st.integers(0, 10_000),
    priority=st.integers(-2, 2),
    started=st.integers(0, 5).map(float),
    frees=st.integers(0, 20),
)
offers = st.lists(guests, max_size=12, unique_by=lambda victim: victim.guest.uid)


@given(offers, st.integers(1, 60))
def test_victims_are_minimal_and_enough_when_that_is_possible(offered: list[Victim], need: int) -> None:
    chosen = fewest(in_order(offered, need), need)
    freed = sum(victim.frees for victim in chosen)
    possible = sum(victim.frees for victim in offered)
    assert (freed >= need) == (possible >= need)
    assert all(freed - victim.frees < need for victim in chosen)
    assert all(victim.frees > 0 for victim in chosen)


@given(offers, st.integers(1, 60), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(offered: list[Victim], need: int, chance: Any) -> None:
    shuffled = offered.copy()
    chance.shuffle(shuffled)
    assert in_order(offered, need) == in_order(shuffled, need)
    ages = [(v.guest.workload.priority, -v.guest.started) for v in in_order(offered, need)]
    assert ages == sorted(ages)


def test_a_report_of_twenty_pods_costs_little() -> None:
    world = World(*(a_guest(f"p{i}") for i in range(20)))
    seen = [shows(f"p{i}") for i in range(20)]
    spent, paces = [], []
    for second in range(100, 200):
        world.machine.handle(Arrived(float(second), lends(200.0, float(second))))
        event = Arrived(float(second), a_report(float(second), *seen))
        started = time.perf_counter()
        assert not any(isinstance(item, Emit) for item in world.machine.handle(event))
        spent.append(time.perf_counter() - started)
        paces.append(pace())
    assert min(spent) < 30 * min(paces), f"{min(spent) * 1e3:.3f} ms, {min(spent) / min(paces):.1f} times the yardstick"


def pace() -> float:
    """Seconds of a thousand turns of a loop: a yardstick that is as slow as the machine."""
    started = time.perf_counter()
    for _ in range(1000):
        pass
    return time.perf_counter() - started
