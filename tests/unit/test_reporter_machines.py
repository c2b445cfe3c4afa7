"""Real machines, judged against what is known to be in them: 28 of hwloc, two of nri-plugins, our own capture."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from neap.common.contract.catalogue import TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.host.memory import Link, MemoryHost
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.near import nearness
from neap.reporter.core.topology.numa import numa_nodes
from neap.reporter.core.topology.pci import functions
from neap.reporter.shell.host import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
HWLOC = ROOT.parent / "shared" / "data" / "hwloc"
NRI = ROOT.parent / "shared" / "data" / "nri-plugins"
KERNEL = ROOT.parent / "shared" / "data" / "kernel"
EXAMPLES = ROOT / "examples" / "machines"
NEEDED = (
    "/sys/devices/system/",
    "/proc/meminfo",
    "/proc/self/cpuset",
    "/proc/self/cgroup",
    "/dev/cpuset/",
    "/sys/fs/cgroup/user.slice/",
    "/sys/bus/pci/",
    "/sys/devices/pci",
    "/sys/class/",
)

# Machines whose CPUs, packages, cores, L3, NUMA nodes, memory or distances are not right yet, and why. A machine that
# leaves or enters this table by accident fails its test. (A package without a usable CPU is no zone, on purpose.)
NOT_YET: dict[str, str] = {}
LARGEST_MESSAGE = 256 * 1024


@cache
def truth_of(folder: Path) -> dict[str, Any]:
    path = folder / "truth.json"
    if not path.exists():
        return {}
    return dict(json.loads(path.read_text()))


@cache
def host_from(archive: Path, root: str = "") -> MemoryHost:
    opener: Callable[..., Any] = bz2.open if archive.suffix == ".bz2" else lzma.open
    host = MemoryHost()
    with opener(archive) as packed, tarfile.open(fileobj=io.BytesIO(packed.read())) as tree:
        for member in tree:
            name = member.name.removeprefix("./")
            if root:
                name = name[len(root) :] if name.startswith(f"{root}/") else ""
            path = "/" + name.lstrip("/")
            if not path.startswith(NEEDED):
                continue
            if member.isfile() and (content := tree.extractfile(member)):
                host.put(path, content.read().decode(errors="replace"))
            elif member.issym():
                host.put(path, Link(member.linkname))
    return host


def look(host: MemoryHost) -> NodeTopology:
    return build(read_snapshot(host), node="exam", at=0.0, reserve=Reserve(), labels={})


def zones(zone: Zone) -> list[Zone]:
    return [zone, *(below for child in zone.children for below in zones(child))]


def sets(topology: NodeTopology, kind: ZoneKind) -> set[frozenset[int]]:
    return {parse_cpuset(zone.cpus) for zone in zones(topology.machine) if zone.kind is kind}


def expected(entries: list[dict[str, Any]]) -> set[frozenset[int]]:
    return {parse_cpuset(entry["pus"]) for entry in entries} - {frozenset()}


def localities(topology: NodeTopology) -> dict[int, frozenset[int]]:
    numa = [zone for zone in zones(topology.machine) if zone.kind is ZoneKind.NUMA]
    return {zone.index: parse_cpuset(zone.attributes.get("locality", zone.cpus)) for zone in numa}


def differences(topology: NodeTopology, truth: dict[str, Any]) -> dict[str, Any]:
    near = localities(topology)
    pairs: dict[str, tuple[Any, Any]] = {
        "cpus": (parse_cpuset(topology.machine.cpus), parse_cpuset(truth["pus"])),
        "packages": (sets(topology, ZoneKind.PACKAGE), expected(truth["packages"])),
        "cores": (sets(topology, ZoneKind.CORE), expected(truth.get("unfiltered_view", truth)["cores"])),
        "l3": (sets(topology, ZoneKind.L3), expected(truth["l3"])),
        "numa": (
            {(node.index, near[node.index], node.memory // 1024) for node in topology.numa},
            {(node["os_index"], parse_cpuset(node["pus"]), node["memory_kib"]) for node in truth["numa"]},
        ),
    }
    if table := truth.get("numa_distances"):
        order, matrix = table["os_index_order"], table["matrix"]
        pairs["distances"] = (
            {node.index: node.distances for node in topology.numa},
            {row: dict(zip(order, matrix[i], strict=True)) for i, row in enumerate(order)},
        )
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


@cache
def capture(name: str) -> NodeTopology:
    for folder in (HWLOC, NRI):
        if truth := truth_of(folder).get(name):
            return look(host_from(folder / truth["archive"], truth["root"].removesuffix("/sys")))
    raise KeyError(name)


@pytest.mark.parametrize("name", sorted(truth_of(HWLOC)) or ["none"])
def test_a_captured_machine_is_read_as_it_is(shared: Path, name: str) -> None:
    wrong = differences(capture(name), truth_of(HWLOC)[name])
    if name in NOT_YET:
        assert wrong, f"{name} is right now: take it out of NOT_YET"
    else:
        assert not wrong


def test_the_exam_has_28_machines(shared: Path) -> None:
    assert len(truth_of(HWLOC)) == 28
    assert set(NOT_YET) <= set(truth_of(HWLOC))


# -- what is not CPUs ------------------------------------------------------------------------------------------------

# (machine, function, fact): why the expected value is not what we say.
WITHOUT_BUSES = "a bridge on the bus that nobody gave bus numbers (0-0 in its configuration): hwloc leaves it out"
BEHIND_A_GAP = "the capture lacks the bus link of bridge 0000:5f:03.0: hwloc skips that bridge, its directory does not"
PCI_EXCEPTIONS = {
    ("32em64t-2n8c+dax+nvme+mic+dimms", "0000:00:11.0", "there"): WITHOUT_BUSES,
    ("32intel64-2p8co2t+8ve", "0000:60:00.0", "parent"): BEHIND_A_GAP,
    ("32intel64-2p8co2t+8ve", "0000:60:00.1", "parent"): BEHIND_A_GAP,
    (
        "32em64t-2n8c+dax+nvme+mic+dimms",
        "0000:00:02.0",
        "cpus",
    ): "its own local_cpus say 0-3; hwloc takes those of the first function on the bus, we those of the function",
}
WITH_PCI = sorted(name for name, truth in truth_of(HWLOC).items() if truth.get("pci"))


def host_name(bridge: str) -> str:
    """0000:[17-1e] -> pci0000:17."""
    domain, _, buses = bridge.rpartition(":")
    return f"pci{domain}:{buses[1:3]}"


def expected_functions(truth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By address; locality without the override that one test of hwloc sets in its environment."""
    view = truth.get("without_override_view", {})
    plain = {entry["bdf"]: entry["numa"] for entry in view.get("pci", [])}
    cpus = {entry["buses"]: entry["pus"] for entry in view.get("host_bridges", [])}
    return {
        entry["bdf"]: {
            "class": entry["pci_class"],
            "vendor": entry["vendor"],
            "model": entry["device"],
            "parent": host_name(parent[5:]) if (parent := entry["parent"]).startswith("host:") else parent,
            "host": host_name(entry["host_bridge"]),
            "numa": plain.get(entry["bdf"], [entry["sysfs_numa_node"]] if view else entry["numa"]),
            "cpus": parse_cpuset(cpus.get(entry["host_bridge"], entry["pus"])),
        }
        for entry in [*truth["pci"], *truth["bridges"]]
    }


