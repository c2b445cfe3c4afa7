"""The planner's table: usage, ledgers, nodes and policy in; profiles, forecasts and plans out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from neap.common.contract.catalogue import NODE_USAGE, NODES, PLACEMENTS, POLICY, TOPOLOGY, WORKLOAD
from neap.common.contract.channel import Channel
from neap.common.runtime.service import Outside, Route, Service, follow, on, watch
from neap.common.runtime.tuning import TellPolicy, Tunable, tell_policy
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import Desk
from neap.planner.core.machine import PlannerMachine
from neap.planner.core.wishes import Wishes
from neap.planner.settings import FIXED, PER_SERVICE, Settings

SETTINGS: Final = Settings


def tunable() -> Tunable[Settings]:
    """What policy may change."""
    return Tunable("planner", Settings, FIXED, per_service=PER_SERVICE)


def wire(settings: Settings, _: Outside) -> Service:
    """The planner of one cluster."""
    wishes, cluster = Wishes(tunable(), settings), Cluster()
    stored: tuple[Channel[Any], ...] = (POLICY, WORKLOAD, PLACEMENTS, TOPOLOGY, NODES)
    desks: Mapping[str, Desk] = {}
    ticks: tuple[Route, ...] = ()
    return Service(
        "planner",
        "",
        machine=PlannerMachine(wishes, cluster, desks, stored),
        routes=(
            on(NODE_USAGE.only(), limit=20_000),
            follow(WORKLOAD.only()),
            follow(PLACEMENTS.only()),
            watch(TOPOLOGY.only()),
            watch(NODES.only()),
            watch(POLICY.only(room="planner")),
            *ticks,
        ),
        effects={TellPolicy: tell_policy("planner", "")},
    )
