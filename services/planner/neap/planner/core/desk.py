"""A desk of the planner: it hears what the planner hears, and makes one kind of plan at its own pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from neap.common.runtime.machine import Count, Event, Instruction
from neap.common.units import Seconds

SOURCE: Final = "planner"  # who says what desks say


class Desk(Protocol):
    """Told every event after cluster, wishes and history have folded it, its own tick apart.

    `news`: the messages it folds. Of others it is not told, since nearly all are of no concern to it.
    """

    @property
    def news(self) -> tuple[type, ...]:
        """See above."""
        ...

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Fold what concerns it."""
        ...

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """Its tick: only once everything stored is known."""
        ...

    def validate(self) -> None:
        """Re-derive what must hold; raises AssertionError with the story."""
        ...


def counts(metric: str, left_out: Mapping[str, int]) -> list[Instruction]:
    """What was left out, by why, as instructions."""
    return [Count(metric, by=count, labels={"why": why}) for why, count in sorted(left_out.items())]
