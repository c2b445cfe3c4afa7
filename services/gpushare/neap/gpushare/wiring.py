"""The table of gpushare: what it hears, when it acts."""

from __future__ import annotations

from typing import Final

from neap.common.contract.catalogue import PLACEMENTS, TOPOLOGY
from neap.common.runtime.service import Outside, Service, every, follow, watch
from neap.gpushare.core.machine import GpushareMachine
from neap.gpushare.settings import Settings

SETTINGS: Final = Settings


def wire(settings: Settings, _: Outside) -> Service:
    """One node's gpushare."""
    return Service(
        "gpushare",
        settings.node,
        machine=GpushareMachine(settings),
        routes=(
            watch(TOPOLOGY.only(node=settings.node)),
            follow(PLACEMENTS.only(node=settings.node)),
            every(settings.retell, "tell"),
        ),
    )
