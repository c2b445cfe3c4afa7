"""What if some placements were not there? Asked of the real table, by the real plugins, for one node.

Whatever is lifted inside the context is put back at its end: every column is as before, byte for byte, and nobody is
woken. A pod lifted while in flight flies on since when it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from neap.common.model.placement import Placement
from neap.common.units import Seconds
from neap.scheduler.core.choice.framework import Parts, Policy
from neap.scheduler.core.nodes.table import PRESENT, NodeTable
from neap.scheduler.core.pods.pod import Pod


def would_take(policies: Sequence[Policy], table: NodeTable, pod: Pod, row: int) -> Parts | None:
    """What one node would give a pod as the table is now; None if it would not take it. A busy ledger is no reason."""
    table.ask(pod)  # columns for what it asks about exist now
    view = table.view(np.array([row]))
    if not view.column(PRESENT)[0]:
        return None
    for policy in policies:
        for rule in policy.plugin.filter(pod, view, policy.settings) if policy.plugin.filter else ():
            if not rule.passes[0]:
                return None
    given = Parts()
    for policy in policies:
        if policy.plugin.reserve is not None:
            parts = policy.plugin.reserve(pod, table, row, policy.settings, given)
            if isinstance(parts, str):
                return None
            given = parts
    return given


class Trial:
    """A context on one node; see module docstring."""

    def __init__(self, table: NodeTable, node: str) -> None:
        self._table, self._node = table, node
        self._lifted: dict[str, tuple[Placement, Seconds | None]] = {}

    def __enter__(self) -> Trial:
        """Remember what is not kept in columns."""
        self._changes = set(self._table.changes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put everything back, in the order in which it was lifted last."""
        for uid in reversed(tuple(self._lifted)):
            self.put_back(uid)
        self._table.changes.clear()
        self._table.changes |= self._changes

    def lift(self, uid: str) -> None:
        """Take one placement off."""
        placement = self._table.charges(self._node)[uid]
        self._lifted[uid] = placement, self._table.load.flying_since(self._table.row(self._node), uid)
        self._table.discharge(self._node, uid)

    def put_back(self, uid: str) -> None:
        """Put it on again."""
        placement, since = self._lifted.pop(uid)
        self._table.charge(self._node, placement, since or 0.0)
        if since is None:
            self._table.load.land(self._table.row(self._node), uid)
