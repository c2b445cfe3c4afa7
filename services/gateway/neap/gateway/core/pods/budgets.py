"""PodDisruptionBudgets: which of them a pod is under. How much room they have, the API server counts.

A null selector selects nothing, an empty one every pod of the namespace.
Source: Kubernetes documentation, "Specifying a Disruption Budget"; policy/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neap.common.kube.objects import LabelSelector, PodDisruptionBudget


class Budgets:
    """By namespace and key."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, tuple[LabelSelector, int]]] = {}  # namespace -> key -> selector, room

    def see(self, budget: PodDisruptionBudget) -> bool:
        """A budget as it is now; whether it has more room than before."""
        meta = budget.metadata
        mine = self._known.setdefault(meta.namespace, {})
        before = mine.get(meta.key)
        if budget.spec.selector is None:
            mine.pop(meta.key, None)
            return before is not None
        room = budget.status.disruptions_allowed
        mine[meta.key] = budget.spec.selector, room
        return before is None or room > before[1] or before[0] != budget.spec.selector

    def forget(self, key: str) -> None:
        """It is gone."""
        self._known.get(key.partition("/")[0], {}).pop(key, None)

    def of(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Keys of the budgets over a pod with these labels."""
        mine = self._known.get(namespace, {})
        return sorted(key for key, (selector, _) in mine.items() if selects(selector, labels))


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether all of a selector's conditions hold."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.match_expressions or ())


def _holds(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(one.get("key", "")), one.get("values") or ()
    match one.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values or key not in labels
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
