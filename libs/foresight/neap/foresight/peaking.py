"""The peak of what runs on a host: what predictors look at, what they answer, and how good an answer was.

A predictor sees the last ten hours of everybody on a host and says how high their total will be within the next two.
Steps are of 300 s throughout. NaN is unknown, never zero. Units are the caller's: cores, bytes, percent.

    violation   the share of predictions below the true peak
    severity    the mean of max(0, (peak − prediction) / peak)
    savings     1 − prediction / Σ limits, in the mean

Source: Bashir et al., "Take it to the Limit: Peak Prediction-driven Resource Overcommitment in Datacenters"
(EuroSys 2021): predictors that see the past of the machine only, and these three measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neap.foresight.series import Values

HOUR: Final = 12  # steps
AHEAD: Final = 24  # steps: a peak is that of the next two hours
LONGEST: Final = 120  # steps of the past that are looked at
SHORTEST: Final = 24  # steps of a host's total that have to be known
LEAST: Final = 6  # steps of one of those who run there; who is known for less is reckoned with what is asked for


@dataclass(frozen=True)
class Hosts:
    """What is known of some hosts, oldest step first. Shapes: (hosts, pods, steps), (hosts, pods); NaN and inf: none.

    A row that is NaN throughout is nobody: hosts need not have the same number of pods.
    """

    samples: Values
    limits: Values  # what each may use at most; inf: nothing stops it, NaN: nobody

    @cached_property
    def is_whole(self) -> bool:
        """Whether nothing is unknown."""
        return not bool(np.isnan(self.samples).any())

    @cached_property
    def filled(self) -> Values:
        """The samples, the gaps of each pod filled with its own mean; steps of which nothing is known stay unknown.

        So the total is that of those who run there now: who came later adds no rise.
        """
        if self.is_whole:
            return self.samples
        unknown = np.isnan(self.samples)
        nobody = unknown.all(axis=2, keepdims=True)
        count = np.maximum(1, (~unknown).sum(axis=2, keepdims=True))
        mean = np.where(unknown, 0.0, self.samples).sum(axis=2, keepdims=True) / count
        filled = np.where(unknown & ~nobody, mean, self.samples)
        return np.where(unknown.all(axis=1, keepdims=True), np.nan, filled)

    @cached_property
    def total(self) -> Values:
        """Of all pods of a host; unknown where nobody is known. Shape (hosts, steps)."""
        if self.is_whole:
            return np.asarray(self.samples.sum(axis=1))
        nobody = np.isnan(self.filled).all(axis=1)
        return np.where(nobody, np.nan, np.nansum(self.filled, axis=1))

    @cached_property
    def known(self) -> NDArray[np.intp]:
        """Steps of which the total is known, by host."""
        return np.asarray((~np.isnan(self.total)).sum(axis=1), dtype=np.intp)

    @cached_property
    def now(self) -> Values:
        """The newest known total, by host; NaN where none is."""
        steps = self.total.shape[1]
        if not steps:
            return np.full(self.total.shape[0], np.nan)
        last = steps - 1 - np.argmax(~np.isnan(self.total[:, ::-1]), axis=1)
        return np.asarray(self.total[np.arange(len(last)), last])

    @cached_property
    def limit(self) -> Values:
        """What all of a host may use at most; inf where something has no limit."""
        return np.asarray(np.nansum(self.limits, axis=1))


@runtime_checkable
class Predictor(Protocol):
    """A way of predicting peaks, with one knob. `margin`: what each means by it stands in its file."""

    @property
    def margin(self) -> float:
        """How careful it is."""
        ...

    def at(self, margin: float) -> Self:
        """The same, as careful as that."""
        ...

    def peak(self, hosts: Hosts) -> Values:
        """The highest total of the next two hours, by host; NaN where nothing is known. Law: of the past only."""
        ...


def foreseen(predictor: Predictor, hosts: Hosts) -> Values:
    """What is reckoned with: never below what is used now, never above all limits; NaN where too little is known."""
    peak = np.maximum(np.minimum(predictor.peak(hosts), hosts.limit), hosts.now)
    return np.where(hosts.known >= SHORTEST, peak, np.nan)


class Outcome(NamedTuple):
    """How a predictor did; percent."""

    violation: float
    severity: float
    savings: float

    def dominates(self, other: Outcome) -> bool:
        """No worse in anything, and better in violation or savings."""
        no_worse = self.violation <= other.violation and self.severity <= other.severity
        better = self.violation < other.violation or self.savings > other.savings
        return no_worse and self.savings >= other.savings and better


def moments(samples: Values, limits: Values) -> Iterator[tuple[Hosts, Values]]:
    """What was known at every step, and the true peak of what came then. Shapes as in Hosts."""
    total = samples.sum(axis=1)
    for now in range(SHORTEST, total.shape[1] - AHEAD + 1):
        yield Hosts(samples[:, :, max(0, now - LONGEST) : now], limits), total[:, now : now + AHEAD].max(axis=1)


def judged(predicted: Values, true: Values, limit: Values) -> Outcome:
    """The three measures; shapes (moments, hosts), the last (hosts,)."""
    short = np.divide(true - predicted, true, out=np.zeros_like(true), where=true > 0)
    return Outcome(
        100 * float((predicted < true).mean()),
        100 * float(np.maximum(0.0, short).mean()),
        100 * float((1 - predicted / limit).mean()),
    )


def replayed(predictor: Predictor, samples: Values, limits: Values) -> Outcome:
    """A predictor on somebody's past: what each step's answer came to."""
    pairs = [(predictor.peak(hosts), true) for hosts, true in moments(samples, limits)]
    predicted, true = (np.array(each) for each in zip(*pairs, strict=True))
    return judged(predicted, true, np.asarray(limits.sum(axis=1)))
