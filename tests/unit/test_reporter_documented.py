"""Captured kernel files: every documented value that neap reads comes out as documented; the others are listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neap.common.cpuset import parse_cpuset
from neap.common.host.memory import Link, MemoryHost
from neap.common.host.real import RealHost
from neap.reporter.core.collector import MACHINE, Surroundings, Values
from neap.reporter.core.psi import parse_pressure
from neap.reporter.core.text import count, counts, value_of
from neap.reporter.plugins.node_cpu import parse_stat
from neap.reporter.plugins.node_memory import parse_meminfo, parse_node_meminfo
from neap.reporter.plugins.node_rdma import parse_rate, parse_words
from neap.reporter.plugins.node_run_delay import parse_schedstat
from neap.reporter.plugins.node_watermarks import parse_zoneinfo
from neap.reporter.reader import NodeReader
from neap.reporter.wiring import COLLECTORS

KIB = 1024
BUSY = (0, 1, 2, 5, 6, 7)  # columns of a cpu line in which it worked


def leaves(truth: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every documented value with its place; a list is one value."""
    if isinstance(truth, dict):
        for name, below in truth.items():
            if not name.endswith("_note"):
                yield from leaves(below, f"{path}/{name}" if path else name)
    else:
        yield path, truth


def judged(truth: dict[str, Any], found: dict[str, Any], not_read: tuple[str, ...]) -> None:
    """All documented values are either found, and equal, or listed as not read."""
    documented = dict(leaves(truth))
    left_out = {path for path in documented if any(part in path for part in not_read)}
    assert found.keys() == documented.keys() - left_out
    assert {path: value for path, value in found.items() if value != documented[path]} == {}


# -- two moments of one machine --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(shared: Path) -> Path:
    return shared / "data" / "kernel"


def collected(name: str, root: Path) -> Values:
    wants = COLLECTORS[name].wants(Surroundings(numa=(0,)))
    texts = RealHost(str(root)).read_all([path for path, _ in wants])
    return [None if text is None else parse(text) for (_, parse), text in zip(wants, texts, strict=True)]


NOT_READ_OF_KERNEL = (
    "/avg300",  # nobody decides by five minutes
    "cpu_ticks_delta/cpu",  # judged by sums, below
    "pressure_share",  # judged within the documented tolerance, below
    "cpu_busy_share",  # judged below
    "vmstat_names",  # says what the capture contains
    "topology",  # another reader's: test_reporter_machines
)


