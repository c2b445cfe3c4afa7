"""The highest sample of two weeks, and a margin on top: for what kills when it runs out.

    size = (1 + margin) · highest sample of any replica in the last 14 d       [unit of the samples: bytes]

When to use: memory, the default for it: a request that is too small is not slow but dead. When not: CPU.
Source: Autopilot (EuroSys 2020) §3.2.1: memory of serving jobs by the peak of its window; Katalyst's recommender and
the Vertical Pod Autoscaler take the peaks of windows for memory as well.
"""

from __future__ import annotations

import math
from typing import Final

from neap.common.units import DAY
from neap.foresight.rule import Advised, Aim, Known, Memory, amount

SPAN: Final = 14 * DAY


class Highest:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing is kept
        """See Rule."""
        hours = known.hours(SPAN)
        value = float(hours.max()) if len(hours) else math.nan
        return Advised((1 + aim.margin) * value, f"{amount(value)} (highest of 14 d) x {1 + aim.margin:.4g}")


PLUGIN: Final = Highest()
