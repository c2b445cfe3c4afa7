"""The common order of victims: what loses least goes first.

(priority ascending, started later first, frees enough before too little, closest to what is needed, uid)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neap.common.units import Seconds, format_bytes, format_duration
from neap.evictor.core.view import Level, Victim


def in_order(victims: Iterable[Victim], need: int) -> list[Victim]:
    """Best first; who frees nothing is left out."""

    def key(victim: Victim) -> tuple[int, Seconds, bool, int, str]:
        workload = victim.guest.workload
        return (
            workload.priority,
            -victim.guest.started,
            victim.frees < need,
            abs(victim.frees - need),
            workload.uid,
        )

    return sorted((victim for victim in victims if victim.frees > 0), key=key)


def ranking_of(victim: Victim, ranked: Sequence[Victim], level: Level, at: Seconds) -> str:
    """Why this one: "lowest priority 0; youngest of 3: 40s; frees 4.0 cores of 3.2 needed"."""
    priority = victim.guest.workload.priority
    lowest = "lowest priority" if priority == ranked[0].guest.workload.priority else "next priority"
    peers = [other for other in ranked if other.guest.workload.priority == priority]
    place = peers.index(victim) + 1
    age = format_duration(max(0.0, at - victim.guest.started))
    young = f"youngest of {len(peers)}" if place == 1 else f"number {place} by youth of {len(peers)}"
    parts = [f"{lowest} {priority}", f"{young}: {age}"]
    if level.unit:
        needed = amount(level.need, level.unit).removesuffix(" cores")
        parts.append(f"frees {amount(victim.frees, level.unit)} of {needed} needed")
    return "; ".join(parts)


def amount(count: int, unit: str) -> str:
    """A count of a unit for people."""
    return format_bytes(count) if unit == "bytes" else f"{count / 1000:.1f} cores"
