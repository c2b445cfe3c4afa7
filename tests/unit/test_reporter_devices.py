"""Devices: where they hang, what they are called, who is near whom; and what broken buses are made of."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neap.common.errors import InputError
from neap.common.host.memory import Link, MemoryHost
from neap.common.host.real import RealHost
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import Device, NodeTopology, Zone, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl
from neap.reporter.shell.host import read_snapshot

PCIE = Path(__file__).resolve().parents[3] / "shared" / "data" / "pcie"
LARGEST_MESSAGE = 256 * 1024
GPU, RDMA, NIC, STORAGE = "0x030200", "0x020700", "0x020000", "0x010802"
CPU, NODE = "/sys/devices/system/cpu", "/sys/devices/system/node"


def a_host(nodes: int = 2, cpus: int = 4) -> MemoryHost:
    """A machine with `cpus` one-thread cores per NUMA node and an empty bus."""
    host = MemoryHost({f"{CPU}/online": f"0-{nodes * cpus - 1}\n"})
    for cpu in range(nodes * cpus):
        host.put(f"{CPU}/cpu{cpu}/topology/core_id", f"{cpu}\n")
        host.put(f"{CPU}/cpu{cpu}/topology/thread_siblings_list", f"{cpu}\n")
    for node in range(nodes):
        host.put(f"{NODE}/node{node}/cpulist", f"{node * cpus}-{node * cpus + cpus - 1}\n")
        host.put(f"{NODE}/node{node}/meminfo", f"Node {node} MemTotal: {8 << 20} kB\n")
    return host


def plug(host: MemoryHost, where: str, pci_class: str = "0x060400", vendor: str = "0x15b3", **files: str) -> str:
    """A function in the directory /sys/devices/`where`, on the bus; returns its address."""
    address = where.rpartition("/")[2]
    for name, text in ({"class": pci_class, "vendor": vendor, "device": "0x101e", "numa_node": "-1"} | files).items():
        host.put(f"/sys/devices/{where}/{name}", f"{text}\n")
    host.put(f"/sys/bus/pci/devices/{address}", Link(f"../../../devices/{where}"))
    return address


def call(host: MemoryHost, kind: str, name: str, where: str) -> None:
    """Give a function a name in /sys/class."""
    host.put(f"/sys/devices/{where}/{name}/uevent", "")
    host.put(f"/sys/class/{kind}/{name}", Link(f"../../devices/{where}/{name}"))


def look(host: MemoryHost) -> NodeTopology:
    return build(read_snapshot(host), node="n1", at=1.0, reserve=Reserve(memory=1 << 30), labels={})


def devices(host: MemoryHost) -> dict[str, Device]:
    return {device.address: device for device in look(host).devices}


def zones(zone: Zone) -> list[Zone]:
    return [zone, *(below for child in zone.children for below in zones(child))]


SWITCH = "pci0000:17/0000:17:00.0/0000:18:00.0"


def a_switched_host() -> MemoryHost:
    """Node 0: a switch with two GPUs and an RDMA card, a second root port with a GPU. Node 1: NVMe on its own bridge."""
    host = a_host()
    for bridge in ("0000:17:00.0", "0000:17:00.0/0000:18:00.0", "0000:17:02.0"):
        plug(host, f"pci0000:17/{bridge}", numa_node="0")
    for port, end, pci_class, vendor in (
        ("0000:19:00.0", "0000:1a:00.0", GPU, "0x10de"),
        ("0000:19:04.0", "0000:1b:00.0", GPU, "0x10de"),
        ("0000:19:08.0", "0000:1c:00.0", RDMA, "0x15b3"),
    ):
        plug(host, f"{SWITCH}/{port}")
        plug(host, f"{SWITCH}/{port}/{end}", pci_class, vendor)
    plug(host, "pci0000:17/0000:17:02.0/0000:2a:00.0", GPU, "0x10de")
    plug(host, "pci0000:80/0000:80:01.0/0000:81:00.0", STORAGE, "0x144d", numa_node="1")
    call(host, "infiniband", "mlx5_0", f"{SWITCH}/0000:19:08.0/0000:1c:00.0/infiniband")
    call(host, "net", "ib0", f"{SWITCH}/0000:19:08.0/0000:1c:00.0/net")
    call(host, "nvme", "nvme0", "pci0000:80/0000:80:01.0/0000:81:00.0/nvme")
    call(host, "block", "nvme0n1", "pci0000:80/0000:80:01.0/0000:81:00.0/nvme/nvme0")
    call(host, "block", "nvme0n1p1", "pci0000:80/0000:80:01.0/0000:81:00.0/nvme/nvme0/nvme0n1")
    return host


def test_a_device_knows_its_bridges_its_names_and_its_node() -> None:
    found = devices(a_switched_host())
    assert found["0000:1c:00.0"] == Device(
        kind=ZoneKind.RDMA,
        address="0000:1c:00.0",
        names=("ib0", "mlx5_0"),
        vendor="15b3",
        model="101e",
        numa=0,  # its own firmware does not say, the bridges above it do
        cpus="0-3",
        path=("pci0000:17", "0000:17:00.0", "0000:18:00.0", "0000:19:08.0"),
    )
    disk = found["0000:81:00.0"]
    assert (disk.kind, disk.names, disk.numa) == (ZoneKind.STORAGE, ("nvme0", "nvme0n1"), 1)


def test_the_tree_shows_root_complexes_and_only_the_bridges_where_ways_part() -> None:
    topology = look(a_switched_host())
    left, right = (zone for zone in topology.machine.children if zone.kind is ZoneKind.NUMA)
    (root,) = (zone for zone in left.children if zone.kind is ZoneKind.BRIDGE)
    assert root.attributes == {"pci": "pci0000:17", "buses": "17-2a"}
    assert [(zone.kind, zone.attributes["pci"]) for zone in root.children] == [
        (ZoneKind.BRIDGE, "0000:18:00.0"),
        (ZoneKind.GPU, "0000:2a:00.0"),
    ]
    assert [zone.attributes.get("names", "") for zone in root.children[0].children] == ["", "", "ib0 mlx5_0"]
    (other,) = (zone for zone in right.children if zone.kind is ZoneKind.BRIDGE)
    assert [zone.attributes["names"] for zone in other.children] == ["nvme0 nvme0n1"]


def test_two_ways_through_a_bus_are_told_apart() -> None:
    found = devices(a_switched_host())
    near = {
        (a, b): path_class(found[f"0000:{a}:00.0"], found[f"0000:{b}:00.0"]).value
        for a, b in combinations(("1a", "1b", "2a", "81"), 2)
    }
    assert near == {
        ("1a", "1b"): "PIX",
        ("1a", "2a"): "PHB",
        ("1a", "81"): "SYS",
        ("1b", "2a"): "PHB",
        ("1b", "81"): "SYS",
        ("2a", "81"): "SYS",
    }


def test_the_nearest_bridge_that_says_something_is_believed() -> None:
    host = a_host()
    plug(host, "pci0000:00/0000:00:01.0", numa_node="0")
    plug(host, "pci0000:00/0000:00:01.0/0000:01:00.0", numa_node="1")
    plug(host, "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0", NIC)
    assert [device.numa for device in look(host).devices] == [1]


def test_a_virtual_function_names_its_physical_one_and_is_no_zone() -> None:
    host = a_host()
    port = "pci0000:3a/0000:3a:00.0"
    plug(host, f"{port}/0000:3b:00.0", NIC, numa_node="0")
    for number in range(3):
        plug(host, f"{port}/0000:3b:00.{number + 1}", NIC, numa_node="0")
        host.put(f"/sys/devices/{port}/0000:3b:00.{number + 1}/physfn", Link("../0000:3b:00.0"))
    topology = look(host)
    assert [device.physical for device in topology.devices] == ["", *["0000:3b:00.0"] * 3]
    drawn = [zone.attributes for zone in zones(topology.machine) if zone.kind is ZoneKind.NIC]
    assert [(zone["pci"], zone["virtual"]) for zone in drawn] == [("0000:3b:00.0", "3")]


def test_a_network_card_with_an_rdma_device_is_rdma_and_a_virtio_card_keeps_its_name() -> None:
    host = a_host()
    plug(host, "pci0000:00/0000:00:03.0", NIC)
    plug(host, "pci0000:00/0000:00:04.0", NIC)
    call(host, "net", "ens3", "pci0000:00/0000:00:03.0/virtio0/net")
    call(host, "infiniband", "rocep4s0", "pci0000:00/0000:00:04.0/infiniband")
    assert [(device.kind, device.names) for device in look(host).devices] == [
        (ZoneKind.NIC, ("ens3",)),
        (ZoneKind.RDMA, ("rocep4s0",)),
    ]


def test_a_package_of_two_nodes_is_near_though_no_node_is() -> None:
    host = a_host(nodes=4)
    for cpu in range(16):
        host.put(f"{CPU}/cpu{cpu}/topology/physical_package_id", f"{cpu // 8}\n")
    plug(host, "pci0000:80/0000:80:00.0", GPU, "0x10de", local_cpus="0000ff00")
    topology = look(host)
    (device,) = topology.devices
    assert (device.numa, device.cpus) == (-1, "8-15")
    (home,) = (zone for zone in zones(topology.machine) if any(c.kind is ZoneKind.BRIDGE for c in zone.children))
    assert (home.kind, home.index) == (ZoneKind.PACKAGE, 1)


def test_a_device_that_is_local_to_every_cpu_is_near_nobody() -> None:
    host = a_host()
    plug(host, "pci0000:00/0000:00:05.0", NIC, local_cpulist="0-7")
    (device,) = look(host).devices
    assert (device.numa, device.cpus) == (-1, "")


@pytest.mark.parametrize(
    ("files", "said", "numa"),
    [
        ({"numa_node": "7"}, "its NUMA node 7 is not there", -1),
        ({"numa_node": "7", "local_cpus": "f0"}, "its NUMA node 7 is not there", 1),
        ({"local_cpus": "3c"}, "its local CPUs 2-5 cut through NUMA nodes: ignored", -1),
        ({"numa_node": "1", "local_cpus": "0f"}, "its local CPUs are not those of its NUMA node 1", 1),
    ],
)
def test_a_place_that_contradicts_the_machine_is_named(files: dict[str, str], said: str, numa: int) -> None:
    host = a_host()
    plug(host, "pci0000:00/0000:00:05.0", NIC, **files)
    topology = look(host)
    assert topology.devices[0].numa == numa
    assert any(said in warning and "0000:00:05.0" in warning for warning in topology.warnings)


@pytest.mark.parametrize(
    "target",
    [
        "../../../devices/pci0000:00/0000:00:06.0",  # another device
        "../../../devices/platform/0000:00:05.0",  # no host bridge
        "../../../devices/platform/0000:00:01.0/0000:00:05.0",
        "../../../devices/pci0000:00/0000:00:01.0/0000:00:01.0/0000:00:05.0",  # round and round
        "/sys/devices/pci0000:00/" + "/".join(f"0000:{bus:02x}:00.0" for bus in range(1, 80)) + "/0000:00:05.0",
    ],
)
def test_a_link_that_cannot_be_leaves_the_device_without_a_path_and_says_so(target: str) -> None:
    host = a_host()
    plug(host, "pci0000:00/0000:00:05.0", NIC)
    seen = read_snapshot(host)
    links = dict(seen.links) | {"/sys/bus/pci/devices/0000:00:05.0": target}
    topology = build(replace(seen, links=links), node="n1", at=1.0, reserve=Reserve(), labels={})
    assert topology.devices[0].path == ()
    assert "what is above 1 PCI functions is unknown: no link to their place (0000:00:05.0)" in topology.warnings


def test_a_bus_copied_without_links_still_has_its_devices() -> None:
    host = a_host()
    for name, text in {"class": GPU, "vendor": "0x10de", "numa_node": "1"}.items():
        host.put(f"/sys/bus/pci/devices/0000:1a:00.0/{name}", text)
    topology = look(host)
    assert [(device.numa, device.path) for device in topology.devices] == [(1, ())]
    assert any("0000:1a:00.0" in warning for warning in topology.warnings)


def test_disks_behind_a_volume_management_device_share_only_its_host_bridge() -> None:
    host = a_host()
    vmd = "pci0000:5d/0000:5d:05.5/pci10000:00"
    for port in ("02", "03"):
        plug(host, f"{vmd}/10000:00:{port}.0/10000:0{port[1]}:00.0", STORAGE)
    one, two = look(host).devices
    assert one.path == ("pci0000:5d", "0000:5d:05.5", "pci10000:00", "10000:00:02.0")
    assert path_class(one, two) is PathClass.PHB


def test_too_many_devices_are_cut_with_a_word_and_the_message_stays_small() -> None:
    host = a_host(nodes=8, cpus=32)
    for number in range(700):
        bus, slot = divmod(number, 32)
        ways = f"pci0000:{bus:02x}/0000:{bus:02x}:00.0/0000:{bus:02x}:01.0/0000:{bus:02x}:02.0"
        plug(host, f"{ways}/0000:{bus:02x}:{slot:02x}.1", NIC if number < 600 else GPU, "0x10de", numa_node="3")
        call(host, "net", f"enp{number}s0f1np0", f"{ways}/0000:{bus:02x}:{slot:02x}.1/net")
        if number < 100:
            host.put(f"/sys/devices/{ways}/0000:{bus:02x}:{slot:02x}.1/physfn", Link("../0000:05:00.1"))
    topology = look(host)
    kinds = [device.kind for device in topology.devices]
    assert (len(kinds), kinds.count(ZoneKind.GPU)) == (512, 100)
    assert not [device for device in topology.devices if device.physical]
    assert "188 of 700 devices left out: more than 512" in topology.warnings
    assert "384 of 512 devices are in the list but not in the tree" in topology.warnings
    drawn = [zone.kind for zone in zones(topology.machine) if zone.kind in (ZoneKind.GPU, ZoneKind.NIC)]
    assert (len(drawn), drawn.count(ZoneKind.GPU)) == (128, 100)
    assert len(msgspec.json.encode(topology)) < LARGEST_MESSAGE


# -- who is near whom ------------------------------------------------------------------------------------------------


def a_gpu(address: str, *path: str, numa: int = -1) -> Device:
    return Device(kind=ZoneKind.GPU, address=address, path=path, numa=numa)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (a_gpu("1", "h", "p.0", "s.0", "d.0"), a_gpu("2", "h", "p.0", "s.0", "d.1"), "PIX"),  # one switch
        (a_gpu("1", "h", "p.0"), a_gpu("2", "h", "p.0"), "PIX"),  # two functions of a card
        (a_gpu("1", "h", "s.0", "d.0", "t.0", "e.0"), a_gpu("2", "h", "s.0", "d.1"), "PXB"),  # a switch below another
        (a_gpu("1", "h", "s.0", "d.0", "t.0"), a_gpu("2", "h", "s.0", "d.1"), "PXB"),
        (a_gpu("1", "h", "p.0", "x.0"), a_gpu("2", "h", "q.0", "x.0"), "PHB"),
        (a_gpu("1", "h"), a_gpu("2", "h"), "PHB"),  # integrated
        (a_gpu("1", "h", numa=1), a_gpu("2", "i", numa=1), "NODE"),
        (a_gpu("1", numa=1), a_gpu("2", numa=1), "NODE"),  # no bus tree known
        (a_gpu("1", "h", numa=0), a_gpu("2", "i", numa=1), "SYS"),
        (a_gpu("1", "h"), a_gpu("2", "i"), "SYS"),  # nobody says
        (a_gpu("1", "h"), a_gpu("1", "h"), "X"),
    ],
)
def test_path_classes_are_those_of_nvidia_smi(a: Device, b: Device, expected: str) -> None:
    assert path_class(a, b) == path_class(b, a) == PathClass(expected)


def test_classes_sort_by_how_far() -> None:
    assert sorted(PathClass, key=lambda found: found.rank) == ["X", "PIX", "PXB", "PHB", "NODE", "SYS"]


def dgx1() -> list[Device]:
    """Two host bridges, each with two root ports, each with a switch of two GPUs: 0 and 2, 1 and 3, and so on."""
    return [
        a_gpu(
            str(gpu),
            f"pci0000:{gpu // 4}0",
            f"0000:{gpu // 4}0:0{gpu % 2}.0",
            f"0000:{gpu // 4}{1 + gpu % 2}:00.0",
            f"0000:{gpu // 4}{3 + gpu % 2}:0{gpu % 4 // 2}.0",
            numa=gpu // 4,
        )
        for gpu in range(8)
    ]


def rtx8000() -> list[Device]:
    """A host bridge each; GPUs 0 and 1 on one node, 2 and 3 on the other."""
    return [a_gpu(str(gpu), f"pci0000:{gpu}0", f"0000:{gpu}0:00.0", numa=gpu // 2) for gpu in range(4)]


@pytest.mark.parametrize(("box", "gpus"), [("dgx1_pascal", dgx1()), ("rtx8000_x4", rtx8000())])
def test_a_published_box_has_its_published_relations(shared: Path, box: str, gpus: list[Device]) -> None:
    table = json.loads((PCIE / "facts.json").read_text())[box]["pcie"]
    found = [[path_class(a, b).value for b in gpus] for a in gpus]
    known = [[word if word == "-" else found[i][j] for j, word in enumerate(row)] for i, row in enumerate(table)]
    assert known == table


# -- NCCL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", ["ndv2", "ncv4"])
def test_a_vendors_topology_file_says_what_is_near_which_cpus(shared: Path, box: str) -> None:
    facts = json.loads((PCIE / "facts.json").read_text())[box]
    found = read_nccl((PCIE / facts["file"]).read_text())

    def of(numa: str, *kinds: ZoneKind) -> list[str]:
        return [device.address for device in found if device.numa == int(numa) and device.kind in kinds]

    for numa, there in facts["numa"].items():
        assert of(numa, ZoneKind.GPU) == there["gpus"]
        assert of(numa, ZoneKind.RDMA, ZoneKind.NIC) == there.get("ib", []) + there.get("net", [])
        assert {device.cpus for device in found if device.numa == int(numa)} == {there["cpus"]}
    near = {path_class(a, b).value for a, b in combinations(found, 2) if a.numa == b.numa}
    far = {path_class(a, b).value for a, b in combinations(found, 2) if a.numa != b.numa}
    assert (near, far) == ({"PHB"}, {"SYS"})


NESTED = """<system version="1"><cpu numaid="1" affinity="ff00">
  <pci busid="0000:10:00.0" class="0x060400">
    <pci busid="0000:20:00.0" class="0x060400">
      <pci busid="0000:21:00.0" class="0x030200" vendor="0x10de" device="0x2330"><gpu dev="0"/></pci>
      <pci busid="0000:22:00.0" class="0x020000"><nic><net name="mlx5_0" guid="0x506b"/></nic></pci>
    </pci>
    <pci busid="0000:30:00.0" class="0x030200"/>
  </pci>
  <pci busid="0000:40:00.0" class="0x0c0330"/>
