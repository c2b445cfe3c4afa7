"""GPUs and network cards of one node in nested groups: who shares a switch, a root complex, a NUMA node.

    pcie-switch     the deepest port that a card has in common with another card; a card that shares none is alone
    root-complex    the host bridge, path[0]
    numa            the NUMA node; where the firmware does not say, that of the root complex, else the root complex
    node            everything

The deepest *shared* port, not the deepest port: many cards bring a switch of their own. Functions of one card count
as one there, or a card with two ports would be a group of its own. A host bridge with devices of several nodes (a
flat virtual bus) is one root complex per node, so groups nest: a group of one level lies in one group of the next.
Virtual functions are left out: they share the bandwidth of their physical function.

How near two devices are, in points (`weight`); a set has the sum over its pairs, two network cards count nothing:

    100 per NVLink  +  PIX 50, PXB 40, PHB 30, NODE 20, SYS 10

Where links or paths are so irregular that a search would not end in 10 ms (16 GPUs of which no two are linked alike,
and more than four network cards, or more GPUs), near is only what groups are shared, and the tree is `rough`.

A tree is made once per topology and serves every search. Cost: O(devices³), some milliseconds for 24 devices.
Source: NVIDIA/go-gpuallocator, the ladder of its best-effort policy, less "same board", which no path tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, groupby
from math import prod
from typing import Final, NamedTuple, TypeAlias

import msgspec

from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import Device, NodeTopology, ZoneKind

WHOLE: Final = 100  # percent
LARGEST: Final = 64  # GPUs, and as many network cards, by address; no machine has more
WIDEST: Final = 1_000  # counts of one part that a search may have to keep
NVLINK: Final = 100  # points per link
POINTS: Final[Mapping[PathClass, int]] = {
    PathClass.SELF: 0,
    PathClass.PIX: 50,
    PathClass.PXB: 40,
    PathClass.PHB: 30,
    PathClass.NODE: 20,
    PathClass.SYS: 10,
}
NETWORK: Final = (ZoneKind.RDMA, ZoneKind.NIC)

Links: TypeAlias = Mapping[tuple[str, str], int]  # NVLinks between two GPUs, by address; either order
Key: TypeAlias = tuple[str, ...]
Weight: TypeAlias = tuple[tuple[int, ...], ...]


class Level(StrEnum):
    """How near devices are asked to be, nearest first."""

    SWITCH = "pcie-switch"
    ROOT = "root-complex"
    NUMA = "numa"
    NODE = "node"


LEVELS: Final = tuple(Level)


class Group(NamedTuple):
    """Devices that share a place of one level; `members` are positions in `DeviceTree.devices`."""

    level: Level
    name: str
    members: tuple[int, ...]
    known: bool  # False: nobody says where the (one) device is


class Leaf(NamedTuple):
    """One device alone."""

    position: int


class Join(NamedTuple):
    """Two neighbours become one; see `Plan`."""

    left: tuple[int, ...]  # class there -> class here
    right: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]  # of a device of a class on the left with one of a class on the right
    kinds: tuple[bool, ...]  # per class here: whether it is of GPUs
    members: tuple[int, ...]


class Close(NamedTuple):
    """What stands there is a group."""

    group: int  # index in `DeviceTree.groups`
    kinds: tuple[bool, ...]  # as in Join


# The devices put together one by one, in postfix order. A class of a part is what looks the same from outside it:
# devices of one kind with the same weight to every device not in the part. How many of each class are chosen is
# all that a later join needs to know about a choice.
Plan: TypeAlias = tuple[Leaf | Join | Close, ...]


@dataclass(frozen=True)
class DeviceTree:
    """The devices of one node; GPUs first, each kind by address."""

    devices: tuple[Device, ...]
    weight: Weight
    groups: tuple[Group, ...]
    plan: Plan
    rough: bool = False  # weights are by group alone

    def of_level(self, level: Level) -> tuple[Group, ...]:
        """The groups of one level; each device is in exactly one."""
        return tuple(group for group in self.groups if group.level is level)

    def is_gpu(self, position: int) -> bool:
        """Whether a device is a GPU; else it is a network card."""
        return self.devices[position].kind is ZoneKind.GPU


def device_tree(devices: Iterable[Device], links: Links | None = None) -> DeviceTree:
    """The tree of a node's devices; their order does not matter, kinds that are neither GPU nor network are left out."""
    ordered = sorted((device for device in devices if not device.physical), key=lambda device: device.address)
    gpus = [device for device in ordered if device.kind is ZoneKind.GPU][:LARGEST]
    found = tuple(gpus + [device for device in ordered if device.kind in NETWORK][:LARGEST])
    keys = _keys(found)
    weight = tuple(tuple(_points(a, b, links or {}) for b in found) for a in found)
    planner = _Planner(found, keys, weight)
    if rough := planner.widest > WIDEST:
        weight = _by_group(found, keys)
        planner = _Planner(found, keys, weight)
    return DeviceTree(found, weight, tuple(planner.groups), tuple(planner.steps), rough)


def tree_of(topology: NodeTopology, links: Links | None = None) -> DeviceTree:
    """The tree of a node as the reporter found it; on a machine with one NUMA node everything is near that.

    `links` instead of those the reporter found; where nobody says whether there are any, there are none.
    """
    if links is None:
        links = {(link.a, link.b): link.lanes for link in topology.links or ()}
    if len(topology.numa) != 1:
        return device_tree(topology.devices, links)
    only = topology.numa[0].index
    near = (msgspec.structs.replace(device, numa=only) if device.numa < 0 else device for device in topology.devices)
    return device_tree(near, links)


