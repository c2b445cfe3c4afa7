"""Katalyst's resource recommender: the end of the bucket that holds the 90th percentile, weighted by the value itself.

    size = 1.3 · p90 of a histogram, weight of a sample = max(value, 0.1), halving every 24 h   [cores; bytes alike]

The weight by value is applied to what the histogram holds, bucket by bucket. Its bounds, which Katalyst validates and
then forgets, are applied to every rule alike (neap.foresight.sizing).
When to use: to compare. When not: by default, it leaves half as much again unused as the Vertical Pod Autoscaler's.
Source: katalyst-core pkg/controller/resource-recommend (percentile 0.9, bufferPercent 30, sample weight, half-life).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.foresight.rule import Advised, Aim, Known, Memory, amount

SHARE: Final = 0.9
TIMES: Final = 1.3
LEAST_WEIGHT: Final = 0.1


class Katalyst:
    """See module docstring. Not monotone: a sample that grows takes weight to where it goes, below the percentile too."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing to wish, nothing kept
        """See Rule."""
        weighed = known.histogram.copy()
        weighed.weights *= np.maximum((weighed.buckets.starts + weighed.buckets.ends) / 2, LEAST_WEIGHT)
        value = weighed.percentile(SHARE)
        return Advised(TIMES * value, f"{amount(value)} (p90 by value, half-life 24 h) x {TIMES}")


PLUGIN: Final = Katalyst()
