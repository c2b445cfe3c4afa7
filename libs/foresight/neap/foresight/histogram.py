"""Histograms that forget: weighted samples in exponential buckets, where a sample's weight halves every half-life.

    bucket n covers   [first * (growth^n - 1) / (growth - 1), the same of n + 1)       [cores or bytes]
    weight of a sample, seen from a time  = weight * 2^((at - time) / half_life)
    percentile(p)     = the END of the first bucket at which the summed weight reaches p of all weight

The end, and not the middle: what is sized by it holds every sample of the bucket. The last bucket has no end, so its
start is told. A bucket that weighs less than EPSILON of a sample taken now counts as empty. Order of adding does not
matter. `Histogram` is one row by itself; `Histograms` is many rows of the same buckets in one array.

Source: growth, first buckets, maxima, epsilon and the answer at a bucket's end are those of Katalyst's resource
recommender and of the Vertical Pod Autoscaler before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neap.common.units import DAY, Ratio, Seconds
from neap.foresight.series import Values

GROWTH: Final = 1.05
EPSILON: Final = 1e-4  # of a sample taken now: less is nothing
FURTHEST: Final = 32  # half-lives the newest sample may be after the reference; then the reference follows


@dataclass(frozen=True)
class Buckets:
    """Where the buckets lie; see module docstring."""

    first: float  # size of the first
    maximum: float  # what is above lies in the last
    growth: float = GROWTH

    @cached_property
    def starts(self) -> Values:
        """Of every bucket; 0 is the first."""
        count = math.ceil(math.log(self.maximum * (self.growth - 1) / self.first + 1, self.growth)) + 1
        return np.asarray(self.first * (self.growth ** np.arange(count) - 1) / (self.growth - 1), dtype=np.float64)

    @cached_property
    def ends(self) -> Values:
        """What is told of every bucket: its end; of the last one, its start."""
        return np.append(self.starts[1:], self.starts[-1])

    def __len__(self) -> int:
        return len(self.starts)

    def index(self, values: ArrayLike) -> NDArray[np.intp]:
        """Which bucket each value lies in; values are not below zero."""
        return np.maximum(np.searchsorted(self.starts, np.asarray(values, dtype=float), side="right") - 1, 0)


CPU: Final = Buckets(0.01, 1000.0)  # cores
MEMORY: Final = Buckets(1e7, 1e12)  # bytes
BUCKETS: Final = {"cpu": CPU, "memory": MEMORY}


def are_samples(values: Values) -> NDArray[np.bool_]:
    """Which values can be a use of something: numbers, finite, not below zero."""
    return np.isfinite(values) & (values >= 0)


@dataclass
class Histogram:
    """One row; see module docstring. `weights` are as seen from `reference`; `latest` is the time of the newest sample."""

    buckets: Buckets = CPU
    half_life: Seconds = DAY
    reference: Seconds = 0.0
    latest: Seconds = -math.inf
    weights: Values = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not len(self.weights):
            self.weights = np.zeros(len(self.buckets))

    def add(self, value: float, at: Seconds, weight: float = 1.0) -> bool:
        """Count one sample; False, and nothing changes, if it is none."""
        return self.add_all(np.array([value]), np.array([at]), np.array([weight])) == 1

    def add_all(self, values: Values, ats: Values, weights: Values | None = None) -> int:
        """Count samples, each with its own time; returns how many of them were samples."""
        taken = are_samples(values) & np.isfinite(ats)
        if weights is not None:
            taken &= are_samples(weights)
        if not taken.any():
            return 0
        self._see(float(ats[taken].max()))
        counted = np.exp2((ats[taken] - self.reference) / self.half_life)
        if weights is not None:
            counted = counted * weights[taken]
        np.add.at(self.weights, self.buckets.index(values[taken]), counted)
        return int(taken.sum())

    def percentile(self, share: Ratio) -> float:
        """What `share` (0..1) of all weight lies below; NaN if there is nothing."""
        present = np.flatnonzero(self.weights >= EPSILON * self._unit)
        if not len(present):
            return math.nan
        reached = np.cumsum(self.weights)
        first = int((reached >= share * reached[-1]).argmax())
        return float(self.buckets.ends[np.clip(first, present[0], present[-1])])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask it."""
        return not bool((self.weights >= EPSILON * self._unit).any())

    def copy(self) -> Histogram:
        """Another one of the same."""
        return Histogram(self.buckets, self.half_life, self.reference, self.latest, self.weights.copy())

    @property
    def _unit(self) -> float:
        """What a sample of the newest time weighs, seen from the reference; infinite where there is none."""
        known = math.isfinite(self.latest)
        return float(np.exp2((self.latest - self.reference) / self.half_life)) if known else math.inf

    def _see(self, at: Seconds) -> None:
        if not math.isfinite(self.latest):
            self.reference = at
        elif (at - self.reference) / self.half_life > FURTHEST:
            self.weights *= np.exp2((self.reference - at) / self.half_life)
            self.reference = at
        self.latest = max(self.latest, at)


