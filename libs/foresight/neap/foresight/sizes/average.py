"""The mean of what was used, hour by hour, and nothing on top.

    size = mean over the hours of their means                                  [unit of the samples: cores, bytes]

When to use: for work that may wait, where a request is a share and no promise. When not: for anything with a deadline.
Source: katalyst-core pkg/controller/vpa, recommender AvgLoadToCpuRequest (two windows of 20 -> 20000m).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from neap.foresight.rule import Advised, Aim, Known, Memory, amount


class Average:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing to wish, nothing kept
        """See Rule."""
        hours = known.hours_avg.values[np.isfinite(known.hours_avg.values)]
        value = float(hours.mean()) if len(hours) else math.nan
        return Advised(value, f"{amount(value)} (mean of {len(hours)} h)")


PLUGIN: Final = Average()
