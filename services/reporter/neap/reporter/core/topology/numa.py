"""NUMA nodes: their CPUs, memory, distances, and whom they are near.

No node directory at all means one implied node 0 with everything. Nodes that claim exactly the same CPUs are one
node (the first). A CPU belongs to one node only: to the smallest that claims it, then the lowest number; the wider
claim remains as `locality`. A node without CPUs keeps none; its locality is the CPUs of its initiators or nearest nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neap.common.cpuset import format_cpuset
from neap.reporter.core.topology.snapshot import INITIATORS, NODE_DIR, NODE_LIMIT, Snapshot
from neap.reporter.core.topology.text import Cpus, cpu_list, cpu_mask, integer, kib_line, numbered


@dataclass(frozen=True)
class Numa:
    """One node. `cpus` are disjoint between nodes; `memory` is None when no file tells; `closest` only without CPUs."""

    index: int
    cpus: Cpus
    locality: Cpus
    memory: int | None
    distances: Mapping[int, int]
    closest: frozenset[int] = frozenset()


def numa_nodes(seen: Snapshot, usable: Cpus, warnings: list[str]) -> list[Numa]:
    """The nodes, by number."""
    allowed = seen.allowed("mems", frozenset(seen.node_numbers()), warnings)
    claims = {
        index: claim
        for index in seen.node_numbers()
        if index in allowed and (claim := _cpus_of(seen, index)) is not None
    }
    if not any(claims.values()):
        if seen.node_numbers():
            warnings.append("NUMA nodes name no CPUs: one implied node 0 instead")
        total = kib_line(seen.files.get("/proc/meminfo"), "MemTotal:")
        return [Numa(0, usable, usable, total, {0: 10})] if usable else []
    claims = _merged({index: claim & usable for index, claim in claims.items()}, claims, warnings)
    owners = _owned(claims, warnings)
    if orphans := usable - frozenset().union(*claims.values()):
        warnings.append(f"CPUs in no NUMA node: {format_cpuset(orphans)}")
    tables = _distances(seen, warnings)
    nodes = [
        Numa(
            index=index,
            cpus=owners[index],
            locality=claims[index],
            memory=kib_line(seen.of_node(index, "meminfo"), "MemTotal:"),
            distances={to: value for to, value in tables.get(index, {}).items() if to in claims},
        )
        for index in sorted(claims)
    ]
    bare = {index for index in claims if not (_cpus_of(seen, index) or ())}
    return [_settled(seen, node, nodes) if node.index in bare else node for node in nodes]


def _cpus_of(seen: Snapshot, index: int) -> Cpus | None:
    mask = cpu_mask(seen.of_node(index, "cpumap"))
    return mask if mask is not None else cpu_list(seen.of_node(index, "cpulist"))


def _merged(cut: dict[int, Cpus], claims: Mapping[int, Cpus], warnings: list[str]) -> dict[int, Cpus]:
    """Nodes without those that repeat an earlier node's CPUs, all of them."""
    first: dict[Cpus, int] = {}
    kept: dict[int, Cpus] = {}
    for index in sorted(cut):
        if claims[index] and claims[index] in first:
            warnings.append(f"NUMA node {index} claims the CPUs of node {first[claims[index]]}: taken as one")
            continue
        first[claims[index]] = index
        kept[index] = cut[index]
    return kept


def _owned(claims: Mapping[int, Cpus], warnings: list[str]) -> dict[int, Cpus]:
    """Disjoint CPUs per node."""
    owner: dict[int, int] = {}
    twice: set[int] = set()
    for index in sorted(claims, key=lambda node: (len(claims[node]), node)):
        for cpu in claims[index]:
            twice.update([cpu] if cpu in owner else [])
            owner.setdefault(cpu, index)
    if twice:
        warnings.append(f"CPUs in several NUMA nodes, given to the smallest: {format_cpuset(twice)}")
    return {index: frozenset(cpu for cpu in claims[index] if owner[cpu] == index) for index in claims}


def _distances(seen: Snapshot, warnings: list[str]) -> dict[int, dict[int, int]]:
    """Rows by node number. The columns are the online nodes, though some kernels print the possible ones."""
    directories = seen.node_numbers()
    orders = [
        directories,
        sorted(cpu_list(seen.files.get(f"{NODE_DIR}/online")) or ()),
        sorted(cpu_list(seen.files.get(f"{NODE_DIR}/possible")) or ()),
    ]
    tables: dict[int, dict[int, int]] = {}
    for index in directories:
        text = seen.of_node(index, "distance")
        values = [integer(word) for word in (text or "").split()[: len(directories) + 1024]]
        row = [value for value in values if value is not None and value > 0]
        order = next((order for order in orders if len(order) == len(values)), None)
        if order is not None and len(row) == len(values):
            tables[index] = dict(zip(order, row, strict=True))
        elif text is not None:
            warnings.append(f"distances of NUMA node {index} do not match the nodes: ignored")
    return tables


def _settled(seen: Snapshot, node: Numa, nodes: list[Numa]) -> Numa:
    """A node without CPUs beside the nodes that sysfs calls its initiators, else beside those at the smallest distance."""
    others = {other.index: other.locality for other in nodes if other.locality and other.index != node.index}
    for name in INITIATORS:
        initiators = numbered(seen.names.get(f"{NODE_DIR}/node{node.index}/{name}", ()), "node", NODE_LIMIT)
        if closest := others.keys() & initiators:
            break
    else:
        least = min((node.distances[index] for index in others if index in node.distances), default=None)
        closest = {index for index in others if least is None or node.distances.get(index) == least}
    near = frozenset[int]().union(*(others[index] for index in closest))
    return replace(node, locality=near, closest=frozenset(closest))
