"""The search behind `affinity.choose_devices`: dynamic programming over the parts of a device tree.

A choice inside a part matters to the rest of the node only by how many devices of each class it has (`Plan`), so one
choice per count is kept, the cheapest. Two parts are joined by adding every pair of counts; what the devices of one
are worth to those of the other is a product of counts and weights. When a part is a group, its own terms are added.

All criteria are one integer: each has a field wide enough for its largest sum, the first criterion the highest
field. Integers add and compare exactly as the lists of criteria would. The lowest N bits, negated, are the chosen
set itself, device 0 the highest bit: of sets of one size the largest has the lowest positions.

Exact: every criterion is a sum over pairs, groups or devices, and classes lose nothing that a later term needs.
Cost: O(Σ over joins of counts left × counts right); see `affinity`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import compress
from operator import add, mul
from typing import NamedTuple, TypeAlias

from neap.common.model.device_tree import LEVELS, WHOLE, Close, DeviceTree, Group, Join, Leaf, Level

Counts: TypeAlias = tuple[int, ...]  # chosen, per class
Best: TypeAlias = dict[Counts, int]  # -> the least cost


class _Side(NamedTuple):
    """The devices of a kind that is asked, in one group, before the choice."""

    touched: bool  # somebody uses one of them
    fills: int  # so many must be taken for none to have room; −1: that cannot be

    def broken(self, chosen: int) -> bool:
        """Whether some are in use and some have room, once so many are taken."""
        return (self.touched or chosen > 0) and chosen != self.fills


def search(
    tree: DeviceTree,
    room: Sequence[int],
    gpus: int,
    nics: int,
    level: Level,
    percents: Sequence[int],
    usable: Collection[int],
    must: Collection[int],
) -> frozenset[int] | None:
    """The best set of `gpus` and `nics` of the usable positions, with all of `must` in it; None if there is none."""
    return _Search(tree, room, (gpus, nics), level, percents, usable, must).best()


class _Search:
    def __init__(
        self,
        tree: DeviceTree,
        room: Sequence[int],
        want: tuple[int, int],
        level: Level,
        percents: Sequence[int],
        usable: Collection[int],
        must: Collection[int],
    ) -> None:
        self._tree, self._room, self._level, self._percents = tree, room, level, percents
        self._want, self._usable, self._must = want, usable, must
        self._size = len(tree.devices)
        self._layout()

    def _layout(self) -> None:
        """Give every criterion its field, from the lowest up."""
        count = (2 * self._size).bit_length() + 1
        largest = sum(map(sum, self._tree.weight))
        position = self._size

        def field(bits: int) -> int:
            nonlocal position
            position += bits
            return 1 << (position - bits)

        asked = LEVELS.index(self._level)
        inside = LEVELS[:asked] if self._level is not Level.NODE else ()
        wider = LEVELS[asked:-1]
        self._lonely, self._broken, self._apart = dict[Level, int](), dict[Level, int](), dict[Level, int]()
        self._by_room = field(count + 7)
        for level in inside:
            self._broken[level] = field(count)
            self._lonely[level] = field(count)
        self._beside = field(count)
        self._points = field(largest.bit_length() + 1)
        for level in reversed(wider):
            self._broken[level] = field(count)
        for level in reversed(wider[1:]):
            self._apart[level] = field(count)
        if wider:
            self._lonely[self._level] = field(count)
            self._apart[self._level] = field(count)

    def best(self) -> frozenset[int] | None:
        stack: list[Best] = []
        free = [sum(self._tree.is_gpu(position) == kind for position in self._usable) for kind in (True, False)]
        if free[0] < self._want[0] or free[1] < self._want[1]:
            return None
        for step in self._tree.plan:
            if isinstance(step, Leaf):
                stack.append(self._leaf(step.position))
            elif isinstance(step, Join):
                right, left = stack.pop(), stack.pop()
                last = len(step.members) == self._size
                stack.append(self._last(left, right, step) if last else self._join(left, right, step, free))
            elif (group := self._tree.groups[step.group]).level is not Level.NODE:
                self._close(stack[-1], step, group)
        every = (1 << self._size) - 1
        least = min(
            (cost for cost in stack[-1].values() if (-cost & every).bit_count() == sum(self._want)), default=None
        )
        if least is None:
            return None
        return frozenset(position for position in range(self._size) if -least >> (self._size - 1 - position) & 1)

    def _leaf(self, position: int) -> Best:
        if position not in self._usable:
            return {(0,): 0}
        taken = self._room[position] * self._by_room - (1 << (self._size - 1 - position))
        return {(1,): taken} if position in self._must else {(0,): 0, (1,): taken}

    def _join(self, left: Best, right: Best, step: Join, free: Sequence[int]) -> Best:
        """Every pair of counts that can still lead to the wanted numbers."""
        inside = [position for position in step.members if position in self._usable]
        gpus = sum(self._tree.is_gpu(position) for position in inside)
        least = (self._want[0] - free[0] + gpus, self._want[1] - free[1] + len(inside) - gpus)
        others = [
            (counts, seated, *_by_kind(seated, step.kinds), cost)
            for counts, cost in right.items()
            for seated in [_seat(counts, step.right, len(step.kinds))]
        ]
        joined: Best = {}
        columns, points = list(zip(*step.weights, strict=True)), self._points
        for counts, cost in left.items():
            seated = _seat(counts, step.left, len(step.kinds))
            x, y = _by_kind(seated, step.kinds)
            low_x, high_x, low_y, high_y = least[0] - x, self._want[0] - x, least[1] - y, self._want[1] - y
            worth = [sum(map(mul, counts, column)) for column in columns]
            for other, theirs, more_x, more_y, their_cost in others:
                if low_x <= more_x <= high_x and low_y <= more_y <= high_y:
                    total = cost + their_cost - points * sum(map(mul, other, worth))
                    both = tuple(map(add, seated, theirs))
                    known = joined.get(both)
                    if known is None or total < known:
                        joined[both] = total
        return joined

    def _last(self, left: Best, right: Best, step: Join) -> Best:
        """The best pair: nothing comes after, so what cannot be the best is not tried.

        The devices of one side are worth at most so much to the other. Choices on the left are tried from the one
        that could come out cheapest, those on the right from the cheapest, until none can win any more.
        """
        here, kinds = ([step.kinds[seat] for seat in seats] for seats in (step.left, step.right))
        columns, points = list(zip(*step.weights, strict=True)), self._points
        seats = _seats(right, kinds)
        rows = dict[tuple[int, int], list[tuple[int, Counts]]]()  # the right side, by numbers of GPUs and network cards
        for other, cost in right.items():
            rows.setdefault(_by_kind(other, kinds), []).append((cost, other))
        # what a device of a class on the left is worth at most to such a row
        gains = {numbers: [_most(weights, seats, numbers) for weights in step.weights] for numbers in rows}
        for row in rows.values():
            row.sort()
        tries = []
        for counts, cost in left.items():
            x, y = _by_kind(counts, here)
            more = (self._want[0] - x, self._want[1] - y)
            if more in rows:
                tries.append(
                    (cost + rows[more][0][0] - points * sum(map(mul, counts, gains[more])), cost, counts, more)
                )
        best: int | None = None
        for floor, cost, counts, more in sorted(tries):
            if best is not None and floor >= best:
                break
            worth = [sum(map(mul, counts, column)) for column in columns]
            row, most = rows[more], points * _most(worth, seats, more)
            for their_cost, other in row:
                if best is not None and cost + their_cost - most >= best:
                    break
                total = cost + their_cost - points * sum(map(mul, other, worth))
                best = total if best is None or total < best else best
        return {} if best is None else {(): best}

    def _close(self, part: Best, step: Close, group: Group) -> None:
        """Add a group's own terms to what is chosen in it."""
        level, both = group.level, all(self._want)
        gpus, nics = (self._side(group, kind) for kind in (True, False))
        broken, lonely = self._broken.get(level, 0), self._lonely.get(level, 0)
        used = self._apart.get(level, 0)
        if level is self._level:
            used += self._beside * sum(self._room[member] > 0 for member in group.members)
        terms = dict[tuple[int, int], int]()
        for counts in part:
            x, y = taken = _by_kind(counts, step.kinds)
            if taken not in terms:
                alone = both and bool(x) != bool(y)
                terms[taken] = broken * (gpus.broken(x) + nics.broken(y)) + used * bool(x or y) + lonely * alone
            part[counts] += terms[taken]

    def _side(self, group: Group, gpu: bool) -> _Side:
        members = [member for member in group.members if self._tree.is_gpu(member) is gpu and self._percents[member]]
        roomy = [member for member in members if self._room[member] > 0]
        exact = all(member in self._usable and self._room[member] == self._percents[member] for member in roomy)
        touched = any(self._room[member] < WHOLE for member in members)
        return _Side(touched, len(roomy) if exact else -1)


