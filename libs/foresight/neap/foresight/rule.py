"""What a rule of sizing sees and says: the past of one resource of one container, and what to ask for.

    exceeded(a, x, R) = 0                                if R ≥ x
                        (a − R) / (x − R)                if a > R     [the least share of the hour spent above R]
                        1 / 12                           else         [some of it: one sample of five minutes]

with a the mean and x the highest sample of an hour. The middle line is exact as a bound: a ≤ s·x + (1 − s)·R for the
share s of the hour above R. Everything is in the unit of the samples: cores or bytes. Rules are pure: what one has to
remember travels as `memory`, a few numbers that somebody else keeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np

from neap.common.units import DAY, HOUR, MIB, Ratio, Seconds, format_bytes, format_duration
from neap.foresight.histogram import EPSILON, Histogram
from neap.foresight.series import Series, Values

Memory: TypeAlias = tuple[float, ...]  # () at the beginning
HALF_LIFE: Final[Seconds] = DAY
LEAST_SHARE: Final[Ratio] = 1 / 12


@dataclass(frozen=True)
class Known:
    """What is known until now. Every closed hour is in both rings; NaN: nothing was seen in it."""

    histogram: Histogram  # of samples, older ones count less
    hours_avg: Series
    hours_max: Series
    samples: Series | None = None  # where somebody kept them: an export, a replay

    def hours(self, span: Seconds) -> Values:
        """The highest sample of each known hour of the last `span`; oldest first."""
        last = self.hours_max.last(round(span / HOUR)).values
        return last[np.isfinite(last)]


@dataclass(frozen=True)
class Aim:
    """How careful to be: the percentile to hold, and what is put on top of it."""

    percentile: Ratio = 0.9
    margin: Ratio = 0.15


USUAL: Final = Aim()


@dataclass(frozen=True)
class Advised:
    """What to ask for. NaN: nothing is known. `basis` is a clause with the numbers in it: "2.4 (p90) x 1.15"."""

    value: float
    basis: str
    memory: Memory = ()


@runtime_checkable
class Rule(Protocol):
    """One way of sizing; one file in `sizes`."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:
        """What to ask for from now on, by what is known until now."""
        ...


def percentile(known: Known, share: Ratio) -> float:
    """What `share` of the weight of all samples lies below, where a sample's weight halves every day.

    Exact where the samples are there. Else out of the histogram: within a bucket the weight above falls by the same
    factor per unit (as the upper tail of use does), so the answer is nearer than the bucket's end, 5 % further.
    """
    if known.samples is None:
        return within_bucket(known.histogram, share)
    values = known.samples.values
    ages = np.arange(len(values))[::-1] * known.samples.step
    fit = np.isfinite(values)
    if not fit.any():
        return math.nan
    values, weights = values[fit], np.exp2(-ages[fit] / HALF_LIFE)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(reached, share * reached[-1]), len(order) - 1)])


def within_bucket(histogram: Histogram, share: Ratio) -> float:
    """A percentile out of a histogram, nearer than the end of its bucket; NaN if there is nothing."""
    if histogram.is_empty:
        return math.nan
    above = histogram.weights[::-1].cumsum()[::-1]  # weight from each bucket on
    total = float(above[0])
    place = int(np.searchsorted(-above, -(1 - share) * total, side="right")) - 1
    first, end = float(histogram.buckets.starts[place]), float(histogram.buckets.ends[place])
    here = float(above[place])
    left = max(float(above[place + 1]) if place + 1 < len(above) else 0.0, EPSILON * total)
    if here <= left:
        return end
    return first + (end - first) * min(math.log(here / max((1 - share) * total, left)) / math.log(here / left), 1.0)


def exceeded(mean: float, highest: float, size: float) -> Ratio:
    """The share of an hour spent above a size, estimated from below; see module docstring."""
    if not (math.isfinite(mean) and math.isfinite(highest)) or size >= highest:
        return 0.0
    return max(LEAST_SHARE, (mean - size) / (highest - size)) if mean > size else LEAST_SHARE


def amount(value: float) -> str:
    """A number as people read it in a sum; a million and more are bytes, nobody uses as many cores."""
    return format_bytes(round(value)) if math.isfinite(value) and value >= MIB else f"{value:.4g}"


def spoken(span: Seconds) -> str:
    """A window as people say it: 14 d, 36 h."""
    days = span / DAY
    is_whole = days >= 30 or (days >= 1 and abs(days - round(days)) < 0.001)
    return f"{days:.0f} d" if is_whole else format_duration(span)
