"""What a pod will use of profiled kinds on every type of machine, and the columns it is held against.

    demand(row) = the amount predicted for the row's machine type; of a type nobody described, at ratio 1

Columns, kept by whoever keeps the table:

    label/<machine label>     int64 (rows,)           columns.code of the machine type's name; 0: unknown
    zone/limit/<kind>         float64 (rows, zones)   what a zone can give, whole units; NaN: absent or unknown (fill)
    zone/charged/<kind>       float64 (rows, zones)   Σ of what is charged there (fill 0)

The cell of a zone is its NUMA index; kinds of scope NODE use cell 0 alone. NUMA nodes that share one limit share a
cell's numbers by the table's arithmetic, not here. A placement carries `charged[kind]` (see `charges`) and `numa`;
each of its NUMA nodes is charged `portion(charged, len(numa))`, so reserve and release are exact inverses.
Source: requirements 004-01, 004-02, 004-18, 004-19, 004-42.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from neap.common.model.profile import MachineType, ProfiledKind, ServiceProfile, predicted
from neap.common.model.resource import CPU, RECLAIMED_CPU, Resources
from neap.scheduler.core.columns import code
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.rating import Zones
from neap.scheduler.core.view import Numbers, View


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one kind: whole units by code of the machine type, and on machines of no known type."""

    kind: ProfiledKind
    by_machine: tuple[tuple[int, int], ...]
    elsewhere: int

    def on(self, machine: int) -> int:
        """The amount on one machine type."""
        return dict(self.by_machine).get(machine, self.elsewhere)

    def amounts(self, machines: NDArray[np.int64]) -> Numbers:
        """The amount on every row. Cost: O(rows × machine types)."""
        found = np.full(len(machines), float(self.elsewhere))
        for machine, amount in self.by_machine:
            found[machines == machine] = amount
        return found

    @property
    def span(self) -> str:
        """Least and most of it for people: 180..720 bytes/s."""
        amounts = sorted({self.elsewhere, *(amount for _, amount in self.by_machine)})
        return f"{amounts[0]}{f'..{amounts[-1]}' if len(amounts) > 1 else ''} {self.kind.unit}"


@dataclass(frozen=True, slots=True, eq=False)
class ProfiledPod(Pod):
    """A pod whose service has a profile. Its shape says so: other demands are another shape."""

    demands: tuple[Demand, ...] = ()  # by kind
    zones: int = 1  # NUMA nodes it is divided over, evenly


def demands_of(
    profile: ServiceProfile, pod: Pod, kinds: Mapping[str, ProfiledKind], machines: Mapping[str, MachineType]
) -> tuple[Demand, ...]:
    """What a profile predicts for a pod; a kind it knows nothing of is not there."""
    cpu, found = pod.requests.get(CPU, 0) + pod.requests.get(RECLAIMED_CPU, 0), []
    for kind in sorted(kinds.values(), key=lambda kind: kind.name):
        unknown = predicted(kind, profile.observations, cpu, "", machines)
        if unknown is None:
            continue
        seen = {one.machine for one in profile.observations if one.kind == kind.name}
        told = {name: predicted(kind, profile.observations, cpu, name, machines) for name in sorted({*machines, *seen})}
        amounts = tuple((code(name), one.amount) for name, one in told.items() if name and one is not None)
        found.append(Demand(kind, amounts, unknown.amount))
    return tuple(found)


def profiled(pod: Pod, demands: Sequence[Demand], zones: int = 1) -> ProfiledPod:
    """The pod with what it will use; a pod without demands is as good as one without a profile."""
    ordered = tuple(sorted(demands, key=lambda demand: demand.kind.name))
    same = tuple((msgspec.structs.astuple(one.kind), one.by_machine, one.elsewhere) for one in ordered)
    return ProfiledPod(
        pod.workload,
        pod.submitted_at,
        pod.requests,
        pod.asks,
        pod.estimate,
        pod.guest,
        (*pod.shape, same, zones),
        (*pod.lane, same, zones),
        ordered,
        zones,
    )


def charges(pod: Pod, machine: int) -> Resources:
    """What a placement on this type of machine is charged beside the requests."""
    return {one.kind.name: one.on(machine) for one in pod.demands} if isinstance(pod, ProfiledPod) else {}


def machines(view: View, label: str) -> NDArray[np.int64]:
    """The machine type of every row; 0 where nobody said."""
    try:
        return view.column(f"label/{label}")
    except KeyError:
        return np.zeros(view.size, dtype=np.int64)


def zones(view: View, kind: str) -> Zones:
    """The zones of a kind; one unknown zone per row where nobody ever reported it."""
    try:
        return Zones(view.column(f"zone/limit/{kind}"), view.column(f"zone/charged/{kind}"))
    except KeyError:
        return Zones(np.full((view.size, 1), np.nan), np.zeros((view.size, 1)))
