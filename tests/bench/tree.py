"""A node's files as a directory, with counters that move: `python -m tests.bench.tree ROOT`.

The sysfs of a real machine (64 CPUs, 8 NUMA nodes) and, in the form of kernel 6.x, the files of procfs and cgroup v2
that a node agent may read: a hundred pods, every third a guest, the first of them with a second container. All that
can move moves in every round, so that nobody can skip what he has read before. A file that moves keeps its length and
is written through a mapping, so that no watch of its directory hears of it: a kernel's counters move without a write.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neap.common.host.memory import Folder, Link
from neap.virtual.snapshot import load_snapshot
from tests.bench.samples import MACHINE, uid

PODS, CONTAINERS = 100, 122
STEP, WAVE = 1.0, 600.0
CPUS, NUMA = 64, 8
SLICE: Final = "kubepods.slice"
CLASSES: Final = ("", "burstable", "besteffort")
FEW, MANY = 10**12, 10**15  # where counters of rare and of common things start, so that they keep their length
FIRST_PID = 10_000

EMPTY: Final = "memory.reclaim"
SETTINGS: Final = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.freeze": "0\n",
    "cgroup.subtree_control": "cpuset cpu io memory pids\n",
    "cgroup.type": "domain\n",
    "cpu.idle": "0\n",
    "cpu.max": "max 100000\n",
    "cpu.max.burst": "0\n",
    "cpu.weight": "100\n",
    "cpu.weight.nice": "0\n",
    "cpuset.cpus": "\n",
    "cpuset.cpus.effective": f"0-{CPUS - 1}\n",
    "cpuset.cpus.partition": "member\n",
    "cpuset.mems": "\n",
    "cpuset.mems.effective": f"0-{NUMA - 1}\n",
    "io.max": "",
    "io.weight": "default 100\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.max": "max\n",
    "memory.min": "0\n",
    "memory.oom.group": "0\n",
    EMPTY: "",
    "memory.swap.current": "0\n",
    "memory.swap.high": "max\n",
    "memory.swap.max": "max\n",
    "memory.zswap.current": "0\n",
    "pids.current": "1\n",
    "pids.max": "max\n",
}  # fmt: skip
STAT_BYTES: Final = (
    "kernel", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "sock", "vmalloc", "shmem", "zswap", "zswapped",
    "file_mapped", "file_dirty", "file_writeback", "swapcached", "anon_thp", "file_thp", "shmem_thp", "inactive_anon",
    "active_anon", "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable", "slab",
)  # fmt: skip
STAT_EVENTS: Final = (
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
    "workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim", "pswpin", "pswpout", "pgscan",
    "pgsteal", "pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgsteal_kswapd", "pgsteal_direct",
    "pgsteal_khugepaged", "pgfault", "pgmajfault", "pgrefill", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed",
    "zswpin", "zswpout", "zswpwb", "thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback",
)  # fmt: skip
VM_EVENTS: Final = (
    "pgpgin", "pgpgout", "pswpin", "pswpout", "allocstall_dma", "allocstall_dma32", "allocstall_normal",
    "allocstall_movable", "pgfree", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault", "pgrefill", "pgreuse",
    "pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged",
    "pginodesteal", "slabs_scanned", "kswapd_inodesteal", "pageoutrun", "pgrotated", "oom_kill", "numa_pte_updates",
    "numa_hint_faults", "numa_hint_faults_local", "numa_pages_migrated", "pgmigrate_success", "pgmigrate_fail",
    "compact_stall", "compact_fail", "compact_success", "workingset_refault_anon", "workingset_refault_file",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """One cgroup: where, which in the row, and the processes in it."""

    path: str
    number: int
    pids: tuple[int, ...] = ()


def groups() -> Iterator[Group]:
    """Classes, pods, containers, in the form of kubelet's systemd driver; what is read of the root is there as well."""
    number = 0
    yield Group("", number)
    for kind in CLASSES:
        yield Group(f"{SLICE}/kubepods-{kind}.slice" if kind else SLICE, number := number + 1)
    for pod in range(PODS):
        kind = "besteffort" if pod % 3 == 2 else "burstable"
        folder = f"{SLICE}/kubepods-{kind}.slice/kubepods-{kind}-pod{uid(pod).replace('-', '_')}.slice"
        yield Group(folder, number := number + 1)
        for part in range(2 if pod < CONTAINERS - PODS else 1):
            name = f"cri-containerd-{2 * pod + part:064x}.scope"
            yield Group(f"{folder}/{name}", number := number + 1, (FIRST_PID + 2 * pod + part,))


def make(root: Path) -> None:
    """Write everything once."""
    _lay_down(root, load_snapshot(MACHINE).tree)
    for group in groups():
        folder = root / "sys/fs/cgroup" / group.path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in SETTINGS.items():
            (folder / name).write_text(text)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in group.pids))
        for pid in group.pids:
            of_process = root / f"proc/{pid}"
            of_process.mkdir(parents=True)
            (of_process / "oom_score_adj").write_text("900\n")
            (of_process / "comm").write_text("server\n")
    for path, text in (*STANDING, *moving(0)):
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def moving(turn: int) -> Iterator[tuple[str, str]]:
    """Path and text of everything that moves, as it is after so many rounds."""
    for group in groups():
        for name, show in MOVING.items():
            yield f"/sys/fs/cgroup/{group.path}/{name}", show(group.number, turn)
    yield from machine_files(turn)


