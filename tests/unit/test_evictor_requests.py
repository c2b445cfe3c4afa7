"""The evictor and what the scheduler asks of it: the same rights, the same budget, and the reason names who gains."""

from __future__ import annotations

from neap.common.contract.catalogue import PLACEMENTS
from neap.common.model.lifecycle import Preemption
from neap.common.runtime.machine import Arrived, Synced
from tests.unit.evictor_world import World, a_guest, placed, released, uids


def asks(*victims: str, at: float = 100.0, attempt: int = 1, node: str = "n1") -> Arrived[Preemption]:
    asked = Preemption(
        at=at,
        source="scheduler",
        node=node,
        victims=victims,
        attempts=(attempt,) * len(victims),
        beneficiary="owner",
        reason="owner shop/feed fits nowhere else",
    )
    return Arrived(at, asked)


def test_a_guest_named_by_the_scheduler_is_evicted_and_told_for_whom() -> None:
    world = World(a_guest("a"), a_guest("b", priority=3))
    (command,) = world.live(asks("b"))
    assert (command.uid, command.rule) == ("b", "preemption")
    assert command.reason == "its place is for owner: owner shop/feed fits nowhere else"
    assert command.ranking.startswith("priority 3; named by scheduler")
    assert world.ids == ["b.1.evict"]
    assert command.reason in world.trail[0].why
    assert world.live(asks("b"), asks("b", at=101.0)) == []


def test_protected_guests_other_attempts_other_nodes_and_strangers_stay() -> None:
    world = World(a_guest("a", labels={"neap.io/protected": "true"}), a_guest("b", attempt=2), a_guest("c"))
    assert world.live(asks("a", "c"), asks("b", attempt=1), asks("nobody"), asks("c", node="n2")) == []
    assert world.counted["held_back_total", "request for a protected guest"] == 1
    assert uids(world.live(asks("c", at=101.0))) == ["c"]


def test_the_budget_holds_for_the_scheduler_too() -> None:
    world = World(*(a_guest(uid) for uid in "abcd"), most=2, window=10)
    assert uids(world.live(asks("a", "b", "c"))) == ["a", "b"]
    world.ledger(released("a", 101.0))
    assert world.report(102.0) == []
    world.ledger(released("b", 103.0))
    assert world.report(104.0) == []
    assert uids(world.report(111.0)) == ["c"]
    world.ledger(released("c", 112.0))
    assert world.report(125.0) == []


def test_a_request_is_forgotten_when_it_is_old_and_waits_for_the_ledger_until_then() -> None:
    world = World(a_guest("a"))
    assert world.live(Arrived(300.0, asks("a", at=100.0).message)) == []
    assert world.report(301.0) == []
    fresh = World()
    fresh.machine._residents.synced = False
    assert fresh.live(asks("a")) == []
    fresh.ledger(placed(a_guest("a"), 1.0))
    fresh.live(Synced(101.0, PLACEMENTS))
    assert uids(fresh.report(102.0)) == ["a"]


def test_nobody_leaves_for_a_request_while_an_earlier_eviction_is_unconfirmed() -> None:
    world = World(a_guest("a"), a_guest("b"), most=10)
    assert uids(world.live(asks("a"))) == ["a"]
    assert world.live(asks("b", at=101.0)) == []
    world.ledger(released("a", 102.0))
    assert uids(world.report(103.0)) == ["b"]