def _seat(counts: Counts, seats: Sequence[int], width: int) -> Counts:
    """Counts of a part's classes as counts of the classes of the part it becomes."""
    seated = [0] * width
    for seat, count in zip(seats, counts, strict=True):
        seated[seat] += count
    return tuple(seated)


def _seats(part: Best, kinds: Sequence[bool]) -> tuple[list[int], list[int]]:
    """Classes of GPUs and of network cards, each as often as one choice has devices of it at most."""
    largest = [max(column) for column in zip(*part, strict=True)]
    gpus, nics = (
        [seat for seat, kind in enumerate(kinds) if kind is gpu for _ in range(largest[seat])] for gpu in (True, False)
    )
    return gpus, nics


def _most(worth: Sequence[int], seats: tuple[list[int], list[int]], take: tuple[int, int]) -> int:
    """The most that so many GPUs and network cards can be worth, given what one of each class is."""
    gpus, nics = seats
    x, y = take
    found = sum(sorted([worth[seat] for seat in gpus], reverse=True)[:x]) if x else 0
    return found + sum(sorted([worth[seat] for seat in nics], reverse=True)[:y]) if y else found


def _by_kind(counts: Counts, kinds: Sequence[bool]) -> tuple[int, int]:
    """How many GPUs and network cards."""
    gpus = sum(compress(counts, kinds))
    return gpus, sum(counts) - gpus
