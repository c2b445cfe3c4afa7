"""What a rule would have recommended, hour by hour, on a past that is known: the recommendation protocol.

    every hour after 12 h of warm-up a size by what was known then; it replaces the one in force if it differs by > 10 %
    slack   = Σ max(0, size − used) / Σ size          exceed = share of samples above the size in force

Nothing is looked at before its time: every size comes from the samples before it, gathered as the planner gathers them
(a histogram and two rings of hours of 14 d), or from the samples themselves (`exact`).
Source: ../shared/data/series/README.md, protocol 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from neap.common.errors import InputError
from neap.common.units import DAY, HOUR, Ratio, Seconds
from neap.foresight.histogram import CPU, Buckets, Histogram, are_samples
from neap.foresight.rule import USUAL, Aim, Known, Memory, Rule
from neap.foresight.series import Series, Values

WARM_UP: Final[Seconds] = 12 * HOUR
TAKES: Final[Ratio] = 0.10
RING: Final = 14 * 24  # hours


@dataclass(frozen=True)
class Replayed:
    """The outcome. Shares, not percent. `size` is what was in force at each sample; NaN while warming up."""

    slack: Ratio
    exceed: Ratio
    changes_per_day: float
    size: Values
    basis: str  # of the last recommendation
    last: float  # the last recommendation


def replay(
    rule: Rule,
    series: Series,
    aim: Aim = USUAL,
    *,
    exact: bool = False,
    buckets: Buckets = CPU,
) -> Replayed:
    """Play a rule over a series.

    Raises:
        InputError: the series is too short, or its step is no part of an hour.
    """
    first = round(WARM_UP / series.step)
    size = np.full(len(series), math.nan)
    current, changes, memory, advised = math.nan, 0, Memory(), None
    for count, known in gathered(series, exact=exact, buckets=buckets):
        if count < first:
            continue
        advised = rule.advise(known, aim, memory)
        memory = advised.memory
        if math.isnan(current):
            current = advised.value
        elif abs(advised.value - current) > TAKES * current:
            current, changes = advised.value, changes + 1
        size[count : count + round(HOUR / series.step)] = current
    if advised is None:
        raise InputError(f"{len(series)} samples of {series.step:.0f} s: at least {WARM_UP / HOUR:.0f} h are needed")
    slack, exceed, days = judged(series, size)
    return Replayed(slack, exceed, changes / days if days else 0.0, size, advised.basis, advised.value)


def judged(series: Series, size: Values) -> tuple[Ratio, Ratio, float]:
    """Slack, exceed, and the days they were measured over, of sizes in force; unknown samples do not count."""
    fit = np.isfinite(size) & are_samples(series.values)
    used, had = series.values[fit], size[fit]
    if not len(used) or had.sum() <= 0:
        return 0.0, 0.0, 0.0
    spare = float(np.maximum(0, had - used).sum() / had.sum())
    return spare, float((used > had).mean()), len(used) * series.step / DAY


def gathered(series: Series, *, exact: bool, buckets: Buckets) -> Iterator[tuple[int, Known]]:
    """At every full hour of a series: how many samples were there, and what they come to."""
    each = round(HOUR / series.step)
    if each < 1 or abs(each * series.step - HOUR) > 1e-6:
        raise InputError(f"a step of {series.step} s does not fit into an hour")
    values = np.where(are_samples(series.values), series.values, math.nan)
    avg, high = hourly(values, each)
    histogram = Histogram(buckets)
    for hour in range(1, len(avg) + 1):
        count = hour * each
        if count >= len(values):
            return
        ats = series.start + np.arange(count - each + 1, count + 1, dtype=np.float64) * series.step
        histogram.add_all(values[count - each : count], ats)
        since = max(0, hour - RING)
        start = series.start + since * HOUR
        samples = Series(series.start, series.step, values[:count]) if exact else None
        yield (
            count,
            Known(histogram, Series(start, HOUR, avg[since:hour]), Series(start, HOUR, high[since:hour]), samples),
        )


def hourly(values: Values, each: int) -> tuple[Values, Values]:
    """Mean and highest of every full hour; NaN where nothing is known."""
    full = values[: len(values) // each * each].reshape(-1, each)
    known = np.isfinite(full)
    count = known.sum(axis=1)
    filled = np.where(known, full, 0.0).sum(axis=1)
    avg = np.divide(filled, count, out=np.full(len(full), math.nan), where=count > 0)
    high = np.where(known, full, -math.inf).max(axis=1, initial=-math.inf)
    return avg, np.where(count > 0, high, math.nan)
