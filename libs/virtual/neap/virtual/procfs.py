"""What /proc and the NUMA nodes' meminfo show of a virtual host, computed when they are read.

Source: Linux Documentation/filesystems/proc.rst; fs/proc/{stat,meminfo,loadavg}.c; drivers/base/node.c.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final

from neap.common.host.memory import MemoryHost
from neap.common.units import KIB, MIB, Bytes, Seconds
from neap.virtual.cgroup import CgroupTree
from neap.virtual.cgroupfs import QUIET, SYSTEM_SHARE, halves, lay_down

TICKS: Final = 100  # per second (USER_HZ)
MOUNTS: Final = (
    "sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0\n"
    "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n"
    "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n"
)
_BOTH: Final = (
    *(("Active", "all_active"), ("Inactive", "inactive"), ("Active(anon)", "anon"), ("Inactive(anon)", "none")),
    *(("Active(file)", "active"), ("Inactive(file)", "inactive"), ("Unevictable", "none"), ("Dirty", "none")),
    *(("Writeback", "none"), ("AnonPages", "anon"), ("Mapped", "none"), ("Shmem", "none"), ("Slab", "slab")),
    *(("SReclaimable", "none"), ("SUnreclaim", "slab")),
)
_MACHINE: Final = (
    *(("MemTotal", "total"), ("MemFree", "free"), ("MemAvailable", "available"), ("Buffers", "none")),
    *(("Cached", "file"), ("SwapCached", "none"), ("SwapTotal", "none"), ("SwapFree", "none"), *_BOTH),
)
_NODE: Final = (("MemTotal", "total"), ("MemFree", "free"), ("MemUsed", "used"), *_BOTH, ("FilePages", "file"))
MEMINFO: Final = "".join(f"{name + ':':15s} {{{row}:8d}} kB\n" for name, row in _MACHINE)
NODE_MEMINFO: Final = "".join(f"Node {{numa}} {name + ':':15s} {{{row}:8d}} kB\n" for name, row in _NODE)


def system_memory(total: Bytes) -> Bytes:
    """What kernel and daemons hold: 3 % and 256 MiB, at most an eighth of a small machine."""
    return min(total * 3 // 100 + 256 * MIB, total // 8)


class Procfs:
    """State and files of /proc: per-CPU time, load averages."""

    def __init__(self, tree: CgroupTree, boot: Seconds) -> None:
        self._tree, self._boot = tree, boot
        self.busy: dict[int, Seconds] = dict.fromkeys(sorted(tree.machine.cpus), 0.0)
        self.load = [0.0, 0.0, 0.0]  # averages over 1, 5 and 15 minutes
        self.runnable = 0.0

    def put(self, host: MemoryHost) -> None:
        """Show the files."""
        root, stall = self._tree.root, self._tree
        files = {
            "stat": self._stat,
            "loadavg": self._loadavg,
            "uptime": self._uptime,
            "meminfo": self._meminfo,
            "vmstat": self._vmstat,
            "pressure/cpu": lambda: root.cpu_stall.text(stall.now),
            "pressure/memory": lambda: root.memory_stall.text(stall.now),
        }
        for name, show in files.items():
            host.put(f"/proc/{name}", show)
        host.put("/proc/pressure/io", QUIET)
        for name, text in (
            ("mounts", MOUNTS),
            ("self/mounts", MOUNTS),
            ("self/cgroup", "0::/\n"),
            ("self/cpuset", "/\n"),
        ):
            host.put(f"/proc/{name}", text)
        if not host.exists("/proc/cpuinfo"):
            host.put("/proc/cpuinfo", "".join(f"processor\t: {cpu}\n\n" for cpu in self.busy))
        for numa in self._tree.numa:
            path = f"/sys/devices/system/node/node{numa}"
            if host.exists(path):
                host.put(f"{path}/meminfo", partial(self._node_meminfo, numa))

    def _ticks(self) -> int:
        return round((self._tree.now - self._boot) * TICKS)

    def _stat(self) -> str:
        ticks = self._ticks()
        lines: list[str] = []
        all_busy = all_system = 0
        for cpu, seconds in self.busy.items():
            busy = min(ticks, int(seconds * TICKS + 1e-6))
            system = busy // SYSTEM_SHARE
            all_busy += busy
            all_system += system
            lines.append(f"cpu{cpu} {busy - system} 0 {system} {ticks - busy} 0 0 0 0 0 0\n")
        idle = ticks * len(self.busy) - all_busy
        return (
            f"cpu  {all_busy - all_system} 0 {all_system} {idle} 0 0 0 0 0 0\n{''.join(lines)}intr 0\nctxt 0\n"
            f"btime {int(self._boot)}\nprocesses {len(self.busy)}\nprocs_running {round(self.runnable)}\nprocs_blocked 0\n"
        )

    def _loadavg(self) -> str:
        one, five, fifteen = self.load
        running = round(self.runnable)
        return f"{one:.2f} {five:.2f} {fifteen:.2f} {running}/{running + 100} 1000\n"

    def _uptime(self) -> str:
        up = self._ticks() / TICKS
        return f"{up:.2f} {up * len(self.busy) - sum(self.busy.values()):.2f}\n"

    def _meminfo(self) -> str:
        total = self._tree.machine.memory
        anon, file = self._tree.root.memory()
        return _meminfo(MEMINFO, 0, total, system_memory(total), anon, file)

    def _node_meminfo(self, numa: int) -> str:
        if self._tree.numa_held is None:
            self._tree.numa_held = numa_memory(self._tree)
        anon, file = self._tree.numa_held[numa]
        total = self._tree.numa[numa].memory
        system = min(system_memory(total), max(0, total - anon - file))
        return _meminfo(NODE_MEMINFO, numa, total, system, anon, file)

    def _vmstat(self) -> str:
        root = self._tree.root
        anon, file = root.memory()
        total = self._tree.machine.memory
        active, inactive = halves(file)
        free = max(0, total - system_memory(total) - anon - file)
        stolen = sum(leaf.reclaimed for leaf in root.leaves()) // 4096
        pages = {
            "nr_free_pages": free,
            "nr_active_anon": anon,
            "nr_inactive_anon": 0,
            "nr_active_file": active,
            "nr_inactive_file": inactive,
        }
        lines = [f"{name} {amount // 4096}\n" for name, amount in pages.items()]
        counts = {"pgscan_kswapd": stolen, "pgsteal_kswapd": stolen, "allocstall_normal": 0, "pswpin": 0, "pswpout": 0}
        lines += [f"{name} {count}\n" for name, count in counts.items()]
        return "".join(lines) + f"oom_kill {root.events['oom_kill']}\n"


@lru_cache(maxsize=4096)  # memory is often as it was when a file is read again
def _meminfo(form: str, numa: int, total: Bytes, system: Bytes, anon: Bytes, file: Bytes) -> str:
    return form.format_map(_rows(total, system, anon, file) | {"numa": numa})


def _rows(total: Bytes, system: Bytes, anon: Bytes, file: Bytes) -> dict[str, int]:
    """The numbers of a meminfo file, in KiB."""
    active, inactive = halves(file)
    free = max(0, total - system - anon - file)
    return {
        "total": total // KIB,
        "free": free // KIB,
        "used": (total - free) // KIB,
        "available": (free + file) // KIB,
        "file": file // KIB,
        "anon": anon // KIB,
        "active": active // KIB,
        "inactive": inactive // KIB,
        "all_active": (anon + active) // KIB,
        "slab": system // KIB,
        "none": 0,
    }


def numa_memory(tree: CgroupTree) -> dict[int, tuple[Bytes, Bytes]]:
    """Anonymous memory and page cache per NUMA node.

    A container's memory lies on the allowed nodes next to its CPUs, in proportion to their size (on all allowed
    nodes if none is next to them); what a full node cannot hold spills to the others' free memory.
    """
    tree.settle()
    held: dict[int, tuple[Bytes, Bytes]] = dict.fromkeys(tree.numa, (0, 0))
    for leaf in tree.root.leaves():
        if leaf.pids:
            lay_down(leaf, tree, held)
    over = {numa: max(0, sum(pair) - tree.numa[numa].memory) for numa, pair in held.items()}
    free = {numa: max(0, tree.numa[numa].memory - sum(pair)) for numa, pair in held.items()}
    spill, room = sum(over.values()), sum(free.values())
    if spill and room:
        for numa, (anon, file) in held.items():
            cut = min(anon, over[numa])
            held[numa] = (anon - cut + spill * free[numa] // room, file - (over[numa] - cut))
    return held
