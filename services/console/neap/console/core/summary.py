"""The table at the end of a day: what was gained, what it cost, both runs side by side.

utilisation   = core-seconds used / (usable cores x seconds of the day)
violation     = service-minutes whose modelled p99 latency was above its objective, or that were down
gain          = utilisation with guests / utilisation online-only
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from neap.common.model.day import DayReport
from neap.common.model.qos import QosClass
from neap.common.units import format_duration


class DayTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a day, reduced to what the table shows."""

    utilisation: float
    guest_core_hours: float
    lost_core_hours: float
    service_minutes: int
    violation_minutes: int
    evictions: dict[str, int]
    finished: int


class PlannerPart(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner changes: the same day lived through twice in virtual time, on fewer nodes."""

    nodes: int
    without: DayTotals
    planned: DayTotals

    @property
    def said(self) -> str:
        """In a sentence."""
        points = 100 * (self.planned.utilisation - self.without.utilisation)
        minutes = self.planned.violation_minutes - self.without.violation_minutes
        return f"the planner: {points:+.1f} points of utilisation, {minutes:+d} owner SLO-violation minutes"


class DayOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The day with guests, the same day without, and how fast placements were."""

    nodes: int
    cores: float
    seed: int
    with_guests: DayTotals
    online_only: DayTotals
    placements: int
    waited: dict[str, tuple[float, float]]  # p50, p99 from submission to placement by kind, seconds of the day
    placements_per_second: float  # real seconds, over the busiest second
    journal: str
    figure: str = ""
    notes: tuple[str, ...] = ()
    planner: PlannerPart | None = None

    @property
    def gain(self) -> float:
        """Utilisation with guests / online-only."""
        return self.with_guests.utilisation / self.online_only.utilisation if self.online_only.utilisation else 0.0


def totals(report: DayReport) -> DayTotals:
    """A DayReport as totals."""
    seconds = max(report.at - report.day_start, 1.0)
    used = sum(report.core_seconds.values())
    return DayTotals(
        utilisation=used / (report.capacity_cores * seconds),
        guest_core_hours=report.core_seconds.get(QosClass.RECLAIMED, 0.0) / 3600,
        lost_core_hours=report.lost_core_seconds / 3600,
        service_minutes=report.service_minutes,
        violation_minutes=report.violation_minutes,
        evictions=dict(report.evictions),
        finished=report.finished,
    )


def rows(outcome: DayOutcome) -> list[tuple[str, str, str]]:
    """(what, online-only, with guests): the table, ready to be drawn."""
    alone, both = outcome.online_only, outcome.with_guests
    return [
        ("average CPU utilisation", f"{alone.utilisation:.1%}", f"{both.utilisation:.1%}  ({outcome.gain:.2f} x)"),
        *_beside(alone, both),
        ("placements", "", f"{outcome.placements}, busiest second {outcome.placements_per_second:.0f}/s"),
        *((f"  {kind} waited, p50 / p99", "", _waits(waited)) for kind, waited in outcome.waited.items()),
    ]


def planner_rows(part: PlannerPart) -> list[tuple[str, str, str]]:
    """(what, without planner, with planner)."""
    without, planned = part.without, part.planned
    more = f"({100 * (planned.utilisation - without.utilisation):+.1f} points)"
    used = ("average CPU utilisation", f"{without.utilisation:.1%}", f"{planned.utilisation:.1%}  {more}")
    return [used, *_beside(without, planned)]


def planner_title(part: PlannerPart) -> str:
    """What the second table is about."""
    return f"The planner's part: the same day on {part.nodes} virtual nodes, twice (simulated, virtual time)"


def _beside(one: DayTotals, other: DayTotals) -> list[tuple[str, str, str]]:
    return [
        ("guest core-hours", f"{one.guest_core_hours:.0f}", f"{other.guest_core_hours:.0f}"),
        ("  of which lost to evictions", f"{one.lost_core_hours:.0f}", f"{other.lost_core_hours:.0f}"),
        ("guests finished", f"{one.finished}", f"{other.finished}"),
        *(
            (f"evictions: {rule}", f"{one.evictions.get(rule, 0)}", f"{other.evictions.get(rule, 0)}")
            for rule in sorted({*one.evictions, *other.evictions}) or ["none"]
        ),
        ("owner SLO-violation minutes", _violations(one), _violations(other)),
    ]


def _waits(waited: tuple[float, float]) -> str:
    return " / ".join(format_duration(seconds) for seconds in waited) + " of the day"


def _violations(run: DayTotals) -> str:
    share = run.violation_minutes / run.service_minutes if run.service_minutes else 0.0
    return f"{run.violation_minutes} of {run.service_minutes}  ({share:.3%})"


def plain_table(outcome: DayOutcome) -> str:
    """The table as text, for pipes and logs."""
    head = f"{outcome.nodes} virtual nodes, {outcome.cores:.0f} usable CPUs, seed {outcome.seed} (simulated hardware)"
    lines = _table(("", "online only", "with guests"), rows(outcome))
    if part := outcome.planner:
        lines += ["", planner_title(part), "", *_table(("", "without planner", "with planner"), planner_rows(part))]
    return "\n".join(
        [head, "", *lines, "", *outcome.notes, f"picture: {outcome.figure}", f"journal: {outcome.journal}"]
    )


def _table(head: tuple[str, str, str], body: Sequence[tuple[str, str, str]]) -> list[str]:
    lines = [head, *body]
    widths = [max(len(row[i]) for row in lines) for i in range(3)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in lines]


def as_json(outcome: DayOutcome) -> dict[str, Any]:
    """The outcome for machines."""
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    return plain | {"gain": outcome.gain}
