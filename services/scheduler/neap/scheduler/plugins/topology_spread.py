"""Spread a pod's like over zones, racks or hosts: no domain far ahead of the least, as Kubernetes counts.

    skew(node)   = matching(domain) + own − least       least = the fewest in a domain; 0 below `minDomains` domains
    passes(node) = the node has the label, and skew <= maxSkew               DoNotSchedule                 [bool]
    score(node)  = mean of 100 · maxSkew / (maxSkew + matching − least)      ScheduleAnyway; 0 without the label

own is 1 if the pod itself matches. Domains are those of nodes that the pod's node selector and required node affinity
accept and that carry all labels it spreads over (hard and soft apart); pods are counted on these nodes, in the pod's
namespace. An empty selector counts nobody. The score depends on the distance to the least domain and not on absolute
counts (kube-scheduler), so that 50 and 49 pods are as far apart as 2 and 1.
Units: pods. A pod that spreads over nothing costs one look-up.
Source: Kubernetes, "Pod Topology Spread Constraints" (nodeAffinityPolicy Honor, nodeTaintsPolicy Ignore, the
defaults); kube-scheduler PodTopologySpread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.domains import DOMAINS, Domains
from neap.scheduler.core.nodes.standing import Skewed
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.POD, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def level(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per hard constraint."""
    if not pod.workload.constraints.spread:
        return ()
    domains: Domains = view.fact(DOMAINS)
    found = domains.standing(pod)
    return [_rule(one, view) for one in found.hard] if found is not None else ()


def even(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod without soft constraints."""
    if not pod.workload.constraints.spread:
        return None
    domains: Domains = view.fact(DOMAINS)
    found = domains.standing(pod)
    if found is None or not found.soft:
        return None
    total, whole = np.zeros(view.size), np.ones(view.size, dtype=np.bool_)
    for one in found.soft:
        numbers = view.column(one.key.column)
        total += one.score[numbers]
        whole &= numbers > 0
    return np.where(whole, total / len(found.soft), 0.0)


def _rule(one: Skewed, view: View) -> Rule:
    numbers, topology, allowed = view.column(one.key.column), one.spread.topology, one.spread.skew
    passes = one.passes[numbers]

    def near() -> Near:
        skews = one.skew[numbers].astype(np.float64)
        missing = np.where(passes, 0.0, np.where(numbers > 0, skews - allowed, np.inf))

        def tell(row: int) -> str:
            value = one.key.values[numbers[row]]
            if value is None:
                return f"{{node}} has no label {topology}"
            there = f"{one.counts[numbers[row]]} matching pods in {topology}={value}"
            return f"{{node}} has {there}, {one.least} in the least: skew {skews[row]:.0f}, {allowed} allowed"

        def change(row: int) -> str:
            value = one.key.values[numbers[row]]
            return (
                f"a label {topology} on {{node}}" if value is None else f"{missing[row]:.0f} more in the least domain"
            )

        return Near(missing, tell, change)

    return Rule(f"skew over {topology} above {allowed}", passes, WAKES, near)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=level, score=even)
