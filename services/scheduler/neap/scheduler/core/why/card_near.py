"""Nearest misses of cards in words: which card of a node comes nearest to an ask, and what it lacks.

short(card) = max(core short, 100 · memory short / memory of the card, 1 if it is full of containers)   [percent]
missing     = the least of the node's cards that may be had; ∞ where none may
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from neap.common.model.gpu import MOST_CONTAINERS, WHOLE_CARD
from neap.scheduler.core.choice.framework import Near
from neap.scheduler.core.nodes.cards import CONTAINERS, CORE, COUNT, INDEX, MEMORY, TOTAL
from neap.scheduler.core.nodes.view import Mask, Numbers, View

FULL: Final = 1.0  # what a card lacks that is full of containers only


def no_such_card(view: View, allowed: Mask, what: str) -> Near:
    """The miss of "has a card that ..."; no amount helps."""
    return Near(
        np.where(allowed.any(axis=1), 0.0, np.inf),
        lambda row: f"{{node}} has {view.column(COUNT)[row]:.0f} cards, {what}",
        lambda _: "a node with such a card, or asking for none",
    )


class _Short(NamedTuple):
    """A card against an ask."""

    card: int
    core: int  # percent left
    memory: int  # MiB left
    containers: int
    asked: tuple[int, int]

    def tell(self) -> str:
        """As in: best card g3/0 has 10 %, needs 30 % (67336 MiB would do)."""
        core, memory = self.asked
        sides = [
            (f"{self.core} %", f"{core} %", self.core < core),
            (f"{self.memory} MiB", f"{memory} MiB", self.memory < memory),
        ]
        would = ", ".join(left for left, _, short in sides if not short)
        full = self.containers >= MOST_CONTAINERS
        sides.append((f"{self.containers} containers", f"at most {MOST_CONTAINERS - 1}", full))
        has = ", ".join(left for left, _, short in sides if short)
        needs = ", ".join(asked for _, asked, short in sides if short)
        return f"best card {{node}}/{self.card} has {has}, needs {needs}" + f" ({would} would do)" * bool(would)

    def change(self) -> str:
        """What would let the card pass."""
        core, memory = (max(0, asked - left) for asked, left in zip(self.asked, (self.core, self.memory), strict=True))
        more = [f"{core} %"] * bool(core) + [f"{memory} MiB"] * bool(memory)
        more += ["one container"] * (self.containers >= MOST_CONTAINERS)
        return f"{' and '.join(more)} freed on card {{node}}/{self.card}"


def slice_short(view: View, allowed: Mask, core: int, memory: int) -> Near:
    """The miss of "a card with so much left"."""
    left, room, total, containers, index = (view.column(name) for name in (CORE, MEMORY, TOTAL, CONTAINERS, INDEX))
    wanting = (
        np.maximum(core - left, 0.0),
        np.maximum(memory - room, 0.0) * WHOLE_CARD / np.maximum(total, 1),
        (containers >= MOST_CONTAINERS) * FULL,
    )
    short = np.where(allowed, np.maximum.reduce(wanting), np.inf)
    best = short.argmin(axis=1)
    missing: Numbers = short.min(axis=1)

    def nearest(row: int) -> _Short:
        card, percent, mib, on_it = (int(column[row, best[row]]) for column in (index, left, room, containers))
        return _Short(card, percent, mib, on_it, (core, memory))

    def tell(row: int) -> str:
        return nearest(row).tell() if np.isfinite(missing[row]) else "no card of {node} may be had"

    def change(row: int) -> str:
        return nearest(row).change() if np.isfinite(missing[row]) else "other cards on {node}"

    return Near(missing, tell, change)


def count_short(view: View, have: Numbers, asked: int, what: str) -> Near:
    """The miss of "so many of something on all cards of a node"."""
    count = view.column(COUNT)
    missing = np.where(have >= asked, 0.0, np.where(count > 0, asked - have, np.inf))
    return Near(
        missing,
        lambda row: f"{{node}} has {have[row]:.0f} {what} on {count[row]:.0f} cards, needs {asked}",
        lambda row: f"{asked - have[row]:.0f} more {what} on {{node}}",
    )