class Histograms:
    """Many rows over the same buckets, in 32 bits, as seen from one reference for all; see module docstring.

    Memory is taken as buckets are used: a bucket of all rows lies together, and where none of a thousand neighbours uses
    as much, nothing is taken. The reference moves by whole half-lives, so moving it changes no percentile.
    """

    def __init__(self, rows: int, buckets: Buckets, half_life: Seconds) -> None:
        self.buckets, self.half_life = buckets, half_life
        self.reference: Seconds = 0.0
        self.weights: NDArray[np.float32] = np.zeros((len(buckets), rows), np.float32).T
        self.latest: Values = np.zeros(rows)  # 0: nothing yet

    def add(self, rows: NDArray[np.intp], values: Values, ats: Values, weights: ArrayLike = 1.0) -> None:
        """Count samples (are_samples holds) of rows, one each or several; times are after 1970."""
        if not len(rows):
            return
        self.see(float(ats.max()))
        counted = np.exp2((ats - self.reference) / self.half_life) * weights
        np.add.at(self.weights, (rows, self.buckets.index(values)), counted.astype(np.float32))
        np.maximum.at(self.latest, rows, ats)

    def of(self, row: int) -> Histogram:
        """A row by itself."""
        latest = float(self.latest[row]) or -math.inf
        return Histogram(self.buckets, self.half_life, self.reference, latest, self.weights[row].astype(float))

    def clear(self, rows: NDArray[np.intp] | int) -> None:
        """Rows begin anew."""
        places = np.atleast_1d(rows)
        for bucket in np.flatnonzero(self.weights[places].any(axis=0)).tolist():
            self.weights[places, bucket] = 0
        self.latest[rows] = 0

    def put(
        self,
        rows: NDArray[np.intp],
        weights: NDArray[np.float32],
        latest: Values,
        reference: Seconds,
        half_life: Seconds,
    ) -> None:
        """Set rows as others had them: weights as seen from `reference`, with that half-life until now."""
        if reference > self.reference:
            self._move(reference)
        factors = np.full(len(rows), np.exp2((reference - self.reference) / self.half_life))
        if half_life != self.half_life:  # as seen from each row's newest sample they are the same
            factors = np.exp2((reference - latest) / half_life + (latest - self.reference) / self.half_life)
        self.clear(rows)
        used = np.flatnonzero(weights.any(axis=0))
        self.weights[np.ix_(rows, used)] = weights[:, used] * factors[:, np.newaxis].astype(np.float32)
        self.latest[rows] = latest

    def see(self, at: Seconds) -> None:
        """Follow the time with the reference, so that weights stay numbers."""
        ahead = (at - self.reference) / self.half_life
        if ahead > FURTHEST:
            self._move(self.reference + math.floor(ahead) * self.half_life)

    def _move(self, reference: Seconds) -> None:
        used = np.flatnonzero(self.latest)
        factor = np.exp2((self.reference - reference) / self.half_life)
        top = int(used[-1]) + 1 if len(used) else 0
        for bucket in range(len(self.buckets)):
            if self.weights[:top, bucket].any():  # writing, even zeros, takes memory
                self.weights[:top, bucket] *= np.float32(factor)
        self.reference = reference
