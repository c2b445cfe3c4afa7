"""Mean of the total plus so many times its standard deviation.

    peak = min(Σ limits, mean(total) + margin · σ(total))            σ of the population; units of the samples

When to use: nothing but the total is known. When not: few samples, spikes that have not come yet.
Source: "Take it to the Limit" (EuroSys 2021), N-sigma predictor: 5 for half the machines' risk, 3 where more is dared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from neap.foresight.peaking import Hosts
from neap.foresight.series import Values


@dataclass(frozen=True)
class NSigma:
    """See module docstring. `margin`: standard deviations."""

    margin: float = 5.0

    def at(self, margin: float) -> Self:
        """See Predictor."""
        return replace(self, margin=margin)

    def peak(self, hosts: Hosts) -> Values:
        """See Predictor."""
        total, known = hosts.total, np.maximum(1, hosts.known)
        mean = np.nansum(total, axis=1) / known
        sigma = np.sqrt(np.nansum((total - mean[:, None]) ** 2, axis=1) / known)
        peak = np.minimum(mean + self.margin * sigma, hosts.limit)
        return np.where(hosts.known > 0, peak, np.nan)


PLUGIN: Final = NSigma()
