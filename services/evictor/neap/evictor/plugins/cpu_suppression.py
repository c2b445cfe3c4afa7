"""A guest starves: it waits for CPUs and gets far less than it asked for, for long.

    rate = request / cpu used      beyond:  stalled and rate > tolerance      calm:  not stalled      [cores, per guest]

It counts as stalled while some task of it waits for a CPU at least `stalled` of the time; a guest that wants
little is not starved. Its own tolerance, annotation neap.io/suppression-tolerance or `suppression_tolerance_rate` of
Katalyst's cpu_enhancement, is honoured if it is smaller.
Source: katalyst-core qrm cpueviction/strategy/pressure_suppression.go (idea: request / supply, 5, 300 s), case A24.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.oom import wish_of
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.workload import Workload
from neap.common.units import Cores, Ratio, Seconds
from neap.evictor.core.rank import the_one
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View

CPU_KEY: Final = "katalyst.kubewharf.io/cpu_enhancement"
TOLERANCE_KEY: Final = "neap.io/suppression-tolerance"
LEAST_SUPPLY: Final[Cores] = 0.001  # keeps the rate finite for one that gets nothing


class Settings(RuleSettings, frozen=True, kw_only=True):
    """How little is too little."""

    hold: Annotated[Seconds, Meta(ge=0)] = 300.0  # so long at least
    tolerance: Annotated[Ratio, Meta(ge=1)] = 5.0  # request over supply: beyond
    stalled: Annotated[Ratio, Meta(gt=0, le=1)] = 0.5  # of 60 s waiting for a CPU: it wants more than it gets


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per guest."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for guest in view.guests:
        request = guest.requests.get(RECLAIMED_CPU, 0) / 1000
        if not request or guest.cpu is None or guest.stalled is None:
            continue
        tolerance = min(settings.tolerance, tolerance_of(guest.workload))
        rate = request / max(guest.cpu, LEAST_SUPPLY)
        waits = guest.stalled >= settings.stalled
        beyond = waits and rate > tolerance
        yield Level(
            metric="request over supply",
            value=rate,
            threshold=tolerance,
            need=int(beyond),
            calm=not waits,
            why=f"gets {guest.cpu:.2f} of {request:.1f} cores, 1/{tolerance:g} is tolerable" if beyond else "",
            scope=guest.uid,
        )


def tolerance_of(workload: Workload) -> Ratio:
    """What the guest itself tolerates; anything odd is no wish."""
    try:
        wish = float(wish_of(workload.annotations, TOLERANCE_KEY, CPU_KEY, "suppression_tolerance_rate") or "inf")
    except ValueError:
        return math.inf
    return wish if wish >= 1 else math.inf


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """The one it is about."""
    return the_one(level, candidates, lambda guest: guest.requests.get(RECLAIMED_CPU, 0))


PLUGIN: Final = Rule(Settings, pressure, rank)
