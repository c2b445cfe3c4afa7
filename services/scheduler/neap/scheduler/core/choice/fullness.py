"""How full a node is of each kind once a pod is there: what spreading, packing, shaped and balanced allocation look at.

    capacity = allocatable          after = requested + ask          [the kind's whole units, float64, shape (rows,)]

An owner is weighed by CPU and memory, a guest by their lent twins, everybody by further kinds that have a weight and
that it asks for. A kind a node does not have takes no part there. Percent of cards is gpu_share's business.
Source: Katalyst QoSAwareNodeResourcesFit (which lists count for whom; capacity 0 is left out of sum and weights).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import numpy as np
from msgspec import Meta

from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

OWNED: Final = (CPU, MEMORY)
LENT: Final = (RECLAIMED_CPU, RECLAIMED_MEMORY)
Weights: TypeAlias = dict[str, Annotated[float, Meta(ge=0, le=1000)]]
NO_KINDS: Final = np.zeros((0, 0))
ELSEWHERE: Final = frozenset({*OWNED, *LENT, GPU_CORE, GPU_MEMORY})


class Full(NamedTuple):
    """One kind on every node. Shapes (rows,)."""

    capacity: Numbers
    after: Numbers
    weight: float
    divisor: Numbers  # the capacity, ∞ where there is none

    def share(self) -> Numbers:
        """After / capacity; 0 where there is no capacity."""
        return self.after / self.divisor

    def percent(self, amount: Numbers, *, whole: bool) -> Numbers:
        """100 · amount / capacity, in integer arithmetic if `whole`; 0 where there is no capacity."""
        return np.floor_divide(100 * amount, self.divisor) if whole else 100 * amount / self.divisor


def fullness(pod: Pod, view: View, weights: Mapping[str, float]) -> list[Full]:
    """The kinds that count for a pod; weight 1 unless `weights` says otherwise, further kinds only if it does."""
    own = LENT if pod.guest else OWNED
    further = sorted(kind for kind in weights if kind not in ELSEWHERE and pod.requests.get(kind, 0) > 0)
    kinds = tuple([kind for kind in (*own, *further) if weights.get(kind, 1.0) > 0])
    divisors = view.told(("divisors", kinds), lambda some: _divisors(some, kinds)) if kinds else NO_KINDS
    return [
        Full(
            view.allocatable(kind),
            view.requested(kind) + pod.requests.get(kind, 0),
            weights.get(kind, 1.0),
            divisors[:, number],
        )
        for number, kind in enumerate(kinds)
    ]


def weighted(fulls: Sequence[Full], score: Callable[[Full], Numbers], *, whole: bool) -> Numbers | None:
    """Σ weight · score / Σ weight over the kinds a node has, cut to whole points if `whole`; None: no kind counts."""
    if not fulls:
        return None
    total: Any = 0.0
    weights: Any = 0.0  # one number as long as every node has every kind
    for full in fulls:
        part = score(full) if full.weight == 1 else full.weight * score(full)
        if len(part) and full.divisor[full.divisor.argmax()] < np.inf:  # every node has it
            total, weights = total + part, weights + full.weight
        else:
            there = full.capacity > 0
            total, weights = total + np.where(there, part, 0.0), weights + full.weight * there
    divide = np.floor_divide if whole else np.divide
    if isinstance(weights, float):
        mean = divide(total, weights)
    else:
        mean = divide(total, weights, out=np.zeros(len(weights)), where=weights > 0)
    found: Numbers = np.minimum(np.maximum(mean, 0.0), 100.0)
    return found


def _divisors(view: View, kinds: Sequence[str]) -> Numbers:
    capacities = [view.allocatable(kind) for kind in kinds]
    return np.column_stack([np.where(capacity > 0, capacity, np.inf) for capacity in capacities])
