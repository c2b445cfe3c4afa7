"""Guests as a report shows them, and how many of their families stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from neap.common.model.protection import family, minimum
from neap.common.model.usage import ContainerUsage, Stall
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.evictor.core.residents import Resident
from neap.evictor.core.tried import cpus_of
from neap.evictor.core.view import Guest, Victim, sane


def staying(guests: Mapping[str, Resident], leaving: Mapping[str, Seconds]) -> dict[str, int]:
    """How many of each family are on this node and stay. Elsewhere there may be more: this node cannot know."""
    counts: dict[str, int] = {}
    for uid, resident in guests.items():
        if uid not in leaving:
            name = family(resident.workload)
            counts[name] = counts.get(name, 0) + 1
    return counts


def is_spare(workload: Workload, counts: Mapping[str, int]) -> bool:
    """Whether its family keeps its minimum without it, counting only those on this node."""
    least = minimum(workload)
    return least == 0 or counts.get(family(workload), 0) > least


def spare(ranked: Iterable[Victim], counts: Mapping[str, int]) -> Iterator[Victim]:
    """Of these those whose families keep their minimum when all that are named before them leave as well."""
    left = dict(counts)
    for victim in ranked:
        if is_spare(victim.guest.workload, left):
            left[family(victim.guest.workload)] -= 1
            yield victim


def measured(
    resident: Resident,
    containers: list[ContainerUsage],
    counts: Mapping[str, int],
    start_cost: Seconds | None = None,
    nodes: Sequence[int] = (),
    *,
    in_vain: bool = False,
) -> Guest:
    """A guest as the report shows it: sums over its containers, unknown as soon as one part is.

    `nodes` are the NUMA nodes of the report, in its order.
    """
    workload = resident.workload
    return Guest(
        workload=workload,
        requests=resident.requests,
        started=resident.started,
        cpu=_sum([container.cpu for container in containers]),
        working_set=int(held)
        if (held := _sum([container.working_set for container in containers], all_known=False)) is not None
        else None,
        stalled=_worst([container.cpu_stall for container in containers]),
        numa=resident.numa,
        cpus=frozenset[int]().union(*(cpus_of(container.cpuset) for container in containers if container.cpuset)),
        io=_sum([_plus(container.io_read, container.io_write) for container in containers]),
        written=_sum([container.io_write for container in containers]),
        bandwidth=_sum([container.bandwidth for container in containers]),
        start_cost=start_cost,
        anon=_lies([container.memory_nodes for container in containers], nodes),
        surplus=workload.gang is not None and is_spare(workload, counts),
        in_vain=in_vain,
    )


def _lies(parts: Sequence[tuple[int, ...] | None], nodes: Sequence[int]) -> dict[int, int] | None:
    """Memory by NUMA node, unknown as soon as one part is."""
    known = [part for part in parts if part is not None and len(part) == len(nodes) and min(part, default=-1) >= 0]
    if not known or len(known) < len(parts):
        return None
    return {node: sum(part[place] for part in known) for place, node in enumerate(nodes)}


def _sum(values: Sequence[float | None], *, all_known: bool = True) -> float | None:
    known = [value for each in values if (value := sane(each)) is not None]
    return sane(sum(known)) if known and (len(known) == len(values) or not all_known) else None


def _plus(one: float | None, other: float | None) -> float | None:
    return None if sane(one) is None or sane(other) is None else (one or 0.0) + (other or 0.0)


def _worst(stalls: Sequence[Stall | None]) -> float | None:
    return max((stall.some60 for stall in stalls if stall is not None and 0 <= stall.some60 <= 1), default=None)
