"""Real machines with something broken in them: never a crash, and nothing told that no file says.

`broken_machines` is for everybody who wants such machines; what it draws is printed as what differs from the capture.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.contract.catalogue import TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.host.memory import MemoryHost
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import Device, NodeTopology, Zone, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl
from neap.reporter.core.topology.snapshot import CLASS_DIRS, CPU_DIR, NODE_DIR, PCI_DIR, Snapshot
from neap.reporter.shell.host import read_snapshot
from neap.virtual.snapshot import load_snapshot

ARCHIVES = Path(__file__).resolve().parents[2] / "examples" / "machines"
LARGEST_MESSAGE: Final = 256 * 1024
MACHINES: Final = (
    "8em64t-2s4c-asymcaches.tar.bz2",
    "16em64t-4s2c2t-offlines.tar.bz2",
    "20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2",
    "32intel64-2p8co2t+8ve.tar.bz2",  # has a bus
    "40intel64-4n10c+pci-conflicts.tar.bz2",
    "offline-cpu0-node0.tar.bz2",
)


@cache
def captured(archive: str) -> Snapshot:
    return read_snapshot(MemoryHost(shared=load_snapshot(ARCHIVES / archive).tree))


@dataclass(frozen=True, repr=False)
class Broken(Snapshot):
    """A capture with lies in it."""

    archive: str = ""

    def __repr__(self) -> str:
        true = captured(self.archive)
        pairs = ((self.files, true.files), (self.names, true.names), (self.links, true.links))
        changed = [{k: a.get(k) for k in sorted({*a, *b}) if a.get(k) != b.get(k)} for a, b in pairs]
        return f"Broken({self.archive!r}, {changed})"


# -- lies ------------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(-3, 300), st.integers(-(1 << 70), 1 << 70))
texts = st.one_of(
    st.just(""),
    numbers.map(str),
    st.lists(numbers, max_size=5).map(lambda row: " ".join(map(str, row))),
    st.builds("{}-{}\n".format, numbers, numbers),
    st.integers(0, 1 << 80).map(lambda mask: f"{mask:x}"),
    st.builds("Node 0 MemTotal: {} kB\n".format, numbers),
    st.sampled_from(
        ["\0" * 9, "0-1\0\0", "1_0", "+1", "٣", "0x", "-", ",,", "0-99999999999", "9" * 5000, "65535", "0x0302"]
    ),
    st.sampled_from(["/user.slice/\0", "0::/user.slice/../..", "/" * 50]),
    st.binary(max_size=40).map(lambda raw: raw.decode(errors="replace")),
)
names = st.sampled_from(
    [
        "cpu0",
        "cpu007",
        "cpu99",
        "cpu-1",
        "cpu99999999",
        "node1",
        "node01",
        "node4000",
        "0000:ff:1f.7",
        "g:0:0.0",
        "..",
        "\0",
    ]
)
targets = st.sampled_from(
    [
        "",
        "/",
        "/sys/devices/pci0000:00/0000:00:01.0",
        "/sys/devices/pci0000:17/0000:17:00.0/0000:17:00.0/0000:1a:00.0",
        "/sys/devices/pci0000:17" + "/0000:18:00.0" * 70,
        "/sys/devices/pci0000:5d/0000:5d:05.5/pci10000:00/10000:00:02.0/0000:1a:00.0",
    ]
)


@st.composite
def lies(draw: st.DrawFn, truth: Any, new: st.SearchStrategy[Any], most: int = 6) -> dict[str, Any]:
    """The same mapping with a few values gone, replaced, or taken from elsewhere in it."""
    keys, changed = sorted(truth), dict(truth)
    for key in draw(st.lists(st.sampled_from(keys), max_size=most, unique=True)) if keys else ():
        lie = draw(st.one_of(st.none(), new, st.sampled_from(keys).map(truth.get)))
        changed.pop(key)
        if lie is not None:
            changed[key] = lie
    return changed


@st.composite
def broken_machines(draw: st.DrawFn) -> Broken:
    """A captured machine with lies in its files, listings and links."""
    archive = draw(st.sampled_from(MACHINES))
    seen = captured(archive)
    listings = st.lists(names, max_size=3, unique=True).map(tuple)
    files = draw(lies(seen.files, texts, 12)) | draw(
        st.dictionaries(st.sampled_from(["/proc/self/cgroup", "/proc/self/cpuset", f"{CPU_DIR}/isolated"]), texts)
    )
    folders = draw(lies(seen.names, listings))
    more = {folder: (*folders.get(folder, ()), *draw(listings)) for folder in (CPU_DIR, NODE_DIR, PCI_DIR)}
    return Broken(files, folders | more, draw(lies(seen.links, targets)), archive)


def zones(zone: Zone) -> list[Zone]:
    return [zone, *(below for child in zone.children for below in zones(child))]


def described(seen: Snapshot) -> NodeTopology:
    return build(seen, node="n1", at=1.0, reserve=Reserve(memory=1 << 30), labels={})


def said(seen: Snapshot, path: str) -> set[int]:
    """Every number a file mentions."""
    return {int(number) for number in re.findall(r"[0-9]+", seen.files.get(path, ""), re.ASCII) if len(number) < 30}


@given(broken_machines())
def test_a_broken_machine_is_described_and_can_be_told(seen: Broken) -> None:
    topology = described(seen)
    assert TOPOLOGY.decode(TOPOLOGY.encode(topology)) == topology
    assert len(TOPOLOGY.encode(topology)) < LARGEST_MESSAGE
    assert described(seen) == topology


@given(broken_machines())
def test_no_cpu_is_told_that_no_directory_names(seen: Broken) -> None:
    topology = described(seen)
    usable = parse_cpuset(topology.machine.cpus)
    assert {f"cpu{cpu}" for cpu in usable} <= set(seen.names.get(CPU_DIR, ()))
    for zone in zones(topology.machine):
        assert parse_cpuset(zone.cpus) <= usable
        assert all(parse_cpuset(child.cpus) <= parse_cpuset(zone.cpus) for child in zone.children)
        assert all(0 <= amount <= zone.capacity[kind] for kind, amount in zone.allocatable.items())
    assert {cpu for node in topology.numa for cpu in parse_cpuset(node.cpus)} <= usable
    assert parse_cpuset(topology.system_cpus) <= usable


@given(broken_machines())
def test_memory_and_distances_stand_in_the_files_of_their_node(seen: Broken) -> None:
    topology = described(seen)
    implied = len(topology.numa) == 1 and topology.numa[0].index == 0  # where nodes name no CPUs
    for node in topology.numa:
        own = f"{NODE_DIR}/node{node.index}"
        assert implied or f"node{node.index}" in seen.names.get(NODE_DIR, ())
        known = said(seen, f"{own}/meminfo") | (said(seen, "/proc/meminfo") if implied else set())
        assert node.memory // 1024 in known | {0}
        assert set(node.distances.values()) <= said(seen, f"{own}/distance") | ({10} if implied else set())
    total, parts = topology.capacity.get("memory", 0), sum(node.memory for node in topology.numa)
    assert total // 1024 in said(seen, "/proc/meminfo") or total in (0, parts)


@given(broken_machines())
def test_a_device_is_on_the_bus_and_everything_about_it_is_written_somewhere(seen: Broken) -> None:
    topology = described(seen)
    nodes, usable = {node.index for node in topology.numa}, parse_cpuset(topology.machine.cpus)
    named = {name for folder in CLASS_DIRS for name in seen.names.get(folder, ())}
    addresses = [device.address for device in topology.devices]
    assert addresses == sorted(set(addresses))
    for device in topology.devices:
        at = f"{PCI_DIR}/{device.address}"
        assert device.address in seen.names[PCI_DIR]
        assert device.vendor.lstrip("0") in seen.files.get(f"{at}/vendor", "").lower()
        assert device.model.lstrip("0") in seen.files.get(f"{at}/device", "").lower()
        assert device.path == tuple(step for step in seen.links.get(at, "").split("/")[:-1] if step in device.path)
        assert device.numa in nodes | {-1}
        assert parse_cpuset(device.cpus) <= usable
        assert set(device.names) <= named
    drawn = [
        zone.attributes["pci"] for zone in zones(topology.machine) if zone.kind in {d.kind for d in topology.devices}
    ]
    assert sorted(drawn) == [device.address for device in topology.devices if not device.physical][:128]


@settings(max_examples=len(MACHINES) * 2)
@given(st.sampled_from(MACHINES), st.randoms())
def test_the_order_in_which_a_host_lists_does_not_matter(archive: str, random: Any) -> None:
    seen = captured(archive)

    def shuffled(values: Any) -> list[Any]:
        return random.sample(list(values), len(values))

    mixed = Snapshot(
        {path: seen.files[path] for path in shuffled(seen.files)},
        {folder: tuple(shuffled(seen.names[folder])) for folder in shuffled(seen.names)},
        {path: seen.links[path] for path in shuffled(seen.links)},
    )
    assert described(mixed) == described(seen)


# -- who is near whom ------------------------------------------------------------------------------------------------


@st.composite
def buses(draw: st.DrawFn) -> list[Device]:
    """Devices at the ends of a random tree of ports; hosts 0 and 1 are of one NUMA node, 2 and 3 of the other."""
    ways = draw(st.lists(st.tuples(st.integers(0, 3), *[st.integers(-1, 2)] * 4), min_size=2, max_size=10))
    paths = [(way[0], *(step for step in way[1:] if step >= 0)) for way in ways]
    ends = [path for path in paths if not any(other[: len(path)] == path and len(other) > len(path) for other in paths)]

    def name(steps: tuple[int, ...]) -> str:
        return f"pci0000:{steps[0]}0" if len(steps) == 1 else f"{'-'.join(map(str, steps))}.0"

    return [
        Device(
            kind=ZoneKind.GPU,
            address=str(number),
            numa=path[0] // 2,
            path=tuple(name(path[: depth + 1]) for depth in range(len(path))),
        )
        for number, path in enumerate(ends)
    ]


def shared_steps(a: Device, b: Device) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a.path, b.path, strict=False)) if x != y), min(len(a.path), len(b.path))
    )


@given(buses())
def test_near_is_mutual_and_sharing_more_of_the_way_is_never_farther(devices: list[Device]) -> None:
    for a in devices:
        others = [b for b in devices if b is not a]
        ranks = sorted((-shared_steps(a, b), path_class(a, b).rank) for b in others)
        assert path_class(a, a) is PathClass.SELF
        assert all(path_class(a, b) is path_class(b, a) is not PathClass.SELF for b in others)
        for steps, rank in ranks:
            assert all(rank <= farther for fewer, farther in ranks if fewer > steps)


@given(st.one_of(texts, st.text(max_size=60).map(lambda text: f'<system><cpu numaid="0">{text}</cpu></system>')))
def test_an_nccl_file_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert read_nccl(text) == ()
