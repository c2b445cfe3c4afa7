"""Rating nodes by what is left of a profiled kind (memory bandwidth and its like), as pure functions on columns.

    left(zone)   = limit − charged                 signed: a large pod may overflow a zone that it has to itself
    node left    = Σ zones left                    what a naive scorer looks at; it sends pods where no zone can hold them
    most left    = max over zones of left          what a pod that runs in one zone can get
    rating       = 100 · (x − min) / (max − min)   over nodes that can hold the pod; all equal, or one node: 100
    by limit     = 100 · x / limit                 the same node gets the same rating whatever the others do

Rate what is left *after* the demand predicted for the node's own type: raw left favours fast machines. NaN is
*unknown*: it takes no part in min and max, is rated 0, and is named. Infeasible nodes are rated 0 as well.
Amounts: whole units of the kind in float64. A zone is a NUMA node, or the node itself for kinds with one limit.
Spread takes the zone with the most left, pack the one with the least that holds the pod; ties: the lowest zone.
Cost: O(nodes × zones × zones wanted).
Source: requirements 004-11 … 004-13b, 004-17, 004-19, 004-24 … 004-30; our acceptance cases MB-1, MB-2, MB-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.nodes.view import Mask, Numbers

MOST_NAMED: Final = 5  # nodes in a sentence
MOST_LOOKED_AT: Final = 64  # of them, where many are equal


class Zones(NamedTuple):
    """The zones of some nodes, both of shape (rows, zones); a zone that is not there or not known has limit NaN."""

    limit: Numbers
    charged: Numbers

    @property
    def left(self) -> Numbers:
        """Signed; NaN where unknown."""
        return self.limit - self.charged

    @property
    def known(self) -> Mask:
        """Rows of which at least one zone is known."""
        return np.asarray(~np.isnan(self.limit).all(axis=1))


class Choice(NamedTuple):
    """Zones for one pod on every node."""

    cells: NDArray[np.intp]  # shape (rows, zones wanted); means nothing where `enough` is False
    enough: Mask


def node_left(left: Numbers) -> Numbers:
    """The sum over a node's known zones, signed; NaN where none is known. Shape (rows, zones) -> (rows,)."""
    return np.where(np.isnan(left).all(axis=1), np.nan, np.nansum(left, axis=1))


def most_left(left: Numbers) -> Numbers:
    """The best of a node's known zones; NaN where none is known. Shape (rows, zones) -> (rows,)."""
    best = np.where(np.isnan(left), -np.inf, left).max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(best), np.nan, best)


def shown(left: Numbers) -> tuple[Numbers, Numbers]:
    """For sums and reports: what is left, at least 0, and by how much a zone is saturated."""
    return np.maximum(left, 0.0), np.maximum(-left, 0.0)


def rate(left: Numbers, feasible: Mask | None = None, *, pack: bool = False) -> Numbers:
    """Min–max rating among feasible, known nodes, 0..100, most left best (least left with `pack`). Shapes (rows,)."""
    counted = np.isfinite(left) if feasible is None else np.isfinite(left) & feasible
    if not counted.any():
        return np.zeros(len(left))
    low, high = left[counted].min(), left[counted].max()
    if low == high:
        return np.where(counted, 100.0, 0.0)
    rise = high - left if pack else left - low
    return np.where(counted, np.clip(100 * np.where(counted, rise, 0.0) / (high - low), 0.0, 100.0), 0.0)


def rate_by_limit(left: Numbers, limit: Numbers) -> Numbers:
    """Share of its own limit that a node has left, 0..100; 0 where unknown. Shapes (rows,)."""
    counted = np.isfinite(left) & (limit > 0)
    return np.clip(np.divide(100 * left, limit, out=np.zeros(len(left)), where=counted), 0.0, 100.0)


def portion(demand: Numbers, count: int | NDArray[np.int64]) -> Numbers:
    """What each of `count` zones bears of a demand: an even part, in whole units, rounded up."""
    return np.ceil(demand / count)


def holding(zones: Zones, each: Numbers, *, overflows: bool = False) -> Mask:
    """Which zones can hold `each`, shape (rows,); the result has the shape of the zones. Unknown ones cannot.

    With `overflows`, what is larger than a zone's limit may have an untouched zone to itself: it fits nowhere else.
    """
    ask = each[:, None]
    fits: Mask = zones.left >= ask
    return fits | ((ask > zones.limit) & (zones.charged == 0)) if overflows else fits


def choose(holds: Mask, value: Numbers, count: int = 1, *, untouched: Mask | None = None) -> Choice:
    """`count` zones of every node among those that hold the pod, the highest `value` first, then the lowest zone.

    Zones named `untouched` come last, so that they stay empty for pods that need one whole. Shapes (rows, zones).
    """
    rows, free = np.arange(len(holds)), holds.copy() if count > 1 else holds
    cells = np.zeros((len(holds), count), dtype=np.intp)
    for turn in range(count):
        among = free
        if untouched is not None:
            opened = free & ~untouched
            among = np.where(opened.any(axis=1, keepdims=True), opened, free)
        cells[:, turn] = pick = np.where(among, value, -np.inf).argmax(axis=1)
        if turn + 1 < count:
            free[rows, pick] = False
    return Choice(cells, np.asarray(holds.sum(axis=1) >= count))


def after(left: Numbers, each: Numbers, choice: Choice) -> Numbers:
    """What is left on the tightest of the chosen zones once the pod is there; NaN where it does not fit."""
    tightest = np.take_along_axis(left, choice.cells, axis=1).min(axis=1, initial=np.inf)
    return np.where(choice.enough, tightest - each, np.nan)


def most_left_sentence(names: Sequence[str], left: Numbers, counted: Mask | None = None) -> str:
    """For people: "most-left NUMA: A=1500 B=800; unknown: C". Best first, by name among equals, a few of each.

    Of many nodes that are equal the first ones are looked at. Cost: O(rows × zones).
    """
    rows = np.arange(len(names)) if counted is None else np.flatnonzero(counted)
    best = np.fmax.reduce(left[rows], axis=1, initial=-np.inf) if len(rows) else np.zeros(0)
    known, unknown = rows[~np.isneginf(best)], rows[np.isneginf(best)]
    best = best[~np.isneginf(best)]
    if len(best) > MOST_LOOKED_AT:  # of many equal ones the first that came
        first = np.sort(np.argsort(-best, kind="stable")[:MOST_LOOKED_AT])
        best, kept = best[first], known[first]
    else:
        kept = known
    few = sorted(zip(-best, (names[row] for row in kept), strict=True))[:MOST_NAMED]
    more = f" and {len(known) - len(few)} more" if len(known) > len(few) else ""
    text = f"most-left NUMA: {' '.join(f'{name}={-value:.0f}' for value, name in few) or 'none'}{more}"
    dark = sorted(names[row] for row in unknown[:MOST_LOOKED_AT])[:MOST_NAMED]
    more = f" and {len(unknown) - len(dark)} more" if len(unknown) > len(dark) else ""
    return f"{text}; unknown: {' '.join(dark)}{more}" if len(unknown) else text
