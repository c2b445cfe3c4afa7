"""A profile of the day, and how far the present is from it.

p(t)     = Σ g^(d−1)·s(t − d·P) / Σ g^(d−1), d = 1 … D;  s(t): mean of y over [t − w, t + w]
f(o + h) = p(o + h) + a·2^(−h/T),  a = mean of y − p over the last k steps

P: a day, and every other period found. Averaging D days and 2w + 1 neighbours takes the noise out of "as yesterday";
the deviation of the present from the profile is expected to fade with half-life T (none: it stays). Which D, g, w, k, T
suit a series is learnt by competition. They span what people use: one day to two weeks of memory, 0 to 1 h of smoothing,
deviations that fade within an hour to never. Cost: O(D·n) once, then O(1) per value.
Source: Hyndman & Athanasopoulos 5.2 and 8.1; damped level after Gardner & McKenzie 1985; averaging over days and
neighbours as in CRPE and Crane's DSP-style profiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from neap.common.units import HOUR, MINUTE, Seconds
from neap.foresight.past import Indices, Past, Paths, before, mean
from neap.foresight.series import Values


@dataclass(frozen=True)
class Shape:
    """How a profile is made: of `days` periods, the older ones weighing `fade` of the next, smoothed over ±`width`."""

    days: int
    fade: float
    width: Seconds

    def __str__(self) -> str:
        return f"{self.days} × {self.fade:g}, ±{self.width / MINUTE:.0f} min"


SHAPES: Final = (
    Shape(1, 1.0, HOUR),
    Shape(3, 0.7, HOUR / 2),
    Shape(7, 0.7, HOUR / 2),
    Shape(7, 1.0, 0),
    Shape(14, 0.9, HOUR / 2),
)
OTHERS: Final = (Shape(4, 0.7, 0),)  # of periods that were found beside the day
FADES: Final[tuple[tuple[Seconds, Seconds], ...]] = (  # k, T
    (5 * MINUTE, 1.4 * HOUR), (5 * MINUTE, 4 * HOUR), (HOUR / 2, 1.4 * HOUR), (HOUR / 2, 4 * HOUR), (HOUR / 2, 16 * HOUR), (HOUR / 2, math.inf),
)  # fmt: skip


class Seasonal:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        told: dict[str, Values] = {}
        for period, shapes in ((past.day, SHAPES), *((period, OTHERS) for period in past.periods)):
            for shape in shapes if period else ():
                title = f"{'day' if period == past.day else f'{period} steps'} ({shape})"
                told |= _of(past, period, shape, title, origins, leads)
        return told


def _of(past: Past, period: int, shape: Shape, title: str, origins: Indices, leads: Indices) -> dict[str, Values]:
    width = round(shape.width / past.step)
    profile = past.kept((period, shape), lambda: _profile(past.usable, period, shape, width))
    expected = at(profile, period, width, origins, leads)
    told = {title: expected}
    off = past.kept((period, shape, "off"), lambda: past.usable - profile[: len(past)])
    for length, half_life in FADES:
        away = mean(before(off, origins, past.samples(length)))
        fading = 0.5 ** (leads * past.step / half_life)
        stays = "stays" if math.isinf(half_life) else f"halves in {half_life / HOUR:.3g} h"
        told[f"{title}, off by {length / MINUTE:.0f} min, {stays}"] = np.maximum(expected + away[:, None] * fading, 0.0)
    return told


def _profile(values: Values, period: int, shape: Shape, width: int) -> Values:
    """p(t) for every t up to one period after the last value; made of values up to t − period + width."""
    smooth = running(values, width)
    reach = len(values) + period
    summed, heavy = np.zeros(reach), np.zeros(reach)
    for ago in range(1, min(shape.days, len(values) // period + 1) + 1):
        there = smooth[: max(0, reach - ago * period)]
        known = np.isfinite(there)
        summed[ago * period :][: len(there)] += np.where(known, there, 0.0) * shape.fade ** (ago - 1)
        heavy[ago * period :][: len(there)] += known * shape.fade ** (ago - 1)
    return np.where(heavy > 0, summed / np.where(heavy > 0, heavy, 1.0), np.nan)


def running(values: Values, width: int) -> Values:
    """Mean over [t − width, t + width], what is unknown left out."""
    if not width:
        return values
    known = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    place = np.arange(len(values))
    low, high = np.maximum(place - width, 0), np.minimum(place + width + 1, len(values))
    count = counts[high] - counts[low]
    return np.where(count > 0, (totals[high] - totals[low]) / np.maximum(count, 1), np.nan)


def at(profile: Values, period: int, width: int, origins: Indices, leads: Indices) -> Values:
    """The profile at each target, moved whole periods back to before the origin.

    What is smoothed over `width` values after it must lie before the origin too: the last of a period stay as they were.
    """
    ahead = np.minimum((leads - 1) % period, max(period - width - 1, 0))
    places = origins[:, None] + ahead[None, :]
    return np.where(places >= 0, profile[np.clip(places, 0, len(profile) - 1)], np.nan)


PLUGIN: Final = Seasonal()
