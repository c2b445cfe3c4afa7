"""Windows of time: samples in, one value per window out.

    window of a sample = floor(at / length)          covers [index * length, (index + 1) * length): windows never overlap
    avg = sum / count,   max,   sum                  of the samples of that window only
    fewer than `least` samples                       the window is absent: NaN, never zero

A late sample changes its own window and no other. The order of samples does not matter.
Source: requirements 004-15 (80, 100, 120 -> avg 100, max 120, sum 300) and 004-16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.common.units import HOUR, Seconds
from neap.foresight.histogram import are_samples
from neap.foresight.series import Series, Values

Aggregator: TypeAlias = Literal["avg", "max", "sum"]
MOST_WINDOWS: Final = 100_000  # of one answer: longer gaps than this are not filled in


def window_of(at: Seconds, length: Seconds) -> int:
    """Which window a time lies in."""
    return math.floor(at / length)


@dataclass
class Windows:
    """Windows of one series, the newest `keep` of them; what is older than those is not taken."""

    length: Seconds = HOUR
    least: int = 1
    keep: int = 336
    sums: dict[int, tuple[int, float, float]] = field(default_factory=dict)  # window -> count, sum, max

    def add(self, at: Seconds, value: float) -> Seconds | None:
        """Take a sample; the start of the window it changed, None if it is no sample, or too old."""
        if not (math.isfinite(at) and math.isfinite(value) and value >= 0):
            return None
        window = window_of(at, self.length)
        newest = max(self.sums, default=window)
        if window <= newest - self.keep:
            return None
        count, total, highest = self.sums.get(window, (0, 0.0, 0.0))
        self.sums[window] = count + 1, total + value, max(highest, value)
        for old in [index for index in self.sums if index <= window - self.keep]:
            del self.sums[old]
        return window * self.length

    def items(self, how: Aggregator = "avg") -> list[tuple[Seconds, float]]:
        """Start and value of every window with enough samples, oldest first."""
        return [
            (window * self.length, {"avg": total / count, "max": highest, "sum": total}[how])
            for window, (count, total, highest) in sorted(self.sums.items())
            if count >= self.least
        ]

    def series(self, how: Aggregator = "avg") -> Series:
        """The same on a fixed step; absent windows are NaN."""
        found = dict(self.items(how))
        if not found:
            return Series(0.0, self.length, np.zeros(0))
        first, last = (window_of(at + self.length / 2, self.length) for at in (min(found), max(found)))
        first = max(first, last - MOST_WINDOWS + 1)
        values = [found.get(window * self.length, math.nan) for window in range(first, last + 1)]
        return Series(first * self.length, self.length, np.array(values))


@dataclass(frozen=True)
class Grouped:
    """What falls into each window: `counts` are values times how much of a `sample` each stands for."""

    windows: NDArray[np.int64]  # ascending, each once
    counts: Values
    sums: Values  # of value times count
    highest: Values

    @property
    def means(self) -> Values:
        """Of each window."""
        return self.sums / self.counts

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Grouped:
        return Grouped(self.windows[chosen], self.counts[chosen], self.sums[chosen], self.highest[chosen])


def group(series: Series, length: Seconds, sample: Seconds) -> Grouped:
    """A series on any step -> windows of `length`; unknown values fall into none.

    A value covers its whole step. Steps not longer than a window: a value belongs to the window its middle lies in.
    Longer steps: it belongs to every window whose middle it covers. `sample`: seconds one sample stands for.
    """
    known = np.flatnonzero(are_samples(series.values))
    if series.step <= length:
        middles = series.start + (known + 0.5) * series.step
        windows, values = np.floor(middles / length).astype(np.int64), series.values[known]
        share = series.step / sample
    else:
        first, last = (math.ceil(at / length - 0.5) for at in (series.start, series.end))
        windows = np.arange(first, last, dtype=np.int64)
        of = np.floor(((windows + 0.5) * length - series.start) / series.step).astype(np.int64)
        windows = windows[np.isin(of, known)]
        values = series.values[of[np.isin(of, known)]]
        share = length / sample
    found, group_of = np.unique(windows, return_inverse=True)
    highest = np.zeros(len(found))
    np.maximum.at(highest, group_of, values)
    counts = summed(group_of, np.full(len(group_of), share), len(found))
    return Grouped(found, counts, summed(group_of, values * share, len(found)), highest)


def summed(of: NDArray[np.intp], values: Values, count: int) -> Values:
    """The sum of the values of each of `count` groups."""
    return np.bincount(of, values, count).astype(np.float64)
