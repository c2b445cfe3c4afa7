"""What was measured of one object, over a short window, and what it comes to.

    agg_avg, agg_max, agg_min, agg_latest    over the samples of the window
    agg_p90, agg_p95, agg_p99                i = p/100 · n of the samples, ascending, counted from 1:
                                             the i-th if i is whole, else the mean of the ⌊i⌋-th and the one after it

Units: the metric's own. A column that was unknown at a time has no sample then. All columns of one object stand in one
flat array of doubles: 10 samples of 8 columns are 0.8 KB.
Source: katalyst-control reference 5.4 (names, percentiles), acceptance case AC-25.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from neap.common.units import HOUR, Seconds

PATIENCE: Final = 20  # periods of the reporter: every tenth report is a full one, and one may be lost
AGGREGATIONS: Final = ("avg", "max", "min", "latest", "p90", "p95", "p99")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: a value, when its newest sample was taken, and how many seconds it covers."""

    value: float
    at: float
    window: Seconds
    count: int = 1


def percentile(ascending: Sequence[float], percent: int) -> float:
    """See module docstring; of a single sample itself."""
    place, rest = divmod(percent * len(ascending), 100)
    if not rest:
        return ascending[place - 1]
    return (ascending[max(place, 1) - 1] + ascending[min(place + 1, len(ascending)) - 1]) / 2


def aggregate(values: Sequence[float], how: str) -> float:
    """One number of many, in the order they were taken; at least one."""
    match how:
        case "avg":
            return sum(values) / len(values)
        case "max":
            return max(values)
        case "min":
            return min(values)
        case "latest":
            return values[-1]
        case _:
            return percentile(sorted(values), int(how[1:]))


class Series:
    """Samples of one object: when, over which period, and a value per column (NaN: unknown)."""

    __slots__ = ("_flat", "_width")

    def __init__(self, columns: int) -> None:
        self._width = columns + 2
        self._flat = array("d")

    def __len__(self) -> int:
        return len(self._flat) // self._width

    @property
    def newest(self) -> float:
        """When the newest sample was taken; −∞ without any."""
        return self._flat[-self._width] if self._flat else -math.inf

    def last(self, column: int) -> float:
        """The newest value of a column; NaN without any."""
        return self._flat[column + 2 - self._width] if self._flat else math.nan

    def add(self, at: float, period: Seconds, values: Sequence[float | None], *, keep: Seconds) -> None:
        """A sample newer than all before, and away with those older than `keep` seconds before it."""
        flat, width = self._flat, self._width
        old = 0
        while old < len(flat) and flat[old] < at - keep:
            old += width
        del flat[:old]
        flat.extend((at, period, *(math.nan if value is None else value for value in values)))

    def measured(self, column: int, how: str, *, now: float, window: Seconds, fresh: Seconds) -> Measured | None:
        """What a column comes to; `how` is empty for the newest value as it is.

        None: there is none, or the newest is older than `fresh`. A reporter so slow that PATIENCE periods take longer
        has that long, for both.
        """
        flat, width = self._flat, self._width
        slow = min(PATIENCE * flat[1 - width], HOUR) if flat else 0.0
        known = [
            place
            for place in range(0, len(flat), width)
            if flat[place] > now - max(window, slow) and not math.isnan(flat[place + column + 2])
        ]
        if not known or now - flat[known[-1]] > max(fresh, slow):
            return None
        at, period, value = flat[known[-1]], flat[known[-1] + 1], flat[known[-1] + column + 2]
        window, count = period, 1
        if how:
            value = aggregate([flat[place + column + 2] for place in known], how)
            window, count = at - flat[known[0]], len(known)
        return Measured(value=value, at=at, window=window, count=count) if math.isfinite(value) else None
