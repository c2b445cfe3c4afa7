"""Memory that guests do not need is taken back little by little, before anybody is short of it.

    by pressure  = max(0, 1 − stalled / stall limit) × ratio × used                                           [bytes]
    by refault   = last × accuracy, at least 0                   where accuracy or efficiency is below its target
                 = min(max(1.05 × last, inactive / 10), ratio × used)                           otherwise
    taken        = min(by pressure, by refault), and without swap at most the idle page cache
    level        = used − taken                                                         (memory.reclaim, a level)

stalled: memory.pressure some, last minute.  accuracy = 1 − came back / taken,  efficiency = taken / scanned; what is
not known is 1. Reports tell refaults but neither what was scanned nor what was taken, so the last amount is taken to
have been `ratio` of what is used, and the enforcer, who sees the counters, brakes once more on its way to the level.
A guest whose use or pressure is unknown is left alone, and so is everybody without a new report.

Off unless it is named in `memory`; name it before memory_reaper, whose level then counts while free memory is short.
It gives most where much memory is touched once: then the offer of memory grows, because working sets shrink.
Source: Weiner et al., TMO: Transparent Memory Offloading in Datacenters, ASPLOS 2022; katalyst-core sysadvisor
memory/plugin transparent memory offloading (reference §4.8.1, acceptance case A10 c).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import MemoryPod, MemoryPolicy, MemoryProposal, MemoryView
from neap.common.model.advice import Knobs
from neap.common.units import KIB, MIB, Bytes, Ratio, format_bytes

PAGE: Final[Bytes] = 4 * KIB
GROWTH: Final = 1.05
INACTIVE: Final[Ratio] = 0.1


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much at a time, and when it hurts."""

    stall: Annotated[Ratio, Meta(gt=0, le=1)] = 0.1  # of the time waiting for memory: nothing is taken
    ratio: Annotated[Ratio, Meta(gt=0, le=1)] = 0.01  # of what is used, per report at most
    accuracy: Annotated[Ratio, Meta(ge=0, le=1)] = 0.99  # share of what was taken that did not come back
    efficiency: Annotated[Ratio, Meta(ge=0, le=1)] = 0.6  # share of what was looked at that could be taken
    swap: Annotated[int, Meta(ge=0, le=1)] = 0  # 1: memory that is no page cache may go to swap
    owners: Annotated[int, Meta(ge=0, le=1)] = 0  # 1: owners give as well


def by_pressure(used: Bytes, stalled: Ratio, settings: Settings) -> float:
    """What may be taken as far as waiting goes."""
    return max(0.0, 1 - stalled / settings.stall) * settings.ratio * used


def by_refault(
    used: Bytes, last: float, inactive: Bytes, settings: Settings, *, accuracy: float = 1.0, efficiency: float = 1.0
) -> float:
    """What may be taken as far as pages that come back go."""
    if accuracy < settings.accuracy or efficiency < settings.efficiency:
        return max(0.0, last * accuracy)
    return min(max(last * GROWTH, inactive * INACTIVE), used * settings.ratio)


def advise(view: MemoryView, settings: Settings) -> MemoryProposal:
    """Levels.

    Laws: nobody gives more than ratio × used, nor than its idle cache without swap; non-increasing in stall.
    """
    if view.blind or not view.fresh:
        return MemoryProposal()
    knobs: dict[str, Knobs] = {}
    total = 0
    for pod in view.pods:
        taken = _taken(pod, view, settings) if pod.target and (pod.guest or settings.owners) else 0
        if taken >= MIB and pod.used is not None:
            knobs[pod.target] = Knobs(memory_down_to=pod.used - taken)
            total += taken
    if not knobs:
        return MemoryProposal()
    return MemoryProposal(knobs=knobs, reason=f"{format_bytes(total)} not needed lately taken back from {len(knobs)}")


def _taken(pod: MemoryPod, view: MemoryView, settings: Settings) -> Bytes:
    if pod.used is None or pod.stall is None or not 0 <= pod.stall <= 1:
        return 0
    last = settings.ratio * pod.used
    back = (pod.refaults or 0.0) * view.period * PAGE
    accuracy = 1 - min(1.0, back / last) if last > 0 else 1.0
    most = by_refault(pod.used, last, pod.idle_cache, settings, accuracy=accuracy)
    taken = int(min(by_pressure(pod.used, pod.stall, settings), most))
    return taken if settings.swap else min(taken, pod.idle_cache)


PLUGIN: Final = MemoryPolicy(settings=Settings, advise=advise)
