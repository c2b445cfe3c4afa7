"""Scaling: replicas ahead of the load, beside what the autoscaler's own rule would have had on the same load.

The last days are lived through in steps of a minute, the load a straight line between samples; every two hours a forecast
of a day from what was known then, followed only while its report card lets it (as at the planner's desk, which looks
four times a minute and forecasts every hour). A replica aims at 70 % of its request and can use all of it.

    start    a pod is ready 60 s after it was asked for (an assumption: the planner measures it)
    short    minutes in which the load was above what the ready replicas can use
    paid     replica-hours, from the moment a replica is asked for
Source: neap.foresight.{manners,scaling,scaling_replay}; protocol of the scaling replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

import numpy as np

from neap.common.units import DAY, HOUR, MINUTE, Cores, Seconds
from neap.console.core.imported import Whose
from neap.console.core.strategies.history import History, Line
from neap.console.core.strategies.verdict import (
    ASSUMED,
    Table,
    Verdict,
    level_of,
    named,
    often,
    percent,
    share,
    unknown,
)
from neap.foresight.forecasting import Foretold, forecast
from neap.foresight.judging import may_drive
from neap.foresight.manners import Judge
from neap.foresight.past import last_known
from neap.foresight.scaling import Rules, look_ahead
from neap.foresight.scaling_replay import Outlook, Rehearsal, rehearse
from neap.foresight.series import Series

NAME, TITLE = "scaling", "scale ahead of the rush"
NEEDS: Final = "policy scaling.mode=auto for a service (preview is the default); two days of history for forecasts"
MOST: Final = 5  # services, the largest that fit
DAYS: Final = 5  # lived through, the newest
START: Final[Seconds] = MINUTE
TARGET, FULL = 0.7, 1.0
ENOUGH: Final = 3.0  # replicas its higher loads need: with fewer there is nothing to scale
HIGH: Final = 95  # percentile
LEAST: Final[Seconds] = DAY  # of history
ANEW: Final[Seconds] = 2 * HOUR
FORETOLD: Final[Seconds] = DAY
HALF: Final = 0.5
SMALLEST: Final[Cores] = 0.01  # request of a replica that can be counted by
KINDS: Final = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})
COARSEST: Final[Seconds] = 5 * MINUTE


@dataclass(frozen=True)
class Scaled:
    """One service."""

    name: str
    request: Cores
    recorded: float  # replica-hours in the record
    hours: float
    lived: Rehearsal
    driven: int  # forecasts that might drive
    told: int
    is_assumed: bool


def assess(history: History, most: int = MOST) -> Verdict:
    """The verdict."""
    if history.step > COARSEST or history.usual > 1.5 * COARSEST:
        why = f"samples every {history.usual / MINUTE:.0f} min say nothing of a minute's rush; 5 min are needed"
        return unknown(NAME, TITLE, why, NEEDS)
    if history.span < LEAST:
        return unknown(NAME, TITLE, f"{history.span / HOUR:.0f} h of history; a day is needed", NEEDS)
    if not history.services:
        return unknown(NAME, TITLE, "the export names no workloads (labels pod, workload or a column workload)", NEEDS)
    fit = [(whose, lines) for whose, lines in history.services.items() if _fits(history, whose, lines)]
    if not fit:
        why = f"no Deployment or StatefulSet needs {ENOUGH:.0f} replicas or more at its peaks"
        why += f" ({ASSUMED})" * (history.is_assumed > HALF)
        return unknown(NAME, TITLE, why, NEEDS)
    scaled = [lived(history, whose, lines) for whose, lines in fit[:most]]
    return _verdict(scaled, len(fit))


def request_of(lines: Sequence[Line]) -> Cores:
    """Of one replica: all its containers."""
    pods: dict[str, float] = {}
    for line in lines:
        pods[line.pod] = pods.get(line.pod, 0.0) + line.request
    return median_low(pods.values())


def _fits(history: History, whose: Whose, lines: Sequence[Line]) -> bool:
    if whose[1] not in KINDS or (request := request_of(lines)) < SMALLEST:
        return False
    known = history.total(lines).values
    known = known[np.isfinite(known)]
    return len(known) * history.step >= LEAST and float(np.percentile(known, HIGH)) >= ENOUGH * TARGET * request


def lived(history: History, whose: Whose, lines: Sequence[Line]) -> Scaled:
    """One service's last days under both rules."""
    total, request = history.total(lines), request_of(lines)
    first = max(0, history.count - round(DAYS * DAY / history.step))
    outlook, driven, told = foretold(total, first)
    rules = Rules(target=TARGET * request, full=FULL * request, most=100_000)
    found = rehearse(minutes(total, first), MINUTE, rules, START, outlook, Judge())
    pods = {(line.pod, place) for line in lines for place in range(max(line.first, first), line.end)}
    hours = (history.count - first) * history.step / HOUR
    assumed = sum(not line.is_told for line in lines) > len(lines) / 2
    return Scaled(named(whose), request, len(pods) * history.step / HOUR, hours, found, driven, told, assumed)


