"""The guests of a replay: an endless queue of them, sold what is offered, and taken away again. Pure.

Guests of `cores` each, living `life`, as many as fit into the offer at every report. When more is sold than the
evictor's ratio of the offer for as many reports as it waits, the youngest leave until it is not, and what they did is
lost. They use what they were sold, or what they could, if that is less, each the same part of it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from neap.common.runtime.launch import find_room
from neap.common.runtime.settings import Sources
from neap.common.units import HOUR, Cores, Ratio, Seconds
from neap.virtual.policies import LendingPolicy


class Guests(msgspec.Struct, frozen=True, kw_only=True):
    """The guests of the replay; see module docstring."""

    cores: Cores = 4.0
    life: Seconds = 2 * HOUR


def allowance(policy: LendingPolicy) -> tuple[Ratio, int]:
    """What the policy's evictor lets be sold over the offer, and for how many reports more than that."""
    pairs, room = (pair.partition("=") for pair in policy.settings if pair.startswith("evictor.")), find_room("evictor")
    settings: Any = Sources(overrides={key: value for key, _, value in pairs}).load(room.settings, room.name)
    return settings.reclaimed_overuse.ratio, settings.reclaimed_overuse.reports


class Sold:
    """The guests of the replay: who is there, how long they ran, how many had to leave."""

    def __init__(self, ratio: Ratio, reports: int, guests: Guests, period: Seconds) -> None:
        self._ratio, self._reports = ratio, reports
        self._guests, self._period = guests, period
        self._here: deque[tuple[Seconds, float]] = deque()  # age and core-seconds done of each, oldest first
        self._beyond = 0
        self.evictions, self.seconds, self.lost = 0, 0.0, 0.0  # guests, guest-seconds, core-seconds

    def round(self, offer: Cores, could: Cores | None) -> Cores:
        """One period: who is done leaves, who is too many as well, who fits comes; the cores they are known to use."""
        each, count = self._guests.cores, len(self._here)
        used = 0.0 if could is None else min(count * each, could)
        self.seconds += count * self._period
        done = used * self._period / max(1, count)
        older = ((age + self._period, work + done) for age, work in self._here)
        self._here = deque(one for one in older if one[0] < self._guests.life)
        self._beyond = self._beyond + 1 if len(self._here) * each > self._ratio * offer else 0
        while self._beyond >= self._reports and len(self._here) * each > self._ratio * offer:
            self.lost += self._here.pop()[1]
            self.evictions += 1
        while (len(self._here) + 1) * each <= offer:
            self._here.append((0.0, 0.0))
        return used
