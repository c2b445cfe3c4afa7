"""Collectors against real kernel text: exact values, and unknown where nothing can be known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neap.common.model.usage import Stall
from neap.reporter.core.collector import MACHINE, Fields, Values
from neap.reporter.wiring import COLLECTORS


def parsed(name: str, *texts: str | None) -> Values:
    wants = COLLECTORS[name].wants((0,))
    return [None if text is None else parse(text) for (_, parse), text in zip(wants, texts, strict=False)]


def fields(name: str, before: Values | None, now: Values, seconds: float = 1.0) -> Fields:
    return COLLECTORS[name].rate(before, now, seconds)


def captured(folder: Path, moment: str, *paths: str) -> list[str | None]:
    return [(folder / "data" / "kernel" / moment / path).read_text() for path in paths]


@pytest.fixture(scope="module")
def kernel(shared: Path) -> dict[str, Any]:
    return dict(json.loads((shared / "data" / "kernel" / "expected.json").read_text()))


def test_two_snapshots_under_load_give_two_busy_cores(shared: Path, kernel: dict[str, Any]) -> None:
    before, now = (
        parsed("node_cpu", *captured(shared, "t0", "proc/stat")),
        parsed("node_cpu", *captured(shared, "t1", "proc/stat")),
    )
    assert kernel["cpu_busy_share"] == 1.0
    assert fields("node_cpu", before, now, kernel["interval_seconds"]) == {"cpu": 2.0, "cpu_of": {0: 1.0, 1: 1.0}}
    for cpu in (0, 1):
        ticks = kernel["cpu_ticks_delta"][f"cpu{cpu}"]
        assert now[0][cpu][0] - before[0][cpu][0] == sum(ticks[i] for i in (0, 1, 2, 5, 6, 7))


@pytest.mark.parametrize("moment", ["t0", "t1"])
def test_pressure_is_read_exactly(shared: Path, kernel: dict[str, Any], moment: str) -> None:
    texts = captured(shared, moment, "proc/pressure/cpu", "proc/pressure/memory", "proc/pressure/io")
    found = fields("node_pressure", None, parsed("node_pressure", *texts))
    for resource in ("cpu", "memory", "io"):
        truth = kernel[f"{moment}_pressure"][resource]
        assert found[f"{resource}_stall"] == Stall(
            some10=truth["some"]["avg10"] / 100,
            some60=truth["some"]["avg60"] / 100,
            full10=truth["full"]["avg10"] / 100,
            full60=truth["full"]["avg60"] / 100,
        )


def test_memory_of_machine_and_node_is_read_exactly(shared: Path, kernel: dict[str, Any]) -> None:
    texts = captured(shared, "t1", "proc/meminfo", "sys/devices/system/node/node0/meminfo")
    found = fields("node_memory", None, parsed("node_memory", *texts))
    assert found["memory_available"] == kernel["t1_meminfo_kib"]["MemAvailable"] * 1024
    node, machine = kernel["t1_node0_meminfo_kib"]["MemFree"], kernel["t1_meminfo_kib"]["MemFree"]
    assert found["free_of"] == {0: node * 1024, MACHINE: machine * 1024}


def fixture(shared: Path, path: str) -> str:
    """One file of the procfs archive (ttar: a header per entry, then that many lines)."""
    lines = iter((shared / "data" / "procfs" / "fixtures.ttar").read_text(errors="replace").splitlines())
    for line in lines:
        if line == f"Path: fixtures/{path}":
            count = int(next(lines).removeprefix("Lines: "))
            return "".join(f"{next(lines)}\n" for _ in range(count))
    raise LookupError(path)


def test_the_procfs_samples_are_read_exactly(shared: Path) -> None:
    truth = json.loads((shared / "data" / "procfs" / "expected.json").read_text())
    ticks = parsed("node_cpu", fixture(shared, "proc/stat"))[0]
    assert len(ticks) == truth["proc/stat"]["cpu_count"]
    for cpu in (0, 7):
        user, nice, system, idle, iowait, irq, softirq, steal, *_ = truth["proc/stat"][f"cpu{cpu}"]
        assert ticks[cpu] == (user + nice + system + irq + softirq + steal, idle + iowait)
    (stall,) = parsed("container_pressure", fixture(shared, "proc/pressure/cpu"))
    some = truth["proc/pressure"]["cpu"]["some"]
    assert (stall.some10, stall.some60, stall.full10) == (some["avg10"] / 100, some["avg60"] / 100, 0.0)
    ((available, free),) = parsed("node_memory", fixture(shared, "proc/meminfo"))
    sizes = truth["proc/meminfo_bytes"]
    assert free == sizes["MemFree"]
    (shmem,) = [line.split()[1] for line in fixture(shared, "proc/meminfo").splitlines() if line.startswith("Shmem:")]
    assert available == sum(sizes[key] for key in ("MemFree", "Buffers", "Cached", "SReclaimable")) - int(shmem) * 1024


STAT = "usage_usec {usage}\nuser_usec 1\nsystem_usec 2\nnr_periods 30\nnr_throttled 3\nthrottled_usec {held}\n"


def cpu_stat(usage: int, held: int) -> Values:
    return parsed("container_cpu", STAT.format(usage=usage, held=held))


def test_a_containers_cores_are_its_microseconds_over_the_period() -> None:
    assert fields("container_cpu", cpu_stat(1_000_000, 0), cpu_stat(4_000_000, 500_000), 2.0) == {
        "cpu": 1.5,
        "throttled": 0.25,
    }


def test_being_held_back_on_many_cpus_is_no_more_than_all_the_time() -> None:
    assert fields("container_cpu", cpu_stat(0, 0), cpu_stat(0, 9_000_000), 1.0)["throttled"] == 1.0


def test_a_reset_counter_is_unknown_for_one_period() -> None:
    assert fields("container_cpu", cpu_stat(9, 9), cpu_stat(1, 9)) == {"cpu": None, "throttled": 0.0}
    before, now = parsed("node_cpu", "cpu0 9 0 0 9 0 0 0 0\n"), parsed("node_cpu", "cpu0 1 0 0 99 0 0 0 0\n")
    assert fields("node_cpu", before, now)["cpu"] is None


def test_without_the_cpu_controller_throttling_is_unknown() -> None:
    before, now = (parsed("container_cpu", f"usage_usec {usage}\n") for usage in (0, 500_000))
    assert fields("container_cpu", before, now) == {"cpu": 0.5, "throttled": None}


def test_the_first_report_has_no_rates() -> None:
    assert not fields("container_cpu", None, cpu_stat(1, 1))
    assert not fields("node_cpu", None, parsed("node_cpu", "cpu0 9 0 0 9 0 0 0 0\n"))


def test_the_working_set_leaves_inactive_file_pages_out() -> None:
    now = parsed("container_memory", "5000\n", "anon 1\nfile 3000\ninactive_anon 7\ninactive_file 2000\n")
    assert fields("container_memory", None, now) == {"memory": 5000, "working_set": 3000, "file_cache": 3000}
    now = parsed("container_memory", "5000\n", None)
    assert fields("container_memory", None, now) == {"memory": 5000, "working_set": None, "file_cache": None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("node_cpu", "intr 5\n"),
        ("node_cpu", "cpu0 1 2\n"),
        ("node_cpu", "cpu0 -1 0 0 0 0 0 0 0\n"),
        ("node_memory", "MemTotal: 5 kB\n"),
        ("node_memory", "MemAvailable: many kB\n"),
        ("node_pressure", "some avg10=nan avg60=0 avg300=0 total=0\n"),
        ("node_pressure", "some avg10=100.5 avg60=0 avg300=0 total=0\n"),
        ("node_pressure", ""),
        ("container_cpu", "user_usec 5\n"),
        ("container_cpu", "usage_usec -5\n"),
        ("container_memory", "max\n"),
        ("container_memory", "9" * 30),
        ("container_cpuset", "3-1\n"),
        ("container_cpuset", "0-99999999\n"),
    ],
)
def test_text_no_kernel_writes_is_refused(name: str, text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parsed(name, text)


def test_every_collector_says_its_source_and_its_units() -> None:
    for name in COLLECTORS:
        module = __import__(f"neap.reporter.plugins.{name}", fromlist=["PLUGIN"])
        assert "Source:" in module.__doc__
        assert any(unit in module.__doc__.lower() for unit in ("[cores]", "[bytes]", "0..1", "no unit"))
