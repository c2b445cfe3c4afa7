"""From a Snapshot to the NodeTopology that is published.

    capacity    = usable CPUs × 1000, MemTotal of /proc/meminfo (without it: the sum over NUMA nodes),
                  100 percent and the memory of every card
    allocatable = capacity − system CPUs, − system memory, − memory of NUMA nodes without CPUs (never lent)

CPUs isolated by the kernel count as system CPUs: usable by who asks for them, never lent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from neap.common.cpuset import format_cpuset
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, Resources
from neap.common.model.topology import Card, NodeTopology, NumaNode, ZoneKind
from neap.common.units import Bytes, Seconds, format_bytes
from neap.reporter.core.topology.caches import level3
from neap.reporter.core.topology.cards import cards
from neap.reporter.core.topology.cpus import Group, cores, dies, isolated_cpus, packages, places, usable_cpus
from neap.reporter.core.topology.numa import Numa, numa_nodes
from neap.reporter.core.topology.pci import ACCELERATORS, Device, devices
from neap.reporter.core.topology.reserve import system_cpus
from neap.reporter.core.topology.snapshot import Snapshot
from neap.reporter.core.topology.text import Cpus, kib_line
from neap.reporter.core.topology.tree import Branch, nest

WARNINGS: Final = 32
CARD_PERCENT: Final = 100  # compute of a card is counted in percent
LARGEST_SYSTEM_SHARE: Final = 4  # of memory: at most a quarter is kept, also on a tiny machine
NODE_SUM_SLACK: Final = 0.1  # node files lag behind and leave out firmware's part; more than this is worth a line


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """What stays with the system's daemons; `cpus` is a list and wins over `cpu_count`."""

    cpu_count: int = 1
    cpus: str = ""
    memory: Bytes = 0


def build(
    seen: Snapshot,
    *,
    node: str,
    at: Seconds,
    reserve: Reserve,
    labels: Mapping[str, str],
) -> NodeTopology:
    """The whole machine. Never raises on what sysfs says: contradictions become warnings."""
    warnings: list[str] = []
    usable = usable_cpus(seen, warnings)
    where = places(seen, usable)
    core_groups = cores(where, warnings)
    numa = numa_nodes(seen, usable, warnings)
    isolated = isolated_cpus(seen, usable, warnings)
    system = isolated | system_cpus(
        usable - isolated,
        [core.cpus for core in core_groups if not core.cpus & isolated],
        [entry.cpus - isolated for entry in numa],
        count=reserve.cpu_count,
        explicit=reserve.cpus,
        warnings=warnings,
    )
    found = devices(seen)
    known_cards = cards(seen, found, warnings)
    capacity = _capacity(seen, usable, numa, warnings) | _cards_capacity(known_cards)
    allocatable = _allocatable(capacity, numa, system, reserve.memory)
    root = Branch(ZoneKind.MACHINE, 0, usable, capacity, allocatable)
    if isolated:
        root.attributes["isolated"] = format_cpuset(isolated)
    groups = [*packages(where, warnings), *dies(where), *level3(seen, usable, warnings), *core_groups]
    branches = nest(root, [*groups, *(Group(ZoneKind.NUMA, n.index, n.cpus) for n in numa)], warnings)
    _furnish(root, branches, numa, system, found)
    return NodeTopology(
        at=at,
        source="reporter",
        node=node,
        machine=root.zone(),
        numa=tuple(_published(entry) for entry in numa),
        cards=known_cards,
        capacity=capacity,
        allocatable=allocatable,
        system_cpus=format_cpuset(system),
        siblings=_siblings(usable, core_groups),
        labels=dict(labels),
        warnings=_capped(warnings),
    )


def _capacity(seen: Snapshot, usable: Cpus, numa: list[Numa], warnings: list[str]) -> Resources:
    total = kib_line(seen.files.get("/proc/meminfo"), "MemTotal:")
    known = [entry.memory for entry in numa if entry.memory is not None]
    warnings.extend(f"memory of NUMA node {entry.index} unknown" for entry in numa if entry.memory is None)
    if total is not None and known and abs(total - sum(known)) > NODE_SUM_SLACK * total:
        warnings.append(
            f"NUMA nodes add up to {format_bytes(sum(known))}, the machine says {format_bytes(total)}: "
            "the machine's figure is taken"
        )
    if total is None and known:
        total = sum(known)
    return {CPU: 1000 * len(usable)} | ({} if total is None else {MEMORY: total})


def _cards_capacity(found: tuple[Card, ...]) -> Resources:
    if not found:
        return {}
    return {GPU_CORE: CARD_PERCENT * len(found), GPU_MEMORY: sum(card.memory_mib for card in found)}


def _allocatable(capacity: Resources, numa: list[Numa], system: Cpus, memory: Bytes) -> Resources:
    left = capacity | {CPU: capacity[CPU] - 1000 * len(system)}
    if MEMORY in capacity:
        bare = sum(entry.memory or 0 for entry in numa if not entry.cpus)
        kept = min(memory, capacity[MEMORY] // LARGEST_SYSTEM_SHARE)
        left[MEMORY] = max(0, capacity[MEMORY] - bare - kept)
    return left


def _furnish(
    root: Branch,
    branches: Mapping[tuple[ZoneKind, int], Branch],
    numa: list[Numa],
    system: Cpus,
    found: list[Device],
) -> None:
    """Give NUMA zones their memory, and hang devices and nodes without CPUs where they belong."""
    homes: dict[int, Branch] = {}
    for entry in numa:
        branch = branches.get((ZoneKind.NUMA, entry.index))
        if branch is None:
            branch = Branch(ZoneKind.NUMA, entry.index, frozenset())
            root.children.append(branch)
        homes[entry.index] = branch
        if entry.memory is not None:
            branch.capacity[MEMORY] = entry.memory
        if entry.cpus:
            branch.capacity[CPU] = 1000 * len(entry.cpus)
            branch.allocatable[CPU] = 1000 * len(entry.cpus - system)
        if entry.locality != branch.cpus:
            branch.attributes["locality"] = format_cpuset(entry.locality)
    count: dict[ZoneKind, int] = {}
    for device in found:
        zone = Branch(device.kind, count.setdefault(device.kind, 0), frozenset())
        count[device.kind] += 1
        zone.attributes.update(pci=device.address, pci_class=device.pci_class, vendor=device.vendor)
        if device.kind is ZoneKind.GPU:
            zone.attributes["maker"] = ACCELERATORS[device.vendor]
        homes.get(device.numa, root).children.append(zone)


def _published(entry: Numa) -> NumaNode:
    return NumaNode(
        index=entry.index,
        cpus=format_cpuset(entry.cpus),
        memory=entry.memory or 0,
        distances=dict(sorted(entry.distances.items())),
    )


def _siblings(usable: Cpus, core_groups: list[Group]) -> dict[int, str]:
    """CPU -> threads of its core; alone where no core is known."""
    lists = {cpu: format_cpuset(core.cpus) for core in core_groups for cpu in core.cpus}
    return {cpu: lists.get(cpu, str(cpu)) for cpu in sorted(usable)}


def _capped(warnings: list[str]) -> tuple[str, ...]:
    more = len(warnings) - WARNINGS
    return tuple(warnings) if more <= 0 else (*warnings[:WARNINGS], f"and {more} more")
