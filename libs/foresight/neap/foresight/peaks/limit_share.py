"""A fixed share of all limits, whatever is used.

    peak = margin · Σ limits                                          units of the limits

When to use: nothing is known of use. When not: anywhere else, it saves what it leaves out and knows no risk.
Source: "Take it to the Limit" (EuroSys 2021), the "borg-default" predictor, 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from neap.foresight.peaking import Hosts
from neap.foresight.series import Values


@dataclass(frozen=True)
class LimitShare:
    """See module docstring. `margin`: share of the limits."""

    margin: float = 0.9

    def at(self, margin: float) -> Self:
        """See Predictor."""
        return replace(self, margin=margin)

    def peak(self, hosts: Hosts) -> Values:
        """See Predictor."""
        return self.margin * hosts.limit


PLUGIN: Final = LimitShare()
