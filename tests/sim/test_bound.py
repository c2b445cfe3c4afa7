"""A pod that asks to be bound, from its manifest to the knobs of its cgroup, on captured machines."""

from __future__ import annotations

import asyncio

import yaml
from msgspec.structs import replace

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import ADVICE, TOPOLOGY, WORKLOAD
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import NodeAdvice
from neap.common.model.lifecycle import Submitted
from neap.common.model.manifest import workloads_of
from neap.common.model.placement import Placement
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.scheduler.core.nodes.table import NodeTable
from neap.virtual.audit import held_by
from neap.virtual.history import read_history
from neap.virtual.simulation import LEAD, Simulation
from tests.sim.small import small_settings

MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: bound
  annotations:
    neap.io/qos-level: dedicated_cores
    katalyst.kubewharf.io/memory_enhancement: '{wish}'
spec:
  containers:
  - name: main
    resources:
      requests: {{cpu: "{cpu}", memory: 64Mi}}
      limits: {{cpu: "{cpu}", memory: 64Mi}}
"""
BIND, ALONE = '{"numa_binding": "true"}', '{"numa_binding": "true", "numa_exclusive": "true"}'


async def submit(bus: Bus, at: float, name: str, wish: str, cpu: int = 1, **annotations: str) -> str:
    """Its uid."""
    (workload,), _ = workloads_of([yaml.safe_load(MANIFEST.format(name=name, wish=wish, cpu=cpu))], where="", salt="t")
    workload = replace(workload, annotations=workload.annotations | annotations)
    told = Submitted(at=at, source="console", workload=workload)
    await bus.emit(WORKLOAD.at(namespace="bound", name=name), told, id=f"{workload.uid}.1.submitted")
    return workload.uid


async def live(
    world: Simulation,
) -> tuple[dict[str, tuple[str, Placement]], dict[str, NodeTopology], dict[str, NodeAdvice]]:
    """Placements by name with their node, what the machines are, and what they are advised in the end."""
    clock, start = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD), world.virtual.start
    async with world.running(clock) as bus:
        await clock.sleep_until(start + MINUTE / 2)
        for name, wish in (("bind", BIND), ("alone", ALONE)):
            await submit(bus, clock.now(), name, wish)
        await clock.sleep_until(start + 6 * MINUTE)
        topologies = {node: await bus.get(TOPOLOGY.at(node=node)) for node in world.nodes}
        advice = {node: await bus.get(ADVICE.at(node=node)) for node in world.nodes}
        held = held_by((await read_history(bus)).ledger)
    found = {p.workload.name: (node, p) for node, pods in held.items() for p in pods.values()}
    return (
        found,
        {node: item.message for node, item in topologies.items() if item is not None},
        {node: item.message for node, item in advice.items() if item is not None},
    )


def test_a_bound_pod_gets_cores_and_pages_of_the_numa_node_its_placement_names() -> None:
    placed, machines, advice = simulate(live(Simulation(small_settings(), seed=1, validate=True)))
    for name in ("bind", "alone"):
        node, placement = placed[name]
        (number,) = placement.numa
        (numa,) = [numa for numa in machines[node].numa if numa.index == number]
        (knobs,) = [c.knobs for c in advice[node].cgroups if c.target == f"pod/{placement.workload.uid}"]
        assert parse_cpuset(knobs.cpus or "")
        assert parse_cpuset(knobs.cpus or "") <= parse_cpuset(numa.cpus)
        assert knobs.mems == str(number)
    node, placement = placed["alone"]
    (numa,) = [numa for numa in machines[node].numa if numa.index == placement.numa[0]]
    free = parse_cpuset(numa.cpus) - parse_cpuset(machines[node].system_cpus)
    assert placement.exclusive
    assert placement.charged[CPU] == 1000 * len(free)
    assert len(machines) == 4
    table = NodeTable()
    for machine in machines.values():
        table.describe(machine)
        row, count = table.rows[machine.node], int(table.columns["zones/count"][table.rows[machine.node]])
        assert count == len(machine.numa) > 0
        assert table.columns[f"zone/limit/{CPU}"][row, :count].sum() == machine.allocatable[CPU]
        assert table.columns[f"zone/limit/{MEMORY}"][row, :count].sum() <= machine.capacity[MEMORY]


async def behind(world: Simulation) -> tuple[str, dict[str, str], Placement, NodeTopology]:
    """The node of an idle pod that has a NUMA node alone, and what cgroups show there while guests want all they get."""
    clock, start = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD), world.virtual.start
    async with world.running(clock) as bus:
        await clock.sleep_until(start + MINUTE / 2)
        uid = await submit(bus, clock.now(), "alone", ALONE, 2, **{"virtual.neap.io/demand": "idle"})
        await clock.sleep_until(start + 13 * MINUTE)
        held = held_by((await read_history(bus)).ledger)
        ((node, placement),) = [(node, pods[uid]) for node, pods in held.items() if uid in pods]
        topology = await bus.get(TOPOLOGY.at(node=node))
        assert topology is not None
        root, shown = "/sys/fs/cgroup/kubepods", dict[str, str]()
        for name, path in (("alone", f"{root}/pod{uid}"), ("guests", f"{root}/besteffort")):
            for file in ("cpuset.cpus", "cpuset.mems", "cpu.idle"):
                shown[f"{name} {file}"] = world.host(node).read(f"{path}/{file}").strip()
        return node, shown, placement, topology.message


def test_where_its_service_lets_it_guests_run_behind_a_pod_that_has_a_numa_node_alone() -> None:
    _, shown, placement, machine = simulate(
        behind(Simulation(small_settings("advisor.lend_alone=true"), seed=1, validate=True))
    )
    (numa,) = [numa for numa in machine.numa if numa.index == placement.numa[0]]
    its = parse_cpuset(numa.cpus) - parse_cpuset(machine.system_cpus)
    assert parse_cpuset(shown["alone cpuset.cpus"]) == its, "the owner keeps all its CPUs"
    assert parse_cpuset(shown["guests cpuset.cpus"]) & its, "guests run behind it"
    assert parse_cpuset(shown["guests cpuset.mems"]) == {one.index for one in machine.numa} - {numa.index}
    assert shown["guests cpu.idle"] == "1"
