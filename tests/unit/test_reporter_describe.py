"""What people see of a node."""

from __future__ import annotations

import msgspec

from neap.common.model.describe import describe_tree, describe_usage
from neap.common.model.topology import Card, Device, NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage, Stall
from neap.common.units import GIB

CORES = tuple(Zone(kind=ZoneKind.CORE, index=i, cpus=f"{i},{i + 2}") for i in range(2))
NUMA = Zone(kind=ZoneKind.NUMA, index=0, cpus="0-3", capacity={"cpu": 4000, "memory": 8 * GIB}, children=CORES)
FAR = Zone(kind=ZoneKind.NUMA, index=4, capacity={"memory": 2 * GIB}, attributes={"locality": "0-3"})
TOPOLOGY = NodeTopology(
    at=0.0,
    source="reporter",
    node="n1",
    machine=Zone(
        kind=ZoneKind.MACHINE,
        index=0,
        cpus="0-3",
        children=(Zone(kind=ZoneKind.PACKAGE, index=0, cpus="0-3", children=(NUMA,)), FAR),
    ),
    numa=(
        NumaNode(index=0, cpus="0-3", memory=8 * GIB, distances={0: 10, 4: 17}),
        NumaNode(index=4, cpus="", memory=2 * GIB, distances={0: 17, 4: 10}),
    ),
    cards=(Card(index=0, uuid="GPU-1", model="T4", memory_mib=15360, numa=0, pci="0000:3b:00.0"),),
    capacity={"cpu": 4000, "memory": 10 * GIB},
    allocatable={"cpu": 2000, "memory": 7 * GIB},
    system_cpus="0,2",
    warnings=("L3 0-1 dropped: its CPUs disagree about who shares it",),
)


def test_a_machine_is_drawn_as_a_tree() -> None:
    assert (
        describe_tree(TOPOLOGY)
        == """\
n1  (4 CPUs, 2 cores, 2 NUMA nodes, 10Gi, 1 card)
├─ Package 0  CPUs 0-3
│  └─ NUMA node 0  CPUs 0-3  8Gi  2 cores
└─ NUMA node 4  no CPUs, near 0-3  2Gi

Distances
  from \\ to     0    4
          0    10   17
          4    17   10

Cards
   0  T4  15Gi  NUMA 0  0000:3b:00.0  GPU-1

Kept for the system
  system CPUs  0,2
  cpu          2 of 4 cores allocatable
  memory       7Gi of 10Gi allocatable

Warnings
  ! L3 0-1 dropped: its CPUs disagree about who shares it"""
    )


def test_usage_is_drawn_with_bars_and_unknown_by_name() -> None:
    usage = NodeUsage(
        at=1.0,
        source="reporter",
        node="n1",
        seq=7,
        period=60.0,
        cpu=1.0,
        memory_available=5 * GIB,
        cpu_stall=Stall(some10=0.5),
        numa=(NumaUsage(index=0, cpu=1.0), NumaUsage(index=4, memory_free=GIB)),
        containers=(ContainerUsage(uid="u", container="c0ffee", cgroup="kubepods/podu/c0ffee", working_set=GIB),),
        unknown=("/proc/pressure/io",),
    )
    assert (
        describe_usage(usage, TOPOLOGY)
        == """\
n1  over the last 1m
  cpu     █████░░░░░░░░░░░░░░░  1.00 cores of 4
  memory  ██████████░░░░░░░░░░  5Gi available of 10Gi

Pressure (share of the last 10 s somebody / everybody waited)
  cpu     ██████████░░░░░░░░░░  50.0 % / 0.0 %
  memory  ····················  unknown
  io      ····················  unknown

NUMA nodes
    0  █████░░░░░░░░░░░░░░░     1.00 cores  unknown free
    4  ····················        unknown  1Gi free

Containers (1)
  container               cpu  working set  cpu wait  throttled  CPUs
  c0ffee              unknown          1Gi   unknown    unknown  unknown

Not known
  ? /proc/pressure/io"""
    )


def test_usage_can_be_shown_before_the_topology_is_known() -> None:
    assert "unknown" in describe_usage(NodeUsage(at=1.0, source="reporter", node="n1", seq=1, period=1.0))


def test_devices_say_how_near_they_are() -> None:
    switch = ("pci0000:3a", "0000:3a:00.0", "0000:3b:00.0")
    devices = (
        Device(kind=ZoneKind.NIC, address="0000:60:00.0", numa=0, path=("pci0000:5d",)),
        Device(kind=ZoneKind.GPU, address="0000:3d:00.0", numa=0, path=(*switch, "0000:3c:00.0")),
        Device(kind=ZoneKind.RDMA, address="0000:3e:00.0", numa=0, path=(*switch, "0000:3c:01.0")),
        Device(kind=ZoneKind.STORAGE, address="0000:01:00.0", numa=0, path=("pci0000:00",)),
    )
    shown = describe_tree(msgspec.structs.replace(TOPOLOGY, devices=devices))
    assert (
        """
Paths
                      0     1     2
   0 GPU 3d:00.0      X   PIX  NODE
   1 RDMA 3e:00.0   PIX     X  NODE
   2 NIC 60:00.0   NODE  NODE     X
"""
        in shown
    )


def test_a_bridge_and_a_device_say_their_place_and_their_names() -> None:
    nic = Zone(
        kind=ZoneKind.NIC,
        index=0,
        attributes={"pci": "0000:60:00.0", "vendor": "8086", "names": "eth0", "virtual": "8"},
    )
    bridge = Zone(kind=ZoneKind.BRIDGE, index=0, attributes={"pci": "pci0000:5d", "buses": "5d-60"}, children=(nic,))
    machine = Zone(kind=ZoneKind.MACHINE, index=0, cpus="0-3", children=(bridge,))
    assert describe_tree(msgspec.structs.replace(TOPOLOGY, machine=machine)).splitlines()[1:3] == [
        "└─ Bridge 0  pci0000:5d  buses 5d-60",
        "   └─ NIC 0  eth0  8086 0000:60:00.0  8 virtual functions",
    ]
