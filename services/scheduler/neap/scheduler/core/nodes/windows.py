"""What nodes used in the last quarter of an hour, hour and day, folded once a minute from the columns of load.py.

    minute     = mean of its reports; without one, the last report while that is fresh
    mean       = mean of the last 15 minutes
    hour       = largest minute of the last 4 quarters of an hour, and since
    day        = largest minute of the last 24 hours, and since
    percentile = smallest share of the node that q of all minutes lay below, by a histogram of 50 steps of 2 %;
                 a minute counts half as much after 12 hours

Rings of 15 minutes, 4 quarters and 24 hours per node, slots by the clock and the same for all nodes: closing a minute
is a few passes over whole columns, memory is constant, and a report costs nothing here. NaN is unknown: less than two
thirds of the ring were seen. So a scheduler that was restarted does not know the mean for 10 minutes, the hour for
45, the day for 16 hours; nothing is made up for them. Milli-cores and bytes, as in load.py.
Source: Katalyst load-aware scheduling (PR654): rings and indicators; an hour's value is here its largest minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.resource import CPU, MEMORY
from neap.common.units import MINUTE, Seconds
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.nodes.load import AT, FRESH, USED, USED_BY_OWNERS
from neap.scheduler.core.nodes.view import Numbers

MINUTES, QUARTERS, HOURS = 15, 4, 24  # slots of the rings
DAY_MINUTES: Final = MINUTES * QUARTERS * HOURS
BINS: Final = 50  # of a histogram, over 0..1 of what can be allocated
HALF_LIFE: Final = 720  # minutes
ENOUGH: Final = 10.0  # minutes in a histogram that say something
NEVER: Final = -1.0  # a slot of a ring that was not seen; maxima of NaN would cost ten times as much
SEEN, COUNT = "window/seen", "window/count"


def mean_of(used: str) -> str:
    """The column of the 15-minute mean of a column of load.py."""
    return f"mean/{used}"


def hour_of(used: str) -> str:
    """The same of the last hour's largest minute."""
    return f"hour/{used}"


def day_of(used: str) -> str:
    """The same of the last day's largest minute."""
    return f"day/{used}"


def histogram_of(used: str) -> str:
    """The same of the histogram; owners' use only. Shape (rows, BINS)."""
    return f"histogram/{used}"


def percentile(histogram: NDArray[np.float32], q: float) -> Numbers:
    """Upper edge of the step in which the q-quantile lies, 0..1; NaN where too little was seen. Shape (rows,)."""
    summed = np.cumsum(histogram, axis=1, dtype=np.float64)
    total = summed[:, -1]
    step = (summed < q * total[:, None] * (1 - 1e-9)).sum(axis=1)
    return np.where(total >= ENOUGH, (np.minimum(step, BINS - 1) + 1) / BINS, np.nan)


