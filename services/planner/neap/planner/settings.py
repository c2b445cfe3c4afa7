"""Settings of the planner. A desk's own are declared in its file; a group here makes them settable.

With a policy of a service, a pool or a node (`neap policy set planner ...`) they differ for it, see PER_SERVICE.
"""

from __future__ import annotations

from typing import Final

import msgspec

from neap.planner.core.forecasting.settings import Forecasting
from neap.planner.core.history.settings import Settings as History
from neap.planner.core.overcommitting.settings import FIXED as OVERCOMMIT_FIXED
from neap.planner.core.overcommitting.settings import Overcommit
from neap.planner.core.profiling import settings as profiling
from neap.planner.core.scaling import settings as scaling
from neap.planner.core.sizing import settings as sizing
from neap.planner.core.tides.settings import TideSettings

PER_SERVICE: Final[frozenset[str]] = frozenset(
    {
        *(f"profiling.{key}" for key in profiling.PER_SERVICE),
        *(f"scaling.{key}" for key in scaling.PER_SERVICE),
        *(f"sizing.{key}" for key in sizing.PER_SERVICE),
    }
)  # dotted keys that may differ for one service
FIXED: Final[frozenset[str]] = frozenset(
    {
        "forecasting.tick",
        "history",
        *(f"overcommit.{key}" for key in OVERCOMMIT_FIXED),
        "tide.period",
        *(f"profiling.{key}" for key in profiling.FIXED),
        *(f"scaling.{key}" for key in scaling.FIXED),
        *(f"sizing.{key}" for key in sizing.FIXED),
    }
)  # the table of the room was made with them


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A group per desk."""

    forecasting: Forecasting = Forecasting()
    history: History = History()
    overcommit: Overcommit = Overcommit()
    profiling: profiling.ProfilingSettings = profiling.ProfilingSettings()
    scaling: scaling.Scaling = scaling.Scaling()
    sizing: sizing.SizingSettings = sizing.SizingSettings()
    tide: TideSettings = TideSettings()
