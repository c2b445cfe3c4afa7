"""Which CPUs are kept for the system's own daemons.

An explicit list wins. Else whole physical cores are taken, one per NUMA node in turn from the lowest core up,
until they hold at least `count` CPUs. The last core of a machine is never taken.
Source: katalyst-core TakeHTByNUMABalance (round robin over NUMA nodes); whole cores instead of threads are ours, so
that no guest ever shares a core with the system pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

from neap.common.cpuset import format_cpuset
from neap.reporter.core.topology.text import Cpus, cpu_list


def system_cpus(
    usable: Cpus, cores: Sequence[Cpus], numa: Sequence[Cpus], *, count: int, explicit: str, warnings: list[str]
) -> Cpus:
    """The reserved CPUs, whole cores only when chosen by `count`."""
    if explicit:
        asked = cpu_list(explicit)
        if asked is not None and asked & usable and asked & usable != usable:
            if asked - usable:
                warnings.append(f"reserved CPUs not usable: {format_cpuset(asked - usable)}")
            return asked & usable
        warnings.append(f"reserved CPUs {explicit[:64]!r} are no proper part of the machine: chosen by count instead")
    grouped = frozenset[int]().union(*cores)
    units = sorted([*cores, *(frozenset({cpu}) for cpu in usable - grouped)], key=min)
    queues = [[unit for unit in units if unit <= cpus] for cpus in numa]
    queues.append([unit for unit in units if not any(unit <= cpus for cpus in numa)])
    taken: set[int] = set()
    for unit in chain.from_iterable(zip_longest(*queues, fillvalue=frozenset[int]())):
        if len(taken) >= count:
            break
        if len(taken) + len(unit) < len(usable):
            taken |= unit
    if len(taken) < count:
        warnings.append(f"only {len(taken)} of {count} CPUs could be reserved for the system")
    return frozenset(taken)
