"""Which NUMA nodes a pod gets: one search for all it asks for and all its profile predicts, for all nodes at once.

    a set of k cells holds a pod if, of every kind,
        each cell has left >= ⌈amount / k⌉       k times that where cells of the set share one limit
        or, for who has its NUMA nodes alone, the cells are untouched and together give the amount (CPU and memory)
    and each cell has CPUs, is nobody's alone, and, where it must be, they are of one package

Of the sets that hold it: near its cards, of one package, without opening untouched cells (where that is wished),
with the highest `value` on the least cell, then in sum, then the lowest numbers. A row that does not know its limits
of a kind holds any amount of it.
Cost: O(rows × sets × k × kinds); one set per cell for k = 1. More than 2000 sets are too many: such a row has none.
Source: Katalyst numeric and single-NUMA policies (rules), requirements 004-19; the choice among sets is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.common.model.profile import Scope
from neap.common.model.resource import CPU
from neap.scheduler.core.choice.rating import Zones, holding, portion
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.nodes.zones import ALONE, BOUND, COUNT, PACKAGE, ZONES
from neap.scheduler.core.pods.demand import ProfiledPod, machines, zones
from neap.scheduler.core.pods.pod import Pod

MOST_SETS: Final = 2000
MOST_DEALS: Final = 256
Sets = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Need:
    """So much of one kind, on every row."""

    kind: str
    amount: Numbers
    zones: Zones
    overflows: bool = False
    together: bool = False  # the cells of a set give it together, not each its part
    siblings: NDArray[np.int16] | None = None  # cells that share a limit; None: none do

    @classmethod
    def of(cls, view: View, kind: str, amount: Numbers, *, overflows: bool = False, together: bool = False) -> Need:
        """Against what the view knows of it."""
        try:
            siblings = view.column(f"zone/siblings/{kind}")
        except KeyError:
            siblings = None
        return cls(kind, amount, zones(view, kind), overflows, together, siblings)

    def on(self, rows: NDArray[np.intp]) -> Need:
        """Of some rows."""
        siblings = None if self.siblings is None else self.siblings[rows]
        taken = Zones(self.zones.limit[rows], self.zones.charged[rows])
        return Need(self.kind, self.amount[rows], taken, self.overflows, self.together, siblings)

    def holds(self, count: int | NDArray[np.int64]) -> Mask:
        """Which cells hold their part of so many; all of a row that knows no limit. Shape (rows, cells)."""
        held = holding(self.zones, portion(self.amount, count), overflows=self.overflows)
        return held | ~self.zones.known[:, None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What beside the amounts a set must keep, by row or for all; arrays of shape (rows,) or (rows, cells)."""

    count: NDArray[np.int64]  # cells of a set; 0: no set will do
    alone: bool = False  # untouched cells only
    inside: Mask | None = None  # rows on which a set must not cross packages
    known: bool = True  # cells must be known to have CPUs


class Wishes(NamedTuple):
    """What makes one set better than another; shape (rows, cells)."""

    value: Numbers | None = None
    near: Mask | None = None  # cells near its cards
    last: Mask | None = None  # untouched cells that should stay so


class Found(NamedTuple):
    """The best set of every row, as a mask of its cells; where not `enough`, the mask is empty."""

    cells: Mask
    enough: Mask


def search(view: View, needs: Sequence[Need], rules: Rules, wishes: Wishes | None = None) -> Found:
    """See module docstring."""
    chosen = np.zeros((view.size, ZONES), dtype=np.bool_)
    enough = np.zeros(view.size, dtype=np.bool_)
    usable, wishes = _usable(view, rules), wishes or Wishes()
    for count in map(int, np.unique(rules.count)):
        if count < 1:
            continue
        rows = np.flatnonzero(rules.count == count)
        sets = sets_of(width(view, rows) if count > 1 else ZONES, count)
        if sets is None or not len(rows):
            continue
        some = [need.on(rows) for need in needs]
        fits = _fits(some, usable[rows], sets, count)
        best = _best(view, rows, fits, sets, rules, wishes)
        enough[rows] = found = fits[np.arange(len(rows)), best] & fits.any(axis=1)
        chosen[rows[found, None], sets[best[found]]] = True
    return Found(chosen, enough)


