"""Nodes that are closed to guests while their evictors make room: until when, as one column.

evicting/until: clock until which no guest goes there; −inf: it is open. What an evictor says has an end, so that a
node whose evictor is gone opens by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from neap.common.model.evicting import Evicting
from neap.common.units import Seconds
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper

UNTIL: Final = "evicting/until"
WHY: Final = "evicting/why"  # the fact: sentences by row
LONGEST: Final[Seconds] = 3600.0  # from when it is heard; a clock that runs ahead must not close a node for ever


class Closures(Keeper):
    """See module docstring. `changes` takes what wakes pods."""

    def __init__(self, columns: Columns, changes: set[NodeChanged]) -> None:
        self._columns, self._changes = columns, changes
        self._why: dict[int, str] = {}
        columns.facts[WHY] = self._why
        columns.add(UNTIL, np.float64, fill=-np.inf)

    def tell(self, row: int, said: Evicting, at: Seconds) -> bool:
        """What a node's evictor says now; whether that opens or closes the node."""
        was = row in self._why
        if said.closed and said.until > at:
            self._columns[UNTIL][row] = min(said.until, at + LONGEST)
            self._why[row] = said.closed[0].why
            return not was
        return self._open(row)

    def expire(self, at: Seconds) -> Iterable[int]:
        """Opens what nobody keeps closed."""
        over = [row for row in self._why if self._columns[UNTIL][row] <= at]
        return [row for row in over if self._open(row)]

    def _open(self, row: int) -> bool:
        if row not in self._why:
            return False
        del self._why[row]
        self._columns[UNTIL][row] = -np.inf
        self._changes.add(NodeChanged.OFFER)
        return True
