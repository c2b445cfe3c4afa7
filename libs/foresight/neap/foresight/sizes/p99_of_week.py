"""Nearly the highest of the last week, and something on top.

    size = 1.15 · p99 of the samples of the last 7 d                           [unit of the samples: cores, bytes]

Without samples: of the highest samples of the hours, which is more.
When to use: weekly patterns that must be held. When not: after a step down, a week of waste.
Source: reference rule "p99_7d" of the recommendation protocol; Crane's resource recommender (P99 and a margin).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from neap.common.units import DAY
from neap.foresight.rule import Advised, Aim, Known, Memory, amount

TIMES: Final = 1.15
SPAN: Final = 7 * DAY


class P99OfWeek:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing to wish, nothing kept
        """See Rule."""
        values = (
            known.hours(SPAN) if known.samples is None else known.samples.last(round(SPAN / known.samples.step)).values
        )
        values = values[np.isfinite(values)]
        high = float(np.percentile(values, 99)) if len(values) else math.nan
        return Advised(TIMES * high, f"{amount(high)} (p99 of 7 d) x {TIMES}")


PLUGIN: Final = P99OfWeek()
