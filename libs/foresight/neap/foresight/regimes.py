"""Which part of the past says anything about tomorrow: outages are gaps, and a new level ends what was before it.

d(t) = how far y(t) lies outside of [Q0.5, Q99.5] of the week before, in units of that week's spread Q99.5 − Q0.5
S(t) = S(t − 1) + d(t) while d(t) ≥ APART;  0 otherwise

The level has left where a run of at least RUN values reaches S ≥ ENOUGH: the farther away, the sooner it is believed.
Two things can follow:

    it comes back within a day       what lies between was an outage (or a burst): unknown, no pattern for tomorrow
    it has not come back             a new level: what was before it is not used

A day that is busier than the days before does not leave, and what happens daily for a quarter of an hour is known after
a day. A week of fewer than a day of values knows nothing. Cost: one sort per day of history.
Source: CUSUM (Page 1954) on order statistics; outliers and level shifts as two kinds of events: Chen & Liu 1993.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.foresight.series import Values

RUN: Final = 3  # values in a row
APART: Final = 0.5  # spreads
ENOUGH: Final = 3.0  # spreads, together
QUANTILES: Final = (0.005, 0.995)
WEEK: Final = 7  # days whose values are compared with
MOST: Final = 28  # leavings in all that is looked at
LEAST: Final = 1e-3  # of the level: the least spread there is; less is rounding


def usable(values: Values, day: int) -> tuple[Values, int]:
    """The same values, unknown where they say nothing; and where the present level began (0: it always was so)."""
    kept, began, place, times = values.copy(), 0, day, 0
    while day and place < len(values):
        known = kept[max(began, place - WEEK * day) : place]
        known = known[np.isfinite(known)]
        stop = min(place + day, len(values))
        left = _leaves(_apart(values[place : stop + day], known)) if len(known) >= day else None
        if left is None or place + left >= stop:
            place = stop
            continue
        begin, times = place + left, times + 1
        if times > MOST:  # a series that leaves all the time has no level to leave
            return values, 0
        near = values[begin : begin + day + RUN]
        back = _returns((_apart(near, known) < APART) & np.isfinite(near))
        if back is not None and back <= day:
            kept[begin : begin + back] = np.nan
            place = begin + back + RUN
        else:
            kept[:begin] = np.nan
            began, place = begin, begin + day
    return kept, began


def _apart(values: Values, known: Values) -> Values:
    """D of each value; unknown is at home."""
    low, high = np.quantile(known, QUANTILES)
    spread = max(high - low, LEAST * abs(high))
    beyond = np.maximum(low - values, values - high)
    return np.where(np.isfinite(beyond), beyond, 0.0) / (spread if spread > 0 else 1.0)


def _leaves(apart: Values) -> int | None:
    """Where the first run that goes far enough begins."""
    outside = apart >= APART
    edges = np.flatnonzero(np.diff(np.concatenate([[False], outside, [False]]).astype(np.int8)))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin >= RUN and float(apart[begin:end].sum()) >= ENOUGH:
            return int(begin)
    return None


def _returns(inside: NDArray[np.bool_]) -> int | None:
    """Where the first RUN values at home in a row begin."""
    if len(inside) < RUN:
        return None
    counts = np.concatenate([[0], np.cumsum(inside)])
    full = np.flatnonzero(counts[RUN:] - counts[:-RUN] == RUN)
    return int(full[0]) if len(full) else None
