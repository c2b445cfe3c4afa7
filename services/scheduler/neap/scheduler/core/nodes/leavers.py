"""What the guests of each node hold: how much could come free at most if they left.

leavers/count: guests charged on the node; leavers/<kind>: Σ charged by them, in the kind's whole units.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper

LEAVERS: Final = "leavers/count"


def leavers(kind: str) -> str:
    """The column of a resource kind; there is none before a guest was charged for the kind."""
    return f"leavers/{kind}"


class Leavers(Keeper):
    """Keeps the columns above."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        columns.add(LEAVERS, np.float64)

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """A guest comes or goes."""
        if placement.workload.qos is QosClass.RECLAIMED:
            self._columns[LEAVERS][row] += sign
            for kind, amount in placement.charged.items():
                name = leavers(kind)
                if name not in self._columns:
                    self._columns.add(name, np.float64)
                self._columns[name][row] += sign * amount
        return ()
