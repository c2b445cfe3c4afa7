"""Columns of GPU cards: what is left on each, one cell per card of the node.

A cell of a card that is not there is −1 in every column, so nothing ever fits on it; two columns sum a node up, and one
numbers what is left on all its cards together, for those who look things up by it (core/nodes/card_states.py). The arithmetic
of shares is neap.common.model.gpu; these columns only answer "which nodes have a card that ..." for all nodes at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from neap.common.model.gpu import MOST_CONTAINERS, WHOLE_CARD, CardRoom
from neap.common.model.placement import GpuShare
from neap.common.model.resource import LARGEST
from neap.common.model.topology import Card
from neap.scheduler.core.nodes.card_states import FEW, CardStates
from neap.scheduler.core.nodes.columns import Columns, code

CARDS: Final = 16  # per node; a machine with more shows its first sixteen
CORE: Final = "card/core"  # percent left
MEMORY: Final = "card/memory"  # MiB left
TOTAL: Final = "card/total"  # MiB of the card
CONTAINERS: Final = "card/containers"
MODEL: Final = "card/model"  # columns.code of its name
INDEX: Final = "card/index"  # its number on the node
COUNT: Final = "cards/count"  # of the node
CORE_USED: Final = "cards/core-used"  # percent, summed over the node's cards
STATE: Final = (
    "cards/state"  # the number of what is left on the cards; a name, and another one may be given to all rows
)
STATES: Final = "cards/states"  # the fact that gives the numbers, CardStates
_ALL: Final = (CORE, MEMORY, TOTAL, CONTAINERS, MODEL, INDEX)


class Cards:
    """Keeps the columns above; the table tells it what happened."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        for name in _ALL:
            columns.add(name, np.int64, fill=-1, width=CARDS)
        columns.add(COUNT, np.float64)
        columns.add(CORE_USED, np.float64)
        columns.add(STATE, np.intp)
        columns.facts[STATES] = CardStates(CARDS)
        self._cards: dict[int, tuple[Card, ...]] = {}
        self._cells: dict[int, dict[int, int]] = {}  # by row: number of a card -> its cell
        self._rooms: dict[int, tuple[CardRoom, ...]] = {}  # by row, until it changes

    def install(self, row: int, cards: tuple[Card, ...], shares: Iterable[GpuShare]) -> None:
        """The cards of a node, and what is taken of them."""
        shown = self._cards[row] = cards[:CARDS]
        self._cells[row] = {card.index: cell for cell, card in enumerate(shown)}
        columns, count = self._columns, len(shown)
        for name in _ALL:
            columns[name][row] = -1
        columns[CORE][row, :count] = WHOLE_CARD
        columns[MEMORY][row, :count] = columns[TOTAL][row, :count] = [min(card.memory_mib, LARGEST) for card in shown]
        columns[CONTAINERS][row, :count] = columns[CORE_USED][row] = 0
        columns[COUNT][row] = count
        columns[MODEL][row, :count] = [code(card.model) for card in shown]
        columns[INDEX][row, :count] = [card.index for card in shown]
        self.change(row, shares, 1)

    def change(self, row: int, shares: Iterable[GpuShare], sign: int) -> None:
        """Take shares (+1) or give them back (−1); a card the node does not have is nobody's."""
        cells = self._cells.get(row, {})
        self._rooms.pop(row, None)
        for share in shares:
            cell = cells.get(share.card)
            if cell is not None:
                self._columns[CORE][row, cell] -= sign * share.core
                self._columns[CORE_USED][row] += sign * share.core
                self._columns[MEMORY][row, cell] -= sign * share.memory_mib
                self._columns[CONTAINERS][row, cell] += sign
        self._number(row, self._columns.facts[STATES])

    def cell(self, row: int, card: int) -> int | None:
        """Where a card's columns are, by its number; None where the node has, or shows, no such card."""
        return self._cells.get(row, {}).get(card)

    def of(self, row: int) -> tuple[Card, ...]:
        """The cards of one node that are shown."""
        return self._cards.get(row, ())

    def rooms(self, row: int) -> tuple[CardRoom, ...]:
        """The cards of one node as the search wants them."""
        rooms = self._rooms.get(row)
        if rooms is None:
            core, memory, containers = (self._columns[name][row].tolist() for name in (CORE, MEMORY, CONTAINERS))
            rooms = self._rooms[row] = tuple(
                CardRoom(
                    index=card.index,
                    memory_mib=card.memory_mib,
                    core_free=core[cell],
                    memory_free_mib=memory[cell],
                    containers=containers[cell],
                    model=card.model,
                )
                for cell, card in enumerate(self._cards.get(row, ()))
            )
        return rooms

    def _number(self, row: int, states: CardStates) -> None:
        """What is left on the cards of a row has this number; all get new ones when too many were given."""
        columns, count = self._columns, len(self._cards.get(row, ()))
        core, memory, model, containers = [columns[name][row, :count] for name in (CORE, MEMORY, MODEL, CONTAINERS)]
        columns[STATE][row] = states.number(core, memory, model, containers >= MOST_CONTAINERS)
        if states.known > states.most:
            fresh = columns.facts[STATES] = CardStates(CARDS)
            fresh.most = 2 * len(self._cards) + FEW
            for other in self._cards:
                self._number(other, fresh)
            fresh.most = max(FEW, 2 * fresh.known)
