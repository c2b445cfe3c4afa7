"""Laws of the tide: reserves, flips, how many turn at once, a place for every online pod; the same from any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.model.tide import Side, TideNode, Turning
from neap.common.units import DAY, GIB, HOUR, MINUTE
from neap.foresight.tide import step
from neap.foresight.tide_demand import Demand, Habit, Outlook, Point, demand
from neap.foresight.tide_room import Ask
from neap.foresight.tide_rule import FLIPS, Node, Rule, midnight, most_turning, shares

NOW = 100 * DAY + 7 * HOUR
amounts = st.one_of(st.integers(0, 4).map(str), st.integers(0, 100).map(lambda one: f"{one}%"))
rules = st.builds(
    Rule, reserve_online=amounts, reserve_offline=amounts, most_turning=amounts, spare=st.sampled_from(["0", "1", "10%"]),
    drain=st.sampled_from([60.0, 900.0]), start=st.sampled_from([0.0, 300.0]), stay=st.sampled_from([0.0, HOUR]),
    zone=st.sampled_from(["+00:00", "+05:30", "-08:00"]),
)  # fmt: skip
asks = st.builds(
    Ask, st.sampled_from([0, 300, 1000, 2500]), st.sampled_from([0, GIB, 3 * GIB]), st.integers(1, 2), st.booleans()
)
foreseen = st.one_of(
    st.just("nothing is known"),
    st.lists(st.floats(0, 20), min_size=1, max_size=30).map(
        lambda cores: Demand(
            NOW, HOUR, np.array([[1000 * one, one * GIB, one / 2] for one in cores]), np.zeros(len(cores)), "v", "drawn"
        )
    ),
)
ages = st.sampled_from([-HOUR, 0.0, 10.0, 1000.0, 5 * HOUR, 30 * HOUR])


@st.composite
def a_pool(draw: st.DrawFn) -> list[Node]:
    nodes = []
    for place in range(draw(st.integers(0, 6))):
        side = draw(st.sampled_from(Side))
        turning = (
            draw(st.sampled_from(Turning))
            if side is Side.ONLINE
            else draw(st.sampled_from([Turning.STEADY, Turning.DRAINING]))
        )
        since, flips = NOW - draw(ages), tuple(sorted(NOW - draw(ages) for _ in range(draw(st.integers(0, 2)))))
        state = TideNode(node=f"n{place}", side=side, turning=turning, since=since, flips=flips, reserve=draw(st.booleans()),
                         failed=draw(st.sampled_from([0.0, NOW - HOUR])))  # fmt: skip
        mine = tuple(draw(st.lists(asks, max_size=2))) if (side, turning) != (Side.OFFLINE, Turning.STEADY) else ()
        cores = draw(st.sampled_from([2, 4, 8]))
        nodes.append(
            Node(
                state, 1000 * cores, cores * 4 * GIB, mine, guests=draw(st.integers(0, 2)), present=draw(st.booleans())
            )
        )
    return nodes


def fits(pods: Sequence[tuple[int, int]], bins: list[tuple[int, int]]) -> bool:
    """By trying everything: nothing of the rule's own packing."""
    if not pods:
        return True
    (cpu, memory), rest = pods[0], pods[1:]
    for place, (free_cpu, free_memory) in enumerate(bins):
        if (cpu <= free_cpu or not cpu) and (memory <= free_memory or not memory):
            bins[place] = (free_cpu - cpu, free_memory - memory)
            if fits(rest, bins):
                return True
            bins[place] = (free_cpu, free_memory)
    return False


@given(a_pool(), foreseen, st.lists(asks, max_size=2), rules)
def test_a_pass_keeps_reserves_turns_no_more_than_allowed_and_leaves_every_online_pod_a_place(
    pool: list[Node], told: Demand | str, waiting: list[Ask], rule: Rule
) -> None:
    plan = step(pool, told, waiting, rule, NOW)
    before, after = {node.name: node for node in pool}, {state.node: state for state in plan.nodes}
    assert list(after) == sorted(before)
    began = [s for s in plan.nodes if s.turning is Turning.DRAINING and (s.side is not before[s.node].state.side)]
    draining = sum(state.turning is Turning.DRAINING for state in plan.nodes)
    assert not began or draining <= most_turning(len(pool), rule)
    keep_online, keep_offline, _ = shares(len(pool), rule)
    lent, back = [[s for s in began if s.side is side] for side in (Side.OFFLINE, Side.ONLINE)]
    online = sum(state.side is Side.ONLINE and state.turning is Turning.STEADY for state in plan.nodes)
    assert not lent or online >= max(1, keep_online)
    assert not back or sum(state.side is Side.OFFLINE for state in plan.nodes) >= min(keep_offline, len(pool))
    day = midnight(NOW, rule.zone)
    for state in began:
        assert sum(flip >= day for flip in before[state.node].state.flips) < FLIPS
        assert not state.reserve
    if lent:
        assert not isinstance(told, str) or sum(s.side is Side.OFFLINE for s in plan.nodes) <= keep_offline
        taking = [before[s.node] for s in plan.nodes if s.side is Side.ONLINE and s.turning is Turning.STEADY]
        assert all(ask.movable for s in lent for ask in before[s.node].online)
        moving = [
            one
            for s in plan.nodes
            if (s.side, s.turning) == (Side.OFFLINE, Turning.DRAINING)
            for one in before[s.node].online
        ]
        pods = sorted(((a.cpu, a.memory) for a in (*moving, *waiting) for _ in range(a.count)), reverse=True)
        bins = [
            (
                one.cpu - sum(a.cpu * a.count for a in one.online),
                one.memory - sum(a.memory * a.count for a in one.online),
            )
            for one in taking
            if one.present
        ]
        assert fits(pods, bins)


