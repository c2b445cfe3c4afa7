"""The highest of the last day, and something on top.

    size = 1.15 · max of the samples of the last 24 h                          [unit of the samples: cores, bytes]

When to use: where nothing may ever be short. When not: one spike is paid for all day.
Source: the usual rule of thumb; reference rule "max1d" of the recommendation protocol.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from neap.common.units import DAY
from neap.foresight.rule import Advised, Aim, Known, Memory, amount

TIMES: Final = 1.15


class MaxOfDay:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing to wish, nothing kept
        """See Rule."""
        values = (
            known.hours(DAY) if known.samples is None else known.samples.last(round(DAY / known.samples.step)).values
        )
        values = values[np.isfinite(values)]
        highest = float(values.max()) if len(values) else math.nan
        return Advised(TIMES * highest, f"{amount(highest)} (highest of 1 d) x {TIMES}")


PLUGIN: Final = MaxOfDay()