</cpu></system>"""


def test_nested_elements_are_switches() -> None:
    gpu, card, other = read_nccl(NESTED)
    assert gpu == Device(
        kind=ZoneKind.GPU,
        address="0000:21:00.0",
        vendor="10de",
        model="2330",
        numa=1,
        cpus="8-15",
        path=("numa1", "0000:10:00.0", "0000:10:00.0#0", "0000:20:00.0", "0000:20:00.0#0"),
    )
    assert (card.kind, card.names) == (ZoneKind.RDMA, ("mlx5_0",))
    assert (path_class(gpu, card), path_class(gpu, other)) == (PathClass.PIX, PathClass.PXB)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no XML"),
        ("<system>", "no XML"),
        ("\0", "no XML"),
        ("\ud800", "no XML"),
        ("<graphs/>", "'graphs', not 'system'"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><system/>', "declarations"),
        ("<system><cpu/></system>", "is no NUMA node"),
        ('<system><cpu numaid="-2"/></system>', "'-2' of a cpu is no NUMA node"),
        ('<system><cpu numaid="0" affinity="xyz"/></system>', "affinity 'xyz' of cpu 0 is no CPU mask"),
        ('<system><cpu numaid="0"><pci busid="17"/></cpu></system>', "busid '17' of a pci is no bus address"),
        ('<system><cpu numaid="0"><nic><net/></nic></cpu></system>', "neither a name nor a bus address"),
        (NESTED.replace("0000:30:", "0000:21:"), "0000:21:00.0 is there twice"),
        (
            '<system><cpu numaid="0">' + '<pci busid="0000:01:00.0">' * 40 + "</pci>" * 40 + "</cpu></system>",
            "in a row",
        ),
        ("<system>" + " " * (1 << 22) + "</system>", "more than 4194304"),
    ],
)
def test_junk_is_no_topology_and_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match="NCCL topology: ") as caught:
        read_nccl(text)
    assert said in str(caught.value)


# -- what hangs in the tree beside devices ---------------------------------------------------------------------------


def test_the_memory_of_a_node_is_lent_without_its_part_of_the_systems() -> None:
    host = a_host(nodes=2)
    host.put(f"{NODE}/node2/cpulist", "\n")
    host.put(f"{NODE}/node2/meminfo", f"Node 2 MemTotal: {32 << 20} kB\n")
    topology = look(host)
    numa = {zone.index: zone for zone in zones(topology.machine) if zone.kind is ZoneKind.NUMA}
    assert [numa[index].allocatable["memory"] for index in range(3)] == [(8 << 30) - (1 << 29)] * 2 + [0]
    assert numa[0].attributes == {"reserved": "0"}
    assert numa[2].attributes["closest"] == "0-1"
    assert sum(zone.allocatable["memory"] for zone in numa.values()) == topology.allocatable["memory"]


def test_memory_belongs_to_the_nodes_that_sysfs_calls_its_initiators_however_far() -> None:
    host = a_host(nodes=2)
    host.put(f"{NODE}/node2/cpulist", "\n")
    host.put(f"{NODE}/node2/distance", "17 28 10\n")
    host.put(f"{NODE}/node2/access0/initiators/node1", Link("../../../node1"))
    numa = {zone.index: zone for zone in zones(look(host).machine) if zone.kind is ZoneKind.NUMA}
    assert numa[2].attributes == {"closest": "1", "locality": "4-7"}


def test_dies_and_clusters_are_zones_inside_their_package() -> None:
    host = a_host(nodes=1, cpus=8)
    for cpu in range(8):
        for name, value in (("physical_package_id", 0), ("die_id", cpu // 4), ("cluster_id", 100 + cpu // 2)):
            host.put(f"{CPU}/cpu{cpu}/topology/{name}", f"{value}\n")
    found = zones(look(host).machine)
    assert [zone.cpus for zone in found if zone.kind is ZoneKind.DIE] == ["0-3", "4-7"]
    assert [zone.cpus for zone in found if zone.kind is ZoneKind.CLUSTER] == ["0-1", "2-3", "4-5", "6-7"]


@pytest.mark.parametrize(("cluster", "size"), [("65535", 2), ("-1", 2), ("", 2), ("9", 1), ("9", 4)])
def test_a_cluster_is_none_if_unknown_or_a_single_core_or_the_whole_package(cluster: str, size: int) -> None:
    host = a_host(nodes=1)
    for cpu in range(size):
        host.put(f"{CPU}/cpu{cpu}/topology/cluster_id", cluster)
    assert not [zone for zone in zones(look(host).machine) if zone.kind is ZoneKind.CLUSTER]


def test_perfs_names_of_core_kinds_win() -> None:
    host = a_host(nodes=1)
    host.put("/sys/devices/cpu_core/cpus", "0-1\n")
    host.put("/sys/devices/cpu_atom/cpus", "2-3\n")
    machine = look(host).machine
    assert (machine.attributes["kind.core"], machine.attributes["kind.atom"]) == ("0-1", "2-3")
    cores = [zone.attributes["kind"] for zone in zones(machine) if zone.kind is ZoneKind.CORE]
    assert cores == ["core", "core", "atom", "atom"]


@pytest.mark.parametrize(
    ("frequencies", "expected"),
    [
        ([4300, 4500, 4300, 4500], {}),  # bins of one kind
        ([3900, 3900, 5000, 5200], {"kind.0": "0-1", "kind.1": "2-3"}),
        ([3900, 0, 5000, 5200], {}),  # one of them does not say
    ],
)
def test_kinds_of_core_are_told_by_what_they_can_do(frequencies: list[int], expected: dict[str, str]) -> None:
    host = a_host(nodes=1)
    for cpu, frequency in enumerate(frequencies):
        host.put(f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq", f"{frequency}000\n")
    assert look(host).machine.attributes == expected


# -- whose cpuset counts ---------------------------------------------------------------------------------------------


def bounded(own: str, cpus: str = "1-2") -> Any:
    host = a_host(nodes=2)
    host.put("/proc/self/cgroup", f"1:name=systemd:/x\n0::{own}\n")
    for path in {own.replace("user.slice/../", ""), "/", "/user.slice"}:
        host.put(f"/sys/fs/cgroup{path.rstrip('/')}/cpuset.cpus.effective", f"{cpus}\n")
    topology = look(host)
    return topology.machine.cpus, topology.machine.attributes.get("disallowed", ""), topology.warnings


@pytest.mark.parametrize(
    "own", ["/user.slice/user-7.slice/session-1.scope", "/system.slice/slurmstepd.scope/job_9/step_0"]
)
def test_an_allocation_is_all_the_machine_there_is(own: str) -> None:
    assert bounded(own) == ("1-2", "0,3-7", ())


@pytest.mark.parametrize(
    "own",
    [
        "/",  # the root, or a container's own root: cannot be told apart
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-2.scope",
        "/system.slice/neap.service",
        "/user.slice/../x",
        "nonsense",
    ],
)
def test_a_node_agent_in_a_small_cpuset_still_sees_its_whole_node(own: str) -> None:
    assert bounded(own) == ("0-7", "", ())


@pytest.mark.parametrize(("own", "machine"), [("/batch/7", "1"), ("/kubepods/pod1/c", "0-7"), ("/../batch/7", "0-7")])
def test_a_legacy_cpuset_is_an_allocation_unless_it_is_a_pods(own: str, machine: str) -> None:
    host = a_host(nodes=2)
    host.put("/proc/self/cpuset", f"{own}\n")
    host.put("/dev/cpuset/batch/7/cpus", "1\n")
    host.put("/dev/cpuset/kubepods/pod1/c/cpus", "1\n")
    host.put("/dev/batch/7/cpus", "1\n")
    assert look(host).machine.cpus == machine


def test_a_path_that_no_file_can_have_is_not_asked_for(tmp_path: Path) -> None:
    for name, text in {"proc/self/cpuset": "/a\0b\n", "proc/self/cgroup": "0::/user.slice/\0\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_snapshot(RealHost(str(tmp_path))).files.keys() == {"/proc/self/cpuset", "/proc/self/cgroup"}


def test_an_allocation_of_cpus_that_are_not_there_is_no_allocation() -> None:
    cpus, disallowed, warnings = bounded("/user.slice/u.scope", "90-91")
    assert (cpus, disallowed) == ("0-7", "")
    assert "/sys/fs/cgroup/user.slice/u.scope/cpuset.cpus.effective allows none of what is there: ignored" in warnings
