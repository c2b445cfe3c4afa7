"""A limit that all replicas share: one stored record says who may ask for which part of it.

Every replica renews its line every `every`, over the revision it has read (the bus refuses anything else):

    n         the lines that are not over, and mine
    mine      = min(1/n, 1 − Σ the others')          a newcomer gets what the others have given up, at their next turn
    until     = at + `lasts`                         a line not renewed is over; others wait `drift` longer

So at every revision Σ shares ≤ 1. While the record cannot be renewed a replica keeps its part until its line is over,
and then takes 1 / max(replicas by settings, n last known): never everything.
Source: lease with compare-and-set, as core/asking/lease.py; docs/adr/0001 (optimistic append).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.model.api import MOST_CLAIMS, ApiShares, Claim
from neap.common.units import Ratio, Seconds

SOURCE: Final = "gateway"


class ShareSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the limits are divided among replicas."""

    replicas: Annotated[int, Meta(ge=1, le=MOST_CLAIMS)] = 2  # assumed while nobody can be asked
    every: Annotated[Seconds, Meta(gt=0, le=60)] = 2.0  # between two renewals
    lasts: Annotated[Seconds, Meta(gt=0, le=600)] = 10.0  # after the last renewal
    drift: Annotated[Seconds, Meta(ge=0, le=60)] = 2.0  # by which clocks of replicas may differ


class Share:
    """One replica's part; see module docstring."""

    def __init__(self, replica: str, settings: ShareSettings) -> None:
        self.replica = replica
        self.settings = settings
        self._mine: Ratio = 0.0
        self._until: Seconds = 0.0
        self.replicas = settings.replicas  # last known
        self._asked: Claim | None = None
        self._asked_of = 1

    def renewal(self, now: ApiShares | None, at: Seconds) -> ApiShares:
        """The record with this replica's line renewed; to be written over the revision that was read."""
        self._recall(now)
        others = self._others(now, at)
        free = max(0.0, 1.0 - sum(claim.share for claim in others))
        part = min(1.0 / (len(others) + 1), free)
        self._asked = Claim(replica=self.replica, share=part, until=at + self.settings.lasts)
        self._asked_of = len(others) + 1
        claims = (*others[: MOST_CLAIMS - 1], self._asked)
        return ApiShares(at=at, source=SOURCE, claims=tuple(sorted(claims, key=lambda claim: claim.replica)))

    def renewed(self) -> None:
        """The record was written: its line counts."""
        if self._asked is not None:
            self._mine, self._until, self.replicas = self._asked.share, self._asked.until, self._asked_of
            self._asked = None

    def farewell(self, now: ApiShares | None, at: Seconds) -> ApiShares:
        """The record without this replica."""
        self._mine, self._until = 0.0, 0.0
        return ApiShares(at=at, source=SOURCE, claims=tuple(self._others(now, at)))

    def part(self, at: Seconds) -> Ratio:
        """What this replica may ask for now. A renewal on its way counts already where it is the smaller one."""
        if at >= self._until:
            return 1.0 / max(self.settings.replicas, self.replicas)
        return min(self._mine, self._asked.share) if self._asked is not None else self._mine

    def next_turn(self, at: Seconds) -> Seconds:
        """When to renew: sooner, while others have not yet given up what is mine."""
        is_short = self._mine * self.replicas < 0.999
        return at + self.settings.every * (0.25 if is_short else 1.0)

    def why(self, at: Seconds) -> str:
        """Where the part comes from."""
        if at < self._until:
            return f"agreed among {self.replicas}"
        return f"nobody to agree with: one of {max(self.settings.replicas, self.replicas)}"

    def _recall(self, now: ApiShares | None) -> None:
        """What the record says of this replica holds: a write may have landed without an answer."""
        for claim in now.claims if now is not None else ():
            if claim.replica == self.replica:
                self._mine, self._until = claim.share, claim.until

    def _others(self, now: ApiShares | None, at: Seconds) -> list[Claim]:
        claims = now.claims if now is not None else ()
        return [each for each in claims if each.replica != self.replica and at < each.until + self.settings.drift]
