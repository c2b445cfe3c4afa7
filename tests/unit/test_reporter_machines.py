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

from neap.common.cpuset import parse_cpuset
from neap.common.host.memory import Link, MemoryHost
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
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
    "/dev/cpuset/",
    "/sys/bus/pci/",
    "/sys/devices/pci",
)

# Machines whose CPUs, packages, cores, L3, NUMA nodes, memory or distances are not right yet, and why. A machine that
# leaves or enters this table by accident fails its test. (A package without a usable CPU is no zone, on purpose.)
NOT_YET: dict[str, str] = {}


@cache
def truth_of(folder: Path) -> dict[str, Any]:
    path = folder / "truth.json"
    if not path.exists():
        return {}
    return dict(json.loads(path.read_text()))


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


@pytest.mark.parametrize("name", sorted(truth_of(HWLOC)) or ["none"])
def test_a_captured_machine_is_read_as_it_is(shared: Path, name: str) -> None:
    truth = truth_of(HWLOC)[name]
    wrong = differences(look(host_from(HWLOC / truth["archive"], truth["root"])), truth)
    if name in NOT_YET:
        assert wrong, f"{name} is right now: take it out of NOT_YET"
    else:
        assert not wrong


def test_the_exam_has_28_machines(shared: Path) -> None:
    assert len(truth_of(HWLOC)) == 28
    assert set(NOT_YET) <= set(truth_of(HWLOC))


@pytest.mark.parametrize("name", ["desktop", "server"])
def test_memory_without_cpus_belongs_to_its_nearest_node_and_is_never_lent(shared: Path, name: str) -> None:
    truth = truth_of(NRI)[name]
    topology = look(host_from(NRI / truth["archive"], truth["root"].split("/", maxsplit=1)[0]))
    assert parse_cpuset(topology.machine.cpus) == parse_cpuset(truth["online"])
    assert sets(topology, ZoneKind.CORE) == expected(truth["cores"])
    assert sets(topology, ZoneKind.L3) == expected(truth["l3"])
    assert {n.index: (n.cpus, n.memory) for n in topology.numa} == {
        n["os_index"]: (n["cpulist"], n["memory_kib"] * 1024) for n in truth["numa"]
    }
    near = localities(topology)
    for index, home in truth.get("closest_cpu_node", {}).items():
        assert near[int(index)] == near[int(home)]
    lendable = sum(n["memory_kib"] * 1024 for n in truth["numa"] if n["cpulist"])
    assert topology.allocatable["memory"] == lendable
    assert parse_cpuset(truth["isolated"]) <= parse_cpuset(topology.system_cpus)


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
