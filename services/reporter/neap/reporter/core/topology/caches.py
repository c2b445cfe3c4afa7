"""Level 3 cache groups: CPUs whose cache directories name one and the same set.

A group counts only if every member that says anything says the same; contradicting claims are all dropped.
"""

from __future__ import annotations

from neap.common.cpuset import format_cpuset
from neap.common.model.topology import ZoneKind
from neap.reporter.core.topology.cpus import Group
from neap.reporter.core.topology.snapshot import CACHE_INDEXES, Snapshot
from neap.reporter.core.topology.text import PADDING, Cpus, cpu_list, cpu_mask, integer


def level3(seen: Snapshot, usable: Cpus, warnings: list[str]) -> list[Group]:
    """L3 groups by lowest CPU; `index` counts them, `note` is the size as sysfs writes it ("32768K")."""
    claims: dict[int, Cpus] = {}
    sizes: dict[Cpus, str] = {}
    for cpu in sorted(usable):
        if (claim := _claim(seen, cpu)) is not None:
            claims[cpu] = claim[0] & usable
            sizes.setdefault(claims[cpu], claim[1])
    found: list[Group] = []
    for cpus in sorted(sizes, key=sorted):
        if all(claims.get(cpu, cpus) == cpus for cpu in cpus):
            found.append(Group(ZoneKind.L3, len(found), cpus, sizes[cpus]))
        else:
            warnings.append(f"L3 {format_cpuset(cpus)} dropped: its CPUs disagree about who shares it")
    return found


def _claim(seen: Snapshot, cpu: int) -> tuple[Cpus, str] | None:
    for index in CACHE_INDEXES:
        at = f"cache/index{index}"
        if integer(seen.of_cpu(cpu, f"{at}/level")) != 3:
            continue
        if (seen.of_cpu(cpu, f"{at}/type") or "").strip(PADDING) == "Instruction":
            continue
        cpus = cpu_mask(seen.of_cpu(cpu, f"{at}/shared_cpu_map"))
        if cpus is None:
            cpus = cpu_list(seen.of_cpu(cpu, f"{at}/shared_cpu_list"))
        if cpus is not None and cpu in cpus:
            return cpus, (seen.of_cpu(cpu, f"{at}/size") or "").strip(PADDING)[:16]
    return None
