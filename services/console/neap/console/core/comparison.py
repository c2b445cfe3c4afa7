"""The same day under several lending policies: table, JSON and verdict. Pure.

utilisation   core-seconds used / (usable CPUs × seconds of the day)
violations    service-minutes whose modelled p99 was above its objective, or that were down / service-minutes
cost          violations − those of the online-only run of the same seed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from neap.console.core.columns import columns
from neap.console.core.figure import Sample
from neap.console.core.summary import DayTotals

ALONE: Final = "online-only"
MEANING: Final = (
    "utilisation: all cores in use, lost work too; lost: core-hours that evicted or killed guests have to do again",
    "SLO violations: minutes in which a replica's p99 was above its objective, or it did not run though it should",
    f"cost: violations beyond those of the same owners alone (where {ALONE} is asked for)",
)


class PolicyDay(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's day under one policy; `course` is what the figure is drawn from."""

    policy: str
    seed: int
    totals: DayTotals
    seconds: float  # CPU seconds it took here
    course: tuple[Sample, ...] = ()

    @property
    def violations(self) -> float:
        """Share of service-minutes in violation."""
        return self.totals.violation_minutes / self.totals.service_minutes if self.totals.service_minutes else 0.0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Policies in the order asked for, with what each stands for, and their days."""

    nodes: int
    cores: float
    hours: float
    machine: str
    policies: dict[str, str]  # name -> what it does
    days: tuple[PolicyDay, ...]
    story: tuple[str, ...] = ()  # what is real, what is modelled
    figure: str = ""

    def of(self, policy: str) -> list[PolicyDay]:
        """Its days, by seed."""
        return sorted((day for day in self.days if day.policy == policy), key=lambda day: day.seed)

    def cost(self, policy: str) -> float | None:
        """Mean of violations beyond those of the online-only day of the same seed; None where that was not lived."""
        alone = {day.seed: day.violations for day in self.of(ALONE)}
        beyond = [day.violations - alone[day.seed] for day in self.of(policy) if day.seed in alone]
        return sum(beyond) / len(beyond) if beyond else None


def text(told: Comparison) -> str:
    """The report for people."""
    seeds = sorted({day.seed for day in told.days})
    head = (
        f"SIMULATED: {told.nodes} virtual nodes, {told.cores:.0f} usable CPUs"
        f"{f', each a {told.machine}' if told.machine else ''}, {told.hours:g} h,"
        f" seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    )
    titles = (
        "policy",
        "seed",
        "utilisation",
        "guest core-h",
        "lost",
        "finished",
        "evictions",
        "SLO violations",
        "cost",
    )
    rows: list[tuple[str, ...]] = [titles]
    for policy in told.policies:
        days = told.of(policy)
        rows += [_row(policy, str(day.seed), [day], None) for day in days]
        if len(days) > 1:
            rows.append(_row(policy, "mean", days, told.cost(policy)))
        elif days:
            rows[-1] = _row(policy, str(days[0].seed), days, told.cost(policy))
    legend = [f"{name}: {said}" for name, said in told.policies.items()]
    notes = [*legend, *told.story, *MEANING]
    return "\n".join(
        [head, "", *columns(rows, numbers=True), "", *notes, *([f"figure: {told.figure}"] if told.figure else [])]
    )


def _row(policy: str, seed: str, days: Sequence[PolicyDay], cost: float | None) -> tuple[str, ...]:
    count, totals = len(days), [day.totals for day in days]
    violated, minutes = sum(t.violation_minutes for t in totals), sum(t.service_minutes for t in totals)
    return (
        policy,
        seed,
        f"{sum(t.utilisation for t in totals) / count:.1%}",
        f"{sum(t.guest_core_hours for t in totals) / count:.0f}",
        f"{sum(t.lost_core_hours for t in totals) / count:.0f}",
        f"{sum(t.finished for t in totals) / count:.0f}",
        f"{sum(sum(t.evictions.values()) for t in totals) / count:.0f}",
        f"{violated} of {minutes} ({violated / minutes if minutes else 0.0:.3%})",
        "" if cost is None else f"{cost:+.3%}",
    )


def difference(told: Comparison, one: str, other: str) -> str:
    """What the second policy changes, in a sentence."""
    a, b = (_mean(told.of(name)) for name in (one, other))
    hours = b["guest_core_hours"] - a["guest_core_hours"]
    return (
        f"{other} against {one}: utilisation {100 * (b['utilisation'] - a['utilisation']):+.1f} points,"
        f" guests {hours:+.0f} core-hours, violations {100 * (b['violations'] - a['violations']):+.3f} points,"
        f" evictions {b['evictions'] - a['evictions']:+.0f}"
    )


def _mean(days: Sequence[PolicyDay]) -> dict[str, float]:
    count = max(1, len(days))
    return {
        "utilisation": sum(day.totals.utilisation for day in days) / count,
        "guest_core_hours": sum(day.totals.guest_core_hours for day in days) / count,
        "violations": sum(day.violations for day in days) / count,
        "evictions": sum(sum(day.totals.evictions.values()) for day in days) / count,
    }


def as_json(told: Comparison) -> dict[str, Any]:
    """The report for machines, without the minutes of the figure."""
    days = [
        {"policy": day.policy, "seed": day.seed, "cpu_seconds": round(day.seconds, 1), "violations": day.violations}
        | dict[str, Any](msgspec.to_builtins(day.totals))
        for day in told.days
    ]
    means: Mapping[str, Any] = {name: _mean(told.of(name)) | {"cost": told.cost(name)} for name in told.policies}
    return {
        "simulated": True,
        "nodes": told.nodes,
        "cores": told.cores,
        "hours": told.hours,
        "machine": told.machine,
        "policies": told.policies,
        "story": list(told.story),
        "mean": means,
        "days": days,
        "figure": told.figure,
    }
