"""Messages and machines of realistic shape."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB, MIB
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Curve, Memory, VirtualContainer, VirtualPod, Work
from neap.virtual.settings import Settings
from neap.virtual.slices import TraceRow, read_slices
from neap.virtual.snapshot import load_snapshot
from neap.virtual.world import plan_nodes, read_world

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
MACHINE: Final = EXAMPLES / "machines" / "64amd64-4s2n4ca2co.tar.bz2"
FLEET: Final = 300  # nodes whose day is taken
SLICE_MIB: Final = 2048  # memory asked with a part of a card; the trace does not say any


def uid(number: int) -> str:
    return f"{number:08x}-aaaa-4bbb-8ccc-{number:012x}"


def a_usage(node: str, containers: int = 20, *, at: float = 1.0, first: int = 0, cpu: float = 20.0) -> NodeUsage:
    """A report as the reporter makes it, cgroup paths included: about 500 bytes per container."""
    calm = Stall()
    seen = tuple(
        ContainerUsage(
            uid=uid(first + i), container=f"{first + i:064x}",
            cgroup=f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid(first + i).replace('-', '_')}.slice"
            f"/cri-containerd-{first + i:064x}.scope",
            cpu=0.873 + i / 7, throttled=0.0, memory=(i + 1) * 97 * MIB, working_set=(i + 1) * 90 * MIB, file_cache=12 * MIB,
            cpu_stall=calm, memory_stall=calm, cpuset="4-31,36-63",
        )
        for i in range(containers)
    )  # fmt: skip
    return NodeUsage(
        at=at, source="reporter", node=node, seq=int(at * 1000), period=1.0, cpu=cpu, memory_available=200 * GIB,
        cpu_stall=calm, memory_stall=calm, io_stall=calm,
        numa=tuple(NumaUsage(index=i, cpu=cpu / 2, memory_free=100 * GIB) for i in range(2)), containers=seen,
    )  # fmt: skip


def a_small_usage(node: str) -> NodeUsage:
    """About 300 bytes, the size of most events."""
    calm = Stall(some10=0.0123)
    return NodeUsage(
        at=1.5, source="reporter", node=node, seq=1, period=1.0, cpu=12.75, memory_available=200 * GIB, cpu_stall=calm
    )


def a_workload(number: int, *, cores: float = 1.0, guest: bool = False) -> Workload:
    amounts = {RECLAIMED_CPU if guest else CPU: int(cores * 1000), RECLAIMED_MEMORY if guest else MEMORY: 2 * GIB}
    qos = QosClass.RECLAIMED if guest else QosClass.SHARED
    return Workload(
        uid=uid(number), namespace="batch" if guest else "shop", name=f"pod-{number}", qos=qos,
        containers=(Container(name="main", requests=amounts),),
    )  # fmt: skip


def a_placement(workload: Workload) -> Placement:
    return Placement(workload=workload, charged=workload.requests)


def an_entry(number: int, node: str) -> Placed:
    return Placed(
        at=1.0, source="scheduler", node=node, placement=a_placement(a_workload(number)), score=61.2,
        reason="best of 812 of 1000 nodes with 61.2 (load_aware 58.1, allocation 64.3)",
    )  # fmt: skip


def a_host(pods: int, *, node: str = "n1", at: float = 0.0) -> VirtualHost:
    """A 64-CPU machine of four sockets with `pods` pods of one container: owners, and guests as every third."""
    host = VirtualHost(load_snapshot(MACHINE), node=node, at=at)
    for i in range(pods):
        guest = i % 3 == 2
        demand = (
            Work(core_seconds=1e9, width=0.7) if guest else Curve(points=(0.2, 0.5, 0.3), step=300.0, noise=0.1, seed=i)
        )
        memory = Memory(start=(64 + i) * MIB, cache=64 * MIB)
        main = VirtualContainer(
            id=f"{i:064x}", requests={} if guest else {CPU: 500, MEMORY: GIB // 4}, demand=demand, memory=memory
        )
        host.start(VirtualPod(uid=uid(i), qos=KubeQos.BEST_EFFORT if guest else KubeQos.BURSTABLE, containers=(main,)))
    return host


def trace_workloads() -> list[Workload]:
    """The pods of the GPU trace, owners as they asked; those without a GPU alternate with guests of the same size."""
    rows = read_slices(EXAMPLES).rows
    return [_of_row(number, row, guest=not row.gpu_milli and number % 3 == 0) for number, row in enumerate(rows)]


def _of_row(number: int, row: TraceRow, *, guest: bool) -> Workload:
    cpu, memory = (RECLAIMED_CPU, RECLAIMED_MEMORY) if guest else (CPU, MEMORY)
    requests = {cpu: row.cpu, memory: row.memory}
    if 0 < row.gpu_milli < 1000:
        requests |= {GPU_CORE: max(1, row.gpu_milli // 10), GPU_MEMORY: SLICE_MIB}
    elif row.gpu_milli:
        requests |= {GPU_CORE: row.gpu_milli // 10}
    qos = QosClass.RECLAIMED if guest else QosClass.SHARED
    containers = (Container(name="main", requests=requests),)
    return Workload(uid=uid(number), namespace="trace", name=row.name, qos=qos, containers=containers)


def trace_nodes(count: int, random: Random) -> Iterator[NodeTopology]:
    """Nodes drawn from the trace's cluster, in its proportions."""
    shapes = _node_shapes()
    yield from map(_of_shape, range(count), random.choices(shapes, [int(shape["nodes"]) for shape in shapes], k=count))


def fleet_nodes(count: int) -> Iterator[NodeTopology]:
    """The machines of the simulated day, one in six with cards, as many as asked."""
    plans = plan_nodes(Settings(nodes=FLEET))
    for number, plan in zip(range(count), cycle(plans), strict=False):
        cards = [(card.model, card.memory_mib) for card in plan.cards for _ in range(card.count)]
        yield _a_node(number, {CPU: 1000 * plan.shape.cores, MEMORY: plan.shape.memory}, cards)


def fleet_workloads() -> list[Workload]:
    """A day of a fleet, in its order: services, daemons, dedicated owners, pods with cards, and guests, most of all."""
    day, _, _ = read_world(Settings(nodes=FLEET))
    return [submission.workload for submission in day.submissions]


def gpu_nodes() -> Iterator[NodeTopology]:
    """The nodes with cards of the trace's cluster, all 1,213."""
    all_ = [shape for shape in _node_shapes() if int(shape["gpu"]) for _ in range(int(shape["nodes"]))]
    yield from map(_of_shape, range(len(all_)), all_)


def _node_shapes() -> list[dict[str, str]]:
    with (EXAMPLES / "trace" / "openb_node_shapes.csv").open() as lines:
        return list(csv.DictReader(lines))


def _of_shape(number: int, shape: dict[str, str]) -> NodeTopology:
    amounts = {CPU: int(shape["cpu_milli"]), MEMORY: int(shape["memory_mib"]) * MIB}
    return _a_node(number, amounts, [(shape["model"], 16160)] * int(shape["gpu"]))


def _a_node(number: int, amounts: dict[str, int], cards: Sequence[tuple[str, int]]) -> NodeTopology:
    return NodeTopology(
        at=0.0, source="reporter", node=f"n{number}", machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(),
        cards=tuple(
            Card(index=i, uuid=f"GPU-{number}-{i}", model=model, memory_mib=memory)
            for i, (model, memory) in enumerate(cards)
        ),
        capacity=amounts, allocatable=amounts, labels={"zone": f"z{number % 3}"},
    )  # fmt: skip
