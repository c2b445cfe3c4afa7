"""What of the advisor's settings may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from neap.advisor.core.policy import Policy, choose
from neap.advisor.settings import FIXED, PER_SERVICE, Settings
from neap.common.runtime.tuning import Tunable


def tunable(policies: Mapping[str, Policy]) -> Tunable[Settings]:
    """All but `FIXED`, and the settings of these plugins; for one service `PER_SERVICE`."""

    def check(settings: Settings) -> None:
        choose(policies, settings.provision, settings.headroom, settings.memory, settings.tune)

    return Tunable("advisor", Settings, FIXED, PER_SERVICE, check)
