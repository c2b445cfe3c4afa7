"""The advisor's table: what it hears, when it acts, what it says."""

from __future__ import annotations

from typing import Final

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.core.refusing import Complain
from neap.advisor.core.remembered import Memory
from neap.advisor.core.tuning import tunable as _tunable
from neap.advisor.core.waking import AskReports
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import (
    ADVICE,
    APART,
    HEADROOM,
    MEMORY,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    POLICY,
    PROFILES,
    REPORTS,
    TOPOLOGY,
)
from neap.common.model.usage import NodeUsage, Reports, overtakes
from neap.common.runtime.machine import Arrived, Event
from neap.common.runtime.plugins import load
from neap.common.runtime.remembering import Keep, RememberingMachine, TellMemory, tell_memory
from neap.common.runtime.service import Outside, Service, every, follow, on, watch
from neap.common.runtime.tuning import TellPolicy, Tunable, tell_policy
from neap.common.telemetry.log import get_logger

SETTINGS: Final = Settings


def tunable() -> Tunable[Settings]:
    """What policy may change."""
    return _tunable(load("neap.advisor.plugins", Policy))


def wire(settings: Settings, outside: Outside) -> Service:
    """One node's advisor. It touches nothing but the bus."""
    node = settings.node
    log = get_logger("advisor")

    async def ask(asked: AskReports) -> Reports:
        return await outside.bus.request(REPORTS, asked.request, node=node)

    async def complain(complaint: Complain) -> None:
        log.warning("advisor.input.refused", what=complaint.what, why=complaint.why, node=node)

    machine = AdvisorMachine(settings, load("neap.advisor.plugins", Policy))
    pause, patience = settings.keep_every * settings.period, settings.keep_patience * settings.period
    keep = Keep("advisor", node, pause, patience, rather=_lists_all)
    return Service(
        "advisor",
        node,
        machine=RememberingMachine(machine, machine, Memory, keep),
        routes=(
            watch(TOPOLOGY.only(node=node)),
            watch(ADVICE.only(node=node)),
            watch(HEADROOM.only(node=node)),
            watch(APART.only(node=node)),
            watch(MEMORY.only(room="advisor", node=node)),
            follow(PLACEMENTS.only(node=node)),
            watch(POLICY.only(room="advisor")),
            watch(NODES.only(node=node)),
            watch(PROFILES.only()),
            on(NODE_USAGE.only(node=node), overtakes=overtakes),
            every(settings.period, "advise"),
        ),
        effects={
            AskReports: ask,
            Complain: complain,
            TellPolicy: tell_policy("advisor", node),
            TellMemory: tell_memory("advisor", node),
        },
    )


def _lists_all(event: Event) -> bool:
    """Short reports refer to the last one that lists all: whoever is killed should know that one."""
    return isinstance(event, Arrived) and isinstance(event.message, NodeUsage) and not event.message.since
