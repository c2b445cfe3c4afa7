"""Laws of the exchange of CPUs: at every step of every plan, over random trees, old and new sets."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from neap.enforcer.core.order import CpuSet, Move, in_order

GROUPS = ("beside0", "beside1", "class", "owner0", "owner1")
TREE = {"class/guest0": "class", "class/guest1": "class"}
holders = st.lists(st.sampled_from(GROUPS), min_size=8, max_size=8)


def sets_of(who: list[str]) -> dict[str, CpuSet]:
    return {group: frozenset(cpu for cpu, name in enumerate(who) if name == group) for group in GROUPS}


@st.composite
def worlds(draw: st.DrawFn, *, overlaps: bool = True) -> dict[str, Move]:
    """Every CPU has one holder before and one after: owners, pods beside them, a class with guests.

    With `overlaps` guests may also hold others' CPUs before (drift, or advice of another kind).
    """
    old, new = sets_of(draw(holders)), sets_of(draw(holders))
    moves: dict[str, Move] = {}
    for group in GROUPS:
        before = old[group]
        if overlaps and not group.startswith("owner"):
            before |= draw(st.frozensets(st.integers(0, 7), max_size=2))
        if before and new[group]:
            moves[group] = Move(before, new[group], exclusive=group.startswith("owner"))
    for guest, parent in TREE.items():
        if parent in moves:
            before = draw(st.frozensets(st.sampled_from(sorted(moves[parent].old)), min_size=1))
            after = draw(st.frozensets(st.sampled_from(sorted(moves[parent].new)), min_size=1))
            moves[guest] = Move(before, after, parent=parent)
    return moves


def replay(moves: Mapping[str, Move]) -> list[dict[str, CpuSet]]:
    """What everybody holds, before the first write and after each."""
    held = {name: move.old for name, move in moves.items()}
    states = [dict(held)]
    for name, cpus in in_order(moves):
        held[name] = cpus
        states.append(dict(held))
    return states


@given(worlds())
def test_everybody_arrives_in_few_writes(moves: dict[str, Move]) -> None:
    states = replay(moves)
    assert states[-1] == {name: move.new for name, move in moves.items()}
    names = [name for name, _ in in_order(moves)]
    parents = {move.parent for move in moves.values()}
    assert all(names.count(name) <= 2 for name in moves if name not in parents)
    assert all(name not in names for name, move in moves.items() if move.old == move.new and name not in parents)


@given(worlds())
def test_no_set_is_ever_empty_or_outside_its_parents(moves: dict[str, Move]) -> None:
    for held in replay(moves):
        for name, move in moves.items():
            assert held[name]
            assert not move.parent or held[name] <= held[move.parent]


@given(worlds())
def test_a_guest_never_enters_an_owners_cpus(moves: dict[str, Move]) -> None:
    """At no step does a guest hold a CPU of an exclusive pod, then or to be, that it did not hold before."""
    for held in replay(moves):
        for guest, move in moves.items():
            for owner, theirs in moves.items():
                if theirs.exclusive and not move.exclusive:
                    assert held[guest] & (held[owner] | theirs.new) <= move.old


@given(worlds(overlaps=False))
def test_when_nobody_leaves_all_it_has_no_cpu_is_ever_shared(moves: dict[str, Move]) -> None:
    stay = {name: move for name, move in moves.items() if move.old & move.new and not move.parent}
    for held in replay(stay):
        assert sum(len(cpus) for cpus in held.values()) == len(frozenset().union(*held.values()))


@given(worlds())
def test_the_order_of_the_question_does_not_matter(moves: dict[str, Move]) -> None:
    assert in_order(moves) == in_order(dict(reversed(moves.items())))


def test_a_swap_of_owner_and_guest_lets_the_owner_in_first() -> None:
    low, high = frozenset({0, 1}), frozenset({2, 3})
    moves = {
        "owner": Move(high, low, exclusive=True),
        "class": Move(low, high),
        "class/guest": Move(low, high, parent="class"),
    }
    assert in_order(moves) == [("owner", low), ("class", low | high), ("class/guest", high), ("class", high)]
