"""Guests leave for owners, and for better guests: as few as can be, and the place is nobody else's meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.contract.catalogue import PREEMPTIONS
from neap.common.model.lifecycle import Ended, EndReason, Move, Preemption
from neap.common.model.placement import Released
from neap.common.model.resource import GPU_CORE, GPU_MEMORY, RECLAIMED_CPU
from neap.common.model.scheduling import Gang
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Emit
from neap.scheduler.core.choice.preemption import PreemptionSettings
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import World, a_guest, a_node, an_offer, an_owner


def a_gpu_guest(uid: str, core: int, memory: int = 1000, **more: Any) -> Workload:
    requests = {RECLAIMED_CPU: 100, GPU_CORE: core, GPU_MEMORY: memory}
    return a_guest(uid, containers=(Container(name="main", requests=requests),), **more)


def a_world(*nodes: Any, settings: Settings | None = None) -> World:
    world = World(*(nodes or (a_node(cards=1),)), settings=settings)
    for node in world.nodes:
        world.tell(Arrived(0.0, an_offer(node.node)))
    return world


def asked(world: World) -> list[Preemption]:
    told = [i for i in world.instructions if isinstance(i, Emit) and isinstance(i.message, Preemption)]
    assert [i.to.subject for i in told] == [PREEMPTIONS.at(node=i.message.node).subject for i in told]
    return [i.message for i in told]


def evict(world: World, uid: str) -> None:
    held = world.streams.held[world.node_of(uid)][uid].workload
    world.end(held, EndReason.EVICTED, attempt=held.attempt)


def test_an_owner_gets_the_place_of_the_least_important_guests_and_of_no_more_than_it_needs() -> None:
    world = a_world()
    world.submit(a_gpu_guest("old", 30), a_gpu_guest("dear", 30, priority=5))
    world.pass_time(1)
    world.submit(a_gpu_guest("young", 30))
    world.submit(an_owner("owner", gpu=(40, 1000)))
    assert world.node_of("owner") == ""
    world.pass_time(0.2)
    [preemption] = asked(world)
    assert (preemption.node, preemption.victims, preemption.attempts) == ("n1", ("young",), (1,))
    assert preemption.beneficiary == "owner"
    assert (
        "owner shop/owner (priority 0) fits nowhere, and on n1 once batch/young (priority 0) left" in preemption.reason
    )
    assert "the place is kept for 2m" in world.why("owner.1.nominated")
    evict(world, "young")
    world.pass_time(0.2)
    assert world.node_of("owner") == "n1"
    assert {"old", "dear"} <= set(world.streams.held["n1"])


def test_a_guest_that_was_still_being_placed_leaves_as_soon_as_it_can_be_asked() -> None:
    world = a_world()
    world.holds_answers = True
    world.submit(a_gpu_guest("g", 95))
    world.submit(an_owner("owner", gpu=(60, 1000)))
    world.pass_time(0.2)
    assert asked(world) == []
    world.holds_answers = False
    world.answer()
    world.pass_time(1)
    assert [one.victims for one in asked(world)] == [("g",)]


def test_nobody_else_gets_the_place_that_is_kept() -> None:
    world = a_world()
    world.submit(a_gpu_guest("g", 95))
    world.submit(an_owner("first", gpu=(60, 1000)))
    world.pass_time(0.2)
    world.submit(an_owner("thief", gpu=(60, 1000), priority=100))
    evict(world, "g")
    world.pass_time(0.2)
    assert (world.node_of("first"), world.node_of("thief")) == ("n1", "")


def test_what_the_kept_place_leaves_is_for_everybody_once_the_guest_is_gone() -> None:
    world = a_world()
    world.submit(a_gpu_guest("g", 95))
    world.submit(an_owner("first", gpu=(60, 1000)), an_owner("small", gpu=(40, 1000)))
    world.pass_time(0.2)
    evict(world, "g")
    world.pass_time(0.2)
    world.pass_time(0.2)
    assert (world.node_of("first"), world.node_of("small")) == ("n1", "n1")


def test_owners_and_protected_guests_are_never_victims() -> None:
    world = a_world()
    world.submit(an_owner("o", gpu=(50, 1000)), a_gpu_guest("p", 20, labels={"neap.io/protected": "true"}))
    world.submit(a_gpu_guest("s", 20, owner="StatefulSet/db"))
    world.submit(an_owner("new", gpu=(40, 1000), priority=1000))
    world.pass_time(0.2)
    assert asked(world) == []
    assert Count("neap_scheduler_preemptions_total", labels={"outcome": "none"}) in world.instructions


def test_a_guest_takes_the_place_of_a_guest_of_lower_priority_only() -> None:
    world = a_world(a_node())
    world.submit(a_guest("low", cores=3, priority=1), a_guest("equal", cores=1, priority=5))
    world.submit(a_guest("new", cores=2, priority=5))
    world.pass_time(0.2)
    [preemption] = asked(world)
    assert preemption.victims == ("low",)
    world.submit(a_guest("other", cores=2, priority=1))
    world.pass_time(0.2)
    assert len(asked(world)) == 1


def test_a_family_keeps_as_many_as_it_needs_on_all_nodes_together() -> None:
    keeps = {"owner": "Job/train", "labels": {"neap.io/min-available": "2"}}
    world = a_world(a_node("n1", cards=1), a_node("n2", cards=1), a_node("n3", cards=1))
    world.submit(*(a_gpu_guest(f"t{i}", 80, **keeps) for i in range(3)))
    assert len({world.node_of(f"t{i}") for i in range(3)}) == 3
    world.submit(an_owner("first", gpu=(60, 1000)), an_owner("second", gpu=(60, 1000)))
    world.pass_time(0.2)
    assert [len(one.victims) for one in asked(world)] == [1], "two of three have to stay, and one leaves already"


def test_members_a_gang_cannot_do_without_are_never_victims() -> None:
    world = a_world(a_node("n1", cards=1), a_node("n2", cards=1))
    gang = Gang(name="ring", least=2)
    world.submit(*(a_gpu_guest(f"m{i}", 80, gang=gang) for i in range(2)))
    world.pass_time(0.2)
    assert {world.node_of("m0"), world.node_of("m1")} == {"n1", "n2"}
    world.submit(an_owner("owner", gpu=(60, 1000)))
    world.pass_time(0.2)
    assert not asked(world)


def test_a_node_that_costs_less_is_chosen() -> None:
    world = a_world(a_node("n1", cards=1), a_node("n2", cards=1), a_node("n3", cards=1))
    for node, priority in (("n1", 5), ("n2", 1), ("n3", 9)):
        world.submit(a_gpu_guest(f"g-{node}", 80, priority=priority))
    cheap = world.node_of("g-n2")
    world.submit(an_owner("owner", gpu=(50, 1000)))
    world.pass_time(0.2)
    assert [(p.node, p.victims) for p in asked(world)] == [(cheap, ("g-n2",))]


def test_a_place_whose_guests_do_not_leave_is_given_back_and_asked_for_again_after_a_while() -> None:
    world = a_world(settings=Settings(preemption=PreemptionSettings(patience=30, cool_down=20)))
    world.submit(a_gpu_guest("g", 80), an_owner("owner", gpu=(60, 1000)))
    world.pass_time(0.2)
    for _ in range(29):
        world.pass_time(1)
    assert len(asked(world)) == 1
    world.pass_time(1.1)
    assert "the place on n1 is given back: g did not leave within 30s" in world.why("owner.1.nomination-over")
    assert world.machine._queue.pod("owner") is not None
    for _ in range(19):
        world.pass_time(1)
    assert len(asked(world)) == 1
    world.pass_time(2)
    world.pass_time(1)
    assert len(asked(world)) == 2
    evict(world, "g")
    world.pass_time(1)
    assert world.node_of("owner") == "n1"


def test_an_owner_that_is_deleted_meanwhile_gives_its_place_back() -> None:
    world = a_world()
    world.submit(a_gpu_guest("g", 80), an_owner("owner", gpu=(60, 1000)))
    world.pass_time(0.2)
    world.end(an_owner("owner"), EndReason.DELETED)
    world.pass_time(0.2)
    world.submit(an_owner("small", gpu=(20, 1000)))
    assert world.node_of("small") == "n1"
    assert len(asked(world)) == 1


def test_a_node_that_cannot_take_the_owner_any_more_is_dropped() -> None:
    world = a_world()
    world.submit(a_gpu_guest("g", 80), an_owner("owner", cores=4, gpu=(60, 1000)))
    world.pass_time(0.2)
    world.tell(Arrived(world.at, a_node(cores=1, cards=1, at=1.0)))
    world.pass_time(0.2)
    assert "the node would not take it any more" in world.why("owner.1.nomination-over")


def test_a_hundred_owners_ask_for_a_few_places_at_a_time() -> None:
    nodes = [a_node(f"n{i}", cores=64, cards=1) for i in range(12)]
    world = a_world(*nodes, settings=Settings(preemption=PreemptionSettings(per_tick=2, most=6)))
    world.submit(*(a_gpu_guest(f"g{i}", 80) for i in range(12)))
    world.submit(*(an_owner(f"o{i}", gpu=(60, 1000)) for i in range(100)))
    counts = []
    for _ in range(8):
        world.pass_time(0.2)
        counts.append(len(asked(world)))
    assert counts == [1, 2, 3, 4, 5, 6, 6, 6]
    victims = [uid for preemption in asked(world) for uid in preemption.victims]
    assert len(victims) == len(set(victims))


def test_what_no_guest_holds_is_asked_of_no_guest() -> None:
    world = a_world(*(a_node(f"n{i}", cards=1) for i in range(5)))
    world.submit(*(a_gpu_guest(f"g{i}", 30) for i in range(5)), *(an_owner(f"o{i}", cores=6) for i in range(5)))
    world.submit(an_owner("new", cores=6))
    world.pass_time(0.2)
    pod = world.machine._queue.pod("new")
    assert pod is not None
    assert world.machine._nominations._search._screen(pod) == []


def test_it_can_be_switched_off() -> None:
    world = a_world(settings=Settings(preemption=PreemptionSettings(on=False)))
    world.submit(a_gpu_guest("g", 80), an_owner("owner", gpu=(60, 1000)))
    world.pass_time(1)
    assert asked(world) == []


def test_after_a_restart_the_owner_still_gets_the_place() -> None:
    world = a_world()
    world.submit(a_gpu_guest("g", 80), an_owner("owner", gpu=(60, 1000)))
    world.pass_time(0.2)
    world.start()
    evict(world, "g")
    world.pass_time(0.2)
    assert world.node_of("owner") == "n1"


def test_a_move_keeps_a_place_then_asks_for_the_eviction_then_binds_there() -> None:
    world = a_world(a_node("n1"), a_node("n2"))
    world.submit(a_guest("g", cores=3))
    here = world.node_of("g")
    there = {"n1": "n2", "n2": "n1"}[here]
    world.tell(
        Arrived(world.at, Move(at=world.at, source="planner", uid="g", attempt=1, reason="n1 is at 90 % > 65 %"))
    )
    [preemption] = asked(world)
    assert (preemption.node, preemption.victims, preemption.beneficiary) == (here, ("g",), "g")
    assert f"a place on {there} is kept for its next run: n1 is at 90 % > 65 %" in preemption.reason
    world.submit(a_guest("thief", cores=3, priority=9))
    assert world.node_of("thief") == ""
    evict(world, "g")
    world.pass_time(0.2)
    assert world.node_of("g") == there
    assert world.streams.held[there]["g"].workload.attempt == 2
    assert sum(isinstance(entry, Released) for entry in world.streams.ledger) == 1


def test_a_move_without_a_target_evicts_nobody() -> None:
    world = a_world(a_node("n1"), a_node("n2", cores=1))
    world.tell(Arrived(0.0, an_offer("n2", cores=1)))
    world.submit(a_guest("g", cores=3), an_owner("o"))
    for uid in ("g", "o", "nobody"):
        world.tell(Arrived(world.at, Move(at=world.at, source="planner", uid=uid, attempt=1, reason="hot")))
    assert asked(world) == []


def test_a_move_nobody_carries_out_leaves_the_run_where_it_is() -> None:
    world = a_world(a_node("n1"), a_node("n2"))
    world.submit(a_guest("g", cores=3))
    here = world.node_of("g")
    world.tell(Arrived(world.at, Move(at=world.at, source="planner", uid="g", attempt=1, reason="hot")))
    world.pass_time(121)
    assert world.node_of("g") == here
    for node in ("n1", "n2"):
        world.tell(Arrived(world.at, an_offer(node, at=world.at)))
    world.submit(a_guest("next", cores=3))
    assert world.node_of("next") not in ("", here)


@pytest.mark.parametrize("starts", [True, False])
def test_a_placement_nobody_confirms_is_given_back_and_decided_again(starts: bool) -> None:
    world = World(a_node(), settings=Settings(confirm=600))
    world.starts = starts
    world.submit(an_owner("u"))
    world.pass_time(601)
    if starts:
        world.start()
        world.pass_time(601)
        assert world.streams.held["n1"]["u"].workload.attempt == 1
        return
    [ended] = [event for _, event in world.streams.workloads if isinstance(event, Ended)]
    assert (ended.reason, ended.attempt) == (EndReason.REFUSED, 1)
    assert "nobody confirmed that it started within 10m" in world.why("u.2.requeued")
    world.pass_time(11)
    assert world.streams.held["n1"]["u"].workload.attempt == 2


def test_confirmation_can_be_left_out() -> None:
    world = World(a_node(), settings=Settings(confirm=0))
    world.starts = False
    world.submit(an_owner("u"))
    world.pass_time(10_000)
    assert world.streams.held["n1"]["u"].workload.attempt == 1