def found_functions(host: MemoryHost, whole: frozenset[int], nodes: list[int]) -> dict[str, dict[str, Any]]:
    seen, warnings = read_snapshot(host), list[str]()
    found, numa = functions(seen, warnings), numa_nodes(seen, whole, warnings)
    near = nearness(seen, found, numa, whole, warnings)
    return {
        function.address: {
            "class": function.pci_class,
            "vendor": function.vendor,
            "model": function.model,
            "parent": function.path[-1],
            "host": function.path[0],
            "numa": [near[function.address].numa] if near[function.address].numa >= 0 else nodes,
            "cpus": near[function.address].cpus or whole,
        }
        for function in found
    }


@pytest.mark.parametrize("name", WITH_PCI or ["none"])
def test_every_function_on_the_bus_has_its_class_bridge_and_place(shared: Path, name: str) -> None:
    truth = truth_of(HWLOC)[name]
    nodes = [node["os_index"] for node in truth["numa"]]
    found = found_functions(host_from(HWLOC / truth["archive"], truth["root"]), parse_cpuset(truth["pus"]), nodes)
    right = expected_functions(truth)
    wrong: dict[tuple[str, str, str], Any] = {
        (name, address, fact): (found[address][fact], facts[fact])
        for address, facts in right.items()
        for fact in facts
        if found[address][fact] != facts[fact]
    }
    if truth["pci_scope"] == "all":
        wrong |= {(name, address, "there"): found[address] for address in found.keys() - right.keys()}
    assert wrong.keys() == {key for key in PCI_EXCEPTIONS if key[0] == name}, wrong


