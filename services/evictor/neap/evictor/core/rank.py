"""The one order of victims: what loses least goes first.

    0  asked before   who was asked to leave twice, and is still here, does not help: last
    1  class          reclaimed_cores; others are no candidates at all
    2  priority       of the pod, ascending
    3  OOM priority   ascending (neap.common.model.oom)
    4  score          of the rule that asks, descending; most rules have none
    5  surplus        members of a gang that has more here than it needs, first
    6  over-use       used over asked, descending, in steps of a half above 1
    7  start-up cost  seconds from placement until it ran, ascending, in steps: 30 s, 2 min, 10 min
    8  age            youngest first
    9  what it frees  enough before too little, closest to what is needed; then uid

Steps, because two numbers are never quite equal, and then nothing below them would ever count.
Source: katalyst-core evictionmanager/rule (class, priority), acceptance case A21; Volcano (surplus of a gang).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from neap.common.model.lifecycle import Contender
from neap.common.model.oom import oom_priority
from neap.common.model.qos import QosClass
from neap.common.units import Seconds, format_bytes, format_duration
from neap.evictor.core.view import Guest, Level, Victim

COSTS: Final[tuple[Seconds, ...]] = (30.0, 120.0, 600.0)
HALVES: Final = 2
MOST_OVERUSE: Final = 100.0
TOLD: Final = 10  # contenders in a command
NAMED: Final = 3  # of them that are named in a sentence

Standing: TypeAlias = tuple[bool, int, int, float, bool, int, int]


def standing(victim: Victim) -> Standing:
    """Keys 0, and 2 to 7."""
    guest = victim.guest
    return (
        guest.in_vain,
        guest.workload.priority,
        oom_priority(guest.workload),
        -victim.score,
        not guest.surplus,
        -_overuse_step(guest),
        bisect_right(COSTS, guest.start_cost or 0.0),
    )


def in_order(victims: Iterable[Victim], need: int) -> list[Victim]:
    """Best first; who frees nothing, or is no guest, is left out."""

    def key(victim: Victim) -> tuple[Standing, Seconds, bool, int, str]:
        age = (-victim.guest.started, victim.frees < need, abs(victim.frees - need), victim.guest.uid)
        return standing(victim), *age

    candidates = (victim for victim in victims if victim.frees > 0 and victim.guest.workload.qos is QosClass.RECLAIMED)
    return sorted(candidates, key=key)


def by_rate(rates: Iterable[tuple[Guest, float | None]], does: str, need: int) -> list[Victim]:
    """By bytes a second, highest first; who moves none, or is not measured, does not help."""
    known = ((guest, int(rate or 0)) for guest, rate in rates)
    return in_order((Victim(guest, rate, f"{does} {format_bytes(rate)}/s", float(rate)) for guest, rate in known), need)


def the_one(level: Level, candidates: Iterable[Guest], frees: Callable[[Guest], int]) -> list[Victim]:
    """The guest that a level is about, if it may leave; nobody else helps."""
    mine = (guest for guest in candidates if guest.uid == level.scope)
    return in_order((Victim(guest, frees(guest), level.why) for guest in mine), level.need)


def _overuse_step(guest: Guest) -> int:
    return int(HALVES * min(guest.overuse, MOST_OVERUSE)) if guest.overuse > 1 else 0


def ranking_of(victim: Victim, ranked: Sequence[Victim], level: Level, at: Seconds) -> str:
    """Why this one: "lowest priority 0; youngest of 3: 40s; frees 4.0 cores of 3.2 needed"."""
    guest, mine = victim.guest, standing(victim)
    _, priority, oom, *_, start = mine
    lowest = "lowest priority" if priority == standing(ranked[0])[1] else "next priority"
    peers = [other for other in ranked if standing(other) == mine]
    place = peers.index(victim) + 1
    age = format_duration(max(0.0, at - guest.started))
    young = f"youngest of {len(peers)}" if place == 1 else f"number {place} by youth of {len(peers)}"
    parts = [f"{lowest} {priority}"]
    if len({standing(other)[2] for other in ranked}) > 1:
        parts.append(f"OOM priority {oom}")
    parts += [f"score {victim.score:.0f}"] * bool(victim.score)
    if guest.surplus and guest.workload.gang is not None:
        parts.append(f"gang {guest.workload.gang.name} can do without it")
    parts += [f"uses {guest.overuse:.1f} × what it asked for"] * (_overuse_step(guest) > 0)
    parts += [f"took {format_duration(guest.start_cost or 0.0)} to start"] * (start > 0)
    parts.append(f"{young}: {age}")
    if stuck := [other.guest.workload.name for other in ranked if other.guest.in_vain]:
        parts.append(f"asked in vain: {', '.join(stuck[:NAMED])}")
    if level.unit:
        needed = amount(level.need, level.unit).removesuffix(" cores")
        parts.append(f"frees {amount(victim.frees, level.unit)} of {needed} needed")
    return "; ".join(parts)


def contenders_of(ranked: Sequence[Victim], at: Seconds) -> tuple[Contender, ...]:
    """The first ten, with their keys."""
    return tuple(
        Contender(
            uid=guest.uid,
            name=guest.workload.key,
            qos=guest.workload.qos,
            priority=guest.workload.priority,
            oom_priority=oom_priority(guest.workload),
            score=victim.score,
            surplus=guest.surplus,
            overuse=round(min(guest.overuse, MOST_OVERUSE), 2),
            start_cost=round(guest.start_cost or 0.0, 1),
            age=round(max(0.0, at - guest.started), 1),
            frees=victim.frees,
        )
        for victim in ranked[:TOLD]
        for guest in (victim.guest,)
    )


def amount(count: int, unit: str) -> str:
    """A count of a unit for people."""
    return format_bytes(count) if unit == "bytes" else f"{count / 1000:.1f} cores"
