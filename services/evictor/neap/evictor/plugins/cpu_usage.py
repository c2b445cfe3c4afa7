"""Owners need nearly all CPUs of a NUMA node, for long: what guests still run there they run at owners' cost.

    owners(n) = cores busy on n − Σ cores used by guests that may run there      usage = owners / CPUs of n      [ratio]
    crowded:  usage > soft      beyond:  usage > ratio      calm:  usage ≤ soft

A guest that may run elsewhere too, or nobody knows where, is taken off in full, so usage is rather too small: a machine
that guests fill is no pressure. One guest leaves at a time: of those that may run there, the one with the highest score
(core/score.py): its usage over n's CPUs against usage − ratio, and how often its family had to go from this node. Not
judged without the topology, or where the NUMA node or a guest there is not measured.
Source: katalyst-core qrm cpueviction/strategy/numa_pressure.go (usage of owners bound to a NUMA node) and
rules/score.go, acceptance case A24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.protection import family
from neap.common.units import DAY, HOUR, Ratio
from neap.evictor.core.budget import recent
from neap.evictor.core.numa import cpus_on, index_of, on_numa, scope_of
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.score import frequency_score, usage_score
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """How much owners may use before guests leave."""

    reports: Annotated[int, Meta(ge=1)] = 8  # reports in a row beyond before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.8  # of the NUMA node's CPUs: no guest comes
    ratio: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of the NUMA node's CPUs: beyond


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per NUMA node."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    everybody = (*view.guests, *view.leaving)
    anywhere = sum(guest.cpu or 0.0 for guest in everybody if not (guest.numa or guest.cpus))
    for numa in view.usage.numa:
        size = len(cpus_on(view, numa.index))
        used = [guest.cpu for guest in on_numa(view, numa.index, everybody)]
        guests = sum(cores for cores in used if cores is not None) + anywhere
        busy = sane(numa.cpu)
        if busy is None or not size or None in used:
            continue
        usage = max(0.0, busy - guests) / size
        most = max(settings.ratio, settings.soft)
        yield Level(
            metric=f"CPU usage of owners on NUMA node {numa.index}",
            value=usage,
            threshold=most,
            need=int(usage > most and not view.leaving),
            calm=usage <= settings.soft,
            why=f"owners use {usage:.0%} of the {size} CPUs of NUMA node {numa.index}, {most:.0%} is allowed",
            scope=scope_of(numa.index),
            crowded=usage > settings.soft,
        )


def rank(view: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Those that run there, by score."""
    index = index_of(level)
    size = len(cpus_on(view, index)) or 1
    return in_order((_victim(guest, level, size, view) for guest in on_numa(view, index, candidates)), 1)


def _victim(guest: Guest, level: Level, size: int, view: View) -> Victim:
    used = guest.cpu or 0.0
    score = usage_score(used / size, level.value - level.threshold) + frequency_score(_ratios(guest, view))
    return Victim(guest, int(used * 1000), f"uses {used:.1f} of its {size} CPUs", float(score))


def _ratios(guest: Guest, view: View) -> dict[float, Ratio]:
    """Share of the family that left this node, in an hour and in a day: of those that left and those that are here."""
    name = family(guest.workload)
    times = (view.evicted or {}).get(name, ())
    here = sum(family(other.workload) == name for other in view.guests)
    counts = {window / HOUR: len(recent(times, view.at, window)) for window in (HOUR, DAY)}
    return {hours: left / (left + here) for hours, left in counts.items()}


PLUGIN: Final = Rule(Settings, pressure, rank)
