"""Which CPUs can be used, and how they group into packages, dies and cores.

    usable  = CPUs with a directory ∩ online − offline − those whose own `online` file says 0,
              cut to the legacy cpuset of this process where a batch system mounted one
    package = CPUs with one physical_package_id; where that is −1 (s390, POWER) CPUs with one sibling mask
    die     = CPUs with one (package, die_id), where a package has more than one
    core    = CPUs of one thread-sibling mask with one core_id (a mask may pair the two cores of a module)

Nothing is guessed: a CPU without a readable place simply belongs to no such group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neap.common.cpuset import format_cpuset
from neap.common.model.topology import ZoneKind
from neap.reporter.core.topology.snapshot import CPU_DIR, Snapshot
from neap.reporter.core.topology.text import Cpus, cpu_list, cpu_mask, integer


@dataclass(frozen=True)
class Group:
    """CPUs that share something; the raw material of a zone."""

    kind: ZoneKind
    index: int
    cpus: Cpus
    note: str = ""


@dataclass(frozen=True)
class Place:
    """Where sysfs says one CPU sits; None where it does not say."""

    package: int | None
    die: int | None
    core: int | None
    package_mates: Cpus | None
    core_mates: Cpus | None


def usable_cpus(seen: Snapshot, warnings: list[str]) -> Cpus:
    """CPUs that are there and switched on."""
    present = frozenset(seen.cpu_numbers())
    off = cpu_list(seen.files.get(f"{CPU_DIR}/offline")) or frozenset()
    off |= {cpu for cpu in present if integer(seen.of_cpu(cpu, "online")) == 0}
    text = seen.files.get(f"{CPU_DIR}/online")
    online = cpu_list(text)
    if online is None:
        if text is not None:
            warnings.append("cpu/online is no CPU list: every CPU directory not marked offline is taken")
        online = present
    if ghosts := online - present:
        warnings.append(f"cpu/online names CPUs without a directory: {format_cpuset(ghosts)}")
    allowed = cpu_list(seen.files.get(f"{seen.cpuset_dir()}/cpus")) or present
    if not (usable := (online & present & allowed) - off):
        warnings.append("no usable CPU found in sysfs")
    return usable


def isolated_cpus(seen: Snapshot, usable: Cpus, warnings: list[str]) -> Cpus:
    """CPUs the kernel was told to keep its scheduler off (isolcpus): nobody may be spread over them."""
    isolated = (cpu_list(seen.files.get(f"{CPU_DIR}/isolated")) or frozenset()) & usable
    if isolated and isolated == usable:
        warnings.append("cpu/isolated names every usable CPU: ignored")
        return frozenset()
    return isolated


def places(seen: Snapshot, usable: Cpus) -> dict[int, Place]:
    """The place of every usable CPU; masks are cut down to usable CPUs."""

    def mates(cpu: int, *names: str) -> Cpus | None:
        for name in names:
            text = seen.of_cpu(cpu, f"topology/{name}")
            cpus = cpu_list(text) if name.endswith("_list") else cpu_mask(text)
            if cpus is not None and cpu in cpus:
                return cpus & usable
        return None

    return {
        cpu: Place(
            package=integer(seen.of_cpu(cpu, "topology/physical_package_id")),
            die=integer(seen.of_cpu(cpu, "topology/die_id")),
            core=integer(seen.of_cpu(cpu, "topology/core_id")),
            package_mates=mates(cpu, "core_siblings", "package_cpus", "core_siblings_list"),
            core_mates=mates(cpu, "thread_siblings", "core_cpus", "thread_siblings_list"),
        )
        for cpu in sorted(usable)
    }


def packages(where: Mapping[int, Place], warnings: list[str]) -> list[Group]:
    """Packages; one whose CPUs claim mates from another package is dropped."""
    by_id: dict[int, set[int]] = {}
    by_mask: set[Cpus] = set()
    for cpu, place in where.items():
        if place.package is not None and place.package >= 0:
            by_id.setdefault(place.package, set()).add(cpu)
        elif place.package_mates is not None:
            by_mask.add(place.package_mates)
    found = []
    for index, cpus in sorted(by_id.items()):
        claimed = frozenset[int]().union(*(where[cpu].package_mates or () for cpu in cpus))
        if strangers := claimed - cpus:
            warnings.append(f"package {index} dropped: its CPUs claim {format_cpuset(strangers)} of another package")
        else:
            found.append(Group(ZoneKind.PACKAGE, index, frozenset(cpus)))
    unnamed = _disjoint(by_mask, "package", warnings)
    taken = {group.index for group in found}
    numbers = (number for number in range(len(where) + len(taken)) if number not in taken)
    return found + [Group(ZoneKind.PACKAGE, next(numbers), cpus) for cpus in unnamed]


def dies(where: Mapping[int, Place]) -> list[Group]:
    """Dies of packages that have several."""
    by_id: dict[int, dict[int, set[int]]] = {}
    for cpu, place in where.items():
        if place.package is not None and place.package >= 0 and place.die is not None and place.die >= 0:
            by_id.setdefault(place.package, {}).setdefault(place.die, set()).add(cpu)
    return [
        Group(ZoneKind.DIE, index, frozenset(cpus))
        for _, package in sorted(by_id.items())
        if len(package) > 1
        for index, cpus in sorted(package.items())
    ]


def cores(where: Mapping[int, Place], warnings: list[str]) -> list[Group]:
    """Cores, by their lowest CPU."""
    sets: set[Cpus] = set()
    for cpu, place in where.items():
        if place.core_mates is not None:
            sets.add(frozenset(mate for mate in place.core_mates if mate == cpu or where[mate].core == place.core))
    groups = _disjoint(sets, "core", warnings)
    indexes = [where[min(cpus)].core for cpus in groups]
    return [
        Group(ZoneKind.CORE, position if index is None or index < 0 else index, cpus)
        for position, (index, cpus) in enumerate(zip(indexes, groups, strict=True))
    ]


def _disjoint(sets: set[Cpus], what: str, warnings: list[str]) -> list[Cpus]:
    """Sets that overlap no other, by lowest CPU; the overlapping ones are named and dropped."""
    claims: dict[int, int] = {}
    for cpus in sets:
        for cpu in cpus:
            claims[cpu] = claims.get(cpu, 0) + 1
    ordered = sorted(sets, key=sorted)
    bad = [cpus for cpus in ordered if any(claims[cpu] > 1 for cpu in cpus)]
    warnings.extend(f"{what} {format_cpuset(cpus)} dropped: it overlaps another" for cpus in bad)
    return [cpus for cpus in ordered if cpus and cpus not in bad]
