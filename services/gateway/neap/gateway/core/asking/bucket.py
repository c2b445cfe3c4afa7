"""A token bucket that gives out times: how long must this request wait, if it may wait at all?

    tokens(t) = min(burst, tokens(t0) + rate · (t − t0))          a request takes one, in advance if there is none,
    wait      = max(0, (1 − tokens) / rate)                       and goes once its token would be there

So requests keep their order without a queue, and in any second at most rate + burst go. A server's Retry-After shuts
the bucket: nothing goes before, and what waits goes at the rate afterwards.
Source: token bucket as meter (RFC 2697 family); Kubernetes client-go's flowcontrol (idea).
"""

from __future__ import annotations

import math

from neap.common.model.api import BucketState
from neap.common.units import Seconds

LEAST_RATE = 1e-6


class Bucket:
    """Requests of one sort; `rate` per second, `burst` at once."""

    def __init__(self, name: str, rate: float, burst: float) -> None:
        self.name = name
        self._whole = (rate, burst)
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, -math.inf
        self._shut_until = -math.inf
        self._taken = self._refused = self._throttled = 0
        self._waited = 0.0

    def wait(self, at: Seconds) -> Seconds:
        """How long a request would have to wait now."""
        self._fill(at)
        return max(0.0, self._shut_until - at) + max(0.0, 1.0 - self._tokens) / self._rate

    def take(self, waits: Seconds) -> None:
        """A request takes its token, and waits for it so long."""
        self._tokens -= 1.0
        self._taken += 1
        self._waited += waits

    def refuse(self) -> None:
        """A request would have to wait for too long."""
        self._refused += 1

    def share(self, part: float, at: Seconds) -> None:
        """From now on only this part of the rate and the burst is ours."""
        self._fill(at)
        self._rate, self._burst = (max(LEAST_RATE, whole * part) for whole in self._whole)
        self._tokens = min(self._tokens, max(1.0, self._burst))

    def throttled(self, at: Seconds, after: Seconds) -> None:
        """The server has too much to do: nothing goes for `after`, and there is no burst then."""
        self._fill(at)
        self._throttled += 1
        self._shut_until = max(self._shut_until, at + after)
        self._tokens, self._at = min(self._tokens, 0.0), max(at, self._shut_until)

    def state(self, at: Seconds) -> BucketState:
        """For people."""
        self._fill(at)
        return BucketState(
            name=self.name,
            rate=self._rate,
            burst=self._burst,
            left=self._tokens,
            taken=self._taken,
            waited=self._waited,
            refused=self._refused,
            throttled=self._throttled,
            until=max(0.0, self._shut_until - at) if self._shut_until > at else 0.0,
        )

    def _fill(self, at: Seconds) -> None:
        if at > self._at:
            passed = at - self._at
            gained = self._rate * passed if math.isfinite(passed) else self._burst
            self._tokens, self._at = min(max(1.0, self._burst), self._tokens + gained), at