# -- files of a cgroup -----------------------------------------------------------------------------------------------


def used(number: int, turn: int) -> int:
    """Microseconds of CPU so far: 0.1 to 0.3 cores, all in one wave of ten minutes, so that a pool is resized every few seconds."""
    wave = 0.5 * WAVE / math.tau * (1 - math.cos(math.tau * (turn / WAVE + number / 1000)))
    return int(200_000 * (turn + wave + 0.02 * math.sin(turn * (number + 1))))


def _cpu_stat(number: int, turn: int) -> str:
    busy = FEW + used(number, turn)
    return (
        f"usage_usec {busy}\nuser_usec {busy * 4 // 5}\nsystem_usec {busy // 5}\ncore_sched.force_idle_usec 0\n"
        f"nr_periods {FEW + 10 * turn}\nnr_throttled {FEW + turn // 2}\nthrottled_usec {FEW + 900 * turn}\n"
        f"nr_bursts 0\nburst_usec 0\n"
    )


def held(number: int, turn: int) -> int:
    """Bytes of memory: 200 to 300 MB, that come and go; also its parts keep their count of digits."""
    return 250_000_000 + 4096 * int(12_000 * math.sin(turn / 100 + number))


def _memory_stat(number: int, turn: int) -> str:
    total = held(number, turn)
    first = f"anon {total // 2}\nfile {total // 3}\ninactive_file {total // 6}\n"
    sizes = "".join(f"{name} {total // 12}\n" for name in STAT_BYTES)
    return first + sizes + "".join(f"{name} {MANY + turn * (i + number)}\n" for i, name in enumerate(STAT_EVENTS))


def _pressure(number: int, turn: int) -> str:
    now = (turn * 7 + number * 13) % 100 / 100
    some = f"some avg10={now:.2f} avg60={now:.2f} avg300={now:.2f} total={FEW + 1000 * turn + number}\n"
    return some + f"full avg10={now / 10:.2f} avg60={now / 10:.2f} avg300=0.01 total={FEW + 100 * turn + number}\n"


def _io_stat(number: int, turn: int) -> str:
    moved = MANY + 4096 * turn * number
    return f"259:0 rbytes={moved} wbytes={moved} rios={FEW + turn} wios={FEW + turn} dbytes=0 dios=0\n"


def _memory_events(number: int, turn: int) -> str:
    return f"low 0\nhigh {FEW + turn * number}\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"


MOVING: Final[dict[str, Callable[[int, int], str]]] = {
    "cpu.stat": _cpu_stat,
    "memory.current": lambda number, turn: f"{held(number, turn)}\n",
    "memory.stat": _memory_stat,
    "memory.events": _memory_events,
    "io.stat": _io_stat,
    "cpu.pressure": _pressure,
    "memory.pressure": _pressure,
    "io.pressure": _pressure,
    "irq.pressure": lambda number, turn: _pressure(number, turn).partition("\n")[2],
}


STANDING: Final = (
    *((f"/sys/block/nvme{i}n1/size", "3907029168\n") for i in range(4)),
    *((f"/sys/dev/block/259:{i}/size", "3907029168\n") for i in range(4)),
    *((f"/sys/class/net/{name}/operstate", "up\n") for name in ("lo", "eth0", "eth1", "mlx5_0")),
    *((f"/sys/class/powercap/intel-rapl:{i}/name", f"package-{i}\n") for i in range(2)),
    *((f"/sys/class/powercap/intel-rapl:{i}/max_energy_range_uj", "262143328850\n") for i in range(2)),
)

# -- files of the machine --------------------------------------------------------------------------------------------


def machine_files(turn: int) -> Iterator[tuple[str, str]]:
    """Path and text of all that /proc and /sys show of the machine and that moves."""
    for name in ("cpu", "memory", "io"):
        yield f"/proc/pressure/{name}", _pressure(len(name), turn)
    yield "/proc/pressure/irq", _pressure(9, turn).partition("\n")[2]
    yield "/proc/stat", _stat(turn)
    yield "/proc/meminfo", _meminfo("", 264_000_000, turn)
    yield "/proc/vmstat", _vmstat(turn)
    yield "/proc/zoneinfo", "".join(_zone(node, turn) for node in range(NUMA))
    yield "/proc/schedstat", _schedstat(turn)
    yield "/proc/diskstats", _diskstats(turn)
    yield "/proc/net/dev", _links(turn)
    yield "/proc/loadavg", f"48.{turn % 90 + 10} 47.10 45.00 51/9000 123456\n"
    yield "/proc/uptime", f"{10**6 + turn}.00 {10**7 + 16 * turn}.00\n"
    for node in range(NUMA):
        folder = f"/sys/devices/system/node/node{node}"
        yield f"{folder}/meminfo", _meminfo(f"Node {node} ", 33_000_000, turn)
        yield f"{folder}/vmstat", _vmstat(turn)
    for package in range(2):
        yield f"/sys/class/powercap/intel-rapl:{package}/energy_uj", f"{10**11 + turn * 150_000_000}\n"


