"""Columns of measured use, and of what is placed but not yet measured.

A pod is *in flight* on a node from its placement until a report shows its container (or `patience` is over): its
estimate is added to the measured use, so that a burst does not herd onto the node that looked idle a moment ago.
Guests are counted apart, because owners may use what guests use now.

All columns are milli-cores and bytes. `usage/known` says that a report has come, `usage/fresh` that the last one is
not older than the node's limit (max of a setting in seconds and one in report periods). What was used before the last
report is kept by windows.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.cpuset import LARGEST_CPU
from neap.common.model.resource import LARGEST
from neap.common.model.usage import NodeUsage
from neap.common.units import DAY, Seconds
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.pods.estimate import Estimate

USED: Final = ("used/cpu", "used/memory")
USED_BY_OWNERS: Final = ("used/cpu/owners", "used/memory/owners")
FLYING: Final = ("flying/cpu", "flying/memory")
FLYING_OWNERS: Final = ("flying/cpu/owners", "flying/memory/owners")
KNOWN: Final = "usage/known"
FRESH: Final = "usage/fresh"
MOST_STALE: Final = 1024  # entries about pods that are no longer in flight, beside three for each that is
AT: Final = "usage/at"
PERIOD: Final = "usage/period"
Age = Annotated[Seconds, Meta(gt=0, le=DAY, extra={"unit": "seconds"})]
Periods = Annotated[int, Meta(ge=1, le=10_000)]


class Staleness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When input is too old. A period is the time between two usage reports of a node."""

    usage: Age = 180.0  # age of a usage report beyond which the node's load is unknown
    usage_periods: Periods = 10  # the same in report periods; the longer of the two counts
    offer: Age = 180.0  # age of an offer beyond which nothing is lent
    offer_periods: Periods = 180  # the same in report periods; the longer of the two counts
    in_flight: Age = 300.0  # a placed pod that no report shows is counted in flight this long
    in_flight_periods: Periods = 5  # the same in report periods; the longer of the two counts


@dataclass(slots=True)
class _Flight:
    at: Seconds
    estimate: Estimate
    guest: bool


class Load:
    """Keeps the columns above; the table tells it what happened."""

    def __init__(self, columns: Columns, staleness: Staleness) -> None:
        self._columns, self._staleness = columns, staleness
        for name in (*USED, *USED_BY_OWNERS, *FLYING, *FLYING_OWNERS, PERIOD):
            columns.add(name, np.float64)
        columns.add(AT, np.float64, fill=-np.inf)
        columns.add(KNOWN, np.bool_)
        columns.add(FRESH, np.bool_)
        self._flying: dict[int, dict[str, _Flight]] = {}
        self._count = 0  # in flight
        self._due: list[tuple[Seconds, int, str]] = []  # a heap: when to look whether a flight is over; may be stale
        self._guests: dict[int, tuple[int, dict[str, tuple[float, float]]]] = {}  # full report's seq, guests by cgroup

    def take_off(self, row: int, uid: str, at: Seconds, estimate: Estimate, *, guest: bool) -> None:
        """A pod was placed, and nobody has measured it yet."""
        self._flying.setdefault(row, {})[uid] = _Flight(at, estimate, guest)
        self._count += 1
        heappush(self._due, (at + self._patience(row), row, uid))
        if len(self._due) > 4 * self._count + MOST_STALE:
            self._due = [(f.at + self._patience(r), r, u) for r, some in self._flying.items() for u, f in some.items()]
            heapify(self._due)
        self._add(row, estimate, guest, 1)

    def is_over(self, row: int, at: Seconds, now: Seconds) -> bool:
        """Whether a pod placed then is no longer waited for."""
        return now - at > self._patience(row)

    def flying_since(self, row: int, uid: str) -> Seconds | None:
        """When a pod was placed that nobody has measured yet; None if it is not in flight."""
        flight = self._flying.get(row, {}).get(uid)
        return None if flight is None else flight.at

    def land(self, row: int, uid: str) -> None:
        """A pod was measured, or is gone; nothing if it was not in flight."""
        flights = self._flying.get(row)
        flight = flights.pop(uid, None) if flights else None
        if flight is not None:
            self._count -= 1
            self._add(row, flight.estimate, flight.guest, -1)
            if not flights:
                del self._flying[row]

    def report(
        self, row: int, usage: NodeUsage, at: Seconds, memory_capacity: float, guests: Mapping[str, None]
    ) -> bool:
        """Take a report of `at` over; False if it is late or says nothing about the CPU that can be."""
        columns = self._columns
        if usage.cpu is None or not 0 <= usage.cpu <= LARGEST_CPU or at < columns[AT][row]:
            return False
        flights = self._flying.get(row, {})
        seq, lent = self._guests.get(row, (0, {}))
        lent = lent if usage.since else {}
        if guests or flights:
            for container in usage.containers:
                if container.uid in flights and at > flights[container.uid].at:
                    self.land(row, container.uid)
                if container.uid in guests and usage.since in (0, seq):  # else its full report was lost
                    lent[container.cgroup] = (container.cpu or 0.0, container.memory or 0)
        self._guests[row] = (seq if usage.since else usage.seq, lent)
        cpu_guests, memory_guests = (sum(use[kind] for use in lent.values()) for kind in (0, 1))
        columns[AT][row], columns[PERIOD][row] = at, usage.period if 0 <= usage.period <= DAY else 0.0
        columns[KNOWN][row] = columns[FRESH][row] = True
        columns[USED[0]][row] = usage.cpu * 1000
        columns[USED_BY_OWNERS[0]][row] = min(usage.cpu, max(0.0, usage.cpu - cpu_guests)) * 1000
        if usage.memory_available is not None and 0 <= usage.memory_available <= LARGEST:
            used = max(0.0, memory_capacity - usage.memory_available)
            columns[USED[1]][row] = used
            columns[USED_BY_OWNERS[1]][row] = min(used, max(0.0, used - max(0, min(memory_guests, LARGEST))))
        return True

    def expire(self, at: Seconds) -> list[int]:
        """Rows whose report has become too old, or whose in-flight pods were waited for long enough."""
        columns, limits = self._columns, self._staleness
        limit = np.maximum(limits.usage, limits.usage_periods * columns[PERIOD])
        stale = np.flatnonzero(columns[FRESH] & (at - columns[AT] > limit))
        columns[FRESH][stale] = False
        landed: dict[int, None] = {}
        while self._due and at > self._due[0][0]:
            _, row, uid = heappop(self._due)
            since = self.flying_since(row, uid)
            if since is not None and self.is_over(row, since, at):
                self.land(row, uid)
                landed[row] = None
            elif since is not None:  # its reports come more seldom than it seemed
                heappush(self._due, (since + self._patience(row), row, uid))
        return [*map(int, stale), *landed]

    def _patience(self, row: int) -> Seconds:
        limits = self._staleness
        return max(limits.in_flight, limits.in_flight_periods * float(self._columns[PERIOD][row]))

    def _add(self, row: int, estimate: Estimate, guest: bool, sign: int) -> None:
        for name, owners, amount in zip(FLYING, FLYING_OWNERS, estimate.amounts, strict=True):
            self._columns[name][row] += sign * amount
            if not guest:
                self._columns[owners][row] += sign * amount
