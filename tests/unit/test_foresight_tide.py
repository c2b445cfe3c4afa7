"""The tide of a pool: Katalyst's acceptance cases, reserves, lead, blocked nodes, and what is said when nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from neap.common.model.tide import Side, TideNode, Turning
from neap.common.units import DAY, GIB, HOUR, MINUTE
from neap.foresight.tide import step
from neap.foresight.tide_demand import SLOT, Demand, Habit, Outlook, Point, asked, demand
from neap.foresight.tide_room import Ask, Free, room, unplaced
from neap.foresight.tide_rule import Node, Plan, Rule, lead, midnight, shares

NONE = Rule(reserve_online="0", reserve_offline="0", most_turning="1", spare="0")
NOW = 10 * DAY + 12 * HOUR


def a_node(name: str, side: Side = Side.ONLINE, turning: Turning = Turning.STEADY, *, pods: int = 0, guests: int = 0,
           since: float = 0.0, cores: int = 4, **more: object) -> Node:  # fmt: skip
    """A machine of 4 cores with pods of 1 core and 2 GiB, as in UJ-13."""
    state = TideNode(node=name, side=side, turning=turning, since=since, **more)  # type: ignore[arg-type]
    asks = (Ask(1000, 2 * GIB, pods),) if pods else ()
    leaving = (
        tuple(f"batch/g{i}" for i in range(guests)) if side is Side.ONLINE else tuple(f"shop/o{i}" for i in range(pods))
    )
    return Node(state, cores * 1000, 64 * GIB, asks, guests=guests, stays=leaving)


def a_demand(*cores: float, start: float = NOW, each: float = HOUR) -> Demand:
    need = np.array([[1000 * one, one * GIB, one / 2] for one in cores])
    return Demand(start, each, need, np.zeros(len(cores)), "v1", "as told")


QUIET = a_demand(*[0.0] * 24)


def sides(plan: Plan) -> dict[str, tuple[Side, Turning]]:
    return {state.node: (state.side, state.turning) for state in plan.nodes}


def passes(nodes: list[Node], foreseen: Demand | str, rule: Rule, count: int, every: float = MINUTE) -> Plan:
    """Passes in which whoever has to leave is gone by the next."""
    plan = step(nodes, foreseen, (), rule, NOW)
    for number in range(1, count):
        nodes = [Node(state, node.cpu, node.memory, node.online if state.turning is Turning.STEADY else ())
                 for node, state in zip(sorted(nodes, key=lambda one: one.name), plan.nodes, strict=True)]  # fmt: skip
        plan = step(nodes, foreseen, (), rule, NOW + number * every)
    return plan


# -- AC-20 (katalyst-control.md section 9), exact ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "online", "offline", "expected"),
    [
        (4, "30%", "30%", (2, 1, 1)),  # ceil 1.2, floor 1.2
        (6, "10%", "25%", (1, 1, 4)),  # UJ-13: ceil 0.6, floor 1.5
        (3, "2", "2", (2, 1, 0)),  # online first
        (1, "0", "100%", (0, 1, 0)),
        (10, "100%", "100%", (10, 0, 0)),
        (0, "30%", "30%", (0, 0, 0)),
        (7, "29%", "0%", (3, 0, 4)),  # ceil 2.03
        (100, "7%", "7%", (7, 7, 86)),  # exact: no ceil(7.000000000000001)
    ],
)
def test_reserves_are_counted_up_for_online_and_down_for_offline(
    nodes: int, online: str, offline: str, expected: tuple[int, int, int]
) -> None:
    assert shares(nodes, Rule(reserve_online=online, reserve_offline=offline)) == expected


def test_two_empty_online_nodes_become_one_and_one_in_a_pass_and_stay_so() -> None:
    first = step([a_node("a"), a_node("b")], QUIET, (), NONE, NOW)
    assert sides(first) == {"a": (Side.OFFLINE, Turning.DRAINING), "b": (Side.ONLINE, Turning.STEADY)}
    later = passes([a_node("a"), a_node("b")], QUIET, NONE, 5)
    assert sides(later) == {"a": (Side.OFFLINE, Turning.STEADY), "b": (Side.ONLINE, Turning.STEADY)}


def test_a_pending_online_pod_brings_one_of_two_offline_nodes_back() -> None:
    nodes = [a_node("a", Side.OFFLINE), a_node("b", Side.OFFLINE)]
    plan = step(nodes, QUIET, [Ask(500, GIB)], NONE, NOW)
    assert sides(plan) == {"a": (Side.ONLINE, Turning.DRAINING), "b": (Side.OFFLINE, Turning.STEADY)}


# -- coming back --------------------------------------------------------------------------------------------------------


def test_a_node_begins_to_return_as_long_before_the_ramp_as_it_takes_and_not_earlier() -> None:
    rule = Rule(reserve_online="0", reserve_offline="0", most_turning="1", spare="0", drain=600.0, start=300.0)
    nodes = [a_node("a", pods=1), a_node("b", Side.OFFLINE), a_node("c", Side.OFFLINE)]
    ramp = a_demand(1, 1, 1, 1, 9, 9, 9, 9)  # three nodes of 4 - 1 cores of room, from four hours on
    due = NOW + 4 * HOUR - lead(2, 1, rule)
    assert lead(2, 1, rule) == 3 * 600 + 300
    for at, turning in ((due - 1, 0), (due, 1)):
        plan = step(nodes, ramp, (), rule, at)
        assert sum(state.turning is Turning.DRAINING for state in plan.nodes) == turning
        assert (plan.ready_by, plan.returning) == (NOW + 4 * HOUR, 2 - turning)
    assert step(nodes, ramp, (), rule, NOW).next_change == due


def test_a_guest_that_does_not_leave_blocks_the_return_and_another_node_returns_instead() -> None:
    rule = Rule(reserve_online="0", reserve_offline="0", most_turning="1", spare="0")
    nodes = [a_node("a", pods=3), a_node("b", Side.ONLINE, Turning.DRAINING, guests=1, since=NOW - 901.0),
             a_node("c", Side.OFFLINE, guests=2)]  # fmt: skip
    plan = step(nodes, a_demand(*[5.0] * 24), (), rule, NOW)
    assert sides(plan)["b"] == (Side.ONLINE, Turning.BLOCKED)
    assert sides(plan)["c"] == (Side.ONLINE, Turning.DRAINING)
    (blocked,) = [state for state in plan.nodes if state.node == "b"]
    assert blocked.blockers == ("batch/g0",)
    assert plan.alerts == ("b does not come back: 1 guests did not leave within 15m: batch/g0",)
    gone = Node(blocked, 4000, 64 * GIB)
    assert sides(step([nodes[0], gone], QUIET, (), rule, NOW + 60))["b"] == (Side.ONLINE, Turning.STEADY)


def test_a_node_whose_pods_may_not_leave_stays_online_and_is_left_alone_for_a_day() -> None:
    stuck = a_node("a", Side.OFFLINE, Turning.DRAINING, pods=1, since=NOW - 901.0, flips=(NOW - 901.0,))
    nodes = [stuck, a_node("b"), a_node("c", pods=2)]
    plan = step(nodes, a_demand(*[3.0] * 40), (), NONE, NOW)
    state = next(state for state in plan.nodes if state.node == "a")
    assert (state.side, state.turning, state.failed, state.flips) == (Side.ONLINE, Turning.STEADY, NOW, ())
    assert sides(plan)["b"] == (Side.OFFLINE, Turning.DRAINING), "another one goes"
    assert plan.alerts == ("a stays online: 1 online pods did not leave within 15m: shop/o0",)
    again = [Node(state, 4000, 64 * GIB, stuck.online), a_node("c", pods=2)]
    for after, lent in ((DAY - 1, False), (DAY, True)):
        later = step(again, a_demand(*[3.0] * 40, start=NOW + after), (), NONE, NOW + after)
        assert (sides(later)["a"][0] is Side.OFFLINE) is lent


def test_who_is_still_leaving_is_back_at_once_when_it_is_needed_again() -> None:
    nodes = [
        a_node("a", Side.OFFLINE, Turning.DRAINING, pods=1, since=NOW - 60, flips=(NOW - 60,)),
        a_node("b", pods=3),
    ]
    plan = step(nodes, a_demand(*[6.0] * 24), (), NONE, NOW)
    assert sides(plan)["a"] == (Side.ONLINE, Turning.STEADY)


def test_the_cheapest_node_returns_first() -> None:
    rule = Rule(reserve_online="0", reserve_offline="0", most_turning="1", spare="0")
    many, few = a_node("a", Side.OFFLINE, guests=5), a_node("b", Side.OFFLINE, guests=1)
    worked = Node(TideNode(node="c", side=Side.OFFLINE), 4000, 64 * GIB, guests=1, lost=10 * HOUR)
    plan = step([many, few, worked], a_demand(*[2.0] * 24), (), rule, NOW)
    assert sides(plan)["b"] == (Side.ONLINE, Turning.DRAINING)


# -- lending ------------------------------------------------------------------------------------------------------------


def test_the_emptiest_node_is_lent_if_its_pods_fit_elsewhere_one_by_one() -> None:
    nodes = [a_node("a", pods=2), a_node("b", pods=1), a_node("c", pods=3)]
    assert sides(step(nodes, a_demand(*[6.0] * 24), (), NONE, NOW))["b"] == (Side.OFFLINE, Turning.DRAINING)
    large = Node(TideNode(node="b", side=Side.ONLINE), 4000, 64 * GIB, (Ask(2500, GIB),))
    kept = step([nodes[0], large, nodes[2]], a_demand(*[1.0] * 24), (), NONE, NOW)  # 2 + 1 cores are free, not 2.5
    assert sides(kept)["b"] == (Side.ONLINE, Turning.STEADY)


def test_a_node_with_a_pod_that_nobody_can_move_is_not_lent() -> None:
    bound = Node(TideNode(node="a", side=Side.ONLINE), 4000, 64 * GIB, (Ask(100, GIB, 1, movable=False),))
    assert sides(step([bound, a_node("b", pods=2)], QUIET, (), NONE, NOW))["a"] == (Side.ONLINE, Turning.STEADY)


def test_nothing_is_lent_for_a_dip_that_is_shorter_than_a_stay() -> None:
    dip = a_demand(*[6.0] * 1, *[0.0] * 1, *[6.0] * 22)
    for at in (NOW, NOW + HOUR, NOW + 1.5 * HOUR):
        assert all(state.side is Side.ONLINE for state in step([a_node("a"), a_node("b")], dip, (), NONE, at).nodes)


@pytest.mark.parametrize(
    ("hour", "quiet_until", "usual", "lent"),
    [
        (21, 26, 2000.0, True),  # the next day has flips of its own
        (21, 23, 2000.0, False),  # it would be wanted back the same day
        (21, 26, 9000.0, False),  # as much as that was asked at this time last week
        (15, 26, 2000.0, False),  # it is long until midnight, however quiet it looks
    ],
)
def test_a_node_whose_return_would_be_its_third_flip_of_the_day_is_lent_only_if_nobody_can_miss_it(
    hour: int, quiet_until: int, usual: float, lent: bool
) -> None:
    day = midnight(NOW, "+00:00")
    at = day + hour * HOUR
    nodes = [a_node("a", since=day + 6 * HOUR, flips=(day - HOUR, day + 6 * HOUR)), a_node("b", pods=1, since=at)]
    cores = [0.0 if hour + place < quiet_until else 6.0 for place in range(24)]
    told = a_demand(*cores, start=at)
    plan = step(nodes, Demand(at, HOUR, told.need, np.full(24, usual)), (), NONE, at)
    assert (sides(plan)["a"][0] is Side.OFFLINE) is lent


def test_spare_nodes_stay_when_others_return_and_twice_as_many_when_one_is_lent() -> None:
    rule = Rule(reserve_online="0", reserve_offline="0", most_turning="1", spare="1")
    lent = {}
    for cores in (4.0, 5.0, 12.0, 13.0):  # five nodes of 4 cores, four of them online
        nodes = [*(a_node(f"n{place}") for place in range(4)), a_node("z", Side.OFFLINE)]
        plan = step(nodes, a_demand(*[cores] * 24), (), rule, NOW)
        lent[cores] = sum(state.side is Side.OFFLINE for state in plan.nodes)
    assert lent == {4.0: 2, 5.0: 1, 12.0: 1, 13.0: 0}


def test_the_offline_reserve_is_filled_and_is_not_given_back_for_anything() -> None:
    rule = Rule(reserve_online="0", reserve_offline="1", most_turning="1", spare="0")
    plan = passes([a_node("a"), a_node("b")], "no forecast", rule, 3)
    assert next((state.side, state.reserve) for state in plan.nodes) == (Side.OFFLINE, True)
    nodes = [Node(state, 4000, 64 * GIB) for state in plan.nodes]
    wanted = step(nodes, a_demand(*[8.0] * 24), [Ask(4000, GIB, 2)], rule, NOW + HOUR)
    assert sides(wanted)["a"] == (Side.OFFLINE, Turning.STEADY)


@pytest.mark.parametrize(("free", "offline"), [((2, 2, 2), 2), ((2, 2, 3), 1), ((4, 4, 3), 0)])
def test_the_offline_reserve_is_not_filled_at_the_cost_of_anybodys_place(free: tuple[int, ...], offline: int) -> None:
    rule = Rule(reserve_online="0", reserve_offline="2", most_turning="2", spare="0")
    nodes = [a_node(name, pods=pods, cores=8 if name == "c" else 4) for name, pods in zip("abc", free, strict=True)]
    nodes[2] = Node(
        nodes[2].state, 8000, 64 * GIB, (Ask(1000, 2 * GIB, free[2]), Ask(2000, GIB))
    )  # 8 - 2 - free cores left
    plan = step(nodes, "no forecast", (), rule, NOW)
    assert sum(state.side is Side.OFFLINE for state in plan.nodes) == offline


def test_a_large_pod_that_only_its_own_node_holds_keeps_that_node_online() -> None:
    large = Node(TideNode(node="a", side=Side.ONLINE), 4000, 64 * GIB, (Ask(3000, GIB),))
    others = [
        Node(TideNode(node=name, side=Side.ONLINE, since=NOW), 4000, 64 * GIB, (Ask(1200, GIB),)) for name in "bcde"
    ]
    assert sides(step([large, *others], QUIET, (), NONE, NOW))["a"][0] is Side.ONLINE, (
        "7.8 cores fit in four nodes, not so"
    )
    loose = [Node(one.state, 4000, 64 * GIB, (Ask(900, GIB),)) for one in others]
    assert sides(step([large, *loose], QUIET, (), NONE, NOW))["a"][0] is Side.OFFLINE


def test_a_reserved_node_is_not_lent_though_it_is_the_emptiest() -> None:
    rule = Rule(reserve_online="1", reserve_offline="0", most_turning="1", spare="0")
    plan = step([a_node("a", reserve=True), a_node("b", pods=1)], QUIET, (), rule, NOW)
    assert sides(plan)["a"][0] is Side.ONLINE


def test_a_node_that_has_changed_sides_twice_today_returns_after_midnight_and_that_is_said() -> None:
    day = midnight(NOW, "+00:00")
    nodes = [a_node("a", Side.OFFLINE, since=NOW - HOUR, flips=(day + 6 * HOUR, NOW - HOUR)), a_node("b", pods=1)]
    plan = step(nodes, a_demand(*[6.0] * 24), (), NONE, NOW)
    assert sides(plan)["a"] == (Side.OFFLINE, Turning.STEADY)
    assert plan.alerts == (
        "online services want 1 more nodes, 0 can come back (1 have changed sides 2 times today, or are not there)",
    )
    later = step(nodes, a_demand(*[6.0] * 24, start=day + DAY), (), NONE, day + DAY)
    assert sides(later)["a"] == (Side.ONLINE, Turning.DRAINING)


# -- what is not known --------------------------------------------------------------------------------------------------


def test_without_a_forecast_what_was_lent_comes_back_and_nothing_is_lent() -> None:
    nodes = [a_node("a", Side.OFFLINE), a_node("b", Side.OFFLINE), a_node("c"), a_node("d")]
    plan = step(nodes, "the forecast is empty", (), Rule(reserve_online="0", most_turning="50%"), NOW)
    assert [state.turning for state in plan.nodes] == [
        Turning.DRAINING,
        Turning.DRAINING,
        Turning.STEADY,
        Turning.STEADY,
    ]
    assert "the forecast is empty" in plan.arithmetic
    assert plan.wanted_online == 4


def test_an_empty_pool_and_one_that_is_all_blocked_are_lawful() -> None:
    assert step([], QUIET, [Ask(500, GIB)], NONE, NOW).nodes == ()
    blocked = [a_node(name, Side.ONLINE, Turning.BLOCKED, guests=1, since=NOW - HOUR) for name in "abc"]
    plan = step(blocked, a_demand(*[6.0] * 24), (), NONE, NOW)
    assert all(state.turning is Turning.BLOCKED for state in plan.nodes)
    assert len(plan.alerts) == 3


def test_a_clock_that_went_back_is_named_and_nothing_is_turned_for_it() -> None:
    nodes = [a_node("a", since=NOW + 3 * DAY, flips=(NOW + 3 * DAY,)), a_node("b", pods=1, since=NOW)]
    plan = step(nodes, QUIET, (), NONE, NOW)
    assert plan.alerts == ("a was stamped 3d after now: the clock went back",)
    assert plan.nodes[0].since == NOW
    assert plan.nodes[0].side is Side.ONLINE


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (Outlook(Point(1.0, 1000), 0.0, NOW, 300.0, np.array([])), "empty"),
        (Outlook(Point(1.0, 1000), 0.0, NOW, 300.0, np.array([1.0, np.nan])), "no numbers"),
        (Outlook(Point(1.0, 1000), 0.0, NOW, 300.0, np.array([1.0]), np.array([np.inf])), "no numbers"),
        (Outlook(Point(float("nan"), 1000), 0.0, NOW, 300.0, np.array([1.0])), "no number"),
        (Outlook(Point(1.0, 1000), 0.0, NOW - DAY, 300.0, np.array([1.0])), "ended"),
        (Outlook(Point(1.0, 1000), 0.0, NOW, 0.0, np.array([1.0])), "empty"),
    ],
)
def test_a_forecast_nothing_can_be_made_of_is_a_sentence(seen: Outlook, says: str) -> None:
    found = demand(seen, NOW, margin=0.0, early=0.0)
    assert isinstance(found, str)
    assert says in found


# -- arithmetic ---------------------------------------------------------------------------------------------------------


def test_requests_follow_use_through_two_points_and_in_proportion_beyond() -> None:
    now, peak = Point(10.0, 30_000), Point(50.0, 80_000)
    found = asked(np.array([0.0, 5.0, 10.0, 30.0, 50.0, 100.0]), now, peak)
    assert found.tolist() == [0.0, 15_000.0, 30_000.0, 55_000.0, 80_000.0, 160_000.0]
    assert asked(np.array([7.0]), Point(0.0, 500), None).tolist() == [500.0]


def test_need_grows_from_now_as_it_did_at_this_time_of_day_and_reaches_ahead() -> None:
    begin = NOW - 7 * DAY
    habit = Habit(begin, [4000 if (begin + place * SLOT) % DAY == (NOW + HOUR) % DAY else 1000 for place in range(336)])
    seen = Outlook(Point(1.0, 1500), 1.5e9, NOW, 1800.0, np.array([1.0] * 6), habit=habit)
    found = demand(seen, NOW, margin=0.0, early=1800.0)
    assert isinstance(found, Demand)
    assert found.need[:, 0].tolist() == [1500.0, 6000.0, 6000.0, 1500.0, 1500.0, 1500.0]  # four times what it is now
    assert found.need[1].tolist() == [6000.0, 6e9, 1.0]


def test_growth_is_the_steepest_of_the_days_that_are_known() -> None:
    steps = Habit(0.0, [100, 150, *[-1] * 46, 100, 300, *[-1] * 46, 0, 900])
    assert steps.growth(3 * DAY, np.array([3 * DAY, 3 * DAY + SLOT])).tolist() == [1.0, 3.0]
    assert Habit().growth(NOW, np.array([NOW])).tolist() == [0.0]


def test_the_habit_keeps_the_highest_of_a_slot_and_forgets_the_oldest() -> None:
    habit = Habit()
    for place in range(5):
        habit = habit.told(NOW + place * SLOT, 100 + place, 3).told(NOW + place * SLOT + 60, 50, 3)
    assert (habit.start, tuple(habit.asked)) == (NOW + 2 * SLOT, (102, 103, 104))
    assert habit.told(NOW - DAY, 999, 3) == habit, "a clock that went back adds nothing"
    assert tuple(habit.told(NOW + 7 * SLOT, 5, 3).asked) == (-1, -1, 5)


def test_room_and_packing() -> None:
    assert room(64_000, 256 * GIB, (8000, 32 * GIB), 0.8).tolist() == [56_000.0, 224.0 * GIB, 51.2]
    assert room(4000, 8 * GIB, (3000, GIB), 1.0)[0] == 2000.0
    assert unplaced([Ask(3000, GIB, 2), Ask(1000, GIB, 2)], [Free(4000, 8 * GIB), Free(4000, 8 * GIB)]) == []
    assert unplaced([Ask(3000, GIB, 3)], [Free(4000, 8 * GIB), Free(4000, 8 * GIB)]) == [Ask(3000, GIB, 1)]
    assert unplaced([Ask(0, 0, 5)], [Free(-10, -10)]) == []
