"""Which devices of one node a pod gets, and which card for which container's ask.

Where all asks are alike and each has cards of its own, the best set of devices is the answer, in any order. Otherwise
sets of cards are tried, alike ones once: one does if the asks can be divided over all of its cards, and the best is
the one with the fewest groups, then the nearest (points). That is exact as long as no more than TRIED kinds of sets
do; a machine whose cards are all different may have more, and then the best of those is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from neap.common.model.affinity import DeviceChoice, Refusal
from neap.common.model.device_tree import LEVELS
from neap.common.model.gpu import CardRoom, GpuAsk, short_of_card
from neap.common.model.placement import GpuShare
from neap.scheduler.core.pods.device_wish import Machine, State, Wish, find, usable

TRIED: Final = 32  # kinds of sets that are weighed, a millisecond each at most
LOOKED_AT: Final = 4_096  # sets of cards
STEPS: Final = 2_000  # of one division


class Division(NamedTuple):
    """The devices, and the numbers of the cards ask by ask (none if no card was asked near)."""

    choice: DeviceChoice
    cards: tuple[int, ...]


def divide(machine: Machine, state: State, wish: Wish, numa: Collection[int] = ()) -> Division | Refusal:
    """See module docstring; inside some NUMA nodes, if that is possible."""
    if numa and not isinstance(found := _divide(machine, state, wish, numa), Refusal):
        return found
    return _divide(machine, state, wish, ())


def _divide(machine: Machine, state: State, wish: Wish, inside: Collection[int]) -> Division | Refusal:
    if not wish.ask.gpus or wish.uniform:
        found = find(machine, state, wish, inside=inside)
        return found if isinstance(found, Refusal) else Division(found, _numbers(machine, state, found))
    best: tuple[tuple[int, int], Division] | None = None
    for tried, (cards, positions) in enumerate(_sets(machine, state, wish)):
        if tried == TRIED:
            break
        found = find(machine, state, wish, inside=inside, cards=positions)
        if isinstance(found, DeviceChoice):
            key = (len(found.groups), -found.points)
            if best is None or key < best[0]:
                best = key, Division(found, cards)
    if best is not None:
        return best[1]
    found = find(machine, state, wish, inside=inside)
    words = wish.ask.words(wish.ask.gpus, wish.ask.nics)
    return (
        found if isinstance(found, Refusal) else Refusal(why="its cards cannot be divided so", nearest=f"for {words}")
    )


def over_all(rooms: Sequence[CardRoom], asks: Sequence[GpuAsk]) -> tuple[int, ...] | None:
    """A division of the asks that uses every one of the cards, as their numbers ask by ask; None if none was found."""
    left, path, steps = list(rooms), list[tuple[int, ...]](), 0

    def descend() -> bool:
        nonlocal steps
        if len(path) == len(asks):
            return len({place for group in path for place in group}) == len(left)
        ask, used = asks[len(path)], {place for group in path for place in group}
        fit = [place for place, room in enumerate(left) if not short_of_card(room, ask)]
        for group in combinations(sorted(fit, key=lambda place: (place in used, place)), ask.cards):
            steps += 1
            if steps > STEPS:
                return False
            before = [left[place] for place in group]
            for place in group:
                left[place] = left[place].take(_share(left[place], ask))
            path.append(group)
            if descend():
                return True
            path.pop()
            for place, room in zip(group, before, strict=True):
                left[place] = room
        return False

    return tuple(rooms[place].index for group in path for place in group) if descend() else None


def _share(room: CardRoom, ask: GpuAsk) -> GpuShare:
    memory = ask.memory_mib or room.memory_mib
    return GpuShare(container=ask.container, card=room.index, core=ask.core, memory_mib=memory)


def _sets(machine: Machine, state: State, wish: Wish) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Sets of cards that do: their numbers ask by ask, and their positions. Sets that look alike come once."""
    asks = [GpuAsk(container="", cards=cards, core=core, memory_mib=memory) for cards, core, memory in wish.amounts]
    gpus, _ = usable(machine, state, wish)
    cards = [(p, room) for room, p in zip(state.rooms, machine.cards, strict=True) if p >= 0 and gpus >> p & 1]
    seen = set[tuple[object, ...]]()
    for looked_at, group in enumerate(combinations(cards, wish.ask.gpus)):
        if looked_at == LOOKED_AT:
            return
        looks = _looks(machine, group)
        if looks in seen:
            continue
        seen.add(looks)
        numbers = over_all([room for _, room in group], asks)
        if numbers is not None:
            yield numbers, tuple(position for position, _ in group)


def _looks(machine: Machine, group: Sequence[tuple[int, CardRoom]]) -> tuple[object, ...]:
    """What of a set matters: how near its cards are to everything, and what is left of them."""
    weight, places = machine.tree.weight, {p: _places(machine, p) for p, _ in group}
    rooms = tuple((places[p], room.core_free, room.memory_free_mib, room.containers, room.model) for p, room in group)
    return (*rooms, *(weight[a][b] for a, _ in group for b, _ in group))


def _places(machine: Machine, position: int) -> tuple[int, ...]:
    """The groups a device is in."""
    return tuple(
        next(number for number, (gpus, nics, _) in enumerate(machine.groups[level]) if (gpus | nics) >> position & 1)
        for level in LEVELS
    )


def _numbers(machine: Machine, state: State, choice: DeviceChoice) -> tuple[int, ...]:
    devices = machine.tree.devices
    numbers = {devices[p].address: room.index for room, p in zip(state.rooms, machine.cards, strict=True) if p >= 0}
    return tuple(sorted(numbers[address] for address in choice.gpus))
