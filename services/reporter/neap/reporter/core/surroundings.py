"""Directories whose names nobody can know in advance: disks, links, ports, resctrl groups.

A pattern such as "/sys/class/infiniband/*/ports" means that directory of every name found in the one before the star.
Patterns with the same number of stars are listed in one call, so a look takes as many calls as the deepest has stars,
and one more. Cost: O(directories), capped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from neap.common.cpuset import parse_cpuset
from neap.common.model.topology import NodeTopology, Zone, ZoneKind

MOST_DIRECTORIES: Final = 2048  # of one level
MOST_NAMES: Final = 512  # taken of one directory
STAR: Final = "*"


def levels(patterns: Iterable[str]) -> list[tuple[str, ...]]:
    """Patterns by the number of their stars, in the order they can be listed."""
    wanted = sorted(set(patterns))
    deepest = max((pattern.count(STAR) for pattern in wanted), default=-1)
    return [tuple(each for each in wanted if each.count(STAR) == stars) for stars in range(deepest + 1)]


def directories(patterns: Iterable[str], names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The directories that patterns stand for, given the names listed so far."""
    found = (path for pattern in patterns for path in _expanded(pattern, names))
    return [path for path, _ in zip(dict.fromkeys(found), range(MOST_DIRECTORIES), strict=False)]


def _expanded(pattern: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    head, star, tail = pattern.partition(f"/{STAR}")
    if not star:
        yield pattern
        return
    for name in names.get(head, ())[:MOST_NAMES]:
        yield from _expanded(f"{head}/{name}{tail}", names)


def caches(topology: NodeTopology) -> tuple[tuple[int, int], ...]:
    """The lowest CPU of every L3, and its NUMA node; none of a node that shares an L3 with another."""
    home = {cpu: node.index for node in topology.numa for cpu in parse_cpuset(node.cpus)}
    found, shared = list[tuple[int, int]](), set[int | None]({None})
    for zone in _zones(topology.machine, ZoneKind.L3):
        cpus = parse_cpuset(zone.cpus)
        nodes = {home.get(cpu) for cpu in cpus}
        if len(nodes) > 1:
            shared |= nodes
        elif cpus and (node := nodes.pop()) is not None:
            found.append((min(cpus), node))
    return tuple(sorted(pair for pair in found if pair[1] not in shared))


def _zones(zone: Zone, kind: ZoneKind) -> Iterator[Zone]:
    if zone.kind is kind:
        yield zone
    for child in zone.children:
        yield from _zones(child, kind)
