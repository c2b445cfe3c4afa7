"""Only nodes that one of a pod's required terms accepts; prefer those that its preferred terms accept.

    passes(node) = one of the required terms holds, with all its expressions                               [bool]
    score(node)  = 100 · Σ weight(preferred terms that hold) / Σ weight(preferred terms)                   [0..100]

Operators: In, NotIn (also without the label), Exists, DoesNotExist, and Gt, Lt between 64-bit integers; fields: the
node's name. A term without conditions accepts nothing. By the pod's own weights and not by the best node's sum
(kube-scheduler), because a score must not change when another node does; the order of nodes is the same.
Units: none; weights 1..100. A pod without node affinity costs nothing.
Source: Kubernetes, Pod spec.affinity.nodeAffinity; kube-scheduler NodeAffinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.scheduling import Expression, NodeTerm
from neap.scheduler.core.choice.framework import Near, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.domains import DOMAINS, Domains
from neap.scheduler.core.nodes.labels import NAME, Labels
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def accepted(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule: the terms are alternatives."""
    terms = pod.workload.constraints.node_required
    if not terms:
        return ()
    domains: Domains = view.fact(DOMAINS)
    labels = domains.labels
    passes = labels.required(view, terms)
    return [Rule("node affinity", passes, WAKES, lambda: _near(terms, passes, labels, view))]


def preferred(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod that prefers nothing."""
    terms = [term for term in pod.workload.constraints.node_preferred if term.expressions or term.names]
    weights = sum(term.weight for term in terms)
    if weights <= 0:
        return None
    domains: Domains = view.fact(DOMAINS)
    total = np.zeros(view.size)
    for term in terms:
        total += term.weight * domains.labels.term(view, term)
    return 100 * total / weights


def _near(terms: Sequence[NodeTerm], passes: Mask, labels: Labels, view: View) -> Near:
    """The term with the fewest conditions that do not hold."""
    conditions = [[*((one, "") for one in term.expressions), *((one, NAME) for one in term.names)] for term in terms]
    broken = [[~labels.matching(view, one, name) for one, name in some] for some in conditions]
    counts = np.array([np.sum(some, axis=0) if some else np.full(view.size, np.inf) for some in broken])
    best = counts.argmin(axis=0)

    def wanted(row: int) -> str:
        term = int(best[row])
        said = [
            _written(one, name) for (one, name), out in zip(conditions[term], broken[term], strict=True) if out[row]
        ]
        return " and ".join(said) or "a term with conditions"

    missing = np.where(passes, 0.0, counts.min(axis=0))
    return Near(missing, lambda row: f"{{node}} is not {wanted(row)}", lambda row: f"{wanted(row)} on {{node}}")


def _written(expression: Expression, name: str) -> str:
    values = ", ".join(expression.values[:4]) + ", ..." * (len(expression.values) > 4)
    key = name.partition(":")[2] or expression.key
    return f"{key} {expression.operator}{f' ({values})' * bool(values)}"


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=accepted, score=preferred)
