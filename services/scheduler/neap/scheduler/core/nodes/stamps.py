"""Which rows changed since when, and what is kept because only some of them did.

Every change of a row is a tick. The last ticks are listed in a ring, so that a short absence costs as much as there
were ticks in it; after a longer one the stamps of all rows are looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.view import ALL, Rows, View

LISTED: Final = 4096  # ticks
MOST_KEPT: Final = 256  # parts; beyond, the one least recently used is worked out again


class Stamps:
    """One column of stamps: the tick of each row's last change."""

    def __init__(self, columns: Columns, name: str) -> None:
        self.tick = 0
        self._columns, self._name = columns, name
        self._listed = np.zeros(LISTED, dtype=np.intp)  # the row of each tick, at tick modulo LISTED
        columns.add(name, np.int64)

    def stamp(self, row: int) -> None:
        """A row changed."""
        self.tick = tick = self.tick + 1
        self._columns[self._name][row] = tick
        self._listed[tick % LISTED] = row

    def since(self, tick: int) -> NDArray[np.intp]:
        """The rows that changed after a tick, each once."""
        stamps, now = self._columns[self._name], self.tick
        if now == tick:
            return np.zeros(0, dtype=np.intp)
        if now - tick > min(LISTED, len(stamps)):
            return np.flatnonzero(stamps > tick)
        first, last = (tick + 1) % LISTED, (now + 1) % LISTED
        ring = self._listed
        listed = ring[first:last] if first < last else np.concatenate((ring[first:], ring[:last]))
        last_time = stamps[listed] == np.arange(tick + 1, now + 1)  # a row that changed again is listed again
        return np.asarray(listed[last_time])


class KeptParts:
    """Parts of masks and scores that look only at what was told of a row, not at what is placed there: see View.told.

    Kept for all rows and pods alike, and worked out again for rows of which something was told since.
    """

    def __init__(self, columns: Columns, told: Stamps) -> None:
        self._columns, self._told = columns, told
        self._kept: dict[Hashable, tuple[int, NDArray[Any]]] = {}

    def of(self, rows: Rows, key: Hashable, work: Callable[[View], NDArray[Any]]) -> NDArray[Any]:
        """These rows of a part; nobody writes to it."""
        tick, part = self._kept.get(key, (-1, None))
        if part is None or len(part) != self._columns.size:
            part = np.array(work(View(self._columns)))
            self._kept.pop(key, None)
            if len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = (self._told.tick, part)
        elif tick != self._told.tick:
            fresh = self._told.since(tick)
            part[fresh] = work(View(self._columns, ALL if len(fresh) == len(part) else fresh))
            self._kept[key] = (self._told.tick, part)
        if isinstance(rows, slice):
            shown = part[rows]
            shown.flags.writeable = False
            return shown
        return part[rows] if part.ndim == 1 else part.take(rows, axis=0)
