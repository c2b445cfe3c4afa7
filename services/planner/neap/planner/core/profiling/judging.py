"""Whether the pods of a service are alike, and what counts for them all.

    spread   = standard deviation over mean, of the pods' sums over containers        (coefficient of variation)
    stable   spread ≤ limit                → the mean over pods, by container
    unstable, such as pods of 50 and 500   → the 90th percentile over pods (nearest rank), never below the mean

A mean of two kinds of pods is true of neither; who is placed by it overloads a machine every second time. One pod
says nothing about spread. The limit 0.25: pods that differ by a quarter make a sum of ten wrong by 8 %
(0.25 / √10), which is less than a window differs from the next.
Source: requirements 004-07 (ten pods at 95..105 are stable, half 50 and half 500 are not).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from neap.common.units import Ratio

HIGH: Final[Ratio] = 0.9
Amounts = tuple[tuple[str, float], ...]  # by container name, sorted


class Judged(NamedTuple):
    """One window of one kind, over all pods of a service."""

    containers: Amounts
    spread: Ratio | None
    stable: bool

    @property
    def total(self) -> float:
        """Over the containers."""
        return sum(amount for _, amount in self.containers)


def judge(pods: Sequence[Mapping[str, float]], limit: Ratio) -> Judged:
    """See module docstring. `pods`: the mean of each, by container; at least one."""
    spread = spread_of([sum(pod.values()) for pod in pods])
    stable = spread is None or spread <= limit
    by_container: dict[str, list[float]] = {}
    for pod in pods:
        for name, amount in pod.items():
            by_container.setdefault(name, []).append(amount)
    counts = tuple((name, _what_counts(by_container[name], stable=stable)) for name in sorted(by_container))
    return Judged(counts, spread, stable)


def spread_of(amounts: Sequence[float]) -> Ratio | None:
    """Standard deviation over mean; None for fewer than two, or where all are zero."""
    mean = fmean(amounts) if len(amounts) > 1 else 0.0
    return math.sqrt(fmean((amount - mean) ** 2 for amount in amounts)) / mean if mean > 0 else None


def percentile(amounts: Iterable[float], share: Ratio) -> float:
    """The smallest amount that at least `share` of them do not exceed (nearest rank); NaN of none."""
    ordered = sorted(amounts)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _what_counts(amounts: Sequence[float], *, stable: bool) -> float:
    mean = fmean(amounts)
    return mean if stable else max(mean, percentile(amounts, HIGH))
