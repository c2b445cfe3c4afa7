"""How well one container would sit on the NUMA nodes of every row, as the worst that could be chosen.

Formulas: plugins/numa.py. Whole units; scores are whole numbers 0..100. Cost: O(rows × sets × kinds).
Source: Katalyst NodeResourceTopology, score.go, most_allocated.go, least_allocated.go, balanced_allocation.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from neap.scheduler.core.choice.binding import Need, fewest, sets_of, width
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.nodes.zones import BOUND, ZONES

Strategy: TypeAlias = Literal["most", "least", "balanced"]


def container_score(
    view: View,
    ask: Sequence[tuple[str, int]],
    strategy: Strategy,
    weights: Mapping[str, float],
    *,
    alone: bool,
    sets: Mask,
) -> Numbers:
    """Shape (rows,). `ask`: amounts by kind, at least one; `sets`: rows on which the smallest sets that hold it count."""
    needs = [Need.of(view, kind, np.full(view.size, float(amount))) for kind, amount in ask]
    count = np.ones(view.size, dtype=np.int64)
    if sets.any():
        count = np.where(sets, fewest(view, needs, [kind for kind, _ in ask], alone=True), 1)
    idle = view.column(BOUND) == 0
    free = [np.maximum(np.nan_to_num(need.zones.left, nan=0.0), 0.0) for need in needs]
    if alone:
        free = [
            np.where(idle & (need.zones.charged == 0), amount, 0.0) for need, amount in zip(needs, free, strict=True)
        ]
    worst = np.zeros(view.size)
    for k in map(int, np.unique(count)):
        rows = np.flatnonzero(count == k)
        cells = sets_of(width(view, rows) if k > 1 else ZONES, k) if k else None
        if cells is None:
            continue
        given = [amount[rows][:, cells].sum(axis=2) for amount in free]
        scores = _scores(
            given, [float(amount) for _, amount in ask], strategy, [weights.get(kind, 1.0) for kind, _ in ask]
        )
        lowest = np.where(scores > 0, scores, np.inf).min(axis=1)
        worst[rows] = np.where(np.isinf(lowest), 0.0, lowest)
    return worst


def _scores(free: Sequence[Numbers], asked: Sequence[float], strategy: Strategy, weights: Sequence[float]) -> Numbers:
    """Of every set; shape (rows, sets)."""
    if strategy == "balanced":
        return _balanced(free, asked)
    total, sum_of_weights = np.zeros_like(free[0]), sum(weights)
    if sum_of_weights <= 0:
        return total
    for left, ask, weight in zip(free, asked, weights, strict=True):
        fits = (left > 0) & (ask <= left)
        part = 100 * ask if strategy == "most" else 100 * (left - ask)
        total += weight * np.floor_divide(part, left, out=np.zeros_like(left), where=fits)
    return np.floor(total / sum_of_weights)


def _balanced(free: Sequence[Numbers], asked: Sequence[float]) -> Numbers:
    fits = np.ones_like(free[0], dtype=np.bool_)
    parts = []
    for left, ask in zip(free, asked, strict=True):
        fits &= (left > 0) & (ask <= left)
        parts.append(np.divide(ask, left, out=np.zeros_like(left), where=left > 0))
    variance = np.var(np.array(parts), axis=0, ddof=1) if len(parts) > 1 else np.zeros_like(free[0])
    return np.where(fits, np.floor((1 - variance) * 100 + 1e-9), 0.0)
