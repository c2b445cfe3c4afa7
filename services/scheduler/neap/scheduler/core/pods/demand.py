"""What a pod will use of profiled kinds on every type of machine, and the columns it is held against.

    demand(row) = the amount predicted for the row's machine type; of a type nobody described, at ratio 1

The machine type is columns.code of a node's label MACHINE_LABEL; limits and charges are the columns of zones.py. A
placement carries `charged[kind]` (see `charges`) and `numa`; each of its NUMA nodes is charged an even part of it, so
reserve and release are exact inverses.
Source: requirements 004-01, 004-02, 004-18, 004-19, 004-42.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from neap.common.model.profile import MACHINE_LABEL, MachineType, ProfiledKind, ServiceProfile, predicted
from neap.common.model.resource import CPU, RECLAIMED_CPU, Resources
from neap.scheduler.core.choice.rating import Zones
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.nodes.zones import ZONES
from neap.scheduler.core.pods.pod import Pod


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one kind: whole units by code of the machine type, and on machines of no known type."""

    kind: ProfiledKind
    by_machine: tuple[tuple[int, int], ...]
    elsewhere: int
    unsure: str = ""  # what was assumed where the machine's type is not known

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
    zones: int = 1  # NUMA nodes it is divided over at least, evenly
    profile: str = ""  # key and version of what it was predicted from


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
        found.append(Demand(kind, amounts, unknown.amount, unknown.unsure))
    return tuple(found)


def profiled(pod: Pod, demands: Sequence[Demand], zones: int = 0, profile: str = "") -> ProfiledPod:
    """The pod with what it will use; a pod without demands is as good as one without a profile.

    zones: NUMA nodes it is divided over at least; 0: as many as the pod says.
    """
    ordered, count = tuple(sorted(demands, key=lambda demand: demand.kind.name)), zones or pod.wish.spans
    same = tuple((msgspec.structs.astuple(one.kind), one.by_machine, one.elsewhere) for one in ordered)
    own: dict[str, Any] = {field.name: getattr(pod, field.name) for field in fields(Pod)}
    own["shape"] = (*pod.shape, same, count)
    if pod.workload.gang is None:  # the members of a gang wait in one line, whatever their profiles say
        own["lane"] = (*pod.lane, same, count)
    return ProfiledPod(**own, demands=ordered, zones=count, profile=profile)


def charges(pod: Pod, machine: int) -> Resources:
    """What a placement on this type of machine is charged beside the requests."""
    return {one.kind.name: one.on(machine) for one in pod.demands} if isinstance(pod, ProfiledPod) else {}


def machines(view: View) -> NDArray[np.int64]:
    """The machine type of every row; 0 where nobody said."""
    try:
        return view.column(f"label/{MACHINE_LABEL}")
    except KeyError:
        return np.zeros(view.size, dtype=np.int64)


def zones(view: View, kind: str) -> Zones:
    """The zones of a kind; all unknown where nobody ever reported it."""
    try:
        return Zones(view.column(f"zone/limit/{kind}"), view.column(f"zone/charged/{kind}"))
    except KeyError:
        return Zones(np.full((view.size, ZONES), np.nan), np.zeros((view.size, ZONES)))
