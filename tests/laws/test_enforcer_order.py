"""Laws of the exchange of CPUs: at every step of every plan, over random trees, old and new sets."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from neap.enforcer.core.order import CpuSet, Move, in_order

GROUPS = ("beside0", "beside1", "class", "owner0", "owner1", "owner2", "nobody")
TREE = {"class/guest0": "class", "class/guest1": "class"}
CPUS = (3, 4, 5, 8)  # few of them: rings are frequent


def sets_of(who: list[str]) -> dict[str, CpuSet]:
    return {group: frozenset(cpu for cpu, name in enumerate(who) if name == group) for group in GROUPS}


@st.composite
def worlds(draw: st.DrawFn, *, overlaps: bool = True) -> dict[str, Move]:
    """Every CPU has one holder before and one after: owners, pods beside them, a class with guests, nobody.

    With `overlaps` guests may also hold others' CPUs before (drift, or advice of another kind).
    """
    room = frozenset(range(draw(st.sampled_from(CPUS))))
    holders = st.lists(st.sampled_from(GROUPS), min_size=len(room), max_size=len(room))
    old, new = sets_of(draw(holders)), sets_of(draw(holders))
    moves: dict[str, Move] = {}
    for group in GROUPS[:-1]:
        before = old[group]
        if overlaps and not group.startswith("owner"):
            before |= draw(st.frozensets(st.sampled_from(sorted(room)), max_size=2))
        if before and new[group]:
            moves[group] = Move(before, new[group], exclusive=group.startswith("owner"), room=room)
    for guest, parent in TREE.items():
        if parent in moves:
            before = draw(st.frozensets(st.sampled_from(sorted(moves[parent].old)), min_size=1))
            after = draw(st.frozensets(st.sampled_from(sorted(moves[parent].new)), min_size=1))
            moves[guest] = Move(before, after, parent=parent, room=room)
    return moves


def replay(moves: Mapping[str, Move]) -> list[dict[str, CpuSet]]:
    """What everybody holds, before the first write and after each."""
    held = {name: move.old for name, move in moves.items()}
    states = [dict(held)]
    for name, cpus in in_order(moves):
        held[name] = cpus
        states.append(dict(held))
    return states


def trespasses(moves: Mapping[str, Move]) -> set[tuple[str, str]]:
    """(owner, other) who share a CPU at some step that they neither shared before nor will share."""
    pairs = [(owner, other) for owner, move in moves.items() if move.exclusive for other in moves if other != owner]
    return {
        (owner, other)
        for held in replay(moves)
        for owner, other in pairs
        if (held[owner] & held[other]) - (moves[owner].old & moves[other].old) - (moves[owner].new & moves[other].new)
    }


def is_cramped(moves: Mapping[str, Move]) -> bool:
    """Whether owners of one CPU move entirely, and fewer than two CPUs are there that no owner needs."""
    owners = [move for move in moves.values() if move.exclusive]
    needed = frozenset().union(*(move.old & move.new or move.old | move.new for move in owners))
    room = frozenset().union(*(move.room for move in moves.values()))
    return len(room - needed) < 2 and any(len(move.old) == 1 and not move.old & move.new for move in owners)


@given(worlds())
def test_an_exclusive_cgroup_shares_no_cpu_at_any_step(moves: dict[str, Move]) -> None:
    """Except with whom it did or will; and where nobody has anywhere to go (see the swap below)."""
    assert is_cramped(moves) or not trespasses(moves)


@given(worlds())
def test_nobody_else_enters_an_exclusive_cgroups_cpus_not_even_where_there_is_no_way(moves: dict[str, Move]) -> None:
    held = {name: move.old for name, move in moves.items()}
    for name, cpus in in_order(moves):
        for owner, theirs in moves.items():
            if theirs.exclusive and not moves[name].exclusive:
                assert not (cpus - held[name]) & (held[owner] - theirs.new), f"{name} enters {owner}"
        held[name] = cpus


@given(worlds())
def test_everybody_arrives(moves: dict[str, Move]) -> None:
    assert replay(moves)[-1] == {name: move.new for name, move in moves.items()}


@given(worlds(overlaps=False))
def test_a_leaf_is_written_at_most_three_times_and_not_without_need(moves: dict[str, Move]) -> None:
    names = [name for name, _ in in_order(moves)]
    leaves = [name for name in moves if name not in TREE.values()]
    assert all(names.count(name) <= 3 for name in leaves)
    if all(move.old & move.new for move in moves.values()):
        assert all(names.count(name) <= 2 for name in leaves)
        assert all(name not in names for name in leaves if moves[name].old == moves[name].new)


@given(worlds())
def test_no_set_is_ever_empty_or_outside_its_parents(moves: dict[str, Move]) -> None:
    for held in replay(moves):
        for name, move in moves.items():
            assert held[name]
            assert held[name] <= move.room
            assert not move.parent or held[name] <= held[move.parent]


@given(worlds(overlaps=False))
def test_when_nobody_leaves_all_it_has_no_cpu_is_ever_shared(moves: dict[str, Move]) -> None:
    stay = {name: move for name, move in moves.items() if move.old & move.new and not move.parent}
    for held in replay(stay):
        assert sum(len(cpus) for cpus in held.values()) == len(frozenset().union(*held.values()))


@given(worlds())
def test_the_order_of_the_question_does_not_matter(moves: dict[str, Move]) -> None:
    assert in_order(moves) == in_order(dict(reversed(moves.items())))


LOW, HIGH = frozenset({0, 1}), frozenset({2, 3})


def test_in_a_swap_of_owner_and_guests_the_guests_wait_elsewhere() -> None:
    everywhere = LOW | HIGH | {4, 5}
    moves = {
        "owner": Move(HIGH, LOW, exclusive=True, room=everywhere),
        "class": Move(LOW, HIGH, room=everywhere),
        "class/guest": Move(LOW, HIGH, parent="class", room=everywhere),
        "beside": Move(frozenset({4, 5}), frozenset({4, 5}), room=everywhere),
    }
    assert not trespasses(moves)
    assert ("class/guest", frozenset({4, 5})) in in_order(moves)


def test_a_swap_that_fills_the_room_goes_by_way_of_a_part() -> None:
    moves = {
        "owner": Move(HIGH, LOW, exclusive=True, room=LOW | HIGH),
        "guest": Move(LOW, HIGH, room=LOW | HIGH),
    }
    assert not trespasses(moves)
    assert len(in_order(moves)) <= 5


def test_two_owners_swap_by_way_of_a_part_and_of_one_cpu_each_by_way_of_a_cpu_that_others_clear() -> None:
    swap = {"a": Move(LOW, HIGH, exclusive=True), "b": Move(HIGH, LOW, exclusive=True)}
    assert not trespasses(swap)
    one, two, rest = frozenset({0}), frozenset({1}), frozenset({2, 3})
    single = {
        "a": Move(one, two, exclusive=True, room=one | two | rest),
        "b": Move(two, one, exclusive=True, room=one | two | rest),
        "pool": Move(rest, rest),
    }
    assert not trespasses(single)
    assert in_order(single)[0] == ("pool", frozenset({3}))
    assert in_order(single)[-1] == ("pool", rest)


def test_two_owners_of_one_cpu_each_that_swap_where_there_is_no_other_are_the_only_ones_who_meet() -> None:
    one, two = frozenset({0}), frozenset({1})
    moves = {"a": Move(one, two, exclusive=True), "b": Move(two, one, exclusive=True)}
    assert trespasses(moves) == {("a", "b"), ("b", "a")}
    assert len(in_order(moves)) == 2


def test_pools_that_swap_go_straight_and_an_owner_takes_at_once_all_that_is_free_of_its_new_cpus() -> None:
    pools = {"a": Move(LOW, HIGH, room=LOW | HIGH), "b": Move(HIGH, LOW, room=LOW | HIGH)}
    assert in_order(pools) == [("a", HIGH), ("b", LOW)]
    owners = {"a": Move(LOW, HIGH | {4, 5}, exclusive=True), "b": Move(HIGH, LOW, exclusive=True)}
    assert in_order(owners) == [("a", frozenset({4, 5})), ("b", LOW), ("a", HIGH | {4, 5})]


def test_who_only_waits_for_others_that_swap_waits_until_they_have() -> None:
    room = frozenset(range(7))
    moves = {
        "behind": Move(frozenset({5, 6}), LOW, room=room),
        "x": Move(LOW | {2}, frozenset({3, 4}), exclusive=True, room=room),
        "y": Move(frozenset({3, 4}), frozenset({2}), exclusive=True, room=room),
    }
    assert not trespasses(moves)
    assert [name for name, _ in in_order(moves)].count("behind") == 1
