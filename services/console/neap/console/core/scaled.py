"""`neap scaling`: replicas of a service as people want to read them, with a chart of what is coming.

shop/Deployment/feed   preview: nothing is done
now 6   native 5   predicted 6   desired 6   within 1..20
peak 9 at 20:00, would have acted at 19:56:45 (lead 3m15s)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from neap.common.model.forecast import Forecast
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.units import HOUR, format_duration
from neap.console.core.columns import columns

WIDTH: Final = 40  # of a bar
ROWS: Final = 16  # of a chart
DONE: Final = {
    ScaleMode.AUTO: "auto: the gateway acts on it",
    ScaleMode.PREVIEW: "preview: nothing is done",
    ScaleMode.OFF: "off",
}


def table(plans: Sequence[ScalingPlan]) -> str:
    """A line for each service."""
    if not plans:
        return "no service is scaled (planner setting scaling.mode, by policy: preview or auto)"
    head = ("service", "mode", "now", "native", "predicted", "desired", "within", "next peak", "says")
    return "\n".join(columns([head, *map(_row, plans)]))


def chart(plan: ScalingPlan, forecast: Forecast | None) -> str:
    """One service: the numbers, the arithmetic, and the hours ahead in replicas."""
    lines = [f"{plan.namespace}/{plan.kind}/{plan.name}   {DONE[plan.mode]}"]
    lines.append(
        f"now {plan.now}   native {_or_dash(plan.native)}   predicted {_or_dash(plan.predicted)}   "
        f"desired {plan.desired}   within {plan.least}..{plan.most}"
    )
    lines += [text for text in (_next(plan), plan.arithmetic, *(f"! {flag}" for flag in plan.flags)) if text]
    if plan.autoscaler_paid > 0:
        lines.append(
            f"on paper until now ({plan.manner}): short {format_duration(plan.short)}, "
            f"{plan.paid / HOUR:.1f} replica-hours; the autoscaler's own rule: short "
            f"{format_duration(plan.autoscaler_short)}, {plan.autoscaler_paid / HOUR:.1f}"
        )
    if forecast is not None and plan.target:
        lines += ["", *_bars(plan, forecast)]
    return "\n".join(lines)


def as_json(plans: Sequence[ScalingPlan], forecast: Forecast | None) -> Any:
    """All of it; of one service with its forecast."""
    found: list[Any] = [msgspec.to_builtins(plan) for plan in plans]
    if forecast is not None:
        found[0]["foretold"] = msgspec.to_builtins(forecast)
    return found


def _row(plan: ScalingPlan) -> tuple[str, ...]:
    return (
        f"{plan.namespace}/{plan.kind}/{plan.name}", plan.mode.value, str(plan.now), _or_dash(plan.native),
        _or_dash(plan.predicted), str(plan.desired), f"{plan.least}..{plan.most}",
        "-" if plan.peak is None or plan.peak_at is None else f"{plan.peak} at {_clock(plan.peak_at)}",
        "; ".join(plan.flags),
    )  # fmt: skip


def _next(plan: ScalingPlan) -> str:
    if plan.peak is None or plan.peak_at is None:
        return ""
    peak = f"predicted {plan.peak} at {_clock(plan.peak_at)}"
    if plan.acts_at is None:
        return f"{peak}: what there is suffices"
    acts = "acts" if plan.mode is ScaleMode.AUTO else "would have acted"
    return f"{peak}, {acts} at {_clock(plan.acts_at, exact=True)} (lead {format_duration(plan.lead)})"


def _bars(plan: ScalingPlan, forecast: Forecast) -> Iterator[str]:
    """Replicas over time: # what there is, + what is missing, with the clock beside."""
    assert plan.target
    steps = [
        (forecast.start + place * forecast.step, math.ceil(value / plan.target - 1e-9))
        for place, value in enumerate(forecast.values)
        if forecast.start + (place + 1) * forecast.step > plan.at
    ]
    each = max(1, math.ceil(len(steps) / ROWS))
    rows = [(part[0][0], max(needed for _, needed in part)) for part in _parts(steps, each)]
    most = max([plan.now, *(needed for _, needed in rows)], default=1) or 1
    for when, needed in rows:
        there = round(WIDTH * min(needed, plan.now) / most)
        missing = round(WIDTH * max(0, needed - plan.now) / most)
        yield f"{_clock(when)}  {needed:>5}  {'#' * there}{'+' * missing}"


def _parts(steps: list[tuple[float, int]], each: int) -> Iterator[list[tuple[float, int]]]:
    for place in range(0, len(steps), each):
        yield steps[place : place + each]


def _clock(at: float, *, exact: bool = False) -> str:
    """In UTC, as everywhere in the console."""
    return datetime.fromtimestamp(at, tz=UTC).strftime("%H:%M:%S" if exact else "%H:%M")


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)
