"""A cluster as the planner hears of it: nodes with their topologies, services of one container each, and their reports.

Everything is decoded from bytes, one message by itself, as it comes over the bus: what two of them say alike lies in
memory twice unless somebody shares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import NODE_USAGE, NODES, PLACEMENTS, TOPOLOGY, WORKLOAD
from neap.common.model.lifecycle import Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB, HOUR, MIB, Seconds
from neap.reporter.reader import NodeReader
from tests.bench.history import NOW, PER_NODE
from tests.bench.samples import a_host, a_placement, uid

POOLS: Final = 25
TEAMS: Final = 50


def stored(services: int) -> Iterator[Any]:
    """What is read at the start: topologies, nodes, lifecycle and ledgers."""
    host = a_host(0)
    topology = NodeReader(host, clock=lambda: host.now, node="n0").topology()
    for node in range(services // PER_NODE):
        told = msgspec.structs.replace(topology, node=f"n{node}", labels={"neap.io/machine-type": f"M{node % 3}"})
        yield TOPOLOGY.decode(TOPOLOGY.encode(told))
        labels = {"neap.io/pool": f"p{node % POOLS}", "kubernetes.io/hostname": f"n{node}", "kubernetes.io/os": "linux"}
        yield NODES.decode(NODES.encode(NodeObject(at=NOW, source="gateway", node=f"n{node}", labels=labels)))
    for number in range(services):
        asked = Submitted(at=NOW - 2 * HOUR, source="gateway", workload=a_workload(number))
        yield WORKLOAD.decode(WORKLOAD.encode(asked))
        yield PLACEMENTS.decode(PLACEMENTS.encode(_placed(number)))
        started = Started(
            at=NOW - 2 * HOUR + 30, source="gateway", uid=uid(number), node=f"n{number // PER_NODE}", attempt=1,
            containers={"main": f"{number:064x}"},
        )  # fmt: skip
        yield WORKLOAD.decode(WORKLOAD.encode(started))


def a_workload(number: int) -> Workload:
    """A replica of a service, with what a controller writes on it."""
    return Workload(
        uid=uid(number), namespace=f"team-{number % TEAMS}", name=f"service-{number}-7c9fd6b58-x2x4v",
        qos=QosClass.SHARED, owner=f"Deployment/service-{number}",
        containers=(Container(name="main", requests={CPU: 1000, MEMORY: 2 * GIB}, limits={MEMORY: 4 * GIB}),),
        labels={"app": f"service-{number}", "team": f"team-{number % TEAMS}", "pod-template-hash": "7c9fd6b58"},
        images=(f"registry/team-{number % TEAMS}/service-{number}:1.0",),
    )  # fmt: skip


def _placed(number: int) -> Placed:
    return Placed(
        at=NOW - 2 * HOUR + 15, source="scheduler", node=f"n{number // PER_NODE}", placement=a_placement(a_workload(number)),
        score=61.2, reason="best of 812 of 1000 nodes with 61.2 (load_aware 58.1, allocation 64.3)",
    )  # fmt: skip


def a_report(node: int) -> NodeUsage:
    """A full report of a node; the same whenever it is asked for."""
    random = Random(node)
    return NodeUsage(
        at=0.0, source="reporter", node=f"n{node}", seq=1, period=1.0, cpu=20.0,
        containers=tuple(_container(number, random) for number in range(node * PER_NODE, (node + 1) * PER_NODE)),
    )  # fmt: skip


def _container(number: int, random: Random) -> ContainerUsage:
    name, memory = uid(number), random.randrange(64 * MIB, 4 * GIB)
    return ContainerUsage(
        uid=name, container=f"{number:064x}", cpu=random.lognormvariate(-1, 1), throttled=0.01, memory=memory,
        cgroup=f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{name.replace('-', '_')}.slice"
        f"/cri-containerd-{number:064x}.scope",
        working_set=memory * 9 // 10, file_cache=12 * MIB, cpu_stall=Stall(some10=0.01), memory_stall=Stall(),
        io_read=random.uniform(1e4, 1e6), io_write=random.uniform(1e4, 1e6), bandwidth=random.uniform(1e7, 1e9),
    )  # fmt: skip


def told(node: int, at: Seconds, period: Seconds, *, since: int = 0) -> bytes:
    """The report of a time; a short one lists every fourth container."""
    report = a_report(node)
    containers = report.containers[int(at) % 4 :: 4] if since else report.containers
    return NODE_USAGE.encode(
        msgspec.structs.replace(report, at=at, seq=int(at), period=period, since=since, containers=containers)
    )
