"""Times of a pool as people there read them: by the clock of its zone, which is a fixed offset."""

from __future__ import annotations

import math

from neap.common.units import DAY, HOUR, MINUTE, Seconds


def local(at: Seconds, zone: str) -> Seconds:
    """The zone's clock, in seconds since its epoch."""
    return at + (-1 if zone[0] == "-" else 1) * (int(zone[1:3]) * HOUR + int(zone[4:6]) * MINUTE)


def at_clock(at: Seconds, zone: str) -> str:
    """07:30."""
    minutes = math.floor(local(at, zone) / MINUTE) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def when(at: Seconds, now: Seconds, zone: str) -> str:
    """07:30, tomorrow 07:30, or with the days between."""
    days = math.floor(local(at, zone) / DAY) - math.floor(local(now, zone) / DAY)
    words = {0: "", 1: "tomorrow ", -1: "yesterday "}.get(
        days, f"in {days} days, " if days > 0 else f"{-days} days ago, "
    )
    return words + at_clock(at, zone)
