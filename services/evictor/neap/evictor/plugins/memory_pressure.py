"""The node runs out of memory: too little is available, or tasks stall for it.

    available + Σ working_set(leaving) < low        beyond, after some reports                            [bytes]
    available + Σ working_set(leaving) < calm       crowded, as many reports: no guest comes              [bytes]
    available + Σ working_set(leaving) < min        hard: at once
    stall full10 > full                             hard: all tasks waited for memory that share of 10 s  [ratio]
                                                    unless the last period, where known, was calm

Guests leave until `low` is available again; for a stall one guest at a time, and none while only the
average of 10 s still says so. Without a measured value, or with
one that cannot be, nothing is judged. Not for a single guest that grew too large: memory_overuse.
Source: kernel documentation, accounting/psi (full); katalyst-core evictionmanager/plugin/memory (low and min).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.units import GIB, MIB, Bytes, Ratio, format_bytes
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """Where memory gets short."""

    reports: Annotated[int, Meta(ge=1)] = 3  # reports in a row below `low` before somebody leaves
    low: Annotated[Bytes, Meta(ge=0)] = GIB  # less than this available: beyond
    calm: Annotated[Bytes, Meta(ge=0)] = 1536 * MIB  # this much available: over
    min: Annotated[Bytes, Meta(ge=0)] = 256 * MIB  # less than this available: at once
    full: Annotated[Ratio, Meta(gt=0, le=1)] = 0.2  # of 10 s in which every task waited for memory: at once
    full_calm: Annotated[Ratio, Meta(ge=0, le=1)] = 0.05  # of 10 s: over


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """Available memory, and stalls."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    usage = view.usage
    if usage.memory_available is not None and usage.memory_available >= 0:
        available = usage.memory_available + sum(guest.working_set or 0 for guest in view.leaving)
        yield Level(
            metric="memory available",
            value=available,
            threshold=settings.low,
            need=settings.low - available,
            calm=available >= max(settings.calm, settings.low),
            why=f"{format_bytes(available)} of memory available, {format_bytes(settings.low)} wanted",
            scope="available",
            unit="bytes",
            hard=available < settings.min,
            crowded=available < max(settings.calm, settings.low),
        )
    if usage.memory_stall is not None and 0 <= usage.memory_stall.full10 <= 1:
        full, latest = usage.memory_stall.full10, sane(usage.memory_stall.full, 1.0)
        calm = min(settings.full_calm, settings.full)
        is_over = latest is not None and latest <= calm  # the average falls slowly
        yield Level(
            metric="memory stall full10",
            value=full,
            threshold=settings.full,
            need=int(full > settings.full and not is_over and not view.leaving),
            calm=full <= calm,
            why=f"every task waited for memory {full:.0%} of the last 10s, {settings.full:.0%} is allowed",
            scope="stall",
            hard=True,
        )


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """By their working sets; one whose memory is unknown would free nothing for certain."""
    held = ((guest, guest.working_set or 0) for guest in candidates)
    victims = (Victim(guest, used, f"holds {format_bytes(used)}") for guest, used in held)
    return in_order(victims, level.need)


PLUGIN: Final = Rule(Settings, pressure, rank, saves_node=True)
