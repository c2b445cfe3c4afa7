"""Services that do not get on: on which nodes are owners that a guest's service was seen to disturb?

feuds/<owner's service>: pods of it on the node, a column for services of a pair alone. The fact FEUDS says which
services a guest's own has disturbed. Pairs come from advisors, node by node, and end by themselves (Apart.until, and
LONGEST after they were heard). Cost: nothing while there are no pairs; then a dictionary look-up per placement.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final

import numpy as np

from neap.common.model.apart import MOST_PAIRS, Apart
from neap.common.model.placement import Placement
from neap.common.model.protection import family
from neap.common.units import DAY, Seconds
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.pod import Pod

FEUDS: Final = "feuds"  # the fact: owners' services by the guest's
LONGEST: Final[Seconds] = DAY
MOST_SERVICES: Final = 64  # owners' services that have a column; more pairs are not heeded


def feuds(service: str) -> str:
    """The column of an owner's service."""
    return f"feuds/{service}"


class Feuds(Keeper):
    """See module docstring. `held` says what is charged on a row."""

    def __init__(self, columns: Columns, held: Callable[[int], Iterable[Placement]]) -> None:
        self._columns, self._held = columns, held
        self._said: dict[int, dict[tuple[str, str], Seconds]] = {}  # row -> (owner, guest) -> until
        self._against: dict[str, tuple[str, ...]] = {}
        self._counted: dict[str, None] = {}
        columns.facts[FEUDS] = self._against

    def tell(self, row: int, said: Apart, at: Seconds) -> None:
        """What a node's advisor says now; it replaces what it said before."""
        pairs = {
            (pair.owner, pair.guest): min(pair.until, at + LONGEST)
            for pair in said.pairs[:MOST_PAIRS]
            if pair.until > at
        }
        if pairs != self._said.get(row, {}):
            self._said[row] = pairs
            self._gather()

    def expire(self, at: Seconds) -> Iterable[int]:
        """Pairs whose time is over."""
        over = [row for row, pairs in self._said.items() if any(until <= at for until in pairs.values())]
        for row in over:
            self._said[row] = {pair: until for pair, until in self._said[row].items() if until > at}
        if over:
            self._gather()
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """Somebody comes or goes."""
        if self._counted and (service := family(placement.workload)) in self._counted:
            self._columns[feuds(service)][row] += sign
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """Whom it has disturbed."""
        return self._against.get(family(pod.workload)) if self._against and pod.guest else None

    def _gather(self) -> None:
        """The fact and the columns, from what all nodes say."""
        self._said = {row: pairs for row, pairs in self._said.items() if pairs}
        known = sorted({pair for pairs in self._said.values() for pair in pairs})
        owners = sorted({owner for owner, _ in known})[:MOST_SERVICES]
        found: dict[str, tuple[str, ...]] = {}
        for owner, guest in known:
            if owner in owners:
                found[guest] = (*found.get(guest, ()), owner)
        self._against.clear()
        self._against.update(found)
        self._count(dict.fromkeys(owners))

    def _count(self, owners: Mapping[str, None]) -> None:
        """Columns for services that have none yet; those of others stand still at 0. Cost: O(placements)."""
        for gone in self._counted.keys() - owners.keys():
            self._columns[feuds(gone)][:] = 0
        new = {owner: None for owner in owners if owner not in self._counted}
        self._counted = dict(owners)
        if not new:
            return
        for owner in new:
            if feuds(owner) not in self._columns:
                self._columns.add(feuds(owner), np.float64)
        for row in range(self._columns.size):
            for placement in self._held(row):
                if (service := family(placement.workload)) in new:
                    self._columns[feuds(service)][row] += 1
