"""What the scheduler asks for: guests whose place somebody is to have. The evictor has the last word.

A request waits for its turn: while an earlier eviction is unconfirmed or the budget is spent, nobody leaves, whoever
asks. It is over when its victims are gone or run again, refused when one of them may not leave, and forgotten when it
is older than `patience`, for the scheduler gives the place back then. Duplicates change nothing: a victim is named
with its attempt, and who is leaving is not asked twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from neap.common.model.lifecycle import Preemption
from neap.common.units import Seconds
from neap.evictor.core.residents import Resident

MOST: int = 64  # requests that wait; the oldest is forgotten


class Requests:
    """See module docstring."""

    def __init__(self, waiting: Iterable[tuple[Seconds, Preemption]] = ()) -> None:
        self.waiting: tuple[tuple[Seconds, Preemption], ...] = tuple(waiting)

    def add(self, asked: Preemption, at: Seconds) -> None:
        """Take a request; its clock may run ahead. One that makes no sense, or is known, changes nothing."""
        makes_sense = len(asked.victims) == len(asked.attempts) and math.isfinite(asked.at)
        if makes_sense and not any(asked == known for _, known in self.waiting):
            self.waiting = (*self.waiting, (min(asked.at, at), asked))[-MOST:]

    def first(self, at: Seconds, patience: Seconds) -> Preemption | None:
        """The oldest one that is not too old."""
        while self.waiting and at - self.waiting[0][0] > patience:
            self.close()
        return self.waiting[0][1] if self.waiting else None

    def close(self) -> None:
        """The first one is done with."""
        self.waiting = self.waiting[1:]


def named(asked: Preemption, guests: Mapping[str, Resident]) -> list[Resident]:
    """Whom a request means, of those that are still here."""
    pairs = dict(zip(asked.victims, asked.attempts, strict=True))  # nobody twice
    return [guest for uid, attempt in pairs.items() if (guest := guests.get(uid)) and guest.attempt == attempt]
