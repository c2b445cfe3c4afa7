"""A NUMA node's memory bandwidth is used up.

    traffic(n) = bytes per second, by resctrl    crowded:  > soft × most      beyond:  > most      calm:  ≤ soft × most

One guest leaves at a time: of those that run on n, by their own traffic. `most` is the site's to say, because no kernel
file says what a memory can do: 0 judges nothing. Not judged where resctrl does not count, on the node or for the guest.
Source: kernel documentation, arch/x86/resctrl (mbm_total_bytes); Katalyst limits bandwidth and has no such rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.units import Ratio, format_bytes
from neap.evictor.core.numa import index_of, on_numa, scope_of
from neap.evictor.core.rank import by_rate
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When a memory can do no more."""

    reports: Annotated[int, Meta(ge=1)] = 10  # reports in a row beyond before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    most: Annotated[float, Meta(ge=0)] = 0.0  # bytes/s of one NUMA node: beyond; 0: not judged
    soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of most: no guest comes


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per NUMA node."""
    return tuple(_levels(view, settings)) if settings.most else ()


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for numa in view.usage.numa:
        moved, most = sane(numa.bandwidth), settings.most
        if moved is None:
            continue
        yield Level(
            metric=f"memory bandwidth of NUMA node {numa.index}",
            value=moved,
            threshold=most,
            need=int(moved > most and not view.leaving),
            calm=moved <= settings.soft * most,
            why=f"{format_bytes(int(moved))}/s on NUMA node {numa.index}, {format_bytes(int(most))}/s is allowed",
            scope=scope_of(numa.index),
            crowded=moved > settings.soft * most,
        )


def rank(view: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Those that run there, by their traffic; in whole bytes a second."""
    there = on_numa(view, index_of(level), candidates)
    return by_rate(((guest, guest.bandwidth) for guest in there), "moves", level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
