"""The order in which sets of CPUs (or memory nodes) change hands, so that no moment of it is wrong.

Every cgroup goes from an old to a new set. Three things can go wrong on the way: a child's set leaves its parent's
(the kernel then silently gives it all the parent has), a guest enters CPUs whose owner still runs there, and two
who should be apart are together for longer than needed. So:

 1. release, children first: everybody narrows to old ∩ new. Who would have nothing left keeps its old set for now
    (it *moves*); a parent also keeps what its children still hold.
 2. gain, parents first: whoever's new CPUs are not held by somebody about to leave them goes to its new set, and
    its parents let go of what it left. Again and again, until nobody is left.
 3. If nobody can go (A wants B's CPUs and B wants A's) exclusive cgroups go first: an owner may for the length of
    one plan share CPUs with a guest that held them before, a guest never enters an owner's CPUs.

Laws, at every step (tests/laws/test_enforcer_order.py): a set is never empty and lies within its parent's; a guest
holds no CPU of an exclusive cgroup, old or new, that the guest did not hold before; if nobody moves, sets that are
disjoint before and after are disjoint throughout. At the end everybody has its new set; ≤ 2 writes for a leaf.

Requires: old and new sets are not empty and lie within the parent's old and new set.
Cost: O(n) for a resize; O(n²) when everybody moves at once.
Source: two-phase cpuset writes of katalyst-core and Koordinator ("first widen, then narrow"), with release put
first because widening first lets guests into owners' CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

CpuSet: TypeAlias = frozenset[int]


@dataclass(frozen=True)
class Move:
    """One cgroup's way; `parent` is the nearest ancestor that is part of the plan, "" for none."""

    old: CpuSet
    new: CpuSet
    parent: str = ""
    exclusive: bool = False


def in_order(moves: Mapping[str, Move]) -> list[tuple[str, CpuSet]]:
    """The writes, one set at a time; see module docstring."""
    return _Exchange(moves).run()


class _Exchange:
    """What everybody holds while the writes are thought through."""

    def __init__(self, moves: Mapping[str, Move]) -> None:
        self.moves = moves
        self.down = sorted(moves, key=lambda name: (len(self._above(name)), name))  # parents before children
        self.held = {name: moves[name].old for name in self.down}
        self.there = {name for name in self.down if moves[name].old == moves[name].new}
        self.children: dict[str, list[str]] = {}
        for name in self.down:
            self.children.setdefault(moves[name].parent, []).append(name)
        owners = [name for name in self.down if moves[name].exclusive]
        self.first = {*owners, *(above for name in owners for above in self._above(name))}
        self.steps: list[tuple[str, CpuSet]] = []

    def run(self) -> list[tuple[str, CpuSet]]:
        """Everybody to its place."""
        for name in reversed(self.down):
            self._settle(name)
        waiting = [name for name in self.down if name not in self.there]
        while waiting:
            going = self._next(waiting)
            self.there.update(going)
            for name in going:
                self._settle(name)
            left = {above for name in going for above in self._above(name)}
            for name in reversed(self.down):
                if name in left:
                    self._settle(name)
            waiting = [name for name in waiting if name not in self.there]
        return self.steps

    def _above(self, name: str) -> list[str]:
        """Ancestors, nearest first."""
        found = []
        while name := self.moves[name].parent:
            found.append(name)
        return found

    def _goal(self, name: str) -> CpuSet:
        """What this cgroup should hold now: its part, and what its children still hold."""
        move = self.moves[name]
        part = move.new if name in self.there else (move.old & move.new) or move.old
        return part.union(*(self.held[child] for child in self.children.get(name, ())))

    def _settle(self, name: str) -> None:
        goal = self._goal(name)
        if goal != self.held[name]:
            self.held[name] = goal
            self.steps.append((name, goal))

    def _next(self, waiting: Iterable[str]) -> list[str]:
        """Everybody who takes nothing away from anybody; else the one that goes first."""
        ready = [name for name in waiting if (up := self.moves[name].parent) == "" or up in self.there]
        leaving: CpuSet = frozenset().union(*(self.held[name] - self.moves[name].new for name in self.down))
        mine = {name: self._goal_there(name) - self.held[name] for name in ready}
        free = [name for name in ready if not mine[name] & leaving]
        return free or [min(ready, key=lambda name: name not in self.first)]

    def _goal_there(self, name: str) -> CpuSet:
        return self.moves[name].new.union(*(self.held[child] for child in self.children.get(name, ())))
