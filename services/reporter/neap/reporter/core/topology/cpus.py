"""Which CPUs can be used, and how they group into packages, dies, clusters and cores.

    usable  = CPUs with a directory ∩ online − offline − those whose own `online` file says 0,
              cut to what an allocation allows (see snapshot); the others are told as offline or disallowed
    package = CPUs with one physical_package_id; where that is −1 (s390, POWER) CPUs with one sibling mask
    die     = CPUs with one (package, die_id), where a package has more than one
    cluster = CPUs of one package with one cluster_id (shared L2 or mid-level cache), where they are several cores but
              not the whole package; 65535 and −1 mean that firmware does not tell
    core    = CPUs of one thread-sibling mask with one core_id (a mask may pair the two cores of a module)

Nothing is guessed: a CPU without a readable place simply belongs to no such group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neap.common.cpuset import format_cpuset
from neap.common.model.topology import ZoneKind
from neap.reporter.core.topology.snapshot import CPU_DIR, OTHER_NAMES, Snapshot
from neap.reporter.core.topology.text import Cpus, cpu_list, cpu_mask, integer

NO_CLUSTER: Final = 65535  # a 16-bit −1


@dataclass(frozen=True)
class Census:
    """CPUs that have a directory, by what can be done with them."""

    usable: Cpus
    offline: Cpus
    disallowed: Cpus


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
    cluster: int | None
    core: int | None
    package_mates: Cpus | None
    core_mates: Cpus | None


def census(seen: Snapshot, warnings: list[str]) -> Census:
    """Who is there, who is switched on, and who may be used."""
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
    online = (online & present) - off
    usable = seen.allowed("cpus", online, warnings)
    if not usable:
        warnings.append("no usable CPU found in sysfs")
    return Census(usable, present - online, online - usable)


def isolated_cpus(seen: Snapshot, usable: Cpus, warnings: list[str]) -> Cpus:
    """CPUs the kernel was told to keep its scheduler off (isolcpus): nobody may be spread over them."""
    isolated = (cpu_list(seen.files.get(f"{CPU_DIR}/isolated")) or frozenset()) & usable
    if isolated and isolated == usable:
        warnings.append("cpu/isolated names every usable CPU: ignored")
        return frozenset()
    return isolated


def places(seen: Snapshot, usable: Cpus) -> dict[int, Place]:
    """The place of every usable CPU; masks are cut down to usable CPUs."""

    def mates(cpu: int, first: str) -> Cpus | None:
        for name in (first, *OTHER_NAMES[first]):
            text = seen.of_cpu(cpu, name)
            cpus = cpu_list(text) if name.endswith("_list") else cpu_mask(text)
            if cpus is not None and cpu in cpus:
                return cpus & usable
        return None

    return {
        cpu: Place(
            package=integer(seen.of_cpu(cpu, "topology/physical_package_id")),
            die=integer(seen.of_cpu(cpu, "topology/die_id")),
            cluster=integer(seen.of_cpu(cpu, "topology/cluster_id")),
            core=integer(seen.of_cpu(cpu, "topology/core_id")),
            package_mates=mates(cpu, "topology/core_siblings"),
            core_mates=mates(cpu, "topology/thread_siblings"),
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


def clusters(where: Mapping[int, Place]) -> list[Group]:
    """Clusters of cores inside a package, by lowest CPU."""
    by_id: dict[tuple[int | None, int], set[int]] = {}
    packages: dict[int | None, set[int]] = {}
    for cpu, place in where.items():
        packages.setdefault(place.package, set()).add(cpu)
        if place.cluster is not None and 0 <= place.cluster != NO_CLUSTER:
            by_id.setdefault((place.package, place.cluster), set()).add(cpu)
    found = [
        frozenset(cpus)
        for (package, _), cpus in by_id.items()
        if len({where[cpu].core for cpu in cpus}) > 1 and cpus != packages[package]
    ]
    return [Group(ZoneKind.CLUSTER, index, cpus) for index, cpus in enumerate(sorted(found, key=sorted))]


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
