"""What hangs in the tree of CPUs: memory of NUMA nodes, what is reserved, kinds of core.

memory allocatable of a node = memory − its part of what is kept for the system, in proportion to its memory
                               (rounded against the node); 0 for a node without CPUs
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neap.common.cpuset import format_cpuset
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.topology import ZoneKind
from neap.common.units import Bytes
from neap.reporter.core.topology.cpus import Census
from neap.reporter.core.topology.numa import Numa
from neap.reporter.core.topology.text import Cpus
from neap.reporter.core.topology.tree import Branch


def furnish_cpus(
    root: Branch,
    branches: Iterable[Branch],
    counted: Census,
    isolated: Cpus,
    kinds: Mapping[str, Cpus],
) -> None:
    """Which CPUs are special, as attributes of the machine; on a hybrid machine also the kind of every core."""
    special = {"isolated": isolated, "offline": counted.offline, "disallowed": counted.disallowed}
    special |= {f"kind.{kind}": cpus for kind, cpus in kinds.items()}
    root.attributes.update({name: format_cpuset(cpus) for name, cpus in special.items() if cpus})
    for branch in branches:
        if branch.kind is ZoneKind.CORE:
            branch.attributes.update((("kind", kind) for kind, cpus in kinds.items() if branch.cpus <= cpus))


def furnish_nodes(root: Branch, branches: list[Branch], numa: list[Numa], system: Cpus, kept: Bytes) -> None:
    """Give every NUMA node its amounts; one that is no branch yet (it has no CPUs) becomes one of the machine."""
    lendable = sum(entry.memory or 0 for entry in numa if entry.cpus)
    zones = {branch.index: branch for branch in branches if branch.kind is ZoneKind.NUMA}
    for entry in numa:
        if (branch := zones.get(entry.index)) is None:
            branch = Branch(ZoneKind.NUMA, entry.index, frozenset())
            root.children.append(branch)
            branches.append(branch)
        if entry.memory is not None:
            share = -(-kept * entry.memory // lendable) if lendable else 0
            branch.capacity[MEMORY] = entry.memory
            branch.allocatable[MEMORY] = max(0, entry.memory - share) if entry.cpus else 0
        if entry.cpus:
            branch.capacity[CPU] = 1000 * len(entry.cpus)
            branch.allocatable[CPU] = 1000 * len(entry.cpus - system)
        sets = {"locality": entry.locality if entry.locality != branch.cpus else (), "closest": entry.closest}
        sets["reserved"] = entry.cpus & system
        branch.attributes.update({name: format_cpuset(cpus) for name, cpus in sets.items() if cpus})
