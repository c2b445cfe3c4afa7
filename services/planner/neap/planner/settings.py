"""Settings of the planner. A desk's own are declared in its file; a group here makes them settable.

With a policy of a service, a pool or a node (`neap policy set planner ...`) they differ for it, see PER_SERVICE.
"""

from __future__ import annotations

from typing import Final

import msgspec

from neap.planner.core.forecasting.settings import Forecasting
from neap.planner.core.history.settings import Settings as History
from neap.planner.core.overcommitting.settings import Overcommit
from neap.planner.core.profiling import settings as profiling
from neap.planner.core.scaling import settings as scaling
from neap.planner.core.sizing import settings as sizing
from neap.planner.core.tides.settings import TideSettings

PER_SERVICE: Final = frozenset(
    f"{group}.{key}"
    for group, its in (("profiling", profiling), ("scaling", scaling), ("sizing", sizing))
    for key in its.PER_SERVICE
)  # dotted keys that may differ for one service
# The table of the room was made with them.
FIXED: Final = frozenset({
    "forecasting.tick", "history", "overcommit.tick", "profiling.kinds", "profiling.period", "scaling.period",
    "sizing.period", "tide.period",
})  # fmt: skip


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A group per desk."""

    forecasting: Forecasting = Forecasting()
    history: History = History()
    overcommit: Overcommit = Overcommit()
    profiling: profiling.ProfilingSettings = profiling.ProfilingSettings()
    scaling: scaling.Scaling = scaling.Scaling()
    sizing: sizing.SizingSettings = sizing.SizingSettings()
    tide: TideSettings = TideSettings()