@given(a_pool(), foreseen, st.lists(asks, max_size=2), rules, st.randoms())
def test_the_order_in_which_nodes_are_told_is_nothing(
    pool: list[Node], told: Demand | str, waiting: list[Ask], rule: Rule, chance: object
) -> None:
    mixed = list(pool)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = step(pool, told, waiting, rule, NOW), step(mixed, told, waiting, rule, NOW)
    assert (one.nodes, one.alerts, one.arithmetic, one.next_change) == (
        other.nodes,
        other.alerts,
        other.arithmetic,
        other.next_change,
    )


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), rules, st.integers(2, 6))
def test_no_node_changes_sides_more_than_twice_a_day_whatever_the_load_the_clock_and_the_pods_do(
    seed: int, rule: Rule, count: int
) -> None:
    chance = np.random.default_rng(seed)
    states = [TideNode(node=f"n{place}", side=Side.ONLINE) for place in range(count)]
    steady, flips, at = {state.node: Side.ONLINE for state in states}, Counter[tuple[str, float]](), NOW
    for _ in range(150):
        at += chance.choice([60.0, 900.0, HOUR, 3 * HOUR])
        nodes = []
        for state in states:
            leaves = state.turning is not Turning.STEADY and chance.random() < 0.7
            pods = (Ask(1000, GIB, int(chance.integers(0, 3)), bool(chance.random() < 0.9)),)
            nodes.append(
                Node(
                    state,
                    4000,
                    16 * GIB,
                    pods if state.side is Side.ONLINE or not leaves else (),
                    guests=0 if leaves else 1,
                )
            )
        gone = int(chance.integers(0, count)) if chance.random() < 0.05 else -1
        cores = chance.uniform(0, 4 * count, size=30) * (chance.random() < 0.7)
        told: Demand | str = Demand(at, HOUR, np.stack([1000 * cores, cores * GIB, cores / 2], axis=1), np.zeros(30))
        told = "nothing is known" if chance.random() < 0.05 else told
        waiting = [Ask(1000, GIB, 1)] if chance.random() < 0.1 else []
        plan = step([node for place, node in enumerate(nodes) if place != gone], told, waiting, rule, at)
        told_now = {state.node: state for state in plan.nodes}
        states = [told_now.get(state.node, state) for state in states]
        for state in states:
            if state.turning is Turning.STEADY and steady[state.node] is not state.side:
                steady[state.node] = state.side
                flips[state.node, midnight(state.flips[-1], rule.zone)] += 1
    assert max(flips.values(), default=0) <= FLIPS


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8), st.floats(), st.integers(0, 10**6),
    st.floats(-1e9, 1e9), st.lists(st.integers(-1, 10**6), max_size=400), st.floats(0, 1), st.floats(0, 2 * HOUR),
)  # fmt: skip
def test_a_demand_is_finite_or_a_sentence(
    values: list[float], used: float, cores: int, start: float, known: list[int], margin: float, early: float
) -> None:
    seen = Outlook(
        Point(used, cores),
        1e9,
        start,
        5 * MINUTE,
        np.array(values),
        np.array(values),
        Point(used, cores),
        Habit(start, known),
    )
    found = demand(seen, 1000.0, margin=margin, early=early)
    if isinstance(found, Demand):
        assert len(found.need)
        assert not np.isnan(found.need).any()
        assert (found.need >= 0).all()
    else:
        assert found


@given(st.lists(st.tuples(st.floats(-DAY, 40 * DAY), st.integers(0, 10**6)), max_size=30), st.integers(1, 336))
def test_the_habit_stays_small_whatever_the_clock_does(told: list[tuple[float, int]], most: int) -> None:
    habit = Habit()
    for at, cores in told:
        habit = habit.told(at, cores, most)
        assert len(habit.asked) <= most
        assert all(one >= -1 for one in habit.asked)
