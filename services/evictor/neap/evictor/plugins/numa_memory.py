"""A NUMA node runs out of memory, though the machine has some left.

    low(n) = watermark_low(n) + low      where the kernel's watermark is not known: scale × total(n)        [bytes]
    min(n) = watermark_low(n) + min      where it is not known: 0                                          [bytes]

    holds(g, n) = working_set(g)         of a guest bound to n and to no other
                = anon(g, n)             of the others, where the report says where their memory lies          [bytes]
    free(n) + Σ holds(leaving, n) < low(n)      beyond, and crowded, after some reports
    free(n) + Σ holds(leaving, n) < min(n)      hard: at once

Somebody leaves only for a NUMA node on which he is known to hold at least a thousandth of its memory. Without a
measured value nothing is judged. Moving memory off the node comes before (the advisor's memory_balance): patience is for that.
Source: katalyst-core evictionmanager/plugin/memory/numa_pressure.go, acceptance case A22.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.usage import NumaUsage
from neap.common.units import GIB, MIB, Bytes, Ratio, format_bytes
from neap.evictor.core.numa import index_of, scope_of
from neap.evictor.core.rank import in_order
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane

LEAST: Final[Ratio] = 0.001  # of the NUMA node's memory: who holds less there stays


class Settings(RuleSettings, frozen=True, kw_only=True):
    """Where a NUMA node's memory gets short."""

    reports: Annotated[int, Meta(ge=1)] = 6  # reports in a row below low before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    low: Annotated[Bytes, Meta(ge=0)] = GIB  # above the kernel's own low watermark: beyond
    min: Annotated[Bytes, Meta(ge=0)] = 256 * MIB  # above it: at once
    calm: Annotated[Ratio, Meta(ge=1)] = 1.5  # times low free: over
    scale: Annotated[Ratio, Meta(ge=0, le=1)] = 0.06  # of the NUMA node's memory, where the watermark is not known


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per NUMA node."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for numa in view.usage.numa:
        marks = marks_of(numa, settings)
        if marks is None or numa.memory_free is None or sane(numa.memory_free) is None:
            continue
        low, least = marks
        leaving = sum(holds(guest, numa.index) or 0 for guest in view.leaving)
        free = numa.memory_free + leaving
        yield Level(
            metric=f"memory free of NUMA node {numa.index}",
            value=free,
            threshold=low,
            need=low - free,
            calm=free >= settings.calm * low,
            why=f"{format_bytes(free)} free on NUMA node {numa.index}, {format_bytes(low)} wanted",
            scope=scope_of(numa.index),
            unit="bytes",
            hard=free < least,
            crowded=free < low,
        )


def marks_of(numa: NumaUsage, settings: Settings) -> tuple[Bytes, Bytes] | None:
    """Low and min of a NUMA node; None where nothing is known of it."""
    if numa.watermark_low is not None and sane(numa.watermark_low) is not None:
        return numa.watermark_low + settings.low, numa.watermark_low + min(settings.min, settings.low)
    if numa.memory_total and sane(numa.memory_total) is not None:
        return int(settings.scale * numa.memory_total), 0
    return None


def holds(guest: Guest, index: int) -> Bytes | None:
    """What it holds of a NUMA node; None where nobody knows."""
    if guest.numa == (index,):
        return guest.working_set or 0
    return None if guest.anon is None else guest.anon.get(index)


def rank(view: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Those that hold some of it, by what they hold."""
    index = index_of(level)
    total = next((numa.memory_total or 0 for numa in view.usage.numa if numa.index == index), 0)
    least = max(1, int(LEAST * total))
    held = ((guest, holds(guest, index)) for guest in candidates)
    victims = (
        Victim(guest, used, f"holds {format_bytes(used)} there")
        for guest, used in held
        if used is not None and (used >= least or guest.numa == (index,))
    )
    return in_order(victims, level.need)


PLUGIN: Final = Rule(Settings, pressure, rank, saves_node=True)
