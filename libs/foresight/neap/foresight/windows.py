"""Windows of time: samples in, one value per window out.

    window of a sample = floor(at / length)          covers [index * length, (index + 1) * length): windows never overlap
    mean = sum / count,   highest,   sum             of the samples of that window only

The order of samples does not matter. Source: requirements 004-15 (80, 100, 120 -> mean 100, highest 120, sum 300).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Seconds
from neap.foresight.histogram import are_samples
from neap.foresight.series import Series, Values


def window_of(at: Seconds, length: Seconds) -> int:
    """Which window a time lies in."""
    return math.floor(at / length)


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
