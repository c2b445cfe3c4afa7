"""The machine as the advisor sees it: physical cores in topology order (NUMA > L3 > core), and who may have them.

Usable CPUs are those the topology lists as usable; system CPUs are usable but never lent. A core here is the
lendable threads of one physical core. NUMA nodes without CPUs simply have no cores; their memory is listed apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.topology import NodeTopology, Zone, ZoneKind

NOWHERE = -1  # NUMA or L3 index of a CPU that the topology puts nowhere


@dataclass(frozen=True)
class Core:
    """The lendable threads of one physical core."""

    cpus: tuple[int, ...]
    numa: int
    l3: int


@dataclass(frozen=True)
class Layout:
    """See module docstring. `cores` is sorted by (numa, l3, first CPU)."""

    cores: tuple[Core, ...]
    usable: frozenset[int]
    system: frozenset[int]
    lendable: frozenset[int]
    core_of: dict[int, int]  # CPU -> index into cores
    numa_size: dict[int, int]  # lendable CPUs per NUMA node that has any
    threads: int  # lendable CPUs of a full core
    card_numa: dict[int, int]  # GPU index -> NUMA index
    memory_nodes: frozenset[int] = frozenset()  # NUMA nodes with memory and usable CPUs
    all_memory: frozenset[int] = frozenset()  # NUMA nodes with memory, without CPUs as well

    @classmethod
    def of(cls, topology: NodeTopology) -> Layout:
        """Read it from a topology.

        Raises:
            InputError: a CPU list does not parse, or there is no usable CPU at all.
        """
        numa_of = {cpu: zone.index for zone in topology.numa for cpu in parse_cpuset(zone.cpus)}
        usable = parse_cpuset(topology.machine.cpus) or frozenset(numa_of)
        if not usable:
            raise InputError(f"topology of {topology.node}: no usable CPU")
        system = parse_cpuset(topology.system_cpus) & usable
        lendable = usable - system
        l3_of = dict(_caches(topology.machine))
        cores = [
            Core(cpus, numa_of.get(cpus[0], NOWHERE), l3_of.get(cpus[0], NOWHERE))
            for cpus in _split(topology, lendable)
        ]
        cores.sort(key=lambda core: (core.numa, core.l3, core.cpus))
        sizes: dict[int, int] = {}
        for core in cores:
            sizes[core.numa] = sizes.get(core.numa, 0) + len(core.cpus)
        all_memory = frozenset(zone.index for zone in topology.numa if zone.memory > 0)
        return cls(
            cores=tuple(cores),
            usable=usable,
            system=system,
            lendable=lendable,
            core_of={cpu: index for index, core in enumerate(cores) for cpu in core.cpus},
            numa_size=sizes,
            threads=max((len(core.cpus) for core in cores), default=1),
            card_numa={card.index: card.numa for card in topology.cards},
            memory_nodes=all_memory & {numa_of[cpu] for cpu in usable if cpu in numa_of},
            all_memory=all_memory,
        )

    def within(self, nodes: frozenset[int]) -> frozenset[int]:
        """The lendable CPUs of some NUMA nodes."""
        return frozenset(cpu for core in self.cores if core.numa in nodes for cpu in core.cpus)

    def ordered(self, cpus: frozenset[int] | set[int]) -> list[int]:
        """The lendable ones of `cpus` in topology order."""
        return sorted((cpu for cpu in cpus if cpu in self.core_of), key=lambda cpu: (self.core_of[cpu], cpu))


def layout_of(topology: NodeTopology, before: Layout | None) -> Layout:
    """What is in force after one more topology.

    Raises:
        InputError: it cannot be read; or it leaves the system, which had CPUs, none of those it names.
    """
    layout = Layout.of(topology)
    if before is not None and before.system and topology.system_cpus and not layout.system:
        raise InputError(f"topology of {topology.node}: it has none of the system's CPUs {topology.system_cpus[:80]}")
    return layout


def _caches(zone: Zone) -> Iterator[tuple[int, int]]:
    """(CPU, L3 number) for every CPU below an L3 zone; numbered by their first CPU, so that indexes may repeat."""
    if zone.kind is ZoneKind.L3:
        cpus = parse_cpuset(zone.cpus)
        yield from ((cpu, min(cpus)) for cpu in sorted(cpus))
    else:
        for child in zone.children:
            yield from _caches(child)


def _split(topology: NodeTopology, lendable: frozenset[int]) -> Iterator[tuple[int, ...]]:
    """Lendable CPUs by physical core; where siblings contradict each other, the first list wins."""
    left = set(lendable)
    for cpu in sorted(lendable):
        if cpu in left:
            threads = (parse_cpuset(topology.siblings.get(cpu, "")) | {cpu}) & left
            left -= threads
            yield tuple(sorted(threads))
