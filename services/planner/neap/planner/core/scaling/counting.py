"""One service's replicas at one time, from what is known of it; and the sentence with the arithmetic. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from neap.common.model.forecast import Forecast
from neap.common.model.resource import CPU, RECLAIMED_CPU
from neap.common.model.workload import Workload
from neap.common.units import Cores, Seconds, format_duration
from neap.foresight.cron import Bound, bounded
from neap.foresight.manners import Judge
from neap.foresight.scaling import (
    Decision,
    Load,
    Rules,
    StabilizationWindow,
    decide,
    look_ahead,
    predicted,
    replicas_for,
)
from neap.planner.core.scaling.settings import Scaling

ENOUGH: Final = 3  # measured starts
SLOW: Final = 0.9  # of ten starts nine are as quick
NO_REQUEST: Final = "no CPU request and no target_cores: nothing to aim at"
NO_REPLICA: Final = "no replica runs: left as it is"
NO_USE: Final = "no use measured of any replica"
NO_FORECAST: Final = "prediction off: no forecast that may drive"
NOT_FOLLOWED: Final = "prediction not followed: without it less went short in the last days"


@dataclass(frozen=True)
class Aim:
    """What one replica should use and can do, cores."""

    target: Cores
    full: Cores


def aim_of(workload: Workload, settings: Scaling) -> Aim | None:
    """By the request, or by the setting; None: neither is there."""
    requests = workload.requests
    request = (requests.get(CPU, 0) or requests.get(RECLAIMED_CPU, 0)) / 1000
    if settings.target_cores > 0:
        return Aim(settings.target_cores, max(settings.target_cores / settings.target, request * settings.full))
    return Aim(request * settings.target, request * settings.full) if request > 0 else None


def start_of(starts: Sequence[Seconds], settings: Scaling) -> Seconds:
    """How long a start takes: of ten nine are as quick. The setting, while too few were measured."""
    known = sorted(starts)
    return known[math.ceil(SLOW * len(known)) - 1] if len(known) >= ENOUGH else settings.start


def lead_of(start: Seconds, settings: Scaling) -> Seconds:
    """How far ahead: a start, and until the next look."""
    return settings.lead or start + settings.period


def rules_of(aim: Aim, settings: Scaling, bounds: Sequence[Bound], at: Seconds) -> tuple[Rules, str]:
    """The rules at a time, and which bound of the clock holds."""
    least, most, by = bounded(bounds, at, settings.least, settings.most)
    rules = Rules(
        aim.target, aim.full, least, most, settings.tolerance, settings.hold, settings.up, settings.pods_up,
        settings.down,
    )  # fmt: skip
    return rules, by


def ahead(forecast: Forecast | None, at: Seconds, lead: Seconds) -> tuple[float | None, float | None]:
    """The highest expected and unlikely use within the lead."""
    if forecast is None:
        return None, None
    expected = look_ahead(forecast.start, forecast.step, forecast.values, at, lead)
    return expected, look_ahead(forecast.start, forecast.step, forecast.p99, at, lead) if forecast.p99 else None


def counted(
    at: Seconds, load: Load, rules: Rules, window: StabilizationWindow, judge: Judge, lead: Seconds
) -> Decision:
    """Under the manner in force."""
    manner = judge.manner
    own = manner.followed(load, load.now, load.ready, judge.glance.burst(manner, rules))
    return decide(at, own, replace(rules, hold=lead) if manner.quick else rules, window, judge.leeway)


@dataclass(frozen=True)
class Coming:
    """The highest point of what is expected, and when it would be acted for."""

    peak: int
    peak_at: Seconds
    acts_at: Seconds | None  # None: what there is suffices


def coming(forecast: Forecast, rules: Rules, now: int, at: Seconds, lead: Seconds) -> Coming | None:
    """What the rest of a forecast needs; None: it is over."""
    steps = [
        (max(at, forecast.start + place * forecast.step), replicas_for(value, rules.target))
        for place, value in enumerate(forecast.values)
        if forecast.start + (place + 1) * forecast.step > at
    ]
    if not steps:
        return None
    peak_at, peak = max(steps, key=lambda step: (step[1], -step[0]))
    beyond = next((when for when, needed in steps if needed > now * (1 + rules.tolerance)), None)
    return Coming(min(peak, rules.most), peak_at, None if beyond is None else max(at, beyond - lead))


def arithmetic(load: Load, rules: Rules, decision: Decision, autoscaler: int, lead: Seconds, by: str) -> str:
    """The whole sum in one line. `autoscaler`: what it would have, with its own minutes of holding."""
    used = f"{load.use:.2f} cores by {load.ready} of {load.now} ready at {rules.target:.3g} each -> {decision.native}"
    if autoscaler != decision.native:
        used += f" (the autoscaler's own rule holds {autoscaler})"
    told = "no forecast"
    if load.expected is not None:
        unlikely = f", unlikely {load.unlikely:.2f} at {rules.full:.3g}" if load.unlikely is not None else ""
        within = f"within {format_duration(lead)} at {rules.target:.3g}"
        told = f"expected {load.expected:.2f} {within}{unlikely} -> {predicted(load, rules)}"
    bounds = f"within {rules.least}..{rules.most}" + (f" by {by!r}" if by else "")
    return f"{used}; {told}; {bounds} -> {decision.desired}"
