"""What stands between choosing a guest and asking it to leave: tokens that were asked for, and the answers so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from neap.common.model.lifecycle import Preemption
from neap.common.runtime.machine import Count
from neap.common.units import Seconds

LOST: Final = "lost race"  # somebody else took the slot: the next report tries another
AWAY: Final = "bus away"


@dataclass(slots=True)
class Claim:
    """One guest that is to leave, for a rule's level or for a request of the scheduler."""

    uid: str
    attempt: int
    at: Seconds
    cause: str  # id of the message that led to it
    rule: str = ""
    scope: str = ""  # of the rule's level
    emergency: bool = False  # what is hard about a rule that saves the node: it does not wait for a bus that is away
    asked: Preemption | None = None
    waiting: set[str] = field(default_factory=set)  # keys of tokens without an answer
    trouble: str = ""  # why one of them was not had


def held_back(reason: str) -> Count:
    """Nobody was chosen, though there is a reason to."""
    return Count("neap_evictor_held_back_total", labels={"reason": reason})


def refused(reason: str) -> Count:
    """Somebody was chosen, and is not asked to leave."""
    return Count("neap_evictor_refused_total", labels={"reason": reason})
