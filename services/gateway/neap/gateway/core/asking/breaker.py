"""A circuit breaker: who fails again and again is left alone for a while, then tried with one call.

    closed --`failures` in a row--> open --`cool_down` later, one call--> half open --it succeeds--> closed
                                      ^------------------------------------------------it fails--'

While it is open no call is made; while it is half open, no second one.
Source: Nygard, "Release It!", stability patterns (idea).
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.model.api import Turn
from neap.common.units import Seconds

MOST_TURNS: Final = 64  # kept for people


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an endpoint is left alone."""

    failures: Annotated[int, Meta(ge=1, le=1000)] = 5  # in a row: 5xx, time-outs, no connection
    cool_down: Annotated[Seconds, Meta(gt=0, le=600)] = 5.0  # no call for so long; shorter than lease.renew_within
    probe_within: Annotated[Seconds, Meta(gt=0, le=600)] = 30.0  # a call that says nothing for so long has failed


class BreakerStance(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """Of one endpoint; see module docstring."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self.stance = BreakerStance.CLOSED
        self.why = ""  # of the last failure
        self._in_a_row = 0
        self._since: Seconds = 0.0  # of the stance
        self._probing = False
        self.timeline: deque[Turn] = deque(maxlen=MOST_TURNS)

    @property
    def is_closed(self) -> bool:
        """Whether calls are made as usual."""
        return self.stance is BreakerStance.CLOSED

    def may(self, at: Seconds) -> bool:
        """Whether a call could be made now; changes nothing."""
        match self.stance:
            case BreakerStance.CLOSED:
                return True
            case BreakerStance.OPEN:
                return at >= self._since + self._settings.cool_down
            case BreakerStance.HALF_OPEN:
                return not self._probing or at >= self._since + self._settings.probe_within

    def take(self, at: Seconds) -> bool:
        """A call is about to be made, if it may; the one that is half-open's probe takes the place."""
        if not self.may(at):
            return False
        if self.stance is not BreakerStance.CLOSED:
            self._turn(BreakerStance.HALF_OPEN, at, "one call is tried")
            self._since, self._probing = at, True
        return True

    def succeeded(self, at: Seconds) -> None:
        """An answer came."""
        self._in_a_row = 0
        if self.stance is BreakerStance.HALF_OPEN:
            self._probing = False
            self._turn(BreakerStance.CLOSED, at, "the call was answered")

    def failed(self, at: Seconds, why: str) -> None:
        """5xx, time-out, no connection."""
        self.why = why
        self._in_a_row += 1
        if self.stance is BreakerStance.HALF_OPEN:
            self._probing = False
            self._turn(BreakerStance.OPEN, at, why)
        elif self.stance is BreakerStance.CLOSED and self._in_a_row >= self._settings.failures:
            self._turn(BreakerStance.OPEN, at, f"{self._in_a_row} failures in a row; {why}")

    def forgot(self) -> None:
        """Nobody waits for the answer any more: it says nothing about the endpoint, and the place is free."""
        self._probing = False

    def _turn(self, stance: BreakerStance, at: Seconds, why: str) -> None:
        if stance is not self.stance:
            self.stance, self._since = stance, at
            self.timeline.append(Turn(at=at, state=stance.value, why=why))

    def validate(self) -> None:
        """A probe is out only half open; failures in a row open it."""
        assert not self._probing or self.stance is BreakerStance.HALF_OPEN
        assert self.stance is not BreakerStance.CLOSED or self._in_a_row < self._settings.failures