def minutes(total: Series, first: int) -> list[float]:
    """The load from a sample on, in steps of a minute; what is not known stays as it was."""
    known = last_known(total.values)
    known = np.where(np.isfinite(known), known, 0.0)[first:]
    each = round(total.step / MINUTE)
    at = (np.arange(len(known) * each) + 0.5) / each - 0.5
    return [float(value) for value in np.interp(at, np.arange(len(known)), known)]


def foretold(total: Series, first: int) -> tuple[Outlook, int, int]:
    """What was expected when, from sample `first` on; how many forecasts might drive, and how many there were."""
    every, count = round(ANEW / total.step), round(FORETOLD / total.step)
    some = {
        place: forecast(total.until(place), count)
        for place in range(max(first, every), len(total), every)
        if np.isfinite(total.values[:place]).any()
    }
    fit: dict[int, Foretold] = {at: one for at, one in some.items() if one.cards and may_drive(one.cards[0])}
    paths = {at: ([float(v) for v in one.values], [float(v) for v in one.p99]) for at, one in fit.items()}
    starts = np.array(sorted(some))

    def outlook(at: Seconds, lead: Seconds) -> tuple[float, float] | None:
        sample = first + at / total.step
        place = int(np.searchsorted(starts, sample + 1e-9, side="right")) - 1
        one = paths.get(int(starts[place])) if place >= 0 else None
        if one is None:
            return None
        begun = (int(starts[place]) - first) * total.step
        expected, unlikely = (look_ahead(begun, total.step, path, at, lead) for path in one)
        return None if expected is None or unlikely is None else (expected, unlikely)

    return outlook, len(fit), len(some)


def _verdict(scaled: Sequence[Scaled], fit: int) -> Verdict:
    hours = scaled[0].hours
    short, theirs = (sum(getattr(one.lived, who).short for one in scaled) for who in ("own", "autoscaler"))
    paid, native = (sum(getattr(one.lived, who).paid for one in scaled) for who in ("own", "autoscaler"))
    recorded = sum(one.recorded for one in scaled)
    cores = sum((one.recorded - one.lived.own.paid) * one.request for one in scaled) / hours
    by_rule = sum((one.recorded - one.lived.autoscaler.paid) * one.request for one in scaled) / hours
    time = share(short, hours * 60 * len(scaled))
    notes = [
        f"the autoscaler's own rule at {percent(TARGET)} of requests would have saved {by_rule:.1f} of these cores",
        f"assumed: a pod is ready {START:.0f} s after it was asked for, and the load does not depend on replicas",
    ]
    if short >= theirs and paid >= native:
        notes.append("here the plain autoscaler does as well: looking ahead adds nothing")
    is_assumed = sum(one.is_assumed for one in scaled) > len(scaled) / 2
    if is_assumed:
        notes.append("requests are not told but assumed: so is what one replica can carry")
    return Verdict(
        name=NAME,
        title=TITLE,
        cores=cores,
        unit="cores of requests",
        of=sum(one.recorded * one.request for one in scaled) / hours,
        part=f"{len(scaled)} of {fit} services that could be scaled, the largest",
        gain=(
            f"{paid:.0f} replica-hours instead of {recorded:.0f} in the record ({hours / 24:.1f} days, {len(scaled)} services); "
            f"the autoscaler's own rule: {native:.0f}"
        ),
        risk=f"short of replicas for {short:.0f} min ({often(time)}); the autoscaler's own rule: {theirs:.0f} min",
        level=level_of(time),
        short=time,
        needs=NEEDS,
        but=ASSUMED if is_assumed else "",
        notes=tuple(notes),
        figures={
            "cores": cores, "replica_hours": paid, "replica_hours_autoscaler": native, "replica_hours_recorded": recorded,
            "short_minutes": short, "short_minutes_autoscaler": theirs, "days": hours / 24, "services": len(scaled),
            "start_seconds": START,
        },
        table=_table(scaled),
    )  # fmt: skip


def _table(scaled: Sequence[Scaled]) -> Table:
    rows = [
        (
            one.name,
            f"{one.request:.2f}" + "*" * one.is_assumed,
            f"{one.recorded:.0f}",
            f"{one.lived.autoscaler.paid:.0f}",
            f"{one.lived.own.paid:.0f}",
            f"{one.lived.autoscaler.short:.0f}",
            f"{one.lived.own.short:.0f}",
            percent(share(one.driven, one.told)),
            max(one.lived.taken.items(), key=lambda item: item[1])[0],
        )
        for one in scaled
    ]
    titles = ("service", "request", "h recorded", "h rule", "h neap", "min rule", "min neap", "forecasts on", "mostly")
    said = (
        "h: replica-hours; min: minutes short of replicas; rule: the Horizontal Pod Autoscaler's own at 70 % of requests;",
        "forecasts on: share that its report card let drive; mostly: the manner most of the time; *: request assumed",
    )
    return Table(titles=titles, rows=tuple(rows), said=said, of="services")
