"""A pool of owners has far more to run than CPUs, for long.

    load(pool) = Σ over its members of cpu + run delay      [tasks that run or wait, on average over a report]
    crowded:  load > soft × CPUs of the pool      beyond:  load > ratio × CPUs      calm:  load ≤ soft × CPUs

Guests have been throttled by then. One leaves at a time, of those that may run on the pool's CPUs or whose CPUs are not
known. Owners never leave, though they cause the load. A pool with a member that is not measured is not judged.
Source: katalyst-core qrm cpueviction/strategy/pressure_load.go (1.0 soft, 1.8 hard), acceptance case A24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.resource import RECLAIMED_CPU
from neap.common.units import Ratio
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View


class Settings(RuleSettings, frozen=True, kw_only=True):
    """How much load is too much."""

    reports: Annotated[int, Meta(ge=1)] = 8  # reports in a row beyond before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    soft: Annotated[Ratio, Meta(gt=0)] = 1.0  # of the pool's CPUs: no guest comes
    ratio: Annotated[Ratio, Meta(gt=0)] = 1.8  # of the pool's CPUs: beyond


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per pool of owners."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for pool in view.pools:
        if pool.load is None or not pool.cpus:
            continue
        load, size = pool.load, len(pool.cpus)
        most = max(settings.ratio, settings.soft) * size
        yield Level(
            metric=f"load of pool {pool.name}",
            value=load,
            threshold=most,
            need=int(load > most and not view.leaving),
            calm=load <= settings.soft * size,
            why=f"{load:.1f} tasks run or wait in pool {pool.name} of {size} CPUs, {most:.1f} is allowed",
            scope=pool.name,
            crowded=load > settings.soft * size,
        )


def rank(view: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Those that may run on the pool's CPUs, by what they asked for."""
    cpus = next((pool.cpus for pool in view.pools if pool.name == level.scope), frozenset[int]())
    near = [guest for guest in candidates if not guest.cpus or guest.cpus & cpus]
    asked = ((guest, guest.requests.get(RECLAIMED_CPU, 0)) for guest in near)
    return in_order((Victim(guest, cpu, f"may run there, asked for {cpu / 1000:.1f} cores") for guest, cpu in asked), 1)


PLUGIN: Final = Rule(Settings, pressure, rank)
