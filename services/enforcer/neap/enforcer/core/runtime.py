"""What the container runtime should set on a container, drawn from the advice for its pod.

Only what a pod's cgroup cannot carry, or carries too late for a container's first instruction:

    cpus, mems      the pod's sets; a container that started elsewhere would have to move its pages
    oom_score_adj   belongs to processes, and a process inherits it from the first one
    env             what limits a GPU share; nothing else can put it there

Weights, quotas and memory limits stay with the pod's cgroup: the container's own are the kubelet's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from neap.common.model.device import DeviceState
from neap.enforcer.nri.model import Adjustment, Resources

Environments: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]  # (pod uid, container name) -> variables
Wished: TypeAlias = Mapping[str, str]  # kernel file -> text, of one pod


def environments(state: DeviceState) -> Environments:
    """The variables of every container that has a share of a card."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for card in state.cards:
        for allocation in card.allocations:
            mine = found.setdefault((allocation.uid, allocation.share.container), {})
            mine |= allocation.environment
    return found


def sets(wished: Wished) -> Resources:
    """A container's sets; empty where nothing is wished."""
    return Resources(cpus=wished.get("cpuset.cpus", "").strip(), mems=wished.get("cpuset.mems", "").strip())


def adjustment(wished: Wished, environment: Mapping[str, str]) -> Adjustment | None:
    """What to set before the container starts; None for a pod nothing is known of."""
    oom = wished.get("oom_score_adj")
    found = Adjustment(
        resources=sets(wished), env=dict(environment), oom_score_adj=int(oom) if oom is not None else None
    )
    return None if found == Adjustment() else found
