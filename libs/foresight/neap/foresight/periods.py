"""Which periods a series has, found in the series itself.

1. hourly means, what is unknown replaced by the mean; linear trend taken off; Hann window; spectrum P(k) = |FFT|²
2. candidates: the highest peaks of P that stand out (more than PEAK times its median), with at least CYCLES cycles
3. each is moved to the best nearby maximum of the autocorrelation r(lag), and kept if r(lag) ≥ LEAST, and if no kept
   period explains it: multiples and fractions of one that is kept are dropped, unless r is clearly higher there

A day is always a candidate of the forecasts anyway; what is found here comes in addition (a week, a batch every six
hours), and competes. Cost: O(n log n) of hourly values. Source: Vlachos et al., On periodicity detection and structural
periodic similarity (SDM 2005), AUTOPERIOD; Crane's DSP predictor has the same two steps.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.common.units import HOUR, Seconds
from neap.foresight.series import Values

PEAK: Final = 12.0  # times the median of the spectrum; a random series exceeds it with e^(-8) per frequency
CYCLES: Final = 3  # that must have been seen
LEAST: Final = 0.3  # autocorrelation
BETTER: Final = 0.1  # by which a multiple must be better
MOST: Final = 3


def periods(values: Values, step: Seconds) -> tuple[int, ...]:
    """Periods in steps, the strongest first."""
    group = max(1, round(HOUR / step))
    coarse = _grouped(values, group)
    size = len(coarse)
    known = np.isfinite(coarse)
    if size < 2 * CYCLES or known.sum() < max(2 * CYCLES, size // 2):
        return ()
    place = np.arange(size)
    slope, level = np.polyfit(place[known], coarse[known], 1)
    flat = np.where(known, coarse - (level + slope * place), 0.0)
    if not flat.any() or np.abs(flat).max() <= 1e-9 * np.abs(coarse[known]).max():
        return ()
    flat /= np.abs(flat).max()
    spectrum = np.abs(np.fft.rfft(flat * np.hanning(size))) ** 2
    spectrum[:CYCLES] = 0.0
    together = _autocorrelation(flat)
    found: list[int] = []
    for frequency in np.argsort(spectrum)[::-1][: 2 * MOST].tolist():
        if len(found) == MOST or spectrum[frequency] < PEAK * np.median(spectrum[CYCLES:]):
            break
        lag = _climb(together, size / frequency, frequency)
        if lag is not None and together[lag] >= LEAST and not _explained(lag, found, together):
            found.append(lag)
    longest = size // 2  # a week, if days repeat better a week apart
    for lag in [7 * lag for lag in found if 7 * lag <= longest]:
        if lag not in found and together[lag] >= max(together[lag - lag // 7], LEAST) + BETTER:
            found.append(lag)
    return tuple(lag * group for lag in found)


def _grouped(values: Values, group: int) -> Values:
    rows = values[len(values) % group :].reshape(-1, group)
    known = np.isfinite(rows)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, rows, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _autocorrelation(flat: Values) -> Values:
    """r(lag) for every lag, of the pairs there are."""
    size = len(flat)
    power = np.abs(np.fft.rfft(flat, 2 * size)) ** 2
    total = np.fft.irfft(power)[:size]
    shares: Values = total / total[0] * size / (size - np.arange(size))
    return shares


def _climb(together: Values, period: float, frequency: int) -> int | None:
    """The best lag between the neighbouring frequencies' periods, if it is a maximum."""
    size = len(together)
    low, high = int(size / (frequency + 1)), min(int(np.ceil(size / (frequency - 1))) + 1, size // 2 + 1)
    low = max(low, 2)
    if low >= high:
        return None
    lag = low + int(np.argmax(together[low:high]))
    inner = 0 < lag < size - 1 and together[lag] >= together[lag - 1] and together[lag] >= together[lag + 1]
    return lag if inner and abs(lag - period) <= period / 2 else None


def _explained(lag: int, found: list[int], together: Values) -> bool:
    """Whether it is a kept period again, a multiple or a fraction of one, and no better than it."""
    for kept in found:
        ratio = max(lag, kept) / min(lag, kept)
        if abs(ratio - round(ratio)) <= 0.1 and together[lag] < together[kept] + BETTER:
            return True
    return False