def _stat(turn: int) -> str:
    ticks = [10**9 + turn * 70 + turn * cpu % 20 for cpu in range(CPUS)]
    lines = [
        f"cpu{n} {busy} 100 {busy // 10} {2 * 10**9 + turn * 25} 1000 0 1000 0 0 0\n" for n, busy in enumerate(ticks)
    ]
    total = f"cpu  {sum(ticks)} 6400 {sum(ticks) // 10} {CPUS * (2 * 10**9 + turn * 25)} 64000 0 64000 0 0 0\n"
    interrupts = " ".join("0" * 400)
    return f"{total}{''.join(lines)}intr {FEW + turn} {interrupts}\nctxt {FEW + turn}\nbtime 1700000000\n"


def _meminfo(before: str, total: int, turn: int) -> str:
    free = total // 3 + turn * 977 % 100_000
    sizes = {"MemTotal": total, "MemFree": free, "MemAvailable": 2 * free, "Buffers": 100_000, "Cached": free // 2}
    names = (
        "SwapCached", "Active", "Inactive", "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)", "Dirty",
        "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Writeback", "AnonPages", "Mapped", "Shmem", "KReclaimable",
        "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "CommitLimit", "Committed_AS", "VmallocTotal",
        "VmallocUsed", "VmallocChunk", "Percpu", "HardwareCorrupted", "AnonHugePages", "ShmemHugePages", "FileHugePages",
    )  # fmt: skip
    sizes |= dict.fromkeys(names, 1_000_000)
    return "".join(f"{before}{name + ':':<16}{size:>8} kB\n" for name, size in sizes.items())


def _vmstat(turn: int) -> str:
    pages = "".join(f"nr_page_kind_{i} {10**7 + turn * i}\n" for i in range(60))
    return f"nr_free_pages {10**7 + turn}\n{pages}" + "".join(
        f"{name} {MANY + turn * i}\n" for i, name in enumerate(VM_EVENTS)
    )


def _zone(node: int, turn: int) -> str:
    lists = "".join(f"    cpu: {cpu}\n              count: 100\n              high:  378\n" for cpu in range(CPUS))
    free = 2_000_000 + turn % 1000
    marks = (
        f"        min      5600\n        low      13800\n        high     22000\n        managed  {33_000_000 // 4}\n"
    )
    return f"Node {node}, zone   Normal\n  pages free     {free}\n        boost    0\n{marks}  pagesets\n{lists}"


def _schedstat(turn: int) -> str:
    domains = "".join(f"domain{i} ffffffff,ffffffff {' '.join(['1234567'] * 36)}\n" for i in range(3))
    lines = (f"cpu{n} 0 0 0 0 0 0 {MANY + turn * 7 * 10**8} {MANY + turn * 10**7} {FEW + turn}\n" for n in range(CPUS))
    return f"version 15\ntimestamp {10**10 + turn * 250}\n" + "".join(line + domains for line in lines)


def _diskstats(turn: int) -> str:
    return "".join(
        f" 259       {i} nvme{i}n1 {FEW + turn} 0 {FEW + 8 * turn} 1000 {FEW + turn} 0 {FEW + 8 * turn} 1000 0"
        f" {FEW + 100 * turn} {FEW + 100 * turn} 0 0 0 0 0 0\n"
        for i in range(4)
    )


def _links(turn: int) -> str:
    head = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets\n"
    moved = f"{MANY + turn * 10**7} {FEW + turn * 10**4} 0 0 0 0 0 0"
    return head + "".join(f"{name:>6}: {moved} {moved}\n" for name in ("lo", "eth0", "eth1", "mlx5_0"))


def _lay_down(folder: Path, tree: Folder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in tree.items():
        if isinstance(entry, Link):
            (folder / name).symlink_to(entry.target)
        elif isinstance(entry, str):
            (folder / name).write_text(entry)
        elif isinstance(entry, dict):
            _lay_down(folder / name, entry)


def _mapped(root: Path) -> dict[str, mmap.mmap]:
    maps = {}
    for path, _ in moving(0):
        with (root / path[1:]).open("r+b") as file:
            maps[path] = mmap.mmap(file.fileno(), 0)
    return maps


def live(root: Path) -> None:
    """Move the counters once a second until nobody listens any more."""
    make(root)
    maps = _mapped(root)
    turn, began = 0, time.monotonic()
    with suppress(BrokenPipeError):
        while True:
            os.write(sys.stdout.fileno(), b"ready\n")
            turn += 1
            time.sleep(max(0.0, began + turn * STEP - time.monotonic()))
            for path, text in moving(turn):
                maps[path][:] = text.encode()


if __name__ == "__main__":
    live(Path(sys.argv[1]))