def test_five_captures_have_a_bus(shared: Path) -> None:
    assert len(WITH_PCI) == 5
    assert {key[0] for key in PCI_EXCEPTIONS} <= set(WITH_PCI)


@pytest.mark.parametrize("name", WITH_PCI or ["none"])
def test_devices_have_the_names_the_system_gives_them(shared: Path, name: str) -> None:
    truth = truth_of(HWLOC)[name]
    devices = {device.address: device for device in capture(name).devices}
    named = {entry["bdf"]: entry["os_devices"] for entry in truth["pci"] if entry.get("os_devices")}
    assert {
        address: sorted(named[address]) for address in named if address in devices and named[address][0][:2] != "ve"
    } == {address: sorted(device.names) for address, device in devices.items() if device.names}


def test_accelerators_behind_a_switch_are_nearer_than_those_behind_another(shared: Path) -> None:
    topology = capture("32intel64-2p8co2t+8ve")
    devices = {device.address: device for device in topology.devices}
    assert [device.kind for device in devices.values()].count(ZoneKind.GPU) == 8
    one, card, other = devices["0000:1b:00.0"], devices["0000:1a:00.0"], devices["0000:40:00.0"]
    assert (card.kind, path_class(one, card), path_class(one, other)) == (
        ZoneKind.RDMA,
        PathClass.PIX,
        PathClass.NODE,
    )
    bridges = [zone for zone in zones(topology.machine) if zone.kind is ZoneKind.BRIDGE]
    assert [zone.attributes for zone in bridges[:2]] == [
        {"pci": "pci0000:17", "buses": "17-1e"},
        {"pci": "0000:18:00.0"},
    ]
    port = bridges[-1]
    assert (port.attributes["pci"], [zone.attributes["names"] for zone in port.children]) == (
        "0000:5f:03.0",
        ["enp96s0f0", "enp96s0f1"],
    )
    (home,) = [zone for zone in zones(topology.machine) if bridges[0] in zone.children]
    assert (home.kind, home.index) == (ZoneKind.NUMA, 0)
    assert [zone.attributes["pci"] for zone in bridges[1].children] == [
        "0000:1b:00.0",
        "0000:1c:00.0",
        "0000:1d:00.0",
        "0000:1e:00.0",
        "0000:1a:00.0",
    ]


HYBRIDS = sorted(name for name, truth in truth_of(HWLOC).items() if len(truth.get("cpu_kinds", [])) > 1)


@pytest.mark.parametrize("name", sorted(truth_of(HWLOC)) or ["none"])
def test_cores_of_one_kind_are_told_from_others(shared: Path, name: str) -> None:
    attributes = capture(name).machine.attributes
    found = {parse_cpuset(cpus) for key, cpus in attributes.items() if key.startswith("kind.")}
    assert found == (expected(truth_of(HWLOC)[name]["cpu_kinds"]) if name in HYBRIDS else set())


def test_three_captures_are_hybrid(shared: Path) -> None:
    assert len(HYBRIDS) == 3
    weak, strong = (capture("20em64t-hybrid-1p6c2t+2ca4co1t").machine.attributes[f"kind.{kind}"] for kind in (0, 1))
    assert (weak, strong) == ("12-19", "0-11")


@pytest.mark.parametrize("name", sorted(truth_of(HWLOC)) or ["none"])
def test_clusters_are_what_the_kernel_calls_clusters(shared: Path, name: str) -> None:
    """Where hwloc says nothing of clusters there are none, or they are drawn as the cache they share."""
    wanted = expected([group for group in truth_of(HWLOC)[name].get("groups", []) if group["subtype"] == "Cluster"])
    shared_cache = {
        "20em64t-hybrid-1p6c2t+2ca4co1t": {frozenset(range(12, 16)), frozenset(range(16, 20))},  # an L2 each
        "nvidia-dgx-gb10": sets(capture("nvidia-dgx-gb10"), ZoneKind.L3),
    }
    assert sets(capture(name), ZoneKind.CLUSTER) == (wanted or shared_cache.get(name, set()))


def test_what_may_not_be_used_is_told(shared: Path) -> None:
    attributes = capture("16amd64-8n2c-cpusets").machine.attributes
    assert (attributes["offline"], attributes["disallowed"]) == ("4", "7-11")
    view = truth_of(HWLOC)["16amd64-8n2c-cpusets"]["disallowed_view"]
    assert parse_cpuset(view["pus"]) == parse_cpuset(capture("16amd64-8n2c-cpusets").machine.cpus) | {7, 8, 9, 10, 11}


