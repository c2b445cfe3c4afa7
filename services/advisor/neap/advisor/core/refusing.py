"""Input that cannot be used: counted, and said in the log; the last good one stays in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neap.advisor.metrics import REFUSED
from neap.common.runtime.machine import Count, Instruction


@dataclass(frozen=True, slots=True)
class Complain(Instruction):
    """Say in the log which input was refused, and why."""

    what: str
    why: str


def refuse(channel: str, what: str, error: Exception) -> Sequence[Instruction]:
    """What is done about it."""
    return (Count(REFUSED, labels={"channel": channel}), Complain(what, str(error)))
