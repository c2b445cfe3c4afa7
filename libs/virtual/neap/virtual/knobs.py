"""What the kernel takes into a cgroup file, and what follows; everything else is refused with its errno.

Source: Linux kernel/sched/core.c (cpu_weight_write_u64, cpu_max_write, tg_set_cfs_bandwidth, sched_group_set_idle),
kernel/cgroup/cpuset.c (cpuset_write_resmask, validate_change), mm/memcontrol.c and mm/page_counter.c
(page_counter_memparse).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NoReturn

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.host.port import Refused
from neap.common.units import Bytes
from neap.virtual.cgroup import PAGE, WEIGHT, Cgroup

SHORTEST_US: Final = 1000  # least quota and least period
LONGEST_US: Final = 1_000_000
SUFFIXES: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
# Nice -20..19 as weights of the CPU scheduler; cpu.weight = weight × 100 / 1024 (kernel/sched/core.c).
NICE_WEIGHTS: Final = (
    *(88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916),
    *(9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277),
    *(1024, 820, 655, 526, 423, 335, 272, 215, 172, 137),
    *(110, 87, 70, 56, 45, 36, 29, 23, 18, 15),
)
_INTEGER: Final = re.compile(r"[+-]?\d+")
_MEMORY: Final = re.compile(r"(\d+)([kKmMgGtT]?)")


def refuse(cgroup: Cgroup, name: str, text: str, why: str, errno: str = "EINVAL") -> NoReturn:
    """Refuse a write the way the kernel would."""
    raise Refused(f"write /sys/fs/cgroup{cgroup.path}/{name}: {text.strip()[:80]!r} {why} ({errno})")


def _integer(cgroup: Cgroup, name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text.strip()):
        refuse(cgroup, name, text, "is no number")
    return int(text)


def _set_weight(cgroup: Cgroup, text: str) -> None:
    weight = _integer(cgroup, "cpu.weight", text)
    if not 1 <= weight <= 10_000:
        refuse(cgroup, "cpu.weight", text, "is outside 1..10000", "ERANGE")
    if cgroup.idle:
        refuse(cgroup, "cpu.weight", text, "has no meaning while cpu.idle is 1")
    cgroup.weight = weight
    cgroup.weigh()


def _set_nice(cgroup: Cgroup, text: str) -> None:
    nice = _integer(cgroup, "cpu.weight.nice", text)
    if not -20 <= nice <= 19:
        refuse(cgroup, "cpu.weight.nice", text, "is outside -20..19", "ERANGE")
    _set_weight(cgroup, str(max(1, min(10_000, round(NICE_WEIGHTS[nice + 20] * 100 / 1024)))))


def nice_of(weight: int) -> int:
    """The nice value whose weight is nearest."""
    return min(range(-20, 20), key=lambda nice: abs(NICE_WEIGHTS[nice + 20] - weight * 10.24))


def _set_idle(cgroup: Cgroup, text: str) -> None:
    idle = _integer(cgroup, "cpu.idle", text)
    if idle not in (0, 1):
        refuse(cgroup, "cpu.idle", text, "is neither 0 nor 1")
    if bool(idle) != cgroup.idle:
        cgroup.idle = bool(idle)
        cgroup.weight = WEIGHT  # the kernel forgets the weight from before
        cgroup.weigh()


def _set_max(cgroup: Cgroup, text: str) -> None:
    words = text.split()
    if len(words) not in (1, 2):
        refuse(cgroup, "cpu.max", text, "is not 'max' or a quota, and a period")
    period = _integer(cgroup, "cpu.max", words[1]) if len(words) == 2 else cgroup.period_us
    quota = None if words[0] == "max" else _integer(cgroup, "cpu.max", words[0])
    if not SHORTEST_US <= period <= LONGEST_US:
        refuse(cgroup, "cpu.max", text, f"has a period outside {SHORTEST_US}..{LONGEST_US} us")
    if quota is not None and quota < SHORTEST_US:
        refuse(cgroup, "cpu.max", text, f"has a quota below {SHORTEST_US} us")
    if quota is not None and cgroup.burst_us > quota:
        refuse(cgroup, "cpu.max", text, f"is below cpu.max.burst {cgroup.burst_us}")
    cgroup.quota_us, cgroup.period_us = quota, period
    cgroup.weigh()


def _set_burst(cgroup: Cgroup, text: str) -> None:
    burst = _integer(cgroup, "cpu.max.burst", text)
    if burst < 0 or (cgroup.quota_us is not None and burst > cgroup.quota_us):
        refuse(cgroup, "cpu.max.burst", text, "is negative or above the quota")
    cgroup.burst_us = burst


def _set_cpus(cgroup: Cgroup, text: str) -> None:
    cgroup.cpus_asked = _listed(cgroup, "cpuset.cpus", text, cgroup.tree.machine.present, cgroup.cpus_asked)
    cgroup.tree.move()


def _set_mems(cgroup: Cgroup, text: str) -> None:
    cgroup.mems_asked = _listed(cgroup, "cpuset.mems", text, frozenset(cgroup.tree.numa), cgroup.mems_asked)
    cgroup.tree.move()


def _listed(cgroup: Cgroup, name: str, text: str, there: frozenset[int], before: frozenset[int]) -> frozenset[int]:
    try:
        asked = parse_cpuset(text)
    except InputError:
        refuse(cgroup, name, text, "is no list")
    if missing := asked - there:
        refuse(cgroup, name, text, f"names {min(missing)}, which this machine does not have")
    if before and not asked and cgroup.is_populated:
        refuse(cgroup, name, text, "would leave tasks without a set", "ENOSPC")
    return asked


def parse_memory(cgroup: Cgroup, name: str, text: str) -> Bytes | None:
    """'max' or bytes with an optional suffix, cut down to whole pages."""
    if text.strip() == "max":
        return None
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        refuse(cgroup, name, text, "is neither 'max' nor an amount")
    return (int(match[1]) << SUFFIXES[match[2].lower()]) // PAGE * PAGE


def _set_memory(limit: str, cgroup: Cgroup, text: str) -> None:
    cgroup.limits[limit] = parse_memory(cgroup, f"memory.{limit}", text)
    cgroup.tree.squeezed = True


def _reclaim(cgroup: Cgroup, text: str) -> None:
    """Take page cache away at once; EAGAIN when there was less than asked."""
    words = text.split()
    amount = parse_memory(cgroup, "memory.reclaim", words[0] if words else "")
    if amount is None:
        refuse(cgroup, "memory.reclaim", text, "is no amount")
    left = amount
    for leaf in cgroup.leaves():
        taken = min(leaf.file, left)
        leaf.file -= taken
        leaf.wants_file = leaf.file
        leaf.reclaimed += taken
        left -= taken
    cgroup.tree.squeezed = True
    cgroup.tree.numa_held = None
    if left > 0:
        refuse(cgroup, "memory.reclaim", text, f"could not be reclaimed, {left} bytes are missing", "EAGAIN")


def _set_control(cgroup: Cgroup, text: str) -> None:
    """The controllers are enabled everywhere; naming one again is fine."""
    for word in text.split():
        if word.lstrip("+-") not in ("cpuset", "cpu", "io", "memory", "pids"):
            refuse(cgroup, "cgroup.subtree_control", text, "names no controller")


def _move(cgroup: Cgroup, text: str) -> None:
    refuse(cgroup, "cgroup.procs", text, "cannot be moved on a virtual host", "EOPNOTSUPP")


WRITERS: Final[Mapping[str, Callable[[Cgroup, str], None]]] = {
    "cgroup.procs": _move,
    "cgroup.subtree_control": _set_control,
    "cpu.idle": _set_idle,
    "cpu.max": _set_max,
    "cpu.max.burst": _set_burst,
    "cpu.weight": _set_weight,
    "cpu.weight.nice": _set_nice,
    "cpuset.cpus": _set_cpus,
    "cpuset.mems": _set_mems,
    "memory.high": partial(_set_memory, "high"),
    "memory.low": partial(_set_memory, "low"),
    "memory.max": partial(_set_memory, "max"),
    "memory.min": partial(_set_memory, "min"),
    "memory.reclaim": _reclaim,
    "memory.swap.max": partial(_set_memory, "swap.max"),
}
