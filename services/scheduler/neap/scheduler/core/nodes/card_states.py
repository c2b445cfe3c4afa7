"""What is left on the cards of a node, as a number: nodes with the same cards left have the same one.

The order of cards does not count, except that of untouched ones, for whole cards are the first of these. A cluster has
many nodes and few such *states* (openb's 1,213 nodes some three hundred, whatever is taken of them), so what looks at
nothing but the cards of a node, and perhaps at a level of something else, is worked out once per state, and looked up
for all nodes in it: `found` keeps such tables, for whoever has a key for what he works out.

Bounded: when more than `most` orders of cards were seen, Cards numbers all rows anew, from nothing, and what was found
is forgotten. `most` is then twice what there is, so this costs O(1) rows per change. Tables that were not asked for
longest go first, beyond MOST_BYTES; who would need a larger one (see `fits`) works his rows out without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.pods.typical import CARD, MILLI

Cells = NDArray[np.int64]
Numbers = NDArray[np.float64]
NO_CARDS: Final = 0  # the state of a node without any
FEW_PLACES: Final = 32  # worked out as they come, though some may be the same
FEW: Final = 4096  # orders of cards that are never too many
MOST_BYTES: Final = 64 << 20  # of all tables
MOST_CELLS: Final = MOST_BYTES // 8 // 16  # of one table: the last sixteen that were asked for are there
add: Final = np.add.reduce


class CardStates:
    """See module docstring."""

    def __init__(self, cards: int) -> None:
        self.size, self.width = 0, 1  # states; cards of the node that has most
        self.idle = np.zeros(64)  # by state, the sum of what is left
        self.most = FEW
        self._seen: dict[bytes, int] = {}  # numbers by cards as they were told
        self._numbers: dict[bytes, int] = {}  # and in order
        self._cells = np.full((64, 4, cards), -1, dtype=np.int64)
        self._tables: dict[Hashable, Numbers] = {}  # those asked for last at the end
        nothing = np.zeros(0, dtype=np.int64)
        self.number(nothing, nothing, nothing, nothing > 0)

    def number(self, core: Cells, memory: Cells, model: Cells, full: NDArray[np.bool_]) -> int:
        """The number of a state, a new one if nobody was in it. By card: see core/nodes/cards.py; whether it is full."""
        key = core.tobytes() + memory.tobytes() + model.tobytes() + full.tobytes()
        number = self._seen.get(key)
        if number is None:
            cells = np.array([np.maximum(core, 0) * MILLI, memory, np.where(full, -1, memory), model])
            cells = cells[:, np.lexsort(np.where(cells[0] == CARD, 0, cells))]  # those untouched in their order
            number = self._seen[key] = self._numbers.setdefault(cells.tobytes(), self.size)
            if number == self.size:
                self._add(cells)
        return number

    @property
    def known(self) -> int:
        """How many orders of cards were seen."""
        return len(self._seen)

    def cells(self, numbers: NDArray[np.intp]) -> tuple[Cells, Cells, Cells, Cells]:
        """Of each card of some states: thousandths left, memory left, the same for a slice (−1: full), and model.

        Where there is no card, 0 is left, and −1 of the rest.
        """
        found = self._cells.take(numbers, axis=0)[:, :, : self.width]
        return found[:, 0], found[:, 1], found[:, 2], found[:, 3]

    def fits(self, levels: int) -> bool:
        """Whether there may be a table of all states by so many levels."""
        return self.size * levels <= MOST_CELLS

    def found(
        self,
        key: Hashable,
        places: NDArray[np.intp],
        levels: int,
        work: Callable[[NDArray[np.intp], NDArray[np.intp]], Numbers],
    ) -> Numbers:
        """What `work` says of states and levels, at places state · levels + level; it never says NaN nor −inf."""
        table = self._table(key, levels)
        found: Numbers = table.take(places)
        if math.isnan(add(found)):
            missing = places[np.isnan(found)]
            if len(missing) > FEW_PLACES:  # each once
                missing = np.flatnonzero(np.bincount(missing))
            table[missing] = work(*np.divmod(missing, levels))
            found = table.take(places)
        return found

    def _add(self, cells: Cells) -> None:
        if self.size == len(self._cells):
            self._cells = np.concatenate([self._cells, np.full_like(self._cells, -1)])
            self.idle = np.concatenate([self.idle, np.zeros_like(self.idle)])
        count = cells.shape[1]
        self._cells[self.size, :, :count] = cells
        self._cells[self.size, 0, count:] = 0
        self.idle[self.size] = cells[0].sum()
        self.size, self.width = self.size + 1, max(self.width, count)

    def _table(self, key: Hashable, levels: int) -> Numbers:
        table = self._tables.pop(key, None)
        if table is None or len(table) < self.size * levels:
            grown = np.full(min(2 * self.size * levels, MOST_CELLS), np.nan)
            if table is not None:
                grown[: len(table)] = table
            table = grown
            while self._tables and sum(kept.nbytes for kept in self._tables.values()) + table.nbytes > MOST_BYTES:
                del self._tables[next(iter(self._tables))]
        self._tables[key] = table
        return table
