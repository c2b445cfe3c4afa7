"""What keeps some columns of the node table: one keeper per idea, told of everything that happens to a row.

A keeper answers with the *other* rows whose columns it changed (a domain's, say), so that the table can stamp them;
the row it was told about is stamped anyway. Taking a placement on and off again leaves byte-equal columns.
"""

# ruff: noqa: ARG002  (what a keeper is told, and does not need)

from __future__ import annotations

from collections.abc import Hashable, Iterable

from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.topology import NodeTopology
from neap.common.units import Seconds
from neap.scheduler.core.pods.pod import Pod


class Keeper:
    """Does nothing; a keeper overrides what concerns it."""

    remembers = False  # something of a charge outlives it: such a keeper is not told of what is only tried

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:
        """A machine appeared or changed; `held` is charged on it."""
        return ()

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """What the cluster says of a node changed; the empty object when nobody says anything any more."""
        return ()

    def forget(self, row: int) -> Iterable[int]:
        """A machine is gone; what is charged on it stays."""
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """A placement is taken on (+1) or off (-1).

        Who changes by it what is otherwise only told of the row (what it has to give) answers with the row as well: see
        View.told.
        """
        return ()

    def turn_away(self, pod: Pod) -> None:
        """No node takes this pod now."""

    def expire(self, at: Seconds) -> Iterable[int]:
        """Time has passed."""
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """What beside the shape decides where this pod may go, by the cluster as it is; columns for it exist now.

        Pods of one shape and one answer get the same masks and scores.
        """
        return None


class Muted(Keeper):
    """A keeper that answers, and is told nothing: for as long as things are only tried."""

    def __init__(self, keeper: Keeper) -> None:
        self.ask = keeper.ask  # type: ignore[method-assign]
