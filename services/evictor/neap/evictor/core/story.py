"""An eviction in words and numbers: the command, and the line of the pod's trail that says the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from neap.common.model.lifecycle import Eviction, Measured, Preemption
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds, format_duration
from neap.evictor.core.hold import Held
from neap.evictor.core.rank import ranking_of
from neap.evictor.core.view import Level, Victim
from neap.evictor.settings import Settings

PREEMPTION: Final = "preemption"  # in the place of a rule's name


class Choice(NamedTuple):
    """A level to act on, and who is to go."""

    rule: str
    level: Level
    held: Held
    ranked: Sequence[Victim]
    victims: Sequence[Victim]


def command_of(victim: Victim, choice: Choice, *, at: Seconds, node: str, grace: Seconds) -> Eviction:
    """The command, with the numbers compared and why it is this one."""
    level, held, workload = choice.level, choice.held, victim.guest.workload
    window = at - held.since
    lasted = "at once" if level.hard else f"for {held.reports} reports ({format_duration(window)})"
    return Eviction(
        at=at,
        source="evictor",
        node=node,
        uid=workload.uid,
        namespace=workload.namespace,
        name=workload.name,
        attempt=workload.attempt,
        rule=choice.rule,
        reason=f"{level.why}, {lasted}" + (f"; it {victim.reason}" if victim.reason != level.why else ""),
        measured=(Measured(metric=level.metric, value=level.value, threshold=level.threshold, window=window),),
        ranking=ranking_of(victim, choice.ranked, level, at),
        grace=grace,
    )


def command_for(workload: Workload, asked: Preemption, settings: Settings, at: Seconds) -> Eviction:
    """The command for a guest whose place somebody else is to have."""
    return Eviction(
        at=at,
        source="evictor",
        node=settings.node,
        uid=workload.uid,
        namespace=workload.namespace,
        name=workload.name,
        attempt=workload.attempt,
        rule=PREEMPTION,
        reason=f"its place is for {asked.beneficiary}: {asked.reason}",
        measured=(Measured(metric="guests asked to leave", value=len(asked.victims), threshold=settings.most),),
        ranking=f"priority {workload.priority}; named by {asked.source}, which needs every one of {len(asked.victims)}",
        grace=settings.grace,
    )


def line_of(command: Eviction, workload: Workload, *, id: str, cause: str) -> TrailEntry:
    """The same for the pod's trail."""
    about = ObjectRef(namespace=command.namespace, name=command.name, uid=command.uid)
    return TrailEntry(
        at=command.at,
        source="evictor",
        id=id,
        about=about,
        what="chosen for eviction",
        why=f"{command.rule}: {command.reason}; {command.ranking}",
        numbers=command.measured,
        node=command.node,
        trace=object_context(about).trace,
        cause=cause,
        parent=workload.owner,
    )