def _points(a: Device, b: Device, links: Links) -> int:
    if a.address == b.address or ZoneKind.GPU not in (a.kind, b.kind):
        return 0
    lanes = max(links.get((a.address, b.address), 0), links.get((b.address, a.address), 0))
    return NVLINK * lanes + POINTS[path_class(a, b)]


def _by_group(devices: tuple[Device, ...], keys: list[dict[Level, Key]]) -> Weight:
    """Points for the nearest group that is shared."""
    words = {Level.SWITCH: PathClass.PIX, Level.ROOT: PathClass.PHB, Level.NUMA: PathClass.NODE}

    def points(a: int, b: int) -> int:
        if a == b or ZoneKind.GPU not in (devices[a].kind, devices[b].kind):
            return 0
        return POINTS[next((words[level] for level in words if keys[a][level] == keys[b][level]), PathClass.SYS)]

    return tuple(tuple(points(a, b) for b in range(len(devices))) for a in range(len(devices)))


def _keys(devices: tuple[Device, ...]) -> list[dict[Level, Key]]:
    """Per device its group at each level. A key begins with the key of the wider level; the last part is the name."""
    told: dict[str, set[int]] = {}
    for device in devices:
        told.setdefault(device.path[0] if device.path else "", set()).add(device.numa)
    ports = [_port(device, devices) for device in devices]
    keys = []
    for device, port in zip(devices, ports, strict=True):
        numa, alone = device.numa, (f"? {device.address}",)
        if numa < 0 and device.path and len(known := told[device.path[0]] - {-1}) == 1:
            (numa,) = known
        place = (f"NUMA node {numa}",) if numa >= 0 else device.path[:1] or alone
        root = (*place, *(device.path[:1] or alone))
        keys.append({Level.NUMA: place, Level.ROOT: root, Level.SWITCH: (*root, port)})
    return keys


def _port(device: Device, devices: tuple[Device, ...]) -> str:
    """The deepest port shared with another card; the card itself where there is none."""
    for length in range(len(device.path), 1, -1):
        if "." not in device.path[length - 1]:
            break
        above = device.path[:length]
        if any(other.path[:length] == above and _card(other) != _card(device) for other in devices):
            return above[-1]
    return _card(device) if device.path else f"? {device.address}"


def _card(device: Device) -> str:
    return device.address.partition(".")[0]


class _Planner:
    """Writes down groups and plan, from the inside out."""

    def __init__(self, devices: tuple[Device, ...], keys: list[dict[Level, Key]], weight: Weight) -> None:
        self._devices, self._keys, self._weight = devices, keys, weight
        self.groups: list[Group] = []
        self.steps: list[Leaf | Join | Close] = []
        self.widest = 0
        self._put_together(list(range(len(devices))), Level.NODE)

    def _put_together(self, members: list[int], level: Level) -> None:
        """The steps that leave the members of a group of this level as one part, and the groups in it."""
        self._fold(self._parts(members, level), level)
        name = "the node" if level is Level.NODE else self._keys[members[0]][level][-1] if members else ""
        kinds = tuple(self._is_gpu(of_class[0]) for of_class in self._classes(members))
        self.steps.append(Close(len(self.groups), kinds))
        self.groups.append(Group(level, name.removeprefix("? "), tuple(sorted(members)), not name.startswith("? ")))

    def _fold(self, parts: list[list[int]], level: Level) -> None:
        """One part out of many, by halves: so a join has as few counts on either side as can be."""
        if len(parts) > 1:
            middle = len(parts) // 2
            self._fold(parts[:middle], level)
            self._fold(parts[middle:], level)
            self.steps.append(self._join([*chain(*parts[:middle])], [*chain(*parts[middle:])]))
        elif parts and level is Level.SWITCH:
            self.steps.append(Leaf(parts[0][0]))
        elif parts:
            self._put_together(parts[0], LEVELS[LEVELS.index(level) - 1])

    def _parts(self, members: list[int], level: Level) -> list[list[int]]:
        if level is Level.SWITCH:
            return [[member] for member in members]
        inner = LEVELS[LEVELS.index(level) - 1]
        ordered = sorted(members, key=lambda member: (self._keys[member][inner], member))
        return [list(part) for _, part in groupby(ordered, key=lambda member: self._keys[member][inner])]

    def _is_gpu(self, position: int) -> bool:
        return self._devices[position].kind is ZoneKind.GPU

    def _join(self, left: list[int], right: list[int]) -> Join:
        both = left + right
        here, ours, theirs = self._classes(both), self._classes(left), self._classes(right)
        self.widest = max(self.widest, *(prod(len(of_class) + 1 for of_class in part) for part in (ours, theirs)))
        seat = {member: index for index, of_class in enumerate(here) for member in of_class}
        return Join(
            left=tuple(seat[of_class[0]] for of_class in ours),
            right=tuple(seat[of_class[0]] for of_class in theirs),
            weights=tuple(tuple(self._weight[a[0]][b[0]] for b in theirs) for a in ours),
            kinds=tuple(self._is_gpu(of_class[0]) for of_class in here),
            members=tuple(both),
        )

    def _classes(self, members: list[int]) -> list[list[int]]:
        """What looks the same from outside; in an order that does not depend on how the part came about."""
        inside = frozenset(members)
        outside = [position for position in range(len(self._devices)) if position not in inside]
        classes: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
        for member in sorted(members):
            seen = tuple(self._weight[member][other] for other in outside)
            classes.setdefault((self._is_gpu(member), seen), []).append(member)
        return list(classes.values())
