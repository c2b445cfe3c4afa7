"""A local level: what was used lately, older values count less.

f(o + h) = Σ b^i·y(o − 1 − i) / Σ b^i over the known values, b = 2^(−1/H)

H (half-life): 10 min, 30 min, 2 h and 6 h, which compete: how fast a level moves differs from series to series, and
five minutes of a single service are noise. Cost: O(6 H) per origin. Source: Brown 1959, simple exponential smoothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.common.units import HOUR, MINUTE
from neap.foresight.past import Indices, Past, Paths, before, every, mean

HALF_LIVES: Final = (10 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR)
REACH: Final = 6  # half-lives; what is older weighs less than 1/64


class Ewma:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        told = {}
        for half_life in sorted({past.samples(length) for length in HALF_LIVES}):
            fading = 0.5 ** (np.arange(REACH * half_life) / half_life)
            level = mean(before(past.usable, origins, REACH * half_life), fading)
            told[f"level of {half_life} steps"] = every(level, leads)
        return told


PLUGIN: Final = Ewma()
