"""The order in which sets of CPUs (or memory nodes) change hands, so that no moment of it is wrong.

Every cgroup goes from an old to a new set. Three things can go wrong on the way: a child's set leaves its parent's
(the kernel then silently gives it all the parent has), somebody is on an exclusive cgroup's CPUs, and two who should
be apart are together for longer than needed. Each cgroup therefore has a *part* of its own, and shows it together
with what those below it show: above them everything widens before, and narrows after. Parts change in turns:

 1. release: everybody narrows to old ∩ new. Who would have nothing left keeps its old part for now: it *moves*.
 2. free: whoever's new CPUs nobody is about to leave takes them. Again and again, until nobody is left; or, if
    nobody can go (A wants B's CPUs and B wants A's), once the first of these that is possible, and then again:
 3. arrive: movers that are not exclusive go to what exclusive ones do not hold of their new CPUs, no matter whom of
    the others they meet there; else one exclusive mover to what nobody holds of its own.
 4. hide: movers in an exclusive one's way keep what no exclusive one holds or will hold; else they go to any such CPU.
 5. make way: of one CPU all others step aside, and one mover waits there, on one of its new CPUs or on any other.
 6. force: an exclusive one goes where somebody still is.

Only the last turn puts two together who were apart and will be. It is left for a ring of movers in which everybody
waits for somebody's only CPU, where no CPU outside of all exclusive sets is left to hide on, or to be cleared for an
exclusive one: two exclusive cgroups of one CPU each that swap, and at most one more CPU where all others must stay.

Laws, at every step (tests/laws/test_enforcer_order.py): a set is never empty and lies within its parent's; an
exclusive cgroup shares no CPU but with whom it did or will, the above excepted; and even then nobody else enters an
exclusive cgroup's CPUs. If nobody moves, sets that are disjoint before and after are disjoint throughout. At the end
everybody has its new set; a leaf is written at most three times, twice if it keeps a CPU and nobody needs its help.

Requires: old and new sets are not empty and lie within the parent's old and new set, and rooms in the parent's room.
Cost: O(n) for a resize; O(n²) when everybody moves at once.
Source: two-phase cpuset writes of katalyst-core and Koordinator ("first widen, then narrow"), with release put
first because widening first lets guests into owners' CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

CpuSet: TypeAlias = frozenset[int]
Parts: TypeAlias = Mapping[str, CpuSet]
NOTHING: CpuSet = frozenset()


@dataclass(frozen=True)
class Move:
    """One cgroup's way; `parent` is the nearest ancestor that is part of the plan, "" for none."""

    old: CpuSet
    new: CpuSet
    parent: str = ""
    exclusive: bool = False
    room: CpuSet = NOTHING  # where it can be besides, as far as those above it that are no part of the plan let it


def in_order(moves: Mapping[str, Move]) -> list[tuple[str, CpuSet]]:
    """The writes, one set at a time; see module docstring."""
    return _Exchange(moves).run()


