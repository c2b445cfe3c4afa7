"""On which side of a tide every node is, as one column: whom it takes; 0 where nothing is said.

tide/side: OPEN nothing is said of it, ONLINE, OFFLINE, NOBODY it is turning, LAPSED it was turning when nothing was said
any more. What the planner does not say again in time lapses: owners' pods may go everywhere then, guests where they
might before. Costs nothing without tides.
Source: neap.common.model.tide, the table of states.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

import numpy as np

from neap.common.model.placement import Placement
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.model.topology import NodeTopology
from neap.common.units import Seconds
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.pod import Pod

SIDES: Final = "tide"  # the fact by which plugins find it
SIDE: Final = "tide/side"
WHY: Final = "tide/why"  # the fact: sentences by row
OPEN, ONLINE, OFFLINE, NOBODY, LAPSED = range(5)
AFTER: Final = {OFFLINE: OPEN, NOBODY: LAPSED}  # what a side is once it has lapsed; others stay


class Sides(Keeper):
    """See module docstring. `changes` takes what wakes pods."""

    def __init__(self, columns: Columns, changes: set[NodeChanged]) -> None:
        self._columns, self._changes = columns, changes
        self._pools: dict[str, tuple[Seconds, dict[str, tuple[int, str]]]] = {}  # said when; side and sentence by node
        self._rows: dict[str, int] = {}  # of nodes that are there
        self._why: dict[int, str] = {}
        columns.facts[WHY], columns.facts[SIDES] = self._why, self
        columns.add(SIDE, np.int8)

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:  # noqa: ARG002
        """A node of which something may have been said before it was there."""
        self._rows[topology.node] = row
        for _, told in self._pools.values():
            if topology.node in told:
                self._set(row, *told[topology.node])
        return ()

    def tell(self, said: TidePool, at: Seconds) -> Iterable[int]:
        """What the planner says of a pool now; it replaces what it said before. The rows that changed."""
        before = self._pools.pop(said.pool, (0.0, {}))[1]
        told = {node.node: (_side_of(node), _words(said.pool, node)) for node in said.nodes}
        told = told if at - said.at < LAPSE else {}  # NaN neither
        if told:
            self._pools[said.pool] = (min(said.at, at), told)
        changes = dict.fromkeys(before, (OPEN, "")) | told
        return [
            row
            for node, change in changes.items()
            if (row := self._rows.get(node)) is not None and self._set(row, *change)
        ]

    def ask(self, _: Pod) -> Hashable:
        """Whether there are tides at all."""
        return bool(self._pools) or None

    def expire(self, at: Seconds) -> Iterable[int]:
        """What was not said again."""
        changed: list[int] = []
        for _, told in [kept for kept in self._pools.values() if at - kept[0] >= LAPSE]:
            for node in told:
                row = self._rows.get(node)
                side = AFTER.get(int(self._columns[SIDE][row])) if row is not None else None
                if row is not None and side is not None:
                    self._set(row, side, "nothing was said of its tide for long")
                    changed.append(row)
        return changed

    def _set(self, row: int, side: int, why: str) -> bool:
        if why:
            self._why[row] = why
        else:
            self._why.pop(row, None)
        if int(self._columns[SIDE][row]) == side:
            return False
        self._columns[SIDE][row] = side
        self._changes.add(NodeChanged.OFFER)
        return True


def _side_of(node: TideNode) -> int:
    if node.turning is not Turning.STEADY:
        return NOBODY
    return ONLINE if node.side is Side.ONLINE else OFFLINE


def _words(pool: str, node: TideNode) -> str:
    where = f"of pool {pool} is {node.side}" if node.turning is Turning.STEADY else f"of pool {pool} turns {node.side}"
    return f"{where}: {node.why}" if node.why else where
