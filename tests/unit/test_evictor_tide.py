"""A node that goes back to online services with the tide: its guests leave, by the budgets of every eviction."""

from __future__ import annotations

import pytest

from neap.common.contract.catalogue import TIDES
from neap.common.model.protection import PROTECTED_LABELS
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.runtime.machine import Arrived, Gone
from tests.unit.evictor_world import World, a_guest, released, uids


def tide(
    at: float, side: Side = Side.ONLINE, turning: Turning = Turning.DRAINING, node: str = "n1"
) -> Arrived[TidePool]:
    here = TideNode(node=node, side=side, turning=turning, since=at)
    return Arrived(at, TidePool(at=at, source="planner", pool="web", nodes=(TideNode(node="n9", side=side), here)))


def test_guests_leave_in_the_usual_order_within_the_budget_and_no_other_guest_comes() -> None:
    world = World(a_guest("old"), a_guest("mid"), a_guest("new"), most=2, window=10)
    world.live(tide(99.0))
    assert world.oversold(100.0, 100, 100) == []
    first = world.oversold(100.0, 101, 103)
    assert uids(first) == ["new", "mid"]
    assert {command.rule for command in first} == {"tide_return"}
    assert "goes back to online services" in first[0].reason
    assert world.closings[-1].closed
    for uid in ("new", "mid"):
        world.ledger(released(uid, 104.0))
    assert uids(world.oversold(100.0, 104, 112)) == ["old"], "the next window has its own budget"


@pytest.mark.parametrize(
    ("side", "turning"),
    [(Side.ONLINE, Turning.STEADY), (Side.OFFLINE, Turning.DRAINING), (Side.OFFLINE, Turning.STEADY)],
)
def test_a_node_that_is_theirs_or_steady_keeps_its_guests(side: Side, turning: Turning) -> None:
    world = World(a_guest("a"))
    world.live(tide(99.0, side, turning))
    assert world.oversold(100.0, 100, 120) == []


def test_it_stops_when_the_planner_changes_its_mind_or_falls_silent_or_means_another_node() -> None:
    for word in (
        tide(101.5, Side.OFFLINE),
        tide(101.5, node="n2"),
        Gone(101.5, TIDES, TIDES.at(pool="web").subject),
    ):
        world = World(a_guest("a"))
        world.live(tide(100.5))
        assert world.oversold(100.0, 101, 101) == []
        world.live(word)
        assert world.oversold(100.0, 102, 120) == []
    world = World(a_guest("a"))
    world.live(tide(100.0))
    assert world.oversold(100.0, int(101 + LAPSE), int(120 + LAPSE)) == []


def test_a_protected_guest_is_never_asked() -> None:
    world = World(a_guest("stateful", labels={PROTECTED_LABELS[0]: "true"}), a_guest("other"))
    world.live(tide(99.0))
    assert uids(world.oversold(100.0, 100, 130)) == ["other"]