class _Exchange:
    """What everybody holds while the writes are thought through: its part, and what it shows."""

    def __init__(self, moves: Mapping[str, Move]) -> None:
        self.moves = moves
        self.down = sorted(moves, key=lambda name: (len(self._above(name)), name))  # parents before children
        self.part = {name: moves[name].old for name in self.down}
        self.held = dict(self.part)
        self.children: dict[str, list[str]] = {}
        for name in self.down:
            self.children.setdefault(moves[name].parent, []).append(name)
        self.exclusive = [name for name in self.down if moves[name].exclusive]
        self.steps: list[tuple[str, CpuSet]] = []

    def run(self) -> list[tuple[str, CpuSet]]:
        """Everybody to its place."""
        self._go({name: kept for name, move in self.moves.items() if (kept := move.old & move.new)})
        while movers := [name for name in self.down if not self.part[name] <= self.moves[name].new]:
            for parts in self._free(movers) or self._open(self._ring(movers)):
                self._go(parts)
        self._go({name: move.new for name, move in self.moves.items()})
        return self.steps

    def _go(self, parts: Parts) -> None:
        """These parts become true: whatever widens or leaves goes parents first, what narrows children first."""
        self.part.update(parts)
        goal: dict[str, CpuSet] = {}
        for name in reversed(self.down):
            goal[name] = self.part[name].union(*(goal[child] for child in self.children.get(name, ())))
        for name in self.down:
            below = (self.held[child] | goal[child] for child in self.children.get(name, ()))
            if not (passing := self.part[name].union(*below)) <= self.held[name]:
                self._write(name, passing)
        for name in reversed(self.down):
            if goal[name] != self.held[name]:
                self._write(name, goal[name])

    def _write(self, name: str, cpus: CpuSet) -> None:
        self.held[name] = cpus
        self.steps.append((name, cpus))

    # -- turns: parts that become true together, one such group after the other; nothing if there is no such turn ------

    def _free(self, movers: Sequence[str]) -> Sequence[Parts]:
        leaving = self._leaving(self.down)
        wanted = {name: self.moves[name].new for name in movers}
        parts = {name: new for name, new in wanted.items() if not (new - self.held[name]) & leaving}
        return [parts] if parts else []

    def _open(self, ring: Sequence[str]) -> Sequence[Parts]:
        turns = self._arrive, self._hide, self._make_way, self._force
        return next(filter(None, (turn(ring) for turn in turns)))

    def _arrive(self, movers: Sequence[str]) -> Sequence[Parts]:
        theirs, all_of_it = self._leaving(self.exclusive), self._leaving(self.down)
        mixing: dict[str, CpuSet] = {}
        alone: list[Parts] = []
        for name in movers:
            move = self.moves[name]
            if part := move.new - ((all_of_it if move.exclusive else theirs) - self.held[name]):
                if move.exclusive:
                    alone.append({name: part})
                else:
                    mixing[name] = part
        return [mixing] if mixing else alone[:1]

    def _hide(self, movers: Sequence[str]) -> Sequence[Parts]:
        wanted = NOTHING.union(*(self.moves[name].new for name in movers if self.moves[name].exclusive))
        in_the_way = [name for name in movers if not self.moves[name].exclusive and self.part[name] & wanted]
        parts = {name: hideout for name in in_the_way if (hideout := self._hideout(name, NOTHING))}
        return [parts] if parts else []

    def _make_way(self, movers: Sequence[str]) -> Sequence[Parts]:
        """Rather on one of its new CPUs than elsewhere, rather where few have to step aside."""
        for name in movers:
            if way := self._way(name, self.moves[name].new - self.held[name]):
                return way
        for name in movers:
            move = self.moves[name]
            is_first = move.exclusive and self.part[name] <= move.old
            if is_first and (way := self._way(name, move.room - self._taken() - move.old)):
                return way
        return []

    def _force(self, movers: Sequence[str]) -> Sequence[Parts]:
        first = min(movers, key=lambda name: not self.moves[name].exclusive)
        return [{first: self.moves[first].new}]

    # -- what the turns ask --------------------------------------------------------------------------------------------

    def _above(self, name: str) -> list[str]:
        """Ancestors, nearest first."""
        found = []
        while name := self.moves[name].parent:
            found.append(name)
        return found

    def _ring(self, movers: Sequence[str]) -> Sequence[str]:
        """Those who wait for each other, without those who only wait for them."""
        ring: Sequence[str] = ()
        left = movers
        while len(left) != len(ring):
            ring = left
            wanted = NOTHING.union(*(self.moves[name].new - self.held[name] for name in ring))
            left = [name for name in ring if self._leaving([name]) & wanted]
        return ring

    def _leaving(self, names: Iterable[str]) -> CpuSet:
        """What these hold and will not hold in the end."""
        return NOTHING.union(*(self.part[name] - self.moves[name].new for name in names))

    def _taken(self) -> CpuSet:
        """What exclusive cgroups hold, and what those of them that move will hold."""
        parts = {name: (self.part[name], self.moves[name].new) for name in self.exclusive}
        return NOTHING.union(*(part if part <= new else part | new for part, new in parts.values()))

    def _hideout(self, name: str, but: CpuSet) -> CpuSet:
        """CPUs that no exclusive cgroup holds or will hold: rather own ones."""
        theirs = but | self._taken()
        return (self.part[name] - theirs) or (self.moves[name].room - theirs)

    def _way(self, name: str, cpus: CpuSet) -> Sequence[Parts]:
        """Others step aside of one of these CPUs, then it goes there."""
        mine = {name, *self._above(name)}
        others = [other for other in (self.down if self.moves[name].exclusive else self.exclusive) if other not in mine]
        holders = {cpu: [other for other in others if cpu in self.part[other]] for cpu in cpus}
        for cpu in sorted(cpus, key=lambda cpu: (len(holders[cpu]), cpu)):
            place = frozenset({cpu})
            aside = {
                other: self.part[other] - place
                or (NOTHING if self.moves[other].exclusive else self._hideout(other, place))
                for other in holders[cpu]
            }
            if all(aside.values()):
                return [aside, {name: place}]
        return []
