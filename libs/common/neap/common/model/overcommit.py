"""Over-commitment: a node sells more of a kind than it has, but never a core that somebody owns.

    sold      = ⌊(original − owned) · ratio⌋ + owned          cpu; for other kinds owned = 0
    refused   a ratio with which sold < Σ requested            somebody would run on what is not there

`owned` are the CPUs of dedicated pods, and on nodes whose kubelet gives whole CPUs away those of Guaranteed pods that
ask for whole ones. Nobody runs beside them, so there is nothing of them to sell twice. Ratios below 1 count as 1.
Units: the kind's own whole units. Planner and gateway ask `in_the_way` before they lower a ratio.
Source: Katalyst NodeOvercommitment and overcommit controller (formulas); requirements 001-08; cases AC-7, AC-17, AC-18.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from neap.common.model.manifest import kube_qos
from neap.common.model.placement import Placement
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, LARGEST, Resources
from neap.common.model.workload import Container, Workload
from neap.common.units import MilliCores, Ratio


def owns_whole_cpus(containers: Sequence[Container]) -> bool:
    """Whether a static CPU policy gives these containers CPUs of their own: Guaranteed, all in whole CPUs."""
    asked = [container.requests.get(CPU, 0) for container in containers]
    return all(cpu > 0 and cpu % 1000 == 0 for cpu in asked) and kube_qos(containers) is KubeQos.GUARANTEED


def is_owner_of_cpus(workload: Workload, *, pinned: bool) -> bool:
    """Whether nobody else runs on this workload's CPUs; `pinned`: its node's kubelet gives whole CPUs away."""
    return workload.qos is QosClass.DEDICATED or (
        pinned and workload.qos is not QosClass.RECLAIMED and owns_whole_cpus(workload.containers)
    )


def sold(original: int, ratio: Ratio, owned: int = 0) -> int:
    """What a node sells of a kind; see module docstring. A millionth below a whole unit is the float's error."""
    times = max(1.0, ratio) if math.isfinite(ratio) else 1.0
    return min(LARGEST, math.floor((original - owned) * times + 1e-6) + owned)


def owned_cpu(placements: Iterable[Placement], *, pinned: bool) -> MilliCores:
    """What is owned of a node's CPUs."""
    return sum(p.charged.get(CPU, 0) for p in placements if is_owner_of_cpus(p.workload, pinned=pinned))


def in_the_way(
    original: Resources, ratios: Mapping[str, Ratio], placements: Iterable[Placement], *, pinned: bool = False
) -> dict[str, tuple[str, ...]]:
    """Why ratios are refused: by kind that would be short, the pods (namespace/name) to leave before; {}: they hold.

    Owners are never named: their leaving gives less than they hold. Of the others those of the lowest priority are
    named, of one priority the largest, until what is left fits. Cost: O(pods · log pods) per kind.
    """
    held, found = list(placements), dict[str, tuple[str, ...]]()
    for kind in sorted(original):
        owned = owned_cpu(held, pinned=pinned) if kind == CPU else 0
        over = sum(p.charged.get(kind, 0) for p in held) - sold(original[kind], ratios.get(kind, 1.0), owned)
        named: list[str] = []
        others = [p for p in held if kind != CPU or not is_owner_of_cpus(p.workload, pinned=pinned)]
        for placement in sorted(others, key=lambda p: (p.workload.priority, -p.charged.get(kind, 0), p.workload.uid)):
            amount = placement.charged.get(kind, 0)
            if over > 0 and amount > 0:
                named.append(placement.workload.key)
                over -= amount
        if named:
            found[kind] = tuple(named)
    return found
