"""The table of gpushare: what it hears, when it acts."""

from __future__ import annotations

from typing import Final

from neap.common.contract.catalogue import NODES, PLACEMENTS, POLICY, TOPOLOGY
from neap.common.runtime.service import Outside, Service, every, follow, watch
from neap.common.runtime.tuning import TellPolicy, Tunable, TunedMachine, Tuning, tell_policy
from neap.gpushare.core.machine import GpushareMachine
from neap.gpushare.settings import Settings

SETTINGS: Final = Settings


def tunable() -> Tunable[Settings]:
    """What policy may change."""
    return Tunable("gpushare", Settings, fixed=frozenset({"node", "retell"}))


def wire(settings: Settings, _: Outside) -> Service:
    """One node's gpushare."""
    tuning = Tuning(tunable(), settings, settings.node)
    return Service(
        "gpushare",
        settings.node,
        machine=TunedMachine(GpushareMachine(settings), tuning),
        routes=(
            watch(TOPOLOGY.only(node=settings.node)),
            follow(PLACEMENTS.only(node=settings.node)),
            watch(POLICY.only(room="gpushare")),
            watch(NODES.only(node=settings.node)),
            every(settings.retell, "tell"),
        ),
        effects={TellPolicy: tell_policy("gpushare", settings.node)},
    )