def test_two_moments_of_a_busy_machine_are_read_as_documented(kernel: Path) -> None:
    truth = json.loads((kernel / "expected.json").read_text())
    found: dict[str, Any] = {"interval_seconds": float((kernel / "interval_seconds.txt").read_text().split()[0])}
    for moment in ("t0", "t1"):
        for resource in ("cpu", "io", "memory"):
            some10, some60, some, full10, full60, full = parse_pressure(
                (kernel / moment / "proc/pressure" / resource).read_text()
            )
            for kind, ten, sixty, total in (("some", some10, some60, some), ("full", full10, full60, full)):
                place = f"{moment}_pressure/{resource}/{kind}"
                found |= {
                    f"{place}/avg10": round(ten * 100, 9),
                    f"{place}/avg60": round(sixty * 100, 9),
                    f"{place}/total": total,
                }
    for name, file in (("ctxt", "stat"), ("processes", "stat"), *((name, "vmstat") for name in truth["delta"])):
        if f"delta/{name}" not in found:
            first, last = (
                value_of((kernel / moment / "proc" / file).read_text(), f"{name} ") for moment in ("t0", "t1")
            )
            found[f"delta/{name}"] = last - first
    text = (kernel / "t1/proc/meminfo").read_text()
    available, (free, total) = parse_meminfo(text)
    sizes = {"MemTotal": total, "MemFree": free, "MemAvailable": available}
    sizes |= {name: value_of(text, f"{name}:") * KIB for name in ("Buffers", "Cached", "SwapTotal")}
    node_free, node_total = parse_node_meminfo((kernel / "t1/sys/devices/system/node/node0/meminfo").read_text())
    of_node = {"MemTotal": node_total, "MemFree": node_free, "MemUsed": (node_total or 0) - (node_free or 0)}
    found |= {f"t1_meminfo_kib/{name}": (size or 0) // KIB for name, size in sizes.items()}
    found |= {f"t1_node0_meminfo_kib/{name}": (size or 0) // KIB for name, size in of_node.items()}
    found["zoneinfo_zones"] = [zone.zone for zone in parse_zoneinfo((kernel / "t1/proc/zoneinfo").read_text())]
    judged(truth, found, NOT_READ_OF_KERNEL)


def test_what_two_moments_come_to_is_what_is_documented(kernel: Path) -> None:
    truth = json.loads((kernel / "expected.json").read_text())
    seconds = truth["interval_seconds"]

    def between(name: str) -> Any:
        return COLLECTORS[name].rate(collected(name, kernel / "t0"), collected(name, kernel / "t1"), seconds)

    stalls = between("node_pressure")
    for resource, shares in truth["pressure_share"].items():
        assert stalls[f"{resource}_stall"].some == pytest.approx(shares["some"], abs=0.001)
        assert stalls[f"{resource}_stall"].full == pytest.approx(shares["full"], abs=0.001)
    assert between("node_cpu")["cpu"] == truth["cpu_busy_share"] * 2
    first, last = collected("node_cpu", kernel / "t0")[0], collected("node_cpu", kernel / "t1")[0]
    for cpu in (0, 1):
        ticks = truth["cpu_ticks_delta"][f"cpu{cpu}"]
        assert last[cpu][0] - first[cpu][0] == sum(ticks[i] for i in BUSY)
        assert last[cpu][1] - first[cpu][1] == ticks[3] + ticks[4]
    refaults = (1987984 - 1987782) / seconds  # workingset_refault_file, read by eye
    assert between("node_reclaim")["numa.refaults"] == {MACHINE: pytest.approx(refaults), 0: pytest.approx(refaults)}
    low = (46 + 9451 + 11620) * 4096  # of the zones that have memory, read by eye
    assert between("node_watermarks")["numa.watermark_low"] == {0: low, MACHINE: low}


# -- the archive of procfs -------------------------------------------------------------------------------------------


def ttar(archive: Path) -> Iterator[tuple[str, str | Link]]:
    """Path and content of every file and link; see the archive's README."""
    lines = iter(archive.read_text(errors="replace").splitlines())
    for line in lines:
        if not line.startswith("Path: fixtures/"):
            continue
        path, second = line.removeprefix("Path: fixtures"), next(lines)
        if second.startswith("SymlinkTo: "):
            yield path, Link(second.removeprefix("SymlinkTo: ").rstrip("/"))
        else:
            text = "".join(f"{next(lines)}\n" for _ in range(int(second.removeprefix("Lines: "))))
            yield path, text.removesuffix("EOF\n").replace("NULLBYTE", "\0") if text.endswith("EOF\n") else text


@pytest.fixture(scope="module")
def procfs(shared: Path) -> MemoryHost:
    host = MemoryHost()
    for path, content in ttar(shared / "data" / "procfs" / "fixtures.ttar"):
        host.put(path, content)
    return host


@pytest.fixture(scope="module")
def documented(shared: Path) -> dict[str, Any]:
    return dict(json.loads((shared / "data" / "procfs" / "expected.json").read_text()))


NOT_READ_OF_PROCFS = (
    "/avg300",  # nobody decides by five minutes
    "proc/loadavg",  # pressure says more
    *("proc/stat/cpu_columns", "proc/stat/unit", "proc/schedstat/unit", "archive/"),  # say what the file means
    *("proc/stat/intr", "proc/stat/softirq"),  # nobody decides by interrupts
    "sys/bus/pci/devices",  # another reader's: test_reporter_machines
    *("/rate_text", "drm/card0/driver", "drm/card0/pci_slot", "drm/card0/link"),  # text that is told in another form
)


def test_the_archive_is_read_as_documented(procfs: MemoryHost, documented: dict[str, Any]) -> None:
    found = {**_pressures(procfs), **_memory(procfs), **_processors(procfs)}
    found |= {**_zones(procfs), **_rdma(procfs, documented["sys/class/infiniband"]), **_card(procfs)}
    judged(documented, found, NOT_READ_OF_PROCFS)


def _pressures(procfs: MemoryHost) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for resource in ("cpu", "io", "memory"):
        some10, some60, some, full10, full60, full = parse_pressure(procfs.read(f"/proc/pressure/{resource}"))
        for kind, ten, sixty, total in (("some", some10, some60, some), ("full", full10, full60, full))[
            : 1 + (resource != "cpu")
        ]:
            place = f"proc/pressure/{resource}/{kind}"
            found |= {f"{place}/avg10": ten * 100, f"{place}/avg60": sixty * 100, f"{place}/total": total}
    return found


def _memory(procfs: MemoryHost) -> dict[str, Any]:
    text = procfs.read("/proc/meminfo")
    available, (free, total) = parse_meminfo(text)
    names = ("Buffers", "Cached", "SwapTotal", "AnonPages", "Slab", "SReclaimable", "Hugepagesize", "AnonHugePages")
    sizes = {name: value_of(text, f"{name}:") * KIB for name in names}
    shared = value_of(text, "Shmem:") * KIB
    assert available == (free or 0) + sizes["Buffers"] + sizes["Cached"] + sizes["SReclaimable"] - shared
    sizes |= {"MemTotal": total or 0, "MemFree": free or 0, "HugePages_Total": value_of(text, "HugePages_Total:")}
    return {f"proc/meminfo_bytes/{name}": size for name, size in sizes.items()}


def _processors(procfs: MemoryHost) -> dict[str, Any]:
    stat, schedstat = procfs.read("/proc/stat"), procfs.read("/proc/schedstat")
    ticks, waits = parse_stat(stat), parse_schedstat(schedstat)
    columns = {line.split()[0]: counts(line.split()[1:]) for line in stat.splitlines() if line.startswith("cpu")}
    for cpu in (0, 7):
        line = columns[f"cpu{cpu}"]
        assert ticks[cpu] == (sum(line[i] for i in BUSY), line[3] + line[4])
    found: dict[str, Any] = {f"proc/stat/{name}": columns[name] for name in ("cpu", "cpu0", "cpu7")}
    found["proc/stat/cpu_count"] = len(ticks)
    names = ("ctxt", "btime", "processes", "procs_running", "procs_blocked")
    found |= {f"proc/stat/{name}": value_of(stat, f"{name} ") for name in names}
    found |= {"proc/schedstat/version": value_of(schedstat, "version "), "proc/schedstat/cpu_count": len(waits)}
    for cpu, numbers in waits.items():
        for name, number in zip(("run_time", "wait_time", "timeslices"), numbers, strict=True):
            found[f"proc/schedstat/cpu{cpu}/{name}"] = number
    of_process = counts(procfs.read("/proc/26231/schedstat").split())
    for name, number in zip(("run_ns", "wait_ns", "timeslices"), of_process, strict=True):
        found[f"proc/26231/schedstat/{name}"] = number
    folder = "/sys/devices/system/cpu"
    isolated, offline = procfs.read(f"{folder}/isolated").strip(), procfs.read(f"{folder}/offline").strip()
    below: dict[str, Any] = {
        "isolated_text": isolated,
        "isolated": sorted(parse_cpuset(isolated)),
        "offline": sorted(parse_cpuset(offline)),
    }
    for cpu in (0, 1):
        mates = procfs.read(f"{folder}/cpu{cpu}/topology/thread_siblings_list").strip()
        below[f"cpu{cpu}_thread_siblings"] = sorted(parse_cpuset(mates))
    throttle = f"{folder}/cpu0/thermal_throttle"
    below["cpu0_core_throttle_count"] = count(procfs.read(f"{throttle}/core_throttle_count"))
    below["package_throttle_count"] = count(procfs.read(f"{throttle}/package_throttle_count"))
    return found | {f"sys/devices/system/cpu/{name}": value for name, value in below.items()}


def _zones(procfs: MemoryHost) -> dict[str, Any]:
    zones = parse_zoneinfo(procfs.read("/proc/zoneinfo"))
    names = ("node", "zone", "free", "min", "low", "high", "managed")
    found: dict[str, Any] = {"proc/zoneinfo_pages": [{name: getattr(zone, name) for name in names} for zone in zones]}
    kinds = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
    for node in ("node1", "node2"):
        text = procfs.read(f"/sys/devices/system/node/{node}/vmstat")
        for name in ("nr_free_pages", *(f"nr_zone_{kind}" for kind in kinds)):
            found[f"sys/devices/system/node/vmstat/{node}/{name}"] = value_of(text, f"{name} ")
    return found


def _rdma(procfs: MemoryHost, truth: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for device, about in truth.items():
        folder, place = f"/sys/class/infiniband/{device}", f"sys/class/infiniband/{device}"
        found |= {f"{place}/{name}": procfs.read(f"{folder}/{name}").strip() for name in ("board_id", "fw_ver")}
        for port, documented in about["ports"].items():
            here, there = f"{folder}/ports/{port}", f"{place}/ports/{port}"
            found |= {
                f"{there}/{name}": procfs.read(f"{here}/{name}").strip()
                for name in ("link_layer", "state", "phys_state")
            }
            found[f"{there}/rate_bytes_per_s"] = parse_rate(procfs.read(f"{here}/rate"))
            for name in ("port_rcv_data", "port_xmit_data"):
                found[f"{there}/{name}_bytes"] = parse_words(procfs.read(f"{here}/counters/{name}"))
            for name in ("port_rcv_packets", "port_xmit_packets", "port_xmit_wait"):
                found[f"{there}/{name}"] = count(procfs.read(f"{here}/counters/{name}"))
            for name in documented.get("hw_counters", ()):
                found[f"{there}/hw_counters/{name}"] = count(procfs.read(f"{here}/hw_counters/{name}"))
    return found


def _card(procfs: MemoryHost) -> dict[str, Any]:
    folder, place = "/sys/class/drm/card0/device", "sys/class/drm/card0"
    sizes = [f"mem_info_{kind}_{what}" for kind in ("vram", "gtt") for what in ("total", "used")]
    found: dict[str, Any] = {
        f"{place}/{name}": count(procfs.read(f"{folder}/{name}")) for name in ("gpu_busy_percent", *sizes)
    }
    return found | {f"{place}/unique_id": procfs.read(f"{folder}/unique_id").strip()}


def test_a_reporter_on_the_archive_tells_what_it_has_and_names_what_it_lacks(
    procfs: MemoryHost, documented: dict[str, Any]
) -> None:
    now = 100.0
    reader = NodeReader(procfs, clock=lambda: now, node="n1")
    topology = reader.topology()
    for _ in range(10):  # what is read less often than reported has been read twice by then
        reader.sample()
        now += 1.0
    usage = reader.sample()
    assert {port.name: port.speed for port in usage.rdma} == {
        f"{device}/{port}": about["rate_bytes_per_s"]
        for device, ports in documented["sys/class/infiniband"].items()
        for port, about in ports["ports"].items()
    }
    assert {port.read for port in usage.rdma} == {0.0}, "nothing moves in an archive"
    card = documented["sys/class/drm/card0"]
    assert [(one.name, one.busy, one.memory) for one in usage.cards] == [
        ("card0", card["gpu_busy_percent"] / 100, card["mem_info_vram_used"])
    ]
    assert [link.name for link in usage.links] == ["eth0"], "lo, docker0 and veths are not devices"
    assert (usage.run_delay, usage.power) == (0.0, 0.0)
    assert usage.cpu is None, "counters that stand still say nothing"
    assert {"/proc/vmstat", "/proc/pressure/irq", "/sys/fs/resctrl"} <= set(usage.unknown)
    for device in topology.devices:
        assert f"0x{device.vendor}" == documented["sys/bus/pci/devices"][device.address]["vendor"]
