"""What the files of a cgroup show, computed when they are read.

Source: Linux Documentation/admin-guide/cgroup-v2.rst. CPU time is a tenth system and the rest user time, page cache
is half active and half inactive: the model knows no better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final

from neap.common.cpuset import format_cpuset
from neap.common.errors import PortError
from neap.common.host.memory import Folder, Knob
from neap.common.units import Bytes
from neap.virtual.cgroup import PAGE, Cgroup, CgroupTree
from neap.virtual.knobs import WRITERS, nice_of

CONTROLLERS: Final = "cpuset cpu io memory hugetlb pids\n"
SYSTEM_SHARE: Final = 10  # one part in this many of CPU time is system time


@lru_cache(maxsize=4096)
def _list_file(members: frozenset[int]) -> str:
    return format_cpuset(members) + "\n"


def _procs(cgroup: Cgroup) -> str:
    return "".join(f"{pid}\n" for pid in cgroup.pids)


def _populated(cgroup: Cgroup) -> str:
    return f"populated {cgroup.is_populated:d}\nfrozen 0\n"


def _cpu_stat(cgroup: Cgroup) -> str:
    usage = int(cgroup.cpu_time() * 1e6)
    system = usage // SYSTEM_SHARE
    return (
        f"usage_usec {usage}\nuser_usec {usage - system}\nsystem_usec {system}\n"
        f"nr_periods {int(cgroup.periods)}\nnr_throttled {int(cgroup.throttles)}\n"
        f"throttled_usec {int(cgroup.throttled * 1e6)}\nnr_bursts 0\nburst_usec 0\n"
    )


def _root_cpu_stat(cgroup: Cgroup) -> str:
    return _cpu_stat(cgroup).partition("nr_periods")[0]


def _weight(cgroup: Cgroup) -> str:
    return f"{0 if cgroup.idle else cgroup.weight}\n"


def _nice(cgroup: Cgroup) -> str:
    return f"{19 if cgroup.idle else nice_of(cgroup.weight)}\n"


def _max(cgroup: Cgroup) -> str:
    return f"{'max' if cgroup.quota_us is None else cgroup.quota_us} {cgroup.period_us}\n"


def _effective_cpus(cgroup: Cgroup) -> str:
    cgroup.tree.settle()
    return _list_file(cgroup.cpus)


def _effective_mems(cgroup: Cgroup) -> str:
    cgroup.tree.settle()
    return _list_file(cgroup.mems)


def _current(cgroup: Cgroup) -> str:
    return f"{sum(cgroup.memory())}\n"


def _limit(name: str, cgroup: Cgroup) -> str:
    limit = cgroup.limits[name]
    return "max\n" if limit is None else f"{limit}\n"


def _memory_stat(cgroup: Cgroup) -> str:
    anon, file = cgroup.memory()
    active, inactive = halves(file)
    reclaimed = sum(leaf.reclaimed for leaf in cgroup.leaves()) // PAGE
    return (
        f"anon {anon}\nfile {file}\nkernel 0\nkernel_stack 0\npagetables 0\nsock 0\nshmem 0\nfile_mapped 0\n"
        f"file_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\ninactive_anon 0\nactive_anon {anon}\n"
        f"inactive_file {inactive}\nactive_file {active}\nunevictable 0\nslab_reclaimable 0\nslab_unreclaimable 0\n"
        f"slab 0\nworkingset_refault_anon 0\nworkingset_refault_file 0\nworkingset_activate_file 0\n"
        f"pgscan {reclaimed}\npgsteal {reclaimed}\npgfault 0\npgmajfault 0\n"
    )


def _numa_stat(cgroup: Cgroup) -> str:
    cgroup.tree.settle()
    held: dict[int, tuple[Bytes, Bytes]] = dict.fromkeys(cgroup.tree.numa, (0, 0))
    for leaf in cgroup.leaves():
        if leaf.pids:
            lay_down(leaf, cgroup.tree, held)
    anon = " ".join(f"N{numa}={pair[0] // PAGE * PAGE}" for numa, pair in held.items())
    file = " ".join(f"N{numa}={pair[1] // PAGE * PAGE}" for numa, pair in held.items())
    return f"anon {anon}\nfile {file}\n"


def lay_down(leaf: Cgroup, tree: CgroupTree, held: dict[int, tuple[Bytes, Bytes]]) -> None:
    """Add where a container's memory lies: on the allowed nodes next to its CPUs, else on all allowed ones, by size."""
    sizes = {numa: tree.numa[numa].memory for numa in sorted(leaf.mems)}
    near = {numa: size for numa, size in sizes.items() if tree.numa[numa].cpus & leaf.cpus}
    if sum(near.values()):
        sizes = near
    total = sum(sizes.values())
    for numa, size in sizes.items():
        anon, file = held[numa]
        held[numa] = (anon + leaf.anon * size // total, file + leaf.file * size // total) if total else (anon, file)


def halves(file: Bytes) -> tuple[Bytes, Bytes]:
    """Active and inactive page cache."""
    active = file // 2 // PAGE * PAGE
    return active, file - active


def _memory_events(cgroup: Cgroup) -> str:
    return "".join(f"{name} {count}\n" for name, count in cgroup.events.items())


def _cpu_pressure(cgroup: Cgroup) -> str:
    return cgroup.cpu_stall.text(cgroup.tree.now)


def _memory_pressure(cgroup: Cgroup) -> str:
    return cgroup.memory_stall.text(cgroup.tree.now)


def _write_only(cgroup: Cgroup) -> str:
    raise PortError(f"read /sys/fs/cgroup{cgroup.path}/memory.reclaim: write only (EINVAL)")


def _fixed(text: str, _: Cgroup) -> str:
    return text


QUIET: Final = "".join(f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" for kind in ("some", "full"))

READERS: Final[Mapping[str, Callable[[Cgroup], str]]] = {
    "cgroup.controllers": partial(_fixed, CONTROLLERS),
    "cgroup.events": _populated,
    "cgroup.procs": _procs,
    "cgroup.subtree_control": lambda cgroup: CONTROLLERS if cgroup.below else "\n",
    "cgroup.type": partial(_fixed, "domain\n"),
    "cpu.idle": lambda cgroup: f"{cgroup.idle:d}\n",
    "cpu.max": _max,
    "cpu.max.burst": lambda cgroup: f"{cgroup.burst_us}\n",
    "cpu.pressure": _cpu_pressure,
    "cpu.stat": _cpu_stat,
    "cpu.weight": _weight,
    "cpu.weight.nice": _nice,
    "cpuset.cpus": lambda cgroup: _list_file(cgroup.cpus_asked),
    "cpuset.cpus.effective": _effective_cpus,
    "cpuset.cpus.partition": partial(_fixed, "member\n"),
    "cpuset.mems": lambda cgroup: _list_file(cgroup.mems_asked),
    "cpuset.mems.effective": _effective_mems,
    "io.pressure": partial(_fixed, QUIET),
    "io.stat": partial(_fixed, ""),
    "memory.current": _current,
    "memory.events": _memory_events,
    "memory.high": partial(_limit, "high"),
    "memory.low": partial(_limit, "low"),
    "memory.max": partial(_limit, "max"),
    "memory.min": partial(_limit, "min"),
    "memory.numa_stat": _numa_stat,
    "memory.oom.group": lambda cgroup: f"{bool(cgroup.pids):d}\n",
    "memory.pressure": _memory_pressure,
    "memory.reclaim": _write_only,
    "memory.stat": _memory_stat,
    "memory.swap.current": partial(_fixed, "0\n"),
    "memory.swap.max": partial(_limit, "swap.max"),
    "pids.current": lambda cgroup: f"{sum(len(leaf.pids) for leaf in cgroup.leaves())}\n",
    "pids.max": partial(_fixed, "max\n"),
}
# The root cgroup has no limits and no weights.
ROOT_FILES: Final = (
    *("cgroup.controllers", "cgroup.procs", "cgroup.subtree_control", "cpu.pressure", "cpuset.cpus.effective"),
    *("cpuset.mems.effective", "io.pressure", "io.stat", "memory.pressure", "memory.stat"),
)


def folder(cgroup: Cgroup) -> Folder:
    """The directory of a cgroup, without its children's."""
    files: Folder = {}
    if cgroup.above is None:
        files.update({name: partial(READERS[name], cgroup) for name in ROOT_FILES})
        files["cpu.stat"] = partial(_root_cpu_stat, cgroup)
        return files
    for name, reader in READERS.items():
        show = partial(reader, cgroup)
        files[name] = Knob(show, partial(WRITERS[name], cgroup)) if name in WRITERS else show
    return files
