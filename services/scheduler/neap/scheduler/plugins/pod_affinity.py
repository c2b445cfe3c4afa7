"""Near the pods a pod wants to be near to, away from those it keeps away from, and from those that keep it away.

    near    passes(node) = a pod that all required terms mean is in the node's domain, for each term's label; where
                           nobody is anywhere and the terms mean the pod itself, the label is enough: the first one
    apart   passes(node) = in none of its domains is a pod that a term means
    shunned passes(node) = in none of its domains is a pod with a required anti-affinity term that means this pod
    liking(node) = Σ weight · pods in the domain      of its preferred terms (anti: −weight), of those of running pods
                                                      that mean it, and 1 for each required affinity that means it
    score   = ⌊100 · (liking − least) / (most − least)⌋                                                    [0..100]

least and most are over all domains there are, not over feasible nodes alone (kube-scheduler), so that a score is one
of the domains and can be kept. Nobody scores where all are liked alike. A node without the label meets no affinity and
breaks no anti-affinity.
Units: pods; weights 1..100. A pod that stands to nobody costs two look-ups.
Source: Kubernetes, Pod spec.affinity.podAffinity and podAntiAffinity; kube-scheduler InterPodAffinity (one pod must
meet all required terms; symmetry of anti-affinity; hardPodAffinityWeight 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.domains import DOMAINS, Domains
from neap.scheduler.core.nodes.standing import Beside, Standing
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.POD, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def beside(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per label of affinity, per term of anti-affinity, and per label of running pods' anti-affinity."""
    found = _standing(pod, view)
    if found is None:
        return ()
    return [
        *(_rule(f"no pod to be near to in its {one.topology}", one, view, wants=True) for one in found.near),
        *(_rule(f"pods to keep away from in its {one.topology}", one, view) for one in found.apart),
        *(_rule(f"pods that keep it away in their {one.topology}", one, view) for one in found.shunned),
    ]


def liked(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None where all domains are liked alike."""
    found = _standing(pod, view)
    if found is None or not found.span:
        return None
    total = np.full(view.size, -found.low, dtype=np.int64)
    for one in found.liked:
        total += one.sums[view.column(one.key.column)]
    score: Numbers = np.clip(np.floor(100.0 * total / found.span), 0.0, 100.0)
    return score


def _standing(pod: Pod, view: View) -> Standing | None:
    domains: Domains = view.fact(DOMAINS)
    return domains.standing(pod)


def _rule(reason: str, one: Beside, view: View, *, wants: bool = False) -> Rule:
    numbers = view.column(one.key.column)
    passes = one.passes[numbers]

    def near() -> Near:
        there, counts = numbers > 0, one.counts[numbers].astype(np.float64)
        missing = np.where(passes, 0.0, np.where(there, 1.0 if wants else counts, np.inf))

        def tell(row: int) -> str:
            value = one.key.values[numbers[row]]
            if value is None:
                return f"{{node}} has no label {one.topology}"
            said = "to be near to" if wants else "apart from which it must be"
            return f"{{node}} is in {one.topology}={value} with {counts[row]:.0f} pods {said}"

        def change(row: int) -> str:
            value = one.key.values[numbers[row]]
            if value is None:
                return f"a label {one.topology} on {{node}}"
            return f"{'a' if wants else 'no'} such pod in {one.topology}={value}"

        return Near(missing, tell, change)

    return Rule(reason, passes, WAKES, near)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=beside, score=liked)
