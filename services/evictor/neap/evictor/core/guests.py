"""The guests of one node, folded from its ledger: only reclaimed pods, so that nobody else can ever be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.usage import ContainerUsage
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.evictor.core.view import Guest


class Resident(NamedTuple):
    """A placed guest and when it came."""

    workload: Workload
    requests: Resources
    started: Seconds


def fold(held: Mapping[str, Resident], entry: LedgerEntry) -> dict[str, Resident]:
    """The guests after one more entry; a checkpoint does not make anybody younger."""
    match entry:
        case Placed(placement=placement):
            return _without(held, placement.workload.uid) | _resident(placement, held, entry.at)
        case Released(uid=uid):
            return _without(held, uid)
        case Checkpoint(placements=placements):
            found: dict[str, Resident] = {}
            for placement in placements:
                found |= _resident(placement, held, entry.at)
            return found


def _without(held: Mapping[str, Resident], uid: str) -> dict[str, Resident]:
    return {key: resident for key, resident in held.items() if key != uid}


def _resident(placement: Placement, held: Mapping[str, Resident], at: Seconds) -> dict[str, Resident]:
    workload = placement.workload
    if workload.qos is not QosClass.RECLAIMED:
        return {}
    known = held.get(workload.uid)
    same_run = known is not None and known.workload.attempt == workload.attempt
    return {workload.uid: Resident(workload, workload.requests, known.started if known and same_run else at)}


def measured(resident: Resident, containers: list[ContainerUsage]) -> Guest:
    """A guest as the report shows it: sums over its containers, unknown as soon as one part is."""
    cpu = [container.cpu for container in containers]
    held = [container.working_set for container in containers]
    stalls = [container.cpu_stall.some60 for container in containers if container.cpu_stall is not None]
    return Guest(
        workload=resident.workload,
        requests=resident.requests,
        started=resident.started,
        cpu=sum(known) if (known := [value for value in cpu if value is not None]) and len(known) == len(cpu) else None,
        working_set=sum(sizes) if (sizes := [size for size in held if size is not None]) else None,
        stalled=max(stalls, default=None),
    )
