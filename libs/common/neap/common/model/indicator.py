"""What a service is held to: business indicators (latency, errors) and system indicators (cpu_sched_wait, cpi).

    above the upper bound   poor            the worst of all indicators counts; one without a reading says nothing
    below the lower bound   perfect
    between                 good

Source: Katalyst ServiceProfileDescriptor (businessIndicator, systemIndicator) and its agent's
ServiceBusinessPerformanceLevel (AC-10).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec


class Concern(StrEnum):
    """Whose number it is."""

    BUSINESS = "business"
    SYSTEM = "system"


class Level(StrEnum):
    """How a service fares."""

    PERFECT = "perfect"
    GOOD = "good"
    POOR = "poor"
    UNKNOWN = "unknown"


class Indicator(msgspec.Struct, frozen=True, kw_only=True):
    """One number with its target; higher is worse."""

    name: str
    concern: Concern = Concern.BUSINESS
    lower: float | None = None
    upper: float | None = None
    current: float | None = None
    says: str = ""  # where the target comes from, if nobody stated it


def level(indicator: Indicator) -> Level:
    """How one number fares; unknown without a reading."""
    now = indicator.current
    if now is None or math.isnan(now):
        return Level.UNKNOWN
    if indicator.upper is not None and now > indicator.upper:
        return Level.POOR
    return Level.PERFECT if indicator.lower is not None and now < indicator.lower else Level.GOOD


def performance(indicators: Iterable[Indicator]) -> Level:
    """How a service fares by its business indicators: the worst that is known."""
    order = (Level.POOR, Level.GOOD, Level.PERFECT)
    found = {level(one) for one in indicators if one.concern is Concern.BUSINESS}
    return next((one for one in order if one in found), Level.UNKNOWN)


def targets(indicators: Iterable[Indicator]) -> Mapping[str, tuple[float | None, float | None]]:
    """Lower and upper bound of every system indicator, as they were given."""
    return {one.name: (one.lower, one.upper) for one in indicators if one.concern is Concern.SYSTEM}
