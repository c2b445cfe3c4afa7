"""The planner's table: usage, ledgers, nodes and policy in; profiles, forecasts and plans out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from neap.common.contract.catalogue import (
    APART,
    APPLY,
    HISTORY,
    NODE_USAGE,
    NODES,
    PAST,
    PLACEMENTS,
    POLICY,
    PRESSURE,
    PROFILE,
    PROFILES,
    RATIOS,
    RECOMMENDATIONS,
    RESIZED,
    SCALING,
    TIDES,
    TOPOLOGY,
    WORKLOAD,
)
from neap.common.contract.channel import Channel
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Route, Service, consume, every, follow, hear, on, serve, watch
from neap.common.runtime.tuning import TellPolicy, Tunable, tell_policy
from neap.foresight.peaking import Predictor
from neap.foresight.rule import Rule
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import Desk
from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.history.desk import History, TellHistory
from neap.planner.core.machine import PlannerMachine
from neap.planner.core.overcommitting.desk import OvercommitDesk
from neap.planner.core.profiling.desk import Profiling
from neap.planner.core.scaling.desk import ScalingDesk
from neap.planner.core.scaling.settings import check as check_scaling
from neap.planner.core.sizing.desk import SizingDesk
from neap.planner.core.tides.desk import TidesDesk
from neap.planner.core.wishes import Wishes
from neap.planner.settings import FIXED, PER_SERVICE, Settings
from neap.planner.shell.asked import Asked
from neap.planner.shell.history import tell_history

SETTINGS: Final = Settings
PEAKS: Final = "neap.foresight.peaks"
SIZES: Final = "neap.foresight.sizes"
WATCHED: Final[tuple[Channel[Any], ...]] = (
    TOPOLOGY, NODES, HISTORY, PROFILES, RECOMMENDATIONS, RATIOS, SCALING, TIDES,
)  # fmt: skip
STORED: Final[tuple[Channel[Any], ...]] = (POLICY, WORKLOAD, PLACEMENTS, *WATCHED)


def tunable() -> Tunable[Settings]:
    """What policy may change."""
    return Tunable(
        "planner", Settings, FIXED, per_service=PER_SERVICE, check=lambda settings: check_scaling(settings.scaling)
    )


def wire(settings: Settings, _: Outside) -> Service:
    """The planner of one cluster."""
    wishes, cluster = Wishes(tunable(), settings), Cluster()
    history = History(settings.history, cluster)
    forecasts = Forecasts(lambda: wishes.settings.forecasting, cluster, history)
    profiling = Profiling(wishes, cluster, history)
    sizing = SizingDesk(wishes, cluster, history, load(SIZES, Rule, group=SIZES))
    asked = Asked(sizing.answer)
    desks: Mapping[str, Desk] = {
        "history": history,  # every other desk plans from it, so it hears first
        "forecasting": forecasts,  # made only if a desk wants them
        "overcommitting": OvercommitDesk(wishes, cluster, history, load(PEAKS, Predictor, group=PEAKS)),
        "profiling": profiling,
        "scaling": ScalingDesk(wishes, cluster, forecasts),
        "sizing": sizing,
        "tides": TidesDesk(wishes, cluster, history, forecasts),
    }
    return Service(
        "planner",
        "",
        machine=PlannerMachine(wishes, cluster, desks, STORED),
        routes=(
            *_heard(),
            serve(PROFILE, profiling.answer),
            serve(APPLY, asked.answer),
            hear(asked.source),
            *_ticks(settings),
        ),
        effects={TellPolicy: tell_policy("planner", ""), TellHistory: tell_history()},
    )


def _heard() -> tuple[Route, ...]:
    """What others say, and what it said itself before."""
    return (
        on(NODE_USAGE.only(), limit=20_000),
        follow(WORKLOAD.only()),
        follow(PLACEMENTS.only()),
        watch(POLICY.only(room="planner")),
        *(watch(channel.only()) for channel in WATCHED),
        watch(APART.only()),
        follow(PRESSURE.only()),
        consume(PAST.only(), durable="planner"),
        consume(RESIZED.only(), durable="planner"),
    )


def _ticks(settings: Settings) -> tuple[Route, ...]:
    """Every desk's own pace."""
    return (
        every(settings.forecasting.tick, "forecasting"),
        every(settings.history.tick, "history"),
        every(settings.overcommit.tick, "overcommitting"),
        every(settings.profiling.period, "profiling"),
        every(settings.scaling.period, "scaling"),
        every(settings.sizing.period, "sizing"),
        every(settings.tide.period, "tides"),
    )
