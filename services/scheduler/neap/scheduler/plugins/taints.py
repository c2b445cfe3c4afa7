"""Keep pods off tainted and cordoned nodes unless they tolerate it; prefer nodes that do not ask to be avoided.

    passes(node) = every taint NoSchedule or NoExecute that is meant for the pod's class is tolerated     [bool]
    score(node)  = 100 / (1 + n),  n = taints PreferNoSchedule meant for it and not tolerated              [0..100]

A cordoned node has the taint node.kubernetes.io/unschedulable:NoSchedule. A taint with QoS classes is meant for these
alone: that is how a node is closed for guests and stays open for owners. One rule per taint, by name.
By the node's own count and not by its share of the worst node's (kube-scheduler), because a score must not change
when another node does; the order of nodes is the same. Units: none. Costs nothing where no node has a taint.
Source: Kubernetes, "Taints and Tolerations"; kube-scheduler TaintToleration and NodeUnschedulable; Katalyst, CNR
taints with a QoS level (reference katalyst-control 3.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.scheduling import Taint
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.taints import COLUMN, CORDON, TAINTS, Taints, minded, written
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def tolerated(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule per taint that keeps this pod away somewhere."""
    taints: Taints = view.fact(TAINTS)
    if taints.ask(pod) is None:
        return ()
    found, sets = taints.verdict(pod), view.column(COLUMN)
    rules = [_rule(_said(taint), passes[sets], pod, view) for taint, passes in found.hard]
    if found.others is not None:
        rules.append(_rule("another taint", found.others[sets], pod, view))
    return rules


def unavoided(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None where no node asks this pod to avoid it."""
    taints: Taints = view.fact(TAINTS)
    score = taints.verdict(pod).soft if taints.ask(pod) is not None else None
    return score[view.column(COLUMN)] if score is not None else None


def _said(taint: Taint) -> str:
    return "cordoned" if taint == CORDON else f"taint {written(taint)}"


def _rule(reason: str, passes: Mask, pod: Pod, view: View) -> Rule:
    def near() -> Near:
        taints: Taints = view.fact(TAINTS)

        def tell(row: int) -> str:
            some = sorted(written(one) for one in minded(taints.sets[view.column(COLUMN)[row]], pod))
            return f"{{node}} has {', '.join(some) or 'no taint against it'}, not tolerated"

        return Near(np.where(passes, 0.0, np.inf), tell, lambda _: f"tolerating {reason.removeprefix('taint ')}")

    return Rule(reason, passes, WAKES, near)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=tolerated, score=unavoided)
