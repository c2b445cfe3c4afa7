"""The higher of two: the total's standard deviations and the sum of everybody's percentile.

    peak = max(mean + margin · σ of the total, Σ_i percentile(samples_i, 99))         units of the samples

When to use: as the careful one of the published predictors. When not: it saves least of them.
Source: "Take it to the Limit" (EuroSys 2021), max predictor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from neap.foresight.peaking import Hosts
from neap.foresight.peaks.nsigma import NSigma
from neap.foresight.peaks.rc_like import RcLike
from neap.foresight.series import Values


@dataclass(frozen=True)
class MaxOf:
    """See module docstring. `margin`: standard deviations."""

    margin: float = 5.0

    def at(self, margin: float) -> Self:
        """See Predictor."""
        return replace(self, margin=margin)

    def peak(self, hosts: Hosts) -> Values:
        """See Predictor."""
        return np.maximum(NSigma(self.margin).peak(hosts), RcLike().peak(hosts))


PLUGIN: Final = MaxOf()
