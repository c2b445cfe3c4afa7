"""Which GPUs and network cards of a node a pod gets, when they should be near each other.

Of all sets of the wanted size the one is taken that is least in this order; what comes first outweighs all after it:

    1  apart      groups used, of the level asked
    2  lonely     groups used that give GPUs without a network card or the reverse, where both are asked
    3  wide       groups used, of each wider level, nearest first
    4  broken     groups that are in use and have room, for GPUs and for network cards, of the level asked, then of
                  each wider one, counted as the choice leaves them: broken ones are filled, whole ones stay whole
    5  points     the most NVLinks and the nearest paths (see `device_tree`)
    6  beside     devices with room in the groups used, of any kind: a job that needs no network card keeps away
                  from them, and the tightest group that holds a job is taken
    7  inside     2 and 4 for the levels inside the one asked, widest first
    8  room       percent left on the devices taken: shares go to what is shared already
    9  the lowest positions

Level `node` asks for no nearness: nothing is a group, so 5, 8 and 9 decide, which is the published policy of
go-gpuallocator for one request. A hard ask is met by one group, or not at all; `fewest` by as many groups as the
node would need if nobody used it. Devices whose place nobody knows meet no hard ask.

Freeing a device never makes an ask infeasible: a choice that was possible still is, and its groups are as many.
Units: percent of a card, of a network card's bandwidth.
Source: requirements 000-24, 000-25, 001-07, 002-47; Katalyst, device affinity strategy (fill broken groups, required
affinity as the fewest groups).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.device_search import search
from neap.common.model.device_tree import LARGEST, NETWORK, WHOLE, DeviceTree, Group, Level
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import ZoneKind

NOUNS: Final[Mapping[Level, tuple[str, str]]] = {
    Level.SWITCH: ("PCIe switch", "PCIe switches"),
    Level.ROOT: ("root complex", "root complexes"),
    Level.NUMA: ("NUMA node", "NUMA nodes"),
    Level.NODE: ("node", "nodes"),
}


class Strength(StrEnum):
    """What happens when devices so near are not free."""

    SOFT = "soft"  # the nearest there are
    HARD = "hard"  # refused unless one group holds them
    FEWEST = "fewest"  # refused unless no more groups are used than on an empty node


class DeviceAsk(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs and network cards wanted together, of each so many percent."""

    gpus: int = 0
    nics: int = 0
    fabric: ZoneKind = ZoneKind.RDMA  # NIC: any network card, RDMA or not
    gpu_percent: int = WHOLE
    nic_percent: int = WHOLE
    level: Level = Level.SWITCH
    strength: Strength = Strength.SOFT

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            InputError: a number out of range; names it.
        """
        for name, count in (("gpus", self.gpus), ("nics", self.nics)):
            if not 0 <= count <= LARGEST:
                raise InputError(f"device affinity: {name}={count} is not 0..{LARGEST}")
        for name, percent in (("gpu_percent", self.gpu_percent), ("nic_percent", self.nic_percent)):
            if not 1 <= percent <= WHOLE:
                raise InputError(f"device affinity: {name}={percent} is not 1..{WHOLE}")
        if not self.gpus + self.nics:
            raise InputError("device affinity: neither GPUs nor network cards are asked")
        if self.fabric not in NETWORK:
            raise InputError(f"device affinity: fabric {self.fabric.value!r} is neither 'rdma' nor 'nic'")

    @property
    def fabrics(self) -> tuple[ZoneKind, ...]:
        """The kinds of network card that do."""
        return (ZoneKind.RDMA,) if self.fabric is ZoneKind.RDMA else NETWORK

    def words(self, gpus: int, nics: int) -> str:
        """So many of what is asked: "2 free GPUs + 1 free RDMA"; shares say how much must be free."""
        cards = "RDMA" if self.fabric is ZoneKind.RDMA else "NIC" if nics == 1 else "NICs"
        told = []
        if self.gpus:
            told.append(_free(gpus, "GPU" if gpus == 1 else "GPUs", self.gpu_percent))
        if self.nics:
            told.append(_free(nics, cards, self.nic_percent))
        return " + ".join(told)


class Near(msgspec.Struct, frozen=True, kw_only=True):
    """How near a GPU and a network card of one choice are; up to PXB the processor is not on the way."""

    gpu: str
    nic: str
    path: PathClass


class DeviceChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The best set, by address."""

    gpus: tuple[str, ...]
    nics: tuple[str, ...]
    level: Level
    groups: tuple[str, ...]  # of that level, those used
    points: int  # see `device_tree`
    near: tuple[Near, ...]  # every GPU with every network card


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no set."""

    why: str  # "no root complex with 2 free GPUs + 1 free RDMA"
    nearest: str  # the nearest miss, with its numbers


def choose_devices(
    tree: DeviceTree,
    left: Mapping[str, int],
    ask: DeviceAsk,
    *,
    only: Collection[str] | None = None,
    must: Collection[str] = (),
) -> DeviceChoice | Refusal:
    """The best set of devices, exactly; see module docstring.

    Args:
        tree: the node.
        left: address -> percent left; 100 is untouched, a device that is not named has nothing left.
        ask: what is wanted.
        only: addresses to choose from, for what `left` does not tell (card model, memory, a pod's own devices).
        must: addresses that are in every set; they count.

    Cost: a few thousand additions for 16 GPUs and 8 network cards linked alike, in pairs or in cubes of eight; ten
    times that where no two GPUs have the same links.
    """
    usable, lost = _usable(tree, left, ask, only)
    addresses = {tree.devices[position].address: position for position in usable}
    absent = sorted(address for address in must if address not in addresses)
    if absent:
        return Refusal(why=f"{absent[0]} must be among the devices and cannot", nearest=_on_node(tree, usable, ask))
    forced = frozenset(addresses[address] for address in must)
    room = [max(0, min(WHOLE, left.get(device.address, 0))) for device in tree.devices]
    found = search(tree, room, ask.gpus, ask.nics, ask.level, _percents(tree, ask), usable, forced)
    if found is None:
        if ask.strength is Strength.SOFT or ask.level is Level.NODE:
            return Refusal(why=f"the node has not {ask.words(ask.gpus, ask.nics)}", nearest=_on_node(tree, usable, ask))
        return _refuse(tree, usable, ask, most_groups(tree, ask), 0, lost)
    used = [group for group in tree.of_level(ask.level) if not found.isdisjoint(group.members)]
    most = most_groups(tree, ask)
    if ask.strength is not Strength.SOFT and len(used) > most:
        return _refuse(tree, usable, ask, most, len(used), lost)
    return _choice(tree, ask, sorted(found), used)


def fewest_groups(tree: DeviceTree, usable: Collection[int], ask: DeviceAsk) -> int | None:
    """The fewest groups of the level asked that hold what is asked; None if all together do not.

    Much cheaper than a search: for filters.
    """
    reach = {(0, 0): 0}
    for group in tree.of_level(ask.level):
        gpus, nics = _counts(tree, [member for member in group.members if member in usable])
        for (x, y), used in list(reach.items()):
            more = (min(ask.gpus, x + gpus), min(ask.nics, y + nics))
            if used + 1 < reach.get(more, LARGEST * 4):
                reach[more] = used + 1
    return reach.get((ask.gpus, ask.nics))


def _usable(
    tree: DeviceTree, left: Mapping[str, int], ask: DeviceAsk, only: Collection[str] | None
) -> tuple[frozenset[int], int]:
    """Positions that may be chosen, and how many may not only because their place is unknown."""
    percents, allowed = _percents(tree, ask), None if only is None else frozenset(only)
    fit = {
        position
        for position, device in enumerate(tree.devices)
        if percents[position] and left.get(device.address, 0) >= percents[position]
        if allowed is None or device.address in allowed
    }
    if ask.strength is Strength.SOFT:
        return frozenset(fit), 0
    known = {member for group in tree.of_level(ask.level) if group.known for member in group.members}
    return frozenset(fit & known), len(fit - known)


def _percents(tree: DeviceTree, ask: DeviceAsk) -> list[int]:
    """Per device what is asked of it; 0 for a kind that is not."""
    gpu = ask.gpu_percent if ask.gpus else 0
    nic = ask.nic_percent if ask.nics else 0
    return [gpu if device.kind is ZoneKind.GPU else nic if device.kind in ask.fabrics else 0 for device in tree.devices]


def most_groups(tree: DeviceTree, ask: DeviceAsk) -> int:
    """How many groups an ask may use that is not soft."""
    if ask.strength is not Strength.FEWEST:
        return 1
    every = {position for position, percent in enumerate(_percents(tree, ask)) if percent}
    known = {member for group in tree.of_level(ask.level) if group.known for member in group.members}
    return fewest_groups(tree, every & known, ask) or 1


def _choice(tree: DeviceTree, ask: DeviceAsk, chosen: list[int], used: list[Group]) -> DeviceChoice:
    gpus = [tree.devices[position] for position in chosen if tree.is_gpu(position)]
    nics = [tree.devices[position] for position in chosen if not tree.is_gpu(position)]
    return DeviceChoice(
        gpus=tuple(device.address for device in gpus),
        nics=tuple(device.address for device in nics),
        level=ask.level,
        groups=tuple(group.name for group in used),
        points=sum(tree.weight[a][b] for a in chosen for b in chosen if a < b),
        near=tuple(Near(gpu=a.address, nic=b.address, path=path_class(a, b)) for a in gpus for b in nics),
    )


def _refuse(tree: DeviceTree, usable: frozenset[int], ask: DeviceAsk, most: int, fewest: int, lost: int) -> Refusal:
    """A hard ask that `most` groups do not hold; `fewest` do, or 0."""
    one, many = NOUNS[ask.level]
    scope = f"no {one}" if most == 1 else f"no {most} {many}"
    unknown = f"; nobody knows where {lost} more are" if lost else ""
    groups = tree.of_level(ask.level)
    nearest = f"{fewest} {many} have them" if fewest else _on_node(tree, usable, ask)
    if most == 1 and groups:
        counts = [_counts(tree, [member for member in group.members if member in usable]) for group in groups]
        short = [max(0, ask.gpus - gpus) + max(0, ask.nics - nics) for gpus, nics in counts]
        best = short.index(min(short))
        nearest = f"{groups[best].name} has {ask.words(*counts[best])}; {nearest}"
    return Refusal(why=f"{scope} with {ask.words(ask.gpus, ask.nics)}", nearest=nearest + unknown)


def _on_node(tree: DeviceTree, usable: Collection[int], ask: DeviceAsk) -> str:
    return f"the node has {ask.words(*_counts(tree, usable))}"


def _counts(tree: DeviceTree, members: Collection[int]) -> tuple[int, int]:
    gpus = sum(tree.is_gpu(member) for member in members)
    return gpus, len(members) - gpus


def _free(count: int, noun: str, percent: int) -> str:
    return f"{count} free {noun}" if percent == WHOLE else f"{count} {noun} with {percent} % free"
