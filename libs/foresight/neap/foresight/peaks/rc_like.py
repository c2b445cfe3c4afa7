"""The sum of everybody's own high percentile.

    peak = Σ_i percentile(samples_i, margin)                          linear interpolation; units of the samples

When to use: pods that peak together. When not: many pods with rare spikes, whose peaks it adds as if they met.
Source: "Take it to the Limit" (EuroSys 2021), RC-like predictor, after Resource Central (Cortez et al., SOSP 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from neap.foresight.peaking import Hosts
from neap.foresight.series import Values


@dataclass(frozen=True)
class RcLike:
    """See module docstring. `margin`: percentile, 0..100."""

    margin: float = 99.0

    def at(self, margin: float) -> Self:
        """See Predictor."""
        return replace(self, margin=margin)

    def peak(self, hosts: Hosts) -> Values:
        """See Predictor."""
        if not hosts.samples.shape[2]:
            return hosts.now
        if hosts.is_whole:
            return np.asarray(np.percentile(hosts.samples, self.margin, axis=2).sum(axis=1))
        nobody = np.asarray(np.isnan(hosts.samples).all(axis=2))
        own = np.nanpercentile(np.where(nobody[:, :, None], 0.0, hosts.samples), self.margin, axis=2)
        return np.where(nobody.all(axis=1), np.nan, own.sum(axis=1))


PLUGIN: Final = RcLike()
