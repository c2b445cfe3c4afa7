"""Tasks wait for disks, and a disk is busy all the time.

    stalled = io PSI, share of 60 s in which some task waited      busy = the busiest disk's share of a report   [ratio]
    crowded:  stalled > soft      beyond:  stalled > ratio and busy > busiest      calm:  stalled ≤ soft
                                           unless some ≤ soft in the last period, where that is known

One guest leaves at a time: of those that read or write, by how much. PSI says that somebody suffers, the disk that it
is the reason; a stall for swap or a network file system is not judged, nor is a node without either number.
Source: kernel documentation, accounting/psi and admin-guide/iostats; Koordinator has no such rule, nor has Katalyst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.units import Ratio
from neap.evictor.core.rank import by_rate
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When disks are short."""

    reports: Annotated[int, Meta(ge=1)] = 10  # reports in a row beyond before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.3  # of 60 s: no guest comes
    ratio: Annotated[Ratio, Meta(gt=0, le=1)] = 0.6  # of 60 s: beyond
    busiest: Annotated[Ratio, Meta(ge=0, le=1)] = 0.9  # of a report one disk is busy: beyond


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level for the node."""
    usage = view.usage
    known = [(busy, disk.name) for disk in usage.disks if (busy := sane(disk.busy, 1.0)) is not None]
    if usage.io_stall is None or not 0 <= usage.io_stall.some60 <= 1 or not known:
        return ()
    stalled, (busy, name) = usage.io_stall.some60, max(known)
    most, latest = max(settings.ratio, settings.soft), sane(usage.io_stall.some, 1.0)
    is_over = latest is not None and latest <= settings.soft  # the average falls slowly
    return (
        Level(
            metric="io stall some60",
            value=stalled,
            threshold=most,
            need=int(stalled > most and busy > settings.busiest and not is_over and not view.leaving),
            calm=stalled <= settings.soft,
            why=f"tasks waited for disks {stalled:.0%} of 60s, {most:.0%} is allowed; {name} is busy {busy:.0%}",
            crowded=stalled > settings.soft,
        ),
    )


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """By their traffic; in whole bytes a second."""
    return by_rate(((guest, guest.io) for guest in candidates), "moves", level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
