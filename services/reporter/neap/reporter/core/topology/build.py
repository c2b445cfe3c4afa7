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
from neap.reporter.core.topology.bridges import hang
from neap.reporter.core.topology.caches import level3
from neap.reporter.core.topology.cards import cards
from neap.reporter.core.topology.cpus import Group, census, clusters, cores, dies, isolated_cpus, packages, places
from neap.reporter.core.topology.devices import devices
from neap.reporter.core.topology.furnish import furnish_cpus, furnish_nodes
from neap.reporter.core.topology.kinds import kinds
from neap.reporter.core.topology.nccl import corrected, nvlinks
from neap.reporter.core.topology.near import nearness
from neap.reporter.core.topology.numa import Numa, numa_nodes
from neap.reporter.core.topology.pci import functions
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
    vendor_file: str = "",
) -> NodeTopology:
    """The whole machine. Never raises on what sysfs says: contradictions become warnings.

    vendor_file: the NCCL topology file among the files seen, if there is to be one.
    """
    warnings: list[str] = []
    counted = census(seen, warnings)
    where = places(seen, counted.usable)
    core_groups = cores(where, warnings)
    numa = numa_nodes(seen, counted.usable, warnings)
    isolated = isolated_cpus(seen, counted.usable, warnings)
    system = isolated | _kept_cpus(counted.usable - isolated, core_groups, numa, reserve, warnings)
    found = functions(seen, warnings)
    near = nearness(seen, found, numa, counted.usable, warnings)
    known, known_cards = devices(seen, found, near, warnings), cards(seen, near, warnings)
    if vendor_file:
        known, known_cards = corrected(known, known_cards, seen.files.get(vendor_file), vendor_file, warnings)
    capacity = _capacity(seen, counted.usable, numa, warnings) | _cards_capacity(known_cards)
    kept = min(reserve.memory, capacity.get(MEMORY, 0) // LARGEST_SYSTEM_SHARE)
    allocatable = _allocatable(capacity, numa, system, kept)
    root = Branch(ZoneKind.MACHINE, 0, counted.usable, capacity, allocatable)
    caches = level3(seen, counted.usable, warnings)
    nodes = [Group(ZoneKind.NUMA, entry.index, entry.cpus) for entry in numa]
    groups = [*packages(where, warnings), *dies(where), *clusters(where), *caches, *core_groups, *nodes]
    branches = nest(root, groups, warnings)
    furnish_cpus(root, branches, counted, isolated, kinds(seen, counted.usable))
    furnish_nodes(root, branches, numa, system, kept)
    hang(known, found, branches, root, warnings)
    return NodeTopology(
        at=at,
        source="reporter",
        node=node,
        machine=root.zone(),
        numa=tuple(_published(entry) for entry in numa),
        cards=known_cards,
        devices=known,
        links=nvlinks(seen.files.get(vendor_file), vendor_file, warnings) if vendor_file else None,
        capacity=capacity,
        allocatable=allocatable,
        system_cpus=format_cpuset(system),
        siblings=_siblings(counted.usable, core_groups),
        labels=dict(labels),
        warnings=_capped(warnings),
    )


def _kept_cpus(usable: Cpus, core_groups: list[Group], numa: list[Numa], reserve: Reserve, warnings: list[str]) -> Cpus:
    return system_cpus(
        usable,
        [core.cpus for core in core_groups if core.cpus <= usable],
        [entry.cpus & usable for entry in numa],
        count=reserve.cpu_count,
        explicit=reserve.cpus,
        warnings=warnings,
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


def _allocatable(capacity: Resources, numa: list[Numa], system: Cpus, kept: Bytes) -> Resources:
    left = capacity | {CPU: capacity[CPU] - 1000 * len(system)}
    if MEMORY in capacity:
        bare = sum(entry.memory or 0 for entry in numa if not entry.cpus)
        left[MEMORY] = max(0, capacity[MEMORY] - bare - kept)
    return left


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