def fewest(
    view: View, needs: Sequence[Need], kinds: Sequence[str], *, least: int = 1, alone: bool
) -> NDArray[np.int64]:
    """How many NUMA nodes hold a pod by what they are, whatever is charged; at least `least`, 0 where none do.

    alone: by the sum of the largest; else each must be able to bear its part. Only `kinds` decide.
    """
    asked = [need for need in needs if need.kind in kinds]
    count, open_ = np.zeros(view.size, dtype=np.int64), np.ones(view.size, dtype=np.bool_)
    for k in range(1, ZONES + 1):
        able = _able(asked, k, open_, alone=alone)
        count[able], open_ = k, open_ & ~able
        if not open_.any():
            break
    return np.where(count > 0, np.maximum(count, least), 0)


def _able(asked: Sequence[Need], k: int, able: Mask, *, alone: bool) -> Mask:
    """Of some rows those on which k NUMA nodes would do."""
    cells: Mask = np.ones((len(able), ZONES), dtype=np.bool_)
    for need in asked:
        limit, unknown = np.nan_to_num(need.zones.limit, nan=0.0), ~need.zones.known
        if alone:
            able = able & ((np.sort(limit, axis=1)[:, -k:].sum(axis=1) >= need.amount) | unknown)
        else:
            cells &= (limit >= portion(need.amount, k)[:, None]) | unknown[:, None]
    return np.asarray(able & (cells.sum(axis=1) >= k))


def by_container(
    view: View,
    needs: Sequence[Need],
    containers: Sequence[Sequence[tuple[str, int]]],
    tried: Mask,
    found: Found,
    rules: Rules,
    wishes: Wishes,
) -> Found:
    """Where no one NUMA node will do: the smallest set over which the containers can be dealt. Only rows `tried`.

    Each container fits on a NUMA node of the set, and an even part of the pod on each of them, because that is what a
    ledger charges. Pods of which there are more than 256 ways to deal them are not dealt.
    """
    for count in range(2, min(len(containers), ZONES) + 1):
        rows = np.flatnonzero(tried & ~found.enough)
        sets, deals = sets_of(width(view, rows), count), deals_of(len(containers), count)
        if not len(rows) or sets is None or not deals:
            continue
        some = [need.on(rows) for need in needs]
        fits = _fits(some, _usable(view, rules)[rows], sets, count) & _dealt(some, containers, sets, deals, len(rows))
        best = _best(view, rows, fits, sets, Rules(rules.count, rules.alone), wishes)
        found.enough[rows] = enough = fits.any(axis=1)
        found.cells[rows[enough, None], sets[best[enough]]] = True
    return found


def _dealt(
    needs: Sequence[Need],
    containers: Sequence[Sequence[tuple[str, int]]],
    sets: Sets,
    deals: Sequence[tuple[int, ...]],
    rows: int,
) -> Mask:
    """Whether some way to deal the containers over a set leaves no cell short; shape (rows, sets)."""
    found: Mask = np.zeros((rows, len(sets)), dtype=np.bool_)
    for deal in deals:
        fits: Mask = np.ones_like(found)
        for need in needs:
            left, unknown = need.zones.left, ~need.zones.known[:, None]
            for place in range(sets.shape[1]):
                asks = (
                    dict(asked).get(need.kind, 0)
                    for asked, where in zip(containers, deal, strict=True)
                    if where == place
                )
                fits = np.asarray(fits & ((left[:, sets[:, place]] >= sum(asks)) | unknown))
        found |= fits
    return found


