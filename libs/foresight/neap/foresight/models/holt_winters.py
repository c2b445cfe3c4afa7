"""A level and a season that both follow the series (additive, without trend).

l(t) = a·(y(t) − s(t − P)) + (1 − a)·l(t − 1)
s(t) = g·(y(t) − l(t)) + (1 − g)·s(t − P)
f(o + h) = l(o − 1) + s(o + h − q·P),  q the fewest periods that lead before o

a: half-life of one hour, g = 0.3: usual values; the other models have other memories. No trend, because over a day a
trend of five-minute values is noise (Gardner 1985). An unknown value leaves level and season as they are.
A period is one product with a triangular matrix. Cost: O(n·P). Source: Winters 1960; Hyndman & Athanasopoulos 8.3.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from neap.common.units import HOUR
from neap.foresight.models.seasonal import at
from neap.foresight.past import Indices, Past, Paths, before
from neap.foresight.series import Values

SEASON: Final = 0.3  # g
DAYS: Final = 14  # it starts this long ago


class HoltWinters:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        if not past.day or len(past) < past.day:
            return {}
        rows = past.kept(("holt-winters",), lambda: _followed(past.usable, past.day, past.samples(HOUR)))
        level = before(rows[0][: len(past)], origins, 1)
        told = np.maximum(level + at(rows[1], past.day, 0, origins, leads), 0.0)
        ready = origins >= _begin(past.usable, past.day) + past.day  # the first day is taken as a whole
        return {"holt-winters": np.where(ready[:, None], told, np.nan)}


def _followed(values: Values, period: int, half_life: int) -> Values:
    """Rows: the level at t, and the season as it was one period before t."""
    kernel, kept = _kernel(period, half_life)
    level, season = np.full(len(values) + period, np.nan), np.full(len(values) + period, np.nan)
    begin = _begin(values, period)
    now, shape = np.nan, np.zeros(period)
    for start in range(begin, len(values), period):
        block = values[start : start + period]
        size, known = len(block), np.isfinite(block)
        if start > begin:
            season[start : start + period] = shape
        if known.any():
            now = float(block[known][0]) if np.isnan(now) else now
            filled = np.where(known, block - shape[:size], now)
            told = kernel[:size, :size] @ filled + kept[:size] * now
            if not known.all():  # an unknown value is as the level says: found in a second round
                told = kernel[:size, :size] @ np.where(known, filled, told) + kept[:size] * now
            level[start : start + size] = told
            if start == begin:  # a first day has no season yet: all of its shape is
                now, gain, rest = float(block[known].mean()), 1.0, block - float(block[known].mean())
            else:
                now, gain, rest = float(told[-1]), SEASON, block - told
            shape = shape + gain * np.pad(np.where(known, rest - shape[:size], 0.0), (0, period - size))
        else:
            level[start : start + size] = now
    season[start + period :] = shape[: len(season) - start - period]
    return np.stack([level, season])


def _begin(values: Values, period: int) -> int:
    return max(0, len(values) - DAYS * period)


@cache
def _kernel(period: int, half_life: int) -> tuple[Values, Values]:
    """A period of smoothing as a matrix, and what is left of the level before it."""
    share = 1 - 0.5 ** (1 / half_life)
    ages = np.arange(period)[:, None] - np.arange(period)[None, :]
    return np.where(ages >= 0, share * (1 - share) ** np.maximum(ages, 0), 0.0), (1 - share) ** np.arange(1, period + 1)


PLUGIN: Final = HoltWinters()
