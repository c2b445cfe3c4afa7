"""The evictor's table: usage, headroom, advice, placements and the scheduler's requests in, evictions out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from neap.common.contract.catalogue import (
    ADVICE,
    EVICTION_TOKENS,
    HEADROOM,
    MEMORY,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    POLICY,
    PREEMPTIONS,
    TIDES,
    TOPOLOGY,
)
from neap.common.model.usage import overtakes
from neap.common.runtime.plugins import load
from neap.common.runtime.remembering import Keep, RememberingMachine, TellMemory, tell_memory
from neap.common.runtime.service import Outside, Service, follow, on, watch
from neap.common.runtime.tuning import TellPolicy, Tunable, TunedMachine, Tuning, tell_policy
from neap.common.telemetry.log import get_logger
from neap.evictor.core import services
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.memory import Memory
from neap.evictor.core.rule import Rule
from neap.evictor.core.story import Say
from neap.evictor.settings import Settings

SETTINGS: Final = Settings


def tunable() -> Tunable[Settings]:
    """What policy may change."""
    return services.tunable(_rules())


def wire(settings: Settings, _: Outside) -> Service:
    """One node's evictor."""
    rules = _rules()
    tuning = Tuning(services.tunable(rules), settings, settings.node)
    machine = EvictorMachine(
        settings,
        services.with_services(rules, tuning),
        is_protected=partial(services.is_protected, tuning),
        policies=partial(services.claims, tuning),
    )
    keep = Keep("evictor", settings.node, settings.keep_every, settings.keep_patience)
    log = get_logger("evictor")

    async def say(line: Say) -> None:
        log.info(line.event, why=line.why, node=settings.node)

    return Service(
        "evictor",
        settings.node,
        machine=RememberingMachine(TunedMachine(machine, tuning), machine, Memory, keep),
        routes=(
            on(NODE_USAGE.only(node=settings.node), overtakes=overtakes),
            follow(PLACEMENTS.only(node=settings.node)),
            follow(PREEMPTIONS.only(node=settings.node)),
            watch(HEADROOM.only(node=settings.node)),
            watch(ADVICE.only(node=settings.node)),
            watch(TOPOLOGY.only(node=settings.node)),
            watch(EVICTION_TOKENS.only()),
            watch(TIDES.only()),
            watch(POLICY.only(room="evictor")),
            watch(NODES.only(node=settings.node)),
            watch(MEMORY.only(room="evictor", node=settings.node)),
        ),
        effects={
            Say: say,
            TellPolicy: tell_policy("evictor", settings.node),
            TellMemory: tell_memory("evictor", settings.node),
        },
    )


def _rules() -> Mapping[str, Rule]:
    return load("neap.evictor.plugins", Rule, group="neap.evictor.plugins")
