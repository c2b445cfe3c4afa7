"""What one pod of a service uses in each hour of the day (UTC), from the record of the last days.

    portrait[h]   = over the days known, the `share` quantile (nearest rank) of the hour's mean         cpu, milli-cores
                    the same of the hour's highest sample                                               memory, bytes
                    summed over the containers, rounded up to whole units
    used          = 99th percentile of a pod's samples, summed over containers                          both
    swing[h]      = over the days known, the highest of: highest sample of the hour / its mean          cpu, a factor
                    of the container that swings most, rounded up to hundredths

CPU by the mean, because what runs together evens out; memory by the highest sample, because it does not. With the
default of 0.9, of up to nine days the highest counts. Absent, and never guessed, while any hour of the day was never
seen. Sums of percentiles over containers are an upper estimate. Of a swing the highest day counts, because who spends
it on others finds out at once; it is a ratio within one day, so that a day of another level does not spoil it.
Source: Katalyst resource portrait (24 h, aggregators avg and max); requirements 002-16, 004-33; AC-28 for `grouped`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from neap.common.model.resource import CPU, MEMORY
from neap.common.units import HOUR, Ratio
from neap.foresight.series import Series, Values
from neap.planner.core.record import ContainerRecord, Record, Used

HOURS: Final = 24
MILLI: Final = 1000.0
PEAK: Final[Ratio] = 0.99
MOST_SWING: Final = 1000.0
Parts: TypeAlias = Sequence[ContainerRecord]


def portrait_of(parts: Parts, *, days: int, share: Ratio) -> dict[str, tuple[float, ...]]:
    """24 whole amounts by kind; a kind with an hour nobody saw is absent."""
    cpu = _sum(_by_hour(part.cpu.hours_avg, days, share) for part in parts)
    memory = _sum(_by_hour(part.memory.hours_max, days, share) for part in parts)
    found: dict[str, tuple[float, ...]] = {}
    for kind, hours, unit in ((CPU, cpu, MILLI), (MEMORY, memory, 1.0)):
        if np.isfinite(hours).all():
            found[kind] = tuple(float(amount) for amount in np.ceil(np.round(hours * unit, 6)))
    return found


def used_of(parts: Parts) -> dict[str, float]:
    """Whole amounts by kind; a kind one container has no sample of is absent."""
    found: dict[str, float] = {}
    reads: Mapping[str, tuple[Callable[[ContainerRecord], Used], float]] = {
        CPU: (lambda part: part.cpu, MILLI),
        MEMORY: (lambda part: part.memory, 1.0),
    }
    for kind, (read, unit) in reads.items():
        amounts = [read(part).histogram.percentile(PEAK) * unit for part in parts]
        if amounts and all(map(math.isfinite, amounts)):
            found[kind] = float(math.ceil(round(sum(amounts), 6)))
    return found


def swing_of(parts: Parts, *, days: int) -> dict[str, tuple[float, ...]]:
    """24 factors for CPU, if every hour of the day was seen."""
    each = [_by_hour(_swings(part.cpu), days, 1.0) for part in parts]
    hours = np.max(each, axis=0) if each else np.full(HOURS, np.nan)
    if not np.isfinite(hours).all():
        return {}
    return {CPU: tuple(float(factor) for factor in np.round(np.ceil(np.round(hours * 100, 6)) / 100, 2))}


def grouped(amounts: Sequence[float], size: int, how: Literal["avg", "max"]) -> list[float]:
    """Amounts in groups of `size`, in their order; each as its mean or its largest. The last may be short."""
    read = max if how == "max" else lambda part: sum(part) / len(part)
    return [read(amounts[start : start + size]) for start in range(0, len(amounts), max(1, size))]


def parts_of(record: Record, key: str) -> Parts:
    """The containers of a service, as far as they are known."""
    found = (record.container(key, name) for name in record.containers(key))
    return [one for one in found if one is not None]


def _swings(used: Used) -> Series:
    """Highest sample over mean, hour by hour, at least 1; an hour without use does not swing."""
    mean, most = used.hours_avg, used.hours_max
    if (mean.start, len(mean.values)) != (most.start, len(most.values)):
        return Series(mean.start, mean.step, np.full(len(mean.values), np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(most.values > 0, most.values / mean.values, np.where(most.values == 0, 1.0, np.nan))
    return Series(mean.start, mean.step, np.clip(factors, 1.0, MOST_SWING))


def _by_hour(series: Series, days: int, share: Ratio) -> Values:
    """Shape (24,); NaN where that hour of the day was never seen."""
    first, recent = round(series.start / HOUR), series.values[-days * HOURS :]
    first += len(series.values) - len(recent)
    lead = first % HOURS
    padded = np.full(-(-(lead + len(recent)) // HOURS) * HOURS, np.nan)
    padded[lead : lead + len(recent)] = np.where(np.isfinite(recent) & (recent >= 0), recent, np.nan)
    table = np.sort(padded.reshape(-1, HOURS), axis=0)  # NaN last
    known = np.isfinite(table).sum(axis=0)
    rank = np.maximum(np.ceil(share * known).astype(int) - 1, 0)
    return table[rank, np.arange(HOURS)] if len(table) else np.full(HOURS, np.nan)


def _sum(parts: Iterable[Values]) -> Values:
    rows = list(parts)
    return np.sum(rows, axis=0, dtype=np.float64) if rows else np.full(HOURS, np.nan)