class Windows(Keeper):
    """Keeps the columns above; see module docstring."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._minute: int | None = None
        columns.add(SEEN, np.float64, fill=-np.inf)
        columns.add(COUNT, np.float64)
        for used in (*USED, *USED_BY_OWNERS):
            columns.add(f"sum/{used}", np.float64)
            for ring, width in (("minutes", MINUTES), ("quarters", QUARTERS), ("hours", HOURS)):
                columns.add(f"{ring}/{used}", np.float32, fill=NEVER, width=width)
            for name in (mean_of(used), hour_of(used), day_of(used)):
                columns.add(name, np.float64, fill=np.nan)
        for used in USED_BY_OWNERS:
            columns.add(histogram_of(used), np.float32, width=BINS)

    def expire(self, at: Seconds) -> Iterable[int]:
        """Take over what was reported since the last call, and close the minutes that are over."""
        minute = math.floor(at / MINUTE)
        began, self._minute = self._minute, max(minute, self._minute or minute)
        self._sample()
        if began is None or minute <= began:
            return ()
        for closing in range(max(began, minute - DAY_MINUTES), minute):
            self._close(closing)
        return self._conclude()

    def _sample(self) -> None:
        columns = self._columns
        new = np.flatnonzero(columns[AT] > columns[SEEN])
        if len(new):
            columns[SEEN][new] = columns[AT][new]
            columns[COUNT][new] += 1
            for used in (*USED, *USED_BY_OWNERS):
                columns[f"sum/{used}"][new] += columns[used][new]

    def _close(self, minute: int) -> None:
        columns, count = self._columns, self._columns[COUNT]
        for used in (*USED, *USED_BY_OWNERS):
            last = np.where(columns[FRESH], columns[used], NEVER)
            value = np.divide(columns[f"sum/{used}"], count, out=last, where=count > 0)
            minutes, quarters = columns[f"minutes/{used}"], columns[f"quarters/{used}"]
            minutes[:, minute % MINUTES] = value
            columns[f"sum/{used}"][:] = 0.0
            quarter, rest = divmod(minute + 1, MINUTES)
            if rest == 0:
                quarters[:, (quarter - 1) % QUARTERS] = _largest(_slots(minutes))
                hour, rest = divmod(quarter, QUARTERS)
                if rest == 0:
                    columns[f"hours/{used}"][:, (hour - 1) % HOURS] = _largest(_slots(quarters))
            if used in USED_BY_OWNERS:
                self._count(used, value)
        count[:] = 0.0

    def _count(self, used: str, value: Numbers) -> None:
        """One more minute in the histograms."""
        columns, kind = self._columns, (CPU, MEMORY)[USED_BY_OWNERS.index(used)]
        histogram = columns[histogram_of(used)]
        histogram *= np.float32(0.5 ** (1 / HALF_LIFE))
        if f"allocatable/{kind}" in columns:
            total = columns[f"allocatable/{kind}"]
            rows = np.flatnonzero((total > 0) & (value >= 0))
            step = np.minimum(value[rows] / total[rows] * BINS, BINS - 1).astype(np.intp)
            histogram[rows, step] += 1.0

    def _conclude(self) -> Iterable[int]:
        """Means and maxima from the rings; the rows where one of them, or a histogram, is another than before."""
        columns, changed = self._columns, np.zeros(self._columns.size, dtype=np.bool_)
        for used in (*USED, *USED_BY_OWNERS):
            minutes, quarters, hours = (_slots(columns[f"{ring}/{used}"]) for ring in ("minutes", "quarters", "hours"))
            mean = np.maximum(minutes, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(_seen(minutes), 1)
            recent, hour, day = minutes.max(axis=0), _largest(quarters), _largest(hours)
            day = np.where(day >= 0, np.maximum(day, np.maximum(hour, recent)), np.nan)
            hour = np.where(hour >= 0, np.maximum(hour, recent), np.nan)
            mean = np.where(_full(minutes), mean, np.nan)
            changed |= recent >= 0  # another minute was counted
            for name, now in ((mean_of(used), mean), (hour_of(used), hour), (day_of(used), day)):
                changed |= ~((columns[name] == now) | (np.isnan(columns[name]) & np.isnan(now)))
                columns[name][:] = now
        return map(int, np.flatnonzero(changed))


def _slots(ring: NDArray[np.float32]) -> NDArray[np.float32]:
    """A ring by slot: reducing over its few slots row by row costs thirty times as much. Shape (slots, rows)."""
    return np.ascontiguousarray(ring.T)


def _seen(slots: NDArray[np.float32]) -> NDArray[np.intp]:
    """How many slots of a ring are known. Shape (rows,)."""
    return np.asarray((slots >= 0).sum(axis=0))


def _full(slots: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether enough of a ring was seen. Shape (rows,)."""
    return np.asarray(3 * _seen(slots) >= 2 * len(slots))


def _largest(slots: NDArray[np.float32]) -> Numbers:
    """The largest value in a ring; NEVER where too little of it was seen. Shape (rows,)."""
    return np.where(_full(slots), slots.max(axis=0), NEVER).astype(np.float64)
