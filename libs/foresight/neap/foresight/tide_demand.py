"""What online services of a pool will need: cores and bytes that must be placed, and cores that are used.

    used(t)   = band(t) x (1 + margin)                      band: the 90 % band of the forecast of use, else its values
    asked(u)  : what is requested at a use u, through (use now, asked now) and (use, asked at the last day's peak);
                below the lower of the two and above the higher in proportion to it
    grown(t)  = asked now x highest of  H_d(t) / H_d(now)  of the last week's days d;  H_d: highest asked in the half hour
    placed(t) = max(asked(used(t)), grown(t))
    need(t)   = max over [t, t + early] of placed           a ramp may come earlier than it ever did
    usual(t)  = highest H_d(t) of the last week; while it is not known whole, the highest of what is

Requests are what has to be placed; autoscalers move them with the load. The forecast knows the level some hours ahead,
and so what may be lent; `grown` knows how fast it ever rose at this time of day from where it is now, which is what a
return has to be ahead of (as a grid's operator sizes reserve by the steepest ramp). It follows a day that is unlike the
last ones (a Monday after a Sunday, a free day), and has in it the steps of a time table (bounds that change at 07:30).
`usual` is for what cannot be taken back, however quiet it looks: see tide.
Memory goes with the milli-cores asked: replicas carry both.
Source: what is proportional is what the Horizontal Pod Autoscaler does (desired = use / target); a maximum over days as
the cautious estimate: Rzadca et al., "Autopilot" (EuroSys 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.units import DAY, Cores, MilliCores, Ratio, Seconds
from neap.foresight.series import Values

SLOT: Final[Seconds] = 1800.0  # of the habit
LEAST_USED: Final[Cores] = 0.001  # less is no use: nothing is in proportion to it
MOST_USED: Final[Cores] = 1e9  # more is no pool
WEEK: Final = 7  # days that are looked back


@dataclass(frozen=True)
class Point:
    """Use and what was asked at the same time."""

    used: Cores
    asked: MilliCores


@dataclass(frozen=True)
class Habit:
    """Highest milli-cores asked per SLOT from `start` on; negative: not seen."""

    start: Seconds = 0.0
    asked: Sequence[int] = ()

    def growth(self, at: Seconds, times: Values) -> Values:
        """The highest of H_d(t) / H_d(at) over the last WEEK days, see module docstring; 0 where no day is known."""
        if not self.asked:
            return np.zeros(len(times))
        then, now = self._back(times), self._back(np.array([at]))
        grown = np.divide(then, now, out=np.zeros_like(then), where=(now > 0) & (then > 0))
        return np.asarray(grown.max(axis=0))

    def usual(self, times: Values) -> Values:
        """The highest of the last WEEK days, see module docstring; infinite where nothing is known."""
        if not self.asked:
            return np.full(len(times), np.inf)
        then = self._back(times)
        known = (then > 0).all(axis=0)
        return np.asarray(np.where(known, then.max(axis=0), max(self.asked)))

    def _back(self, times: Values) -> Values:
        """Shape (WEEK, times): what was asked a day before, two days before ...; 0: not seen."""
        known = np.asarray(self.asked, dtype=np.float64)
        back = np.arange(1, WEEK + 1)[:, None] * DAY
        place = np.floor((times[None, :] - back - self.start) / SLOT).astype(np.int64)
        seen = (place >= 0) & (place < len(known))
        return np.asarray(np.maximum(np.where(seen, known[np.clip(place, 0, len(known) - 1)], 0.0), 0.0))

    def told(self, at: Seconds, asked: MilliCores, most: int) -> Habit:
        """With what is asked now; what is older than `most` slots is let go. A clock that jumped back adds nothing."""
        first = math.floor(at / SLOT) * SLOT
        if not self.asked or not 0 <= first - self.start < 4 * most * SLOT:
            return Habit(first, (asked,)) if not self.asked or first > self.start else self
        place = round((first - self.start) / SLOT)
        known = [*self.asked, *[-1] * (place + 1 - len(self.asked))]
        known[place] = max(known[place], asked)
        drop = max(0, len(known) - most)
        return Habit(self.start + drop * SLOT, tuple(known[drop:]))


@dataclass(frozen=True)
class Demand:
    """What has to be there at `start + i * step`: columns milli-cores placed, bytes placed, cores used."""

    start: Seconds
    step: Seconds
    need: NDArray[np.float64]
    usual: Values = field(default_factory=lambda: np.zeros(0))  # milli-cores, per row; empty: nothing is known
    version: str = ""
    words: str = ""

    @property
    def times(self) -> Values:
        """Of the rows."""
        return np.asarray(self.start + self.step * np.arange(len(self.need)), dtype=np.float64)


@dataclass(frozen=True)
class Outlook:
    """What a demand is made of."""

    now: Point
    memory: float  # bytes asked now
    start: Seconds
    step: Seconds
    values: Values  # use that is expected
    band: Values | None = None  # that it stays under nine times out of ten
    peak: Point | None = None  # of the last day
    habit: Habit = Habit()
    version: str = ""


def demand(seen: Outlook, at: Seconds, *, margin: Ratio, early: Seconds) -> Demand | str:
    """See module docstring; a sentence if nothing can be said: then nothing may be lent."""
    band = seen.values if seen.band is None or len(seen.band) != len(seen.values) else seen.band
    if not len(band) or seen.step <= 0:
        return "the forecast is empty"
    if not (np.isfinite(band).all() and math.isfinite(seen.start) and math.isfinite(seen.step)):
        return "the forecast has values that are no numbers"
    if not (0 <= seen.now.used <= MOST_USED and seen.now.asked >= 0):  # NaN neither
        return f"use now is no number of cores: {seen.now.used:g}"
    if band.max() > MOST_USED:
        return f"the forecast is beyond any pool: {band.max():g} cores"
    skip = max(0, math.floor((at - seen.start) / seen.step))
    if skip >= len(band):
        return f"the forecast ended {at - seen.start - len(band) * seen.step:.0f} s ago"
    used = np.maximum(band[skip:], 0.0) * (1.0 + margin)
    start = seen.start + skip * seen.step
    times = np.asarray(start + seen.step * np.arange(len(used)), dtype=np.float64)
    grown = seen.now.asked * seen.habit.growth(at, times)
    placed = np.maximum(asked(used, seen.now, seen.peak), grown)
    per = seen.memory / seen.now.asked if seen.now.asked > 0 else 0.0
    need = np.stack([placed, placed * per, used], axis=1)
    words = f"{seen.now.asked / 1000:.1f} cores asked now, at most {placed.max() / 1000:.1f} as far as is foreseen"
    return Demand(start, seen.step, _reaching(need, early / seen.step), seen.habit.usual(times), seen.version, words)


def asked(used: Values, now: Point, peak: Point | None) -> Values:
    """Milli-cores that are requested at a use, see module docstring; without any use, what is asked now."""
    points = sorted(
        (point for point in (now, peak) if point is not None and point.used >= LEAST_USED), key=lambda point: point.used
    )
    if not points:
        return np.full(len(used), float(now.asked))
    low, high = points[0], points[-1]
    between = np.interp(used, [low.used, high.used], [low.asked, high.asked])
    below, above = used * (low.asked / low.used), used * (high.asked / high.used)
    return np.asarray(np.where(used < low.used, below, np.where(used > high.used, above, between)))


def _reaching(need: NDArray[np.float64], steps: float) -> NDArray[np.float64]:
    """The highest of each row and of the `steps` rows after it."""
    width = max(0, math.ceil(steps))
    if width == 0:
        return need
    padded = np.concatenate([need, np.repeat(need[-1:], width, axis=0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, width + 1, axis=0)
    return np.asarray(windows.max(axis=-1))
