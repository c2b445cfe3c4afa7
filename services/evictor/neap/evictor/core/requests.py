"""What the scheduler asks for: guests whose place somebody is to have. The evictor has the last word.

A request waits for its turn: while an earlier eviction is unconfirmed or the budget is spent, nobody leaves, whoever
asks. It is over when its victims are gone or run again, refused when one of them may not leave, and forgotten when it
is older than `patience`, for the scheduler gives the place back then. Duplicates change nothing: a victim is named
with its attempt, and who is leaving is not asked twice.
"""

from __future__ import annotations

from collections import deque

from neap.common.model.lifecycle import Preemption
from neap.common.units import Seconds

MOST: int = 64  # requests that wait; the oldest is forgotten


class Requests:
    """See module docstring."""

    def __init__(self, patience: Seconds) -> None:
        self._patience = patience
        self._waiting: deque[tuple[Seconds, Preemption]] = deque(maxlen=MOST)

    def add(self, asked: Preemption, at: Seconds) -> None:
        """Take a request; its clock may run ahead."""
        if len(asked.victims) == len(asked.attempts) and not any(asked == known for _, known in self._waiting):
            self._waiting.append((min(asked.at, at), asked))

    def first(self, at: Seconds) -> Preemption | None:
        """The oldest one that is not too old."""
        while self._waiting and at - self._waiting[0][0] > self._patience:
            self._waiting.popleft()
        return self._waiting[0][1] if self._waiting else None

    def close(self) -> None:
        """The first one is done with."""
        self._waiting.popleft()