@lru_cache(maxsize=64)
def deals_of(containers: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Every way to deal so many containers over so many places, none left empty; none if there are too many."""
    if count**containers > MOST_DEALS:
        return ()
    return tuple(deal for deal in product(range(count), repeat=containers) if len(set(deal)) == count)


def predicted_needs(pod: Pod, view: View) -> list[Need]:
    """What its profile predicts per NUMA node, by kind."""
    if not isinstance(pod, ProfiledPod):
        return []
    types = machines(view)
    return [
        Need.of(view, one.kind.name, one.amounts(types), overflows=one.kind.overflows)
        for one in pod.demands
        if one.kind.scope is Scope.NUMA
    ]


def room(needs: Sequence[Need], count: NDArray[np.int64], weights: Mapping[str, float]) -> Numbers | None:
    """Σ weight · (left − part) / limit / Σ weight, each at least 0, 0 where unknown; shape (rows, cells)."""
    counted = [(need, max(0.0, weights.get(need.kind, 1.0))) for need in needs]
    total = sum(weight for _, weight in counted)
    if total <= 0:
        return None
    found = np.zeros((len(count), ZONES))
    for need, weight in counted:
        limit, charged = need.zones
        rest = limit - charged - portion(need.amount, np.maximum(count, 1))[:, None]
        share = np.divide(rest, limit, out=np.zeros(limit.shape), where=limit > 0)
        found += weight / total * np.maximum(share, 0.0)
    return found


def best_left(needs: Sequence[Need], row: int, numbers: Mapping[int, int], count: int = 1) -> str:
    """For people: the NUMA node of a row that comes nearest to a part of so many, with what it lacks most."""
    lacks: dict[int, tuple[float, str]] = {}
    for need in needs:
        for cell, left in enumerate(need.zones.left[row]):
            asked = float(portion(need.amount[row : row + 1], count)[0])
            if not np.isnan(left) and asked > 0:
                lack = (
                    (asked - left) / asked,
                    f"{left:.0f} of {need.zones.limit[row, cell]:.0f} {need.kind} left, {asked:.0f} needed",
                )
                lacks[cell] = max(lacks.get(cell, lack), lack)
    if not lacks:
        return "its NUMA nodes are not known"
    cell = min(lacks, key=lambda cell: (lacks[cell][0], cell))
    return f"best NUMA node {numbers.get(cell, cell)} has {lacks[cell][1]}"


def _usable(view: View, rules: Rules) -> Mask:
    limit = zones(view, CPU).limit
    with np.errstate(invalid="ignore"):
        free: Mask = np.asarray((limit > 0) if rules.known else ~(limit <= 0))
    there = view.column(COUNT)[:, None]
    free = free & (view.column(ALONE) == 0) & ((np.arange(ZONES) < there) | (there == 0))
    return np.asarray(free & (view.column(BOUND) == 0)) if rules.alone else free


def _fits(needs: Sequence[Need], usable: Mask, sets: Sets, count: int) -> Mask:
    """Which sets hold everything; shape (rows, sets)."""
    fits: Mask = np.asarray(usable[:, sets].all(axis=2))
    for need in needs:
        if need.together:
            given = np.nan_to_num(need.zones.left, nan=0.0)[:, sets].sum(axis=2)
            fits = np.asarray(fits & ((given >= need.amount[:, None]) | ~need.zones.known[:, None]))
            continue
        fits = np.asarray(fits & need.holds(count)[:, sets].all(axis=2))
        if need.siblings is not None and count > 1:
            fits = np.asarray(fits & _shared(need, sets, count))
    return fits


def _shared(need: Need, sets: Sets, count: int) -> Mask:
    """Whether cells of one limit bear the parts of all of them that are in the set; shape (rows, sets)."""
    assert need.siblings is not None
    of = need.siblings[:, sets]
    parts = ((of[:, :, :, None] == of[:, :, None, :]) & (of[:, :, :, None] >= 0)).sum(axis=3)
    asked = np.maximum(parts, 1) * portion(need.amount, count)[:, None, None]
    left = need.zones.left[:, sets]
    return np.asarray(((left >= asked) | np.isnan(left)).all(axis=2))


def _best(view: View, rows: NDArray[np.intp], fits: Mask, sets: Sets, rules: Rules, wishes: Wishes) -> NDArray[np.intp]:
    """The place of the best set of each row; narrows `fits` by the packages a set must keep to."""
    among = fits
    if sets.shape[1] > 1:
        package = view.column(PACKAGE)[rows][:, sets]
        same = (package == package[:, :, :1]).all(axis=2)
        if rules.inside is not None:
            fits &= same | ~rules.inside[rows, None]
        if wishes.near is not None:
            among = _most(among, wishes.near[rows][:, sets].sum(axis=2))
        among = _most(among, same)
    elif wishes.near is not None:
        among = _most(among, wishes.near[rows][:, sets].sum(axis=2))
    if wishes.last is not None:
        among = _most(among, -wishes.last[rows][:, sets].sum(axis=2))
    if wishes.value is not None:
        value = wishes.value[rows][:, sets]
        among = _most(among, value.min(axis=2))
        if sets.shape[1] > 1:
            among = _most(among, value.sum(axis=2))
    return np.asarray(among.argmax(axis=1))


def _most(among: Mask, value: NDArray[Any]) -> Mask:
    """Of each row's sets those with the highest value."""
    seen = np.where(among, value, -np.inf)
    return np.asarray(among & (seen == seen.max(axis=1, keepdims=True, initial=-np.inf)))


def width(view: View, rows: NDArray[np.intp]) -> int:
    """Cells that matter; all of them where nobody said how many there are."""
    count = view.column(COUNT)[rows]
    return int(count.max(initial=0)) if len(count) and count.min() > 0 else ZONES


@lru_cache(maxsize=256)
def sets_of(width: int, count: int) -> Sets | None:
    """Every set of so many cells, lowest first; None if there are none, or too many."""
    if count > width or math.comb(width, count) > MOST_SETS:
        return None
    return np.array(list(combinations(range(width), count)), dtype=np.intp)