@pytest.mark.parametrize("name", ["desktop", "server"])
def test_memory_without_cpus_belongs_to_its_nearest_node_and_is_never_lent(shared: Path, name: str) -> None:
    truth, topology = truth_of(NRI)[name], capture(name)
    assert parse_cpuset(topology.machine.cpus) == parse_cpuset(truth["online"])
    assert sets(topology, ZoneKind.PACKAGE) == expected(truth["packages"])
    assert sets(topology, ZoneKind.CORE) == expected(truth["cores"])
    assert sets(topology, ZoneKind.L3) == expected(truth["l3"])
    assert {n.index: [n.distances[to] for to in sorted(n.distances)] for n in topology.numa} == {
        n["os_index"]: n["distance"] for n in truth["numa"]
    }
    nodes = truth["node_sets"]
    assert {n.index for n in topology.numa} == parse_cpuset(nodes["online"])
    assert {n.index for n in topology.numa if n.cpus} == parse_cpuset(nodes["has_cpu"])
    assert {n.index for n in topology.numa if n.memory} == parse_cpuset(nodes["has_memory"])
    assert {n.index: (n.cpus, n.memory) for n in topology.numa} == {
        n["os_index"]: (n["cpulist"], n["memory_kib"] * 1024) for n in truth["numa"]
    }
    near, numa = localities(topology), {z.index: z for z in zones(topology.machine) if z.kind is ZoneKind.NUMA}
    assert {index for index, zone in numa.items() if "closest" in zone.attributes} == {
        int(index) for index in truth.get("closest_cpu_node", {})
    }
    for index, home in truth.get("closest_cpu_node", {}).items():
        assert near[int(index)] == near[int(home)]
        assert (numa[int(index)].attributes["closest"], numa[int(index)].allocatable["memory"]) == (str(home), 0)
    assert not [key for key in topology.machine.attributes if key.startswith("kind.")]  # 4.3 and 4.5 GHz are one kind
    lendable = sum(n["memory_kib"] * 1024 for n in truth["numa"] if n["cpulist"])
    assert topology.allocatable["memory"] == lendable
    assert topology.machine.attributes.get("isolated", "") == truth["isolated"]
    assert parse_cpuset(truth["isolated"]) <= parse_cpuset(topology.system_cpus)


@pytest.mark.parametrize("name", sorted({*truth_of(HWLOC), *truth_of(NRI)}) or ["none"])
def test_a_published_machine_fits_in_one_message(shared: Path, name: str) -> None:
    assert len(TOPOLOGY.encode(capture(name))) < LARGEST_MESSAGE


def test_our_own_capture_is_read_as_it_is(shared: Path) -> None:
    truth = json.loads((KERNEL / "expected.json").read_text())["topology"]
    host = host_from(KERNEL / "sys_devices_system_cpu_node.tar.xz")
    for path in ("proc/meminfo", "sys/devices/system/node/node0/meminfo"):
        host.put(f"/{path}", (KERNEL / "t1" / path).read_text())
    topology = look(host)
    assert parse_cpuset(topology.machine.cpus) == parse_cpuset(truth["pus"])
    assert sets(topology, ZoneKind.PACKAGE) == expected(truth["packages"])
    assert sets(topology, ZoneKind.CORE) == expected(truth["cores"])
    assert sets(topology, ZoneKind.L3) == expected(truth["l3"])
    assert topology.capacity["memory"] == 24684084 * 1024
    assert topology.numa[0].memory == 6908108 * 1024
    assert any("the machine's figure is taken" in warning for warning in topology.warnings)


@pytest.mark.parametrize("archive", sorted(EXAMPLES.glob("*.tar.*")), ids=lambda path: path.name)
def test_every_example_machine_can_lend_something(archive: Path) -> None:
    with (bz2.open if archive.suffix == ".bz2" else lzma.open)(archive) as packed:
        root = tarfile.open(fileobj=packed, mode="r|").next()  # noqa: SIM115 (a view of what is open already)
    topology = look(host_from(archive, root.name.split("/")[0] if root else ""))
    assert 0 < topology.allocatable["cpu"] < topology.capacity["cpu"]
    assert 0 < topology.allocatable["memory"] <= topology.capacity["memory"]
    assert {cpu for node in topology.numa for cpu in parse_cpuset(node.cpus)} <= parse_cpuset(topology.machine.cpus)
