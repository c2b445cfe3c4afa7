"""How full a node is of each kind once a pod is there: what least, most, shaped and balanced allocation look at.

    capacity = allocatable          after = requested + ask          [the kind's whole units, float64, shape (rows,)]

An owner is weighed by CPU and memory, a guest by their lent twins, everybody by further kinds that have a weight and
that it asks for. A kind a node does not have takes no part there. Percent of cards is gpu_share's business.
Source: Katalyst QoSAwareNodeResourcesFit (which lists count for whom; capacity 0 is left out of sum and weights).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import Numbers, View

OWNED: Final = (CPU, MEMORY)
LENT: Final = (RECLAIMED_CPU, RECLAIMED_MEMORY)
ELSEWHERE: Final = frozenset({*OWNED, *LENT, GPU_CORE, GPU_MEMORY})


class Full(NamedTuple):
    """One kind on every node. Shapes (rows,)."""

    capacity: Numbers
    after: Numbers
    weight: float

    def share(self) -> Numbers:
        """After / capacity; 0 where there is no capacity."""
        return np.divide(self.after, self.capacity, out=np.zeros(len(self.after)), where=self.capacity > 0)

    def percent(self, amount: Numbers, *, whole: bool) -> Numbers:
        """100 · amount / capacity, in integer arithmetic if `whole`; 0 where there is no capacity."""
        divide = np.floor_divide if whole else np.divide
        return divide(100 * amount, self.capacity, out=np.zeros(len(amount)), where=self.capacity > 0)


def fullness(pod: Pod, view: View, weights: Mapping[str, float]) -> list[Full]:
    """The kinds that count for a pod; weight 1 unless `weights` says otherwise, further kinds only if it does."""
    own = LENT if pod.guest else OWNED
    further = sorted(kind for kind in weights if kind not in ELSEWHERE and pod.requests.get(kind, 0) > 0)
    return [
        Full(view.allocatable(kind), view.requested(kind) + pod.requests.get(kind, 0), weight)
        for kind in (*own, *further)
        if (weight := weights.get(kind, 1.0)) > 0
    ]


def weighted(fulls: Sequence[Full], score: Callable[[Full], Numbers], *, whole: bool) -> Numbers | None:
    """Σ weight · score / Σ weight over the kinds a node has, cut to whole points if `whole`; None: no kind counts."""
    if not fulls:
        return None
    total, weights = np.zeros(len(fulls[0].after)), np.zeros(len(fulls[0].after))
    for full in fulls:
        there = full.capacity > 0
        total += np.where(there, full.weight * score(full), 0.0)
        weights += full.weight * there
    divide = np.floor_divide if whole else np.divide
    return np.clip(divide(total, weights, out=np.zeros(len(total)), where=weights > 0), 0.0, 100.0)
