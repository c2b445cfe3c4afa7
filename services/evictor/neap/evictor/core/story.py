"""An eviction in words and numbers: the command, and the line of the pod's trail that says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from neap.common.model.lifecycle import Eviction, Measured, Preemption, Spent, Tried
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Instruction
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds, format_duration
from neap.evictor.core.hold import Held
from neap.evictor.core.rank import NAMED, contenders_of, ranking_of
from neap.evictor.core.view import Level, Victim
from neap.evictor.settings import Settings

PREEMPTION: Final = "preemption"  # in the place of a rule's name


@dataclass(frozen=True, slots=True)
class Say(Instruction):
    """A line of the log: what nobody's trail is the place for."""

    event: str
    why: str


class Choice(NamedTuple):
    """A level to act on, and who is to go."""

    rule: str
    level: Level
    held: Held
    ranked: Sequence[Victim]
    victims: Sequence[Victim]


class Before(NamedTuple):
    """What was tried before, and which budgets it takes from."""

    tried: tuple[Tried, ...] = ()
    budgets: tuple[Spent, ...] = ()
    policies: tuple[str, ...] = ()


def command_of(victim: Victim, choice: Choice, before: Before, *, at: Seconds, node: str, grace: Seconds) -> Eviction:
    """The command, with the numbers compared and why it is this one."""
    level, held, workload = choice.level, choice.held, victim.guest.workload
    window = at - held.since
    return Eviction(
        at=at,
        source="evictor",
        node=node,
        uid=workload.uid,
        namespace=workload.namespace,
        name=workload.name,
        attempt=workload.attempt,
        rule=choice.rule,
        reason=f"{level.why}, {lasted(level, held, at)}"
        + (f"; it {victim.reason}" if victim.reason != level.why else ""),
        measured=(Measured(metric=level.metric, value=level.value, threshold=level.threshold, window=window),),
        ranking=ranking_of(victim, choice.ranked, level, at),
        grace=grace,
        tried=before.tried,
        contenders=contenders_of(choice.ranked, at),
        budgets=before.budgets,
        policies=before.policies,
    )


def lasted(level: Level, held: Held, at: Seconds) -> str:
    """For how long it was beyond its threshold."""
    return "at once" if level.hard else f"for {held.reports} reports ({format_duration(at - held.since)})"


def command_for(workload: Workload, asked: Preemption, before: Before, settings: Settings, at: Seconds) -> Eviction:
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
        tried=before.tried,
        budgets=before.budgets,
    )


def line_of(command: Eviction, workload: Workload, *, id: str, cause: str) -> TrailEntry:
    """The same for the pod's trail."""
    about = ObjectRef(namespace=command.namespace, name=command.name, uid=command.uid)
    told = [f"{command.rule}: {command.reason}", command.ranking, *_alternatives(command)]
    return TrailEntry(
        at=command.at,
        source="evictor",
        id=id,
        about=about,
        what="chosen for eviction",
        why="; ".join(told),
        numbers=command.measured,
        node=command.node,
        trace=object_context(about).trace,
        cause=cause,
        parent=workload.owner,
        eviction=command,
    )


def _alternatives(command: Eviction) -> list[str]:
    """What was tried, who else could have gone, what it was taken from."""
    told = list(command.policies)
    if command.tried:
        told.append("tried: " + ", ".join(f"{one.what} ({one.says})" for one in command.tried))
    others = [one.name for one in command.contenders if one.uid != command.uid]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        told.append(f"others: {', '.join(others[:NAMED])}{more}")
    if command.budgets:
        told.append("budget: " + ", ".join(f"{one.scope} {one.spent} of {one.most}" for one in command.budgets))
    return told


def pause_of(settings: Settings, at: Seconds) -> Say:
    """A pause begins."""
    left, reason = format_duration(settings.pause_until - at), settings.pause_reason or "no reason given"
    return Say("evictor.paused", f"nobody is evicted from {settings.node} for {left}: {reason}")


def would_leave(victim: Victim, choice: Choice, settings: Settings, at: Seconds) -> Say:
    """What a rule on a dry run comes to."""
    command = command_of(victim, choice, Before(), at=at, node=settings.node, grace=settings.grace)
    of = f"{command.namespace}/{command.name} ({command.uid}) from {command.node}"
    return Say("evictor.would", f"would have evicted {of}: {command.rule}: {command.reason}; {command.ranking}")
