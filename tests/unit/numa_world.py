"""Machines with NUMA nodes, and pods that care, for the scheduler's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neap.common.cpuset import format_cpuset
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, Resources
from neap.common.model.topology import Card, NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import allocation, fit, gpu_share, numa, overcommit, profile_rating

BIND = {"neap.io/numa-binding": "true"}
ALONE = BIND | {"neap.io/numa-exclusive": "true"}
MODULES = {
    "fit": fit,
    "overcommit": overcommit,
    "gpu_share": gpu_share,
    "numa": numa,
    "profile_rating": profile_rating,
    "allocation": allocation,
}
PLUGINS = ("fit", "gpu_share", "numa", "profile_rating", "overcommit")


def a_machine(
    name: str = "n1",
    *numas: tuple[int, int],
    packages: int = 1,
    numbers: Sequence[int] = (),
    kinds: Mapping[str, Sequence[int]] | None = None,
    whole: Resources | None = None,
    cards: Sequence[int] = (),
    system: str = "",
    labels: dict[str, str] | None = None,
) -> NodeTopology:
    """NUMA nodes of (CPUs, GiB), over packages in turn; `kinds`: limits per NUMA node; `cards`: NUMA node of each."""
    index = list(numbers) or list(range(len(numas)))
    first, nodes, zones = 0, [], []
    for number, (cpus, gib) in enumerate(numas):
        text = format_cpuset(range(first, first + cpus))
        nodes.append(NumaNode(index=index[number], cpus=text, memory=gib * GIB))
        limits = {kind: amounts[number] for kind, amounts in (kinds or {}).items()}
        zones.append(Zone(kind=ZoneKind.NUMA, index=index[number], cpus=text, allocatable={MEMORY: gib * GIB} | limits))
        first += cpus
    each = -(-len(zones) // packages)
    amounts = {CPU: 1000 * first, MEMORY: sum(gib for _, gib in numas) * GIB} | (whole or {})
    machine = Zone(
        kind=ZoneKind.MACHINE,
        index=0,
        cpus=f"0-{first - 1}",
        children=tuple(
            Zone(kind=ZoneKind.PACKAGE, index=package, children=tuple(zones[package * each : (package + 1) * each]))
            for package in range(packages)
        ),
    )
    gpus = tuple(Card(index=i, uuid=f"G{i}", model="T4", memory_mib=16000, numa=near) for i, near in enumerate(cards))
    return NodeTopology(
        at=0, source="reporter", node=name, machine=machine, numa=tuple(nodes), cards=gpus, capacity=amounts,
        allocatable=amounts, system_cpus=system, labels=labels or {},
    )  # fmt: skip


def a_pod(uid: str, *containers: tuple[float, int], asks: dict[str, str] | None = None, **more: Any) -> Workload:
    """Guaranteed containers of (cores, GiB), dedicated unless said otherwise; `extra` is asked by each."""
    extra: Resources = more.pop("extra", {})
    amounts = [{CPU: int(cores * 1000), MEMORY: gib * GIB} | extra for cores, gib in containers]
    parts = tuple(Container(name=f"c{i}", requests=amount, limits=amount) for i, amount in enumerate(amounts))
    given = {"qos": QosClass.DEDICATED, "annotations": asks or {}} | more
    return Workload(uid=uid, namespace="shop", name=uid, containers=parts, **given)


def a_cluster_node(name: str, policy: str = "", **more: Any) -> NodeObject:
    return NodeObject(at=0, source="gateway", node=name, topology_policy=policy, **more)


def place(table: NodeTable, node: str, workload: Workload, *numa: int, exclusive: bool = False) -> None:
    """A pod that is there already."""
    placement = Placement(workload=workload, charged=workload.requests, numa=numa, exclusive=exclusive)
    table.charge(node, placement, 0.0)


def policies(*names: str, **settings: Any) -> list[Policy]:
    return [Policy(name, MODULES[name].PLUGIN, settings=settings.get(name)) for name in names or PLUGINS]


def decide(table: NodeTable, workload: Workload, *names: str, **settings: Any) -> Decision:
    return Cycle(table, policies(*names, **settings)).decide(pod_of(workload))


def a_table(*machines: NodeTopology, policy: str = "", **more: Any) -> NodeTable:
    table = NodeTable()
    for machine in machines:
        table.describe(machine)
        if policy or more:
            table.register(a_cluster_node(machine.node, policy, **more))
    return table


def passes(rules: Any, size: int) -> list[bool]:
    return [all(bool(rule.passes[row]) for rule in rules) for row in range(size)]
