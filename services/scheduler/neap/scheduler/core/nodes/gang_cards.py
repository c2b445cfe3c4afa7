"""Which cards already carry a share of a gang: its next share goes to another one.

Members of a gang that share a card lose it together and wait for each other on it; so shares of one gang are on
different cards unless the workload says otherwise (annotation `neap.io/gang-cards: shared`). Containers of one pod are
one member. Whole cards are nobody else's anyway.

One column per gang that has shares: a bit per cell of a card (see cards). It goes when the last share goes.
Source: requirements 2.3, issue of the scheduler ("shares of one gang never on one card unless asked").
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

import numpy as np

from neap.common.model.gpu import WHOLE_CARD
from neap.common.model.placement import Placement
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.scheduler.core.nodes.cards import CARDS, Cards
from neap.scheduler.core.nodes.columns import Columns, code
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.nodes.view import Mask, View
from neap.scheduler.core.pods.pod import Pod

TOGETHER: Final = ("neap.io/gang-cards", "shared")  # annotation: its shares may be on one card
_BITS: Final = np.arange(CARDS, dtype=np.uint16)


class GangCards(Keeper):
    """Keeps the columns above."""

    def __init__(self, columns: Columns, cards: Cards) -> None:
        self._columns, self._cards = columns, cards
        self._taken: dict[str, dict[int, dict[int, int]]] = {}  # column -> row -> card -> shares

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:  # noqa: ARG002
        """Cards may have other cells now."""
        for name, rows in self._taken.items():
            if row in rows:
                self._columns[name][row] = self._mask(row, rows[row])
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """Count the shares of a gang's member."""
        shares = [share for share in placement.gpus if share.core < WHOLE_CARD]
        if not shares or placement.workload.gang is None:
            return ()
        name = gang_column(placement.workload)
        taken = self._taken.setdefault(name, {})
        counts = taken.setdefault(row, {})
        for share in shares:
            counts[share.card] = counts.get(share.card, 0) + sign
            if not counts[share.card]:
                del counts[share.card]
        self._columns.add(name, np.uint16)
        self._columns[name][row] = self._mask(row, counts)
        if not counts:
            del taken[row]
        if not taken:
            del self._taken[name]
            self._columns.drop(name)
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """None: gangs do not matter to it; else the column of its gang, empty while that has no shares."""
        if not keeps_apart(pod):
            return None
        name = gang_column(pod.workload)
        return name if name in self._taken else ""

    def barred(self, pod: Pod, row: int) -> frozenset[int]:
        """Numbers of the cards of a node that must not take a share of this pod."""
        if not keeps_apart(pod):
            return frozenset()
        return self.of(gang_column(pod.workload), row)

    def of(self, gang: str, row: int) -> frozenset[int]:
        """Numbers of the cards of a node with a share of a gang, by its column."""
        return frozenset(self._taken.get(gang, {}).get(row, ()))

    def _mask(self, row: int, counts: Iterable[int]) -> int:
        cells = (self._cards.cell(row, card) for card in counts)
        return sum(1 << cell for cell in cells if cell is not None)


def keeps_apart(pod: Pod) -> bool:
    """Whether a pod has shares that must not meet those of other members of its gang."""
    gang, (key, shared) = pod.workload.gang, TOGETHER
    return gang is not None and any(not ask.whole for ask in pod.asks) and pod.workload.annotations.get(key) != shared


def barred_cards(pod: Pod, view: View) -> Mask | None:
    """The cards that must not take a share of a pod, shape (rows, cards); None where no card is barred."""
    if not keeps_apart(pod):
        return None
    try:
        bits = view.column(gang_column(pod.workload))
    except KeyError:  # its gang has no shares
        return None
    return (bits[:, None] >> _BITS & 1).astype(np.bool_)


def gang_column(workload: Workload) -> str:
    """The column of a workload's gang."""
    assert workload.gang is not None
    return f"gang-cards/{code(f'{workload.namespace}/{workload.gang.name}')}"
