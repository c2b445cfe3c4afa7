"""What the reporter finds on this kernel is what QEMU was told to build."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Received
from neap.common.contract.catalogue import CHANNELS, NODE_USAGE, STREAMS, TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.host.real import RealHost
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.common.model.usage import NodeUsage
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.reporter.settings import Settings
from neap.reporter.wiring import wire
from tests.lab import machine
from tests.lab.inside.pods import Dial, Kubelet
from tests.lab.machine import DISTANCES, NICS, NODE_MIB, NUMA_CPUS

REPORTS = 4
BUSY = 0.5  # of one CPU


async def watch(reports: int) -> tuple[NodeTopology, list[NodeUsage]]:
    """The reporter's topology and its next reports."""
    broker = MemoryBroker()
    bus, mine = broker.bus("reporter"), broker.bus("console")
    await bus.ensure(STREAMS, CHANNELS)
    outside = Outside(bus=bus, clock=wall_clock(), host=RealHost(), tracer=NoTracer())
    running = Running(wire(Settings(node="lab"), outside), outside, count=lambda *_: None, validate=True)
    stop, usages = asyncio.Event(), []
    async with asyncio.timeout(60), asyncio.TaskGroup() as group, mine.subscribe(NODE_USAGE.only()) as items:
        group.create_task(running.run(stop))
        async for item in items:
            if isinstance(item, Received):
                usages.append(item.message)
                if len(usages) == reports:
                    break
        found = await mine.get(TOPOLOGY.at(node="lab"))
        stop.set()
    assert found is not None
    return found.message, usages


def zones(zone: Zone, kind: ZoneKind) -> list[Zone]:
    """All zones of a kind."""
    return [found for child in zone.children for found in zones(child, kind)] + ([zone] if zone.kind is kind else [])


def sets(topology: NodeTopology, kind: ZoneKind) -> set[frozenset[int]]:
    """CPU sets of all zones of a kind."""
    return {parse_cpuset(zone.cpus) for zone in zones(topology.machine, kind)}


def test_the_reporter_finds_the_machine_that_qemu_was_told_to_be(figures: dict[str, Any]) -> None:
    topology, _ = asyncio.run(watch(1))
    nodes = [parse_cpuset(cpus) for cpus in NUMA_CPUS]
    assert {node.index: parse_cpuset(node.cpus) for node in topology.numa} == dict(enumerate(nodes))
    for node in topology.numa:
        assert [node.distances[index] for index in range(len(nodes))] == list(DISTANCES[node.index])
        assert NODE_MIB * 0.8 < node.memory >> 20 <= NODE_MIB, "the kernel keeps a little for itself"
    assert sets(topology, ZoneKind.PACKAGE) == {nodes[0] | nodes[1], nodes[2] | nodes[3]}
    assert sets(topology, ZoneKind.CORE) == set(nodes), "two threads a core, one core a node"
    assert sets(topology, ZoneKind.L3) <= {*nodes, nodes[0] | nodes[1], nodes[2] | nodes[3]}
    assert {parse_cpuset(cpus) for cpus in topology.siblings.values()} == set(nodes)
    figures.update(packages=machine.PACKAGES, numa=len(topology.numa), cpus=machine.CPUS, warnings=topology.warnings)


def test_the_reporter_finds_switches_and_where_the_network_cards_hang(figures: dict[str, Any]) -> None:
    topology, _ = asyncio.run(watch(1))
    cards = [device for device in topology.devices if device.kind is ZoneKind.NIC]
    found = sorted((nic.vendor, nic.numa, nic.path[0], len(nic.path) - 1) for nic in cards)
    assert found == sorted((nic.vendor, nic.numa, nic.root, nic.bridges) for nic in NICS)
    below_switch = [nic.path for nic in cards if len(nic.path) == 4]
    assert len({path[:3] for path in below_switch}) == 1, "both hang below one switch"
    assert len(set(below_switch)) == 2, "each at a port of its own"
    for nic in cards:
        assert parse_cpuset(nic.cpus) == parse_cpuset(NUMA_CPUS[nic.numa])
        assert nic.names, "the system has a name for it"
    [disk] = [device for device in topology.devices if device.kind is ZoneKind.STORAGE]
    assert disk.path[0] == "pci0000:00"
    figures.update({nic.address: f"{'/'.join(nic.names)} numa {nic.numa} {' > '.join(nic.path)}" for nic in cards})


def test_reports_say_what_the_load_uses(kubelet: Kubelet, figures: dict[str, Any]) -> None:
    dial, pod = Dial(1), kubelet.pod("owner-1", "burstable")
    dial.turn(0, BUSY)
    pod.start("main", "spin", dial.path, "0")
    [pid] = pod.cgroup.processes()
    before = pod.container("main").table("cpu.stat")["usage_usec"]
    _, usages = asyncio.run(watch(REPORTS))
    after = pod.container("main").table("cpu.stat")["usage_usec"]
    rates = [container.cpu for usage in usages for container in usage.containers if container.cpu is not None]
    assert rates, "no report has the load's CPU"
    spent = (after - before) / 1e6
    figures.update(
        asked_cores=BUSY, reported_cores=[round(rate, 2) for rate in rates], kernel_cpu_seconds=round(spent, 2)
    )
    assert max(rates) <= 1.05, "one task uses one CPU at most"
    assert sum(rates) * 0.5 <= spent, f"reports add up to more than the kernel's {spent:.2f} s"
    assert Path(f"/proc/{pid}").exists()
