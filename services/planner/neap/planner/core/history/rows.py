"""Which row of the columns belongs to whom, and since when; rows of those unseen for long are given to others."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Seconds
from neap.foresight.series import Values

K = TypeVar("K")
NO_ROW: Final = -1


class Rows(Generic[K]):
    """At most `most` keys with a row each. `used` is above every row that ever was taken."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.row_of: dict[K, int] = {}
        self.keys: list[K | None] = []
        self.first: Values = np.full(most, np.inf)  # time of the oldest value; infinite: none yet
        self.last: Values = np.zeros(most)  # and of the newest
        self.heard: Values = np.zeros(most)  # our own time, when anything was last folded into it
        self.live: Values = np.full(most, np.inf)  # since when it is seen by ourselves: nobody tells us otherwise
        self._free: list[int] = []

    @property
    def used(self) -> int:
        """Rows 0 .. used - 1 may hold something."""
        return len(self.keys)

    def __len__(self) -> int:
        return len(self.row_of)

    def take(self, key: K) -> int:
        """The row of a key, a new one if it has none; NO_ROW if all are taken."""
        row = self.row_of.get(key, NO_ROW)
        if row != NO_ROW:
            return row
        if self._free:
            row = heappop(self._free)
            self.keys[row] = key
        elif len(self.keys) < self.most:
            row = len(self.keys)
            self.keys.append(key)
        else:
            return NO_ROW
        self.row_of[key] = row
        return row

    def see(self, rows: NDArray[np.intp], at: Seconds, now: Seconds) -> None:
        """Rows have a live value of a time."""
        self.first[rows] = np.minimum(self.first[rows], at)
        self.last[rows] = np.maximum(self.last[rows], at)
        self.live[rows] = np.minimum(self.live[rows], at)
        self.heard[rows] = now

    def told(self, row: int, first: Seconds, last: Seconds, now: Seconds) -> None:
        """A row has values of the past."""
        self.first[row] = min(self.first[row], first)
        self.last[row] = max(self.last[row], last)
        self.heard[row] = now

    def unheard(self, before: Seconds) -> list[int]:
        """Rows of keys into which nothing was folded since then."""
        return [row for row in np.flatnonzero(self.heard[: self.used] < before).tolist() if self.keys[row] is not None]

    def forget(self, row: int) -> K:
        """Free a row; whoever has columns clears them."""
        key = self.drop(row)
        assert key is not None, f"row {row} is nobody's"
        heappush(self._free, row)
        return key

    def drop(self, row: int) -> K | None:
        """Take a row from whom it belongs to, if anybody."""
        key = self.keys[row]
        if key is not None:
            self.keys[row] = None
            del self.row_of[key]
            self.first[row], self.last[row], self.heard[row], self.live[row] = np.inf, 0.0, 0.0, np.inf
        return key

    def place(self, row: int, key: K, times: tuple[Seconds, Seconds, Seconds, Seconds]) -> None:
        """Give a row as it was in an earlier life: first, last, heard, live. The row is nobody's."""
        while len(self.keys) <= row:
            self.keys.append(None)
        self.keys[row], self.row_of[key] = key, row
        self.first[row], self.last[row], self.heard[row], self.live[row] = times

    def settle(self) -> None:
        """After the last `place`: know which rows are free."""
        self._free = [row for row, key in enumerate(self.keys) if key is None]

    def validate(self) -> None:
        """Keys and rows name each other."""
        assert {key: row for row, key in enumerate(self.keys) if key is not None} == self.row_of, "rows and keys differ"
        assert len(self._free) + len(self.row_of) == self.used <= self.most, "rows are lost"
