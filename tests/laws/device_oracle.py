"""The best set of devices by looking at every set: what `affinity` says of itself, one criterion after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations, product
from typing import TypeAlias

from neap.common.model.affinity import DeviceAsk, Strength
from neap.common.model.device_tree import LEVELS, DeviceTree, Level

Key: TypeAlias = tuple[object, ...]
Found: TypeAlias = dict[int, list[int]]  # group -> members


def best_devices(
    tree: DeviceTree, left: Mapping[str, int], ask: DeviceAsk, only: Collection[str] | None = None
) -> frozenset[str] | None:
    """Addresses of the best set; None if there is none."""
    percents = [_percent(tree, ask, position) for position in range(len(tree.devices))]
    room = [left.get(device.address, 0) for device in tree.devices]
    known = {m for group in tree.of_level(ask.level) if group.known for m in group.members}
    fits = [
        p
        for p, percent in enumerate(percents)
        if percent and room[p] >= percent
        if only is None or tree.devices[p].address in only
        if ask.strength is Strength.SOFT or p in known
    ]
    most = _allowed(tree, ask, percents, known)
    possible = [s for s in _sets(tree, ask, fits) if len(_groups(tree, s, ask.level)) <= most]
    found = min(possible, key=lambda chosen: _criteria(tree, room, percents, ask, chosen), default=None)
    return None if found is None else frozenset(tree.devices[p].address for p in found)


def _percent(tree: DeviceTree, ask: DeviceAsk, position: int) -> int:
    if tree.is_gpu(position):
        return ask.gpu_percent if ask.gpus else 0
    return ask.nic_percent if ask.nics and tree.devices[position].kind in ask.fabrics else 0


def _sets(tree: DeviceTree, ask: DeviceAsk, fits: Collection[int]) -> list[tuple[int, ...]]:
    gpus, nics = ([p for p in fits if tree.is_gpu(p) is kind] for kind in (True, False))
    return [a + b for a, b in product(combinations(gpus, ask.gpus), combinations(nics, ask.nics))]


def _allowed(tree: DeviceTree, ask: DeviceAsk, percents: list[int], known: Collection[int]) -> int:
    if ask.strength is Strength.SOFT:
        return len(tree.devices)
    if ask.strength is Strength.HARD:
        return 1
    every = [p for p, percent in enumerate(percents) if percent and p in known]
    return min((len(_groups(tree, s, ask.level)) for s in _sets(tree, ask, every)), default=1)


def _groups(tree: DeviceTree, members: Collection[int], level: Level) -> Found:
    places = {m: number for number, group in enumerate(tree.of_level(level)) for m in group.members}
    found: Found = {}
    for member in members:
        found.setdefault(places[member], []).append(member)
    return found


def _lonely(tree: DeviceTree, ask: DeviceAsk, chosen: Collection[int], level: Level) -> int:
    used = _groups(tree, chosen, level).values()
    return sum(len({tree.is_gpu(p) for p in group}) == 1 for group in used) if ask.gpus and ask.nics else 0


def _broken(tree: DeviceTree, room: list[int], percents: list[int], chosen: Collection[int], level: Level) -> int:
    count = 0
    for kind in (True, False):
        asked = [p for p, percent in enumerate(percents) if percent and tree.is_gpu(p) is kind]
        for group in _groups(tree, asked, level).values():
            after = [room[p] - (percents[p] if p in chosen else 0) for p in group]
            count += any(r < 100 for r in after) and any(r > 0 for r in after)
    return count


def _criteria(tree: DeviceTree, room: list[int], percents: list[int], ask: DeviceAsk, chosen: tuple[int, ...]) -> Key:
    place = LEVELS.index(ask.level)
    wider, first, inside, beside = LEVELS[place + 1 : -1], tuple[object, ...](), tuple[object, ...](), 0
    if ask.level is not Level.NODE:
        used = _groups(tree, chosen, ask.level)
        every = _groups(tree, range(len(tree.devices)), ask.level)
        first = (
            len(used),
            _lonely(tree, ask, chosen, ask.level),
            *(len(_groups(tree, chosen, level)) for level in wider),
            *(_broken(tree, room, percents, chosen, level) for level in (ask.level, *wider)),
        )
        beside = sum(room[p] > 0 for number in used for p in every[number])
        for level in reversed(LEVELS[:place]):
            inside = (*inside, _lonely(tree, ask, chosen, level), _broken(tree, room, percents, chosen, level))
    points = sum(tree.weight[a][b] for a, b in combinations(chosen, 2))
    return (*first, -points, beside, *inside, sum(room[p] for p in chosen), sorted(chosen))
