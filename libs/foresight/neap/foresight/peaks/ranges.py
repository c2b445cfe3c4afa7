"""Where the total is, and how far everybody's own range can carry it: ours.

    level   = (mean of the last hour's total + highest total) / 2
    spread  = sqrt(Σ_i (max_i − min_i)²) · sqrt(120 / n) · ρ           n: steps known, of at most 120
    ρ²      = 1 + max(0, σ²(total) / Σ_i σ_i² − 1 − sqrt(24 / n))
    peak    = max(now, level + margin · spread), at most Σ limits      units of the samples

The total of many strays from its mean by the ranges of its parts added in squares, not by their sum: Hoeffding's bound
exp(−2 t² / Σ range²). A pod that spiked once keeps its range for ten hours, so a spike that may come again counts, and
weighs little where there are many others; a standard deviation has half forgotten it. What was seen in n steps is
carried to ten hours as the range of a random walk grows, by the root of time (Feller), so a short past makes careful.
Where pods move together the squares are not enough: ρ² is how much the total varies beyond what its parts would alone,
as far as it is beyond chance: one standard error of that ratio, with an hour to an independent sample, is sqrt(24 / n).

When to use: by default. When not: pods that all follow one tide and nothing else; there a forecast knows more.
How the numbers were chosen: half and half, the root and one standard error stand as they are, none is fitted. Of 225
published points on shuffled, regrouped, other and made-up series (tests/bench/peaks.py) 90 % are dominated; with
neighbours 84 % (0.75 of the highest), 89 % (0.25), 88 % (no or two standard errors; 1 + 24 / n for the root), 83 % (σ_i
for the ranges), 77 % (nothing for a short past), 92 % (no ρ; but then a margin means another risk where pods move
together: 5 to 16 % of violations instead of 1 to 4 %). `margin` is the one knob; 0.8 keeps violations below 5 %, 0.55
and 0.35 dare more.
Source: Hoeffding (1963), theorem 2; Feller (1951), range of sums; "Take it to the Limit" (EuroSys 2021) for the task.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from neap.foresight.peaking import HOUR, LONGEST, Hosts
from neap.foresight.series import Values


@dataclass(frozen=True)
class Ranges:
    """See module docstring. `margin`: times the spread."""

    margin: float = 0.8

    def at(self, margin: float) -> Self:
        """See Predictor."""
        return replace(self, margin=margin)

    def peak(self, hosts: Hosts) -> Values:
        """See Predictor."""
        level, spread = parts(hosts)
        return np.minimum(np.maximum(level + self.margin * spread, hosts.now), hosts.limit)


def parts(hosts: Hosts) -> tuple[Values, Values]:
    """Level and spread, by host; NaN where nothing is known."""
    total, known = hosts.total, hosts.known
    if not total.shape[1]:
        return hosts.now, hosts.now
    steps = np.maximum(1, known).astype(np.float64)
    hour = total[:, -HOUR:]
    count = (~np.isnan(hour)).sum(axis=1)
    recent = np.where(count > 0, np.nansum(hour, axis=1) / np.maximum(1, count), hosts.now)
    highest = np.where(known > 0, np.max(np.where(np.isnan(total), -np.inf, total), axis=1), np.nan)
    pods, nothing = hosts.filled, np.isnan(hosts.filled)
    reach = np.where(nothing, -np.inf, pods).max(axis=2) - np.where(nothing, np.inf, pods).min(axis=2)
    squares = (np.where(np.isfinite(reach), reach, 0.0) ** 2).sum(axis=1)
    own = _variance(pods).sum(axis=1)
    beyond = np.divide(_variance(total), own, out=np.ones_like(own), where=own > 0) - 1 - np.sqrt(2 * HOUR / steps)
    spread = np.sqrt(squares * LONGEST / steps * (1 + np.maximum(0.0, beyond)))
    return (recent + highest) / 2, np.where(known > 0, spread, np.nan)


def _variance(values: Values) -> Values:
    """Over the last axis, of what is known; 0 where nothing is."""
    count = np.maximum(1, (~np.isnan(values)).sum(axis=-1))
    mean = np.nansum(values, axis=-1) / count
    return np.asarray(np.nansum((values - mean[..., None]) ** 2, axis=-1) / count)


PLUGIN: Final = Ranges()
