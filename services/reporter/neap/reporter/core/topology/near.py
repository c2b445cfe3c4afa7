"""Which NUMA node and which CPUs a function on the bus is near.

Asked in this order, first answer wins:

    1. its file numa_node, if that node is there
    2. its local CPUs (local_cpus, else local_cpulist), if they are a part of the machine: inside one node, or whole
       nodes together (a package of two nodes: near CPUs, but no node)
    3. the bridge above it, then the one above that

Firmware often writes −1, and then every CPU is "local": that is no answer. Local CPUs that cut through nodes
contradict the machine and are dropped by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from neap.common.cpuset import format_cpuset
from neap.reporter.core.topology.numa import Numa
from neap.reporter.core.topology.pci import Function
from neap.reporter.core.topology.snapshot import PCI_DIR, Snapshot
from neap.reporter.core.topology.text import Cpus, cpu_list, cpu_mask, integer

NOWHERE: Final = -1


@dataclass(frozen=True)
class Near:
    """`numa` is −1 and `cpus` empty where nobody says."""

    numa: int
    cpus: Cpus


def nearness(
    seen: Snapshot, found: Iterable[Function], nodes: list[Numa], usable: Cpus, warnings: list[str]
) -> dict[str, Near]:
    """What each function is near, by address."""
    strangers: dict[str, list[str]] = {}
    said = {function.address: _said(seen, function.address, nodes, usable, strangers) for function in found}
    for why, addresses in strangers.items():
        more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
        warnings.append(f"PCI {addresses[0]}{more}: {why}")
    nothing = Near(NOWHERE, frozenset())
    return {
        function.address: next(
            (near for step in (function.address, *reversed(function.path)) if (near := said.get(step)) is not None),
            nothing,
        )
        for function in found
    }


def _said(
    seen: Snapshot, address: str, nodes: list[Numa], usable: Cpus, strangers: dict[str, list[str]]
) -> Near | None:
    """What the function's own files answer."""
    at = f"{PCI_DIR}/{address}"
    local = cpu_mask(seen.files.get(f"{at}/local_cpus"))
    local = (cpu_list(seen.files.get(f"{at}/local_cpulist")) if local is None else local) or frozenset()
    local &= usable
    index = integer(seen.files.get(f"{at}/numa_node"))
    by_index: Mapping[int, Numa] = {node.index: node for node in nodes}
    if index is not None and index in by_index:
        near = by_index[index].locality
        if local - near:
            why = f"its local CPUs are not those of its NUMA node {index}: the node is believed"
            strangers.setdefault(why, []).append(address)
        return Near(index, local if local and local <= near else near)
    if index is not None and index >= 0:
        strangers.setdefault(f"its NUMA node {index} is not there", []).append(address)
    if not local or (local == usable and len(nodes) > 1):
        return None
    inside = [node.index for node in nodes if local <= node.cpus]
    if inside:
        return Near(inside[0], local)
    if all(not node.cpus & local or node.cpus <= local for node in nodes):
        return Near(NOWHERE, local)
    strangers.setdefault(f"its local CPUs {format_cpuset(local)} cut through NUMA nodes: ignored", []).append(address)
    return None
