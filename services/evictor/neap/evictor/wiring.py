"""The evictor's table: usage, headroom, placements and the scheduler's requests in, evictions out."""

from __future__ import annotations

from typing import Final

from neap.common.contract.catalogue import HEADROOM, NODE_USAGE, PLACEMENTS, PREEMPTIONS
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service, follow, on, watch
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.rule import Rule
from neap.evictor.settings import Settings

SETTINGS: Final = Settings


def wire(settings: Settings, _: Outside) -> Service:
    """One node's evictor."""
    rules = load("neap.evictor.plugins", Rule, group="neap.evictor.plugins")
    return Service(
        "evictor",
        settings.node,
        machine=EvictorMachine(settings, rules),
        routes=(
            on(NODE_USAGE.only(node=settings.node)),
            follow(PLACEMENTS.only(node=settings.node)),
            follow(PREEMPTIONS.only(node=settings.node)),
            watch(HEADROOM.only(node=settings.node)),
        ),
    )
