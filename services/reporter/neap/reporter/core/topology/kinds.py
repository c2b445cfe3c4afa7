"""Hybrid machines: which CPUs are of one kind.

Where perf has a device per kind (/sys/devices/cpu_core/cpus, cpu_atom, cpu_lowpower) those lists are the kinds, by
name. Else CPUs are of one kind if they agree in every measure that all of them have: capacity, highest frequency and
guaranteed frequency, each cut into steps where a value is more than a tenth above the step's lowest. A tenth, because
cores of one kind are binned: some turbo a little higher than others. Kinds are numbered from the weakest.

Source: kernel documentation, ABI/testing/sysfs-devices-system-cpu and admin-guide/perf; hwloc, cpukinds (the tenth).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from neap.reporter.core.topology.snapshot import HYBRID, Snapshot
from neap.reporter.core.topology.text import Cpus, cpu_list, integer

MEASURES: Final = ("cpu_capacity", "cpufreq/cpuinfo_max_freq", "cpufreq/base_frequency")
SAME: Final = 1.1


def kinds(seen: Snapshot, usable: Cpus) -> dict[str, Cpus]:
    """CPUs by kind, weakest first; empty where all are alike or nobody tells."""
    lists = {
        kind: (cpu_list(seen.files.get(f"/sys/devices/cpu_{kind}/cpus")) or frozenset()) & usable for kind in HYBRID
    }
    named = {kind: cpus for kind, cpus in lists.items() if cpus}
    if len(named) > 1 and sum(map(len, named.values())) == len(frozenset().union(*named.values())):
        return named
    steps = [_steps(values) for name in MEASURES if (values := _measured(seen, usable, name)) is not None]
    groups: dict[tuple[int, ...], set[int]] = {}
    for cpu in sorted(usable):
        groups.setdefault(tuple(step[cpu] for step in steps), set()).add(cpu)
    if len(groups) < 2:
        return {}
    return {str(number): frozenset(groups[key]) for number, key in enumerate(sorted(groups))}


def _measured(seen: Snapshot, usable: Cpus, name: str) -> dict[int, int] | None:
    """The value of every CPU; None if one of them has none."""
    values = {cpu: integer(seen.of_cpu(cpu, name)) for cpu in usable}
    known = {cpu: value for cpu, value in values.items() if value is not None and value > 0}
    return known if len(known) == len(usable) else None


def _steps(values: Mapping[int, int]) -> dict[int, int]:
    """Which step, from the lowest, each value falls into."""
    found: dict[int, int] = {}
    step, lowest = -1, 0
    for cpu, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        if step < 0 or value > SAME * lowest:
            step, lowest = step + 1, value
        found[cpu] = step
    return found
