"""One API server as its client sees it: is it well, how busy is it, how fast does it answer?

latency of a verb = the larger of
    a smoothed one: l ← l + α (answer − l), and halved for every `forget` seconds without an answer, so that who was
        slow is tried again now and then
    the age of the oldest request that is still out: who does not answer at all is slow at once
Source: exponential smoothing; "peak EWMA" balancing of Finagle (idea).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from neap.common.errors import (
    Conflict,
    Denied,
    Expired,
    PortError,
    Rejected,
    Throttled,
    Unavailable,
    Unreached,
    Vanished,
)
from neap.common.model.api import EndpointState
from neap.common.units import Seconds
from neap.gateway.core.asking.breaker import Breaker, BreakerSettings
from neap.gateway.core.asking.routing import Verb

ALPHA: Final = 0.2
RECENT: Final = 256  # answers that p50 and p99 are taken of
OK: Final = "ok"
LOST: Final = "5xx"


class Endpoint:
    """See module docstring."""

    def __init__(self, name: str, breaker: BreakerSettings, *, forget: Seconds) -> None:
        self.name = name
        self.breaker = Breaker(breaker)
        self.healthy = True
        self.watches = 0
        self.served = 0
        self.codes: dict[str, int] = {}
        self.picked = 0  # when it was chosen last, counted in choices
        self._bad = 0
        self._forget = forget
        self._out: dict[Verb, dict[int, Seconds]] = {}  # requests on their way, oldest first
        self._smooth: dict[Verb, tuple[Seconds, Seconds]] = {}  # latency, when it was last measured
        self._recent: deque[Seconds] = deque(maxlen=RECENT)

    @property
    def busy(self) -> int:
        """Requests on their way."""
        return sum(map(len, self._out.values()))

    def sent(self, verb: Verb, ticket: int, at: Seconds) -> None:
        """A request goes out."""
        self._out.setdefault(verb, {})[ticket] = at

    def answered(self, verb: Verb, ticket: int, at: Seconds, error: PortError | None) -> None:
        """It came back, with a result or with an error."""
        started = self._out[verb].pop(ticket)
        code = code_of(error)
        self.codes[code] = self.codes.get(code, 0) + 1
        self.served += 1
        if is_fault(error):
            self.breaker.failed(at, str(error))
        else:
            self.breaker.succeeded(at)
        if not isinstance(error, Unreached):
            self._measured(verb, at - started, at)

    def forgot(self, verb: Verb, ticket: int) -> None:
        """Whoever asked waits no longer."""
        self._out[verb].pop(ticket, None)
        self.breaker.forgot()

    def latency(self, verb: Verb, at: Seconds) -> Seconds:
        """See module docstring; 0 where nothing is known."""
        smooth, measured = self._smooth.get(verb, (0.0, at))
        oldest = next(iter(self._out.get(verb, {}).values()), at)
        return max(smooth * math.exp2((measured - at) / self._forget), at - oldest)

    def probed(self, *, ready: bool, out_after: int) -> None:
        """A health probe came back: so many bad ones in a row, and it is out; one good one, and it is back."""
        self._bad = 0 if ready else self._bad + 1
        self.healthy = self._bad < out_after

    def state(self) -> EndpointState:
        """For people."""
        recent = sorted(self._recent)
        return EndpointState(
            name=self.name,
            breaker=self.breaker.stance.value,
            healthy=self.healthy,
            why=self.breaker.why,
            busy=self.busy,
            watches=self.watches,
            served=self.served,
            p50=recent[len(recent) // 2] if recent else 0.0,
            p99=recent[min(len(recent) - 1, len(recent) * 99 // 100)] if recent else 0.0,
            codes=dict(sorted(self.codes.items())),
            timeline=tuple(self.breaker.timeline),
        )

    def _measured(self, verb: Verb, took: Seconds, at: Seconds) -> None:
        before, _ = self._smooth.get(verb, (took, at))
        self._smooth[verb] = (before + ALPHA * (took - before), at)
        if verb is not Verb.WATCH:
            self._recent.append(took)


def is_fault(error: PortError | None) -> bool:
    """Whether an answer speaks against the endpoint; "no" and "too much" do not."""
    return isinstance(error, Unavailable) and not isinstance(error, Throttled)


def code_of(error: PortError | None) -> str:
    """An answer in one of few words."""
    match error:
        case None:
            return OK
        case Throttled():
            return "429"
        case Unreached():
            return "unreached"
        case Unavailable():
            return LOST
        case Vanished():
            return "404"
        case Conflict():
            return "409"
        case Expired():
            return "410"
        case Denied():
            return "403"
        case Rejected():
            return "4xx"
    return "other"
