"""What one shape of pods finds on every node, kept: why a row is out, its total, its scores, and the best of each block.

Rows are kept at their *place* in the run's permutation of nodes, so that the first of several equal maxima is the one
that wins the tie. Every block of 64 places knows its best one: after a change only the blocks of changed rows are
looked at again, and the best of all and the runner-up are found among the blocks.

    update  O(changed · 64)      best, second  O(rows / 64)
    memory  2 (code) + 8 (total) + 8 per scoring plugin  bytes per shape and row:
            with four scorers 42, that is 0.4 MB per shape at 10,000 nodes and 2.1 MB at 50,000
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.view import Numbers, Rows

NEVER: Final = -np.inf
FITS, ABSENT, BUSY = 0, 1, 2  # codes of a row; further ones are the rules, then one per reserving plugin
BELOW: Final = 2.0**51  # a row that only waits for its ledger stands so many quanta lower; whole numbers stay exact
SHIFT: Final = 6
BLOCK: Final = 1 << SHIFT  # places


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some rows are out: who says so, and what would change it."""

    plugin: str
    text: str
    wakes: frozenset[NodeChanged]


class Places:
    """The permutation of a table of one length: the place of each row, and the row at each place."""

    def __init__(self, order: NDArray[np.uint64]) -> None:
        self.rows: NDArray[np.intp] = np.argsort(order, kind="stable")
        self.of: NDArray[np.intp] = np.empty_like(self.rows)
        self.of[self.rows] = np.arange(len(order))


class Weighed(NamedTuple):
    """Some rows for one pod: reason codes, totals in quanta whatever the code, and the score of each scorer."""

    codes: NDArray[np.int16]
    totals: Numbers
    scores: list[Numbers]


class Evaluation:
    """See module docstring. What it shows (`codes`, `totals`, `later`, `scores`) is by row, and copied."""

    def __init__(
        self, places: Places, reasons: tuple[Reason, ...], filters: tuple[Policy, ...], scorers: tuple[Policy, ...]
    ) -> None:
        self.places, self.reasons = places, reasons
        self.filters, self.scorers = filters, scorers  # those that have something to say about the shape
        self.weight = sum(policy.weight for policy in scorers) or 1.0
        self.seen = self.used = 0  # of the table's clock; of the cycle's turns
        self.size = rows = len(places.rows)
        blocks = -(-rows >> SHIFT) if rows else 1
        self._codes = np.full(rows, ABSENT, dtype=np.int16)
        self._keys = np.full(blocks * BLOCK, NEVER)  # total where a row fits, BELOW less where it is busy, else −inf
        self._by_block = self._keys.reshape(blocks, BLOCK)
        self._scores = tuple(np.zeros(rows) for _ in scorers)
        self._heads = np.arange(blocks) << SHIFT  # the best place of each block
        self._tops = np.full(blocks, NEVER)  # its key
        self.counts = np.bincount(self._codes, minlength=len(reasons))  # rows per code

    @property
    def nbytes(self) -> int:
        """Of everything that grows with the rows."""
        return self._codes.nbytes + self._keys.nbytes + sum(score.nbytes for score in self._scores)

    @property
    def codes(self) -> NDArray[np.int16]:
        """Reason codes."""
        return self._codes[self.places.of]

    @property
    def totals(self) -> Numbers:
        """Totals in quanta; −inf where a row is out."""
        keys = self._keys[self.places.of]
        return np.where(keys >= 0, keys, NEVER)

    @property
    def later(self) -> Numbers:
        """Totals of rows that only wait for their ledger; −inf elsewhere."""
        keys = self._keys[self.places.of]
        return np.where(keys < 0, keys + BELOW, NEVER)

    @property
    def scores(self) -> Numbers:
        """By plugin, shape (scorers, rows)."""
        return np.array([score[self.places.of] for score in self._scores]).reshape(len(self._scores), self.size)

    def update(self, rows: Rows, weighed: Weighed, seen: int) -> None:
        """These rows, each named once, are so now."""
        places, codes = self.places.of[rows], weighed.codes
        before = self._codes[places]
        if before.tobytes() != codes.tobytes():
            least = len(self.reasons)
            self.counts += np.bincount(codes, minlength=least) - np.bincount(before, minlength=least)
            self._codes[places] = codes
        keys = weighed.totals
        if codes.any():
            keys = np.where(codes == FITS, keys, np.where(codes == BUSY, keys - BELOW, NEVER))
        self._keys[places] = keys
        for kept, score in zip(self._scores, weighed.scores, strict=True):
            kept[places] = score
        self._look(places)
        self.seen = seen

    def refuse(self, place: int, code: int) -> None:
        """A row is out for a reason that filters cannot know, until it is weighed again."""
        self.counts[self._codes[place]] -= 1
        self.counts[code] += 1
        self._codes[place], self._keys[place] = code, NEVER
        self._look(np.array([place]))

    def best(self) -> int | None:
        """The place with the highest total, the first among equals; None where nothing fits."""
        block = self._tops.argmax()
        return int(self._heads[block]) if self._tops[block] >= 0 else None

    def second(self, best: int) -> int | None:
        """The same without the best one."""
        key, self._keys[best] = self._keys[best], NEVER
        block = best >> SHIFT
        head, top = self._heads[block], self._tops[block]
        inner = int(self._by_block[block].argmax()) + (block << SHIFT)
        self._heads[block], self._tops[block] = inner, self._keys[inner]
        found = self.best()
        self._heads[block], self._tops[block], self._keys[best] = head, top, key
        return found

    def total(self, place: int) -> float:
        """Of a place that fits, in quanta."""
        return float(self._keys[place])

    def terms(self, place: int) -> list[float]:
        """The scores of a place, by scorer."""
        return [float(score[place]) for score in self._scores]

    def best_of_busy(self, rows: NDArray[np.intp]) -> float:
        """The highest total among rows whose ledger is busy, in quanta, if they only wait for that; else −inf."""
        keys = self._keys[self.places.of[rows]]
        return float(np.where(keys < 0, keys + BELOW, NEVER).max(initial=NEVER))

    def first(self, code: int) -> int:
        """The first row of a code in the permutation; there is one."""
        return int(self.places.rows[(self._codes == code).argmax()])

    def _look(self, places: NDArray[Any]) -> None:
        """Find the best place of the blocks of these places."""
        if len(places) < len(self._tops):
            blocks = places >> SHIFT
            heads = self._by_block.take(blocks, axis=0).argmax(axis=1) + (blocks << SHIFT)
            self._heads[blocks], self._tops[blocks] = heads, self._keys[heads]
        else:
            self._heads = self._by_block.argmax(axis=1) + (np.arange(len(self._tops)) << SHIFT)
            self._tops = self._keys[self._heads]
