"""What a model may look at, and what a model is.

A model tells paths for many origins at once, so that trying it on the past (the back-test) costs little more than one
forecast. Row i of what it tells depends on nothing at or after origins[i]: a law test changes that and nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Seconds
from neap.foresight.series import Values

Indices: TypeAlias = NDArray[np.int64]
Paths: TypeAlias = Mapping[str, Values]  # name -> float64 (origins, leads); NaN: it cannot say


@dataclass(frozen=True)
class Past:
    """Values on a fixed step, NaN where they are unknown.

    `seen` is all that was measured; `usable` lacks what says nothing about tomorrow (outages, and the time before the
    level changed for good). `day`: samples of one day, 0 if it is no whole number; `periods`: others that were found.
    """

    seen: Values
    usable: Values
    step: Seconds
    day: int = 0
    periods: tuple[int, ...] = ()
    _kept: dict[tuple[object, ...], Values] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.seen)

    def samples(self, length: Seconds) -> int:
        """How many steps make `length`, at least one."""
        return max(1, round(length / self.step))

    def kept(self, key: tuple[object, ...], work: Callable[[], Values]) -> Values:
        """What `work` returns, once: models share what they derive from the same past."""
        if key not in self._kept:
            self._kept[key] = work()
        return self._kept[key]


@runtime_checkable
class Model(Protocol):
    """One file of models/: one way of forecasting, perhaps with several settings, which then compete."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """For each origin (index of the first unknown value) and lead (1: that value) what is expected."""
        ...


def before(values: Values, origins: Indices, count: int, thin: int = 1) -> Values:
    """The last `count` values before each origin, newest first; NaN before the beginning; of `thin` values one."""
    places = origins[:, None] - 1 - np.arange(0, count, thin)
    if not places.size or places.min() >= 0:
        told: Values = values[places]
        return told
    return np.where(places >= 0, values[np.maximum(places, 0)], np.nan)


def mean(values: Values, weights: Values | None = None) -> Values:
    """Of each row, what is unknown left out; NaN where all is."""
    known = np.isfinite(values)
    heavy = known * (1.0 if weights is None else weights)
    total = heavy.sum(axis=-1)
    summed = (np.where(known, values, 0.0) * heavy).sum(axis=-1)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def median(values: Values) -> Values:
    """Of each row, what is unknown left out; NaN where all is."""
    ranked = np.sort(values, axis=-1)  # NaN comes last
    count = np.isfinite(values).sum(axis=-1)
    if not ranked.shape[-1]:
        return np.full(ranked.shape[:-1], np.nan)
    low = np.take_along_axis(ranked, (np.maximum(count - 1, 0) // 2)[..., None], -1)
    high = np.take_along_axis(ranked, np.minimum(count // 2, ranked.shape[-1] - 1)[..., None], -1)
    return np.where(count > 0, ((low + high) / 2)[..., 0], np.nan)


def last_known(values: Values) -> Values:
    """At each place the newest value at or before it that is known."""
    places = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return np.where(places >= 0, values[np.maximum(places, 0)], np.nan) if len(values) else values


def every(level: Values, leads: Indices) -> Values:
    """The same level at every lead."""
    return np.repeat(level[:, None], len(leads), axis=1)
