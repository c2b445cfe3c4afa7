"""Right sizes: requests as they were against those the planner would have recommended, hour by hour, from what was known.

One size per service and container, from the samples of all its replicas, as the planner's desk has it:

    every hour after 12 h a size by `snug` (p90 + 15 %); it replaces the one in force if it differs by more than 10 %
    saved   = Σ (request − size)                      over replicas that are there, in the mean over the judged time
    exceed  = share of samples above the size in force; `today`: above the request
    lacking = Σ max(0, used − size) / Σ used          what lay above the request: if the node were full, others may have it
Source: protocol 4 of the recommendation replay (neap.foresight.replay), for one replica the very same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from neap.common.units import DAY, HOUR, Cores, Ratio
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
from neap.foresight.histogram import Histogram
from neap.foresight.replay import RING, TAKES, WARM_UP
from neap.foresight.rule import USUAL, Known, Memory, Rule
from neap.foresight.series import Series, Values
from neap.foresight.sizes import snug
from neap.foresight.sizing import whole_cpu

NAME, TITLE = "sizes", "right sizes"
NEEDS: Final = "neap recommend SERVICE [--apply]; policy sizing.mode; a day of history, better three"
MOST: Final = 300  # services, the largest
LEAST: Final[Cores] = 0.01  # sizing.cpu_min
COUNTS: Final = 100  # samples that are judged: with fewer nothing is said of a service
CLOSE: Final[Ratio] = 1.1  # exceeds no more than so many times as often as today's requests


@dataclass(frozen=True)
class Sized:
    """One container of a service. Cores are in the mean over the judged time, all replicas together."""

    name: str
    replicas: float
    asked: Cores
    sized: Cores
    used: Cores
    exceed: Ratio
    today: Ratio
    lacking: Ratio
    changes_per_day: float
    samples: int
    last: Cores  # recommended in the end
    is_assumed: bool


def assess(history: History, most: int = MOST, rule: Rule = snug.PLUGIN) -> Verdict:
    """The verdict."""
    if history.count * history.step <= WARM_UP + HOUR:
        return unknown(NAME, TITLE, f"{history.span / HOUR:.0f} h of history; the first size takes 12 h", NEEDS)
    if not history.services:
        return unknown(NAME, TITLE, "the export names no workloads (labels pod, workload or a column workload)", NEEDS)
    groups = _groups(history)
    chosen = dict(list(groups.items())[:most])
    sized = [one for name, lines in chosen.items() if (one := replayed(name, lines, history, rule)).samples >= COUNTS]
    if not sized:
        return unknown(NAME, TITLE, "no workload was there for 12 h and longer", NEEDS)
    return _verdict(sized, len(groups))


def _groups(history: History) -> dict[str, list[Line]]:
    """By service and container, the largest services first."""
    found: dict[str, list[Line]] = {}
    for whose, lines in history.services.items():
        for line in lines:
            found.setdefault(" ".join(part for part in (named(whose), line.container) if part), []).append(line)
    return found


def replayed(name: str, lines: Sequence[Line], history: History, rule: Rule) -> Sized:
    """One container's sizes over the history."""
    size, changes, last = sizes_of(lines, history, rule)
    rows = [_row(line, size[line.first : line.end]) for line in lines]
    samples, asked, had, used, above, today, beyond = (float(sum(column)) for column in zip(*rows, strict=True))
    judged = int(np.isfinite(size).sum())
    return Sized(
        name=name,
        replicas=share(samples, judged),
        asked=share(asked, judged),
        sized=share(had, judged),
        used=share(used, judged),
        exceed=share(above, samples),
        today=share(today, samples),
        lacking=share(beyond, used),
        changes_per_day=share(changes, judged * history.step / DAY),
        samples=int(samples),
        last=last,
        is_assumed=sum(not line.is_told for line in lines) > len(lines) / 2,
    )


def _row(line: Line, size: Values) -> tuple[float, ...]:
    """Samples judged; asked, sized, used; samples above size and request; cores above size."""
    fit = np.isfinite(line.used) & np.isfinite(size)
    used, had = line.used[fit], size[fit]
    above = used > had
    beyond = float((used[above] - had[above]).sum())
    count = len(used)
    return count, line.request * count, had.sum(), used.sum(), above.sum(), (used > line.request).sum(), beyond


def sizes_of(lines: Sequence[Line], history: History, rule: Rule) -> tuple[Values, int, float]:
    """The size in force at every step (NaN: none yet), how often it changed, and what is recommended in the end."""
    size, current, changes, last = np.full(history.count, math.nan), math.nan, 0, math.nan
    memory, first, each = Memory(), round(WARM_UP / history.step), round(HOUR / history.step)
    for count, known in _gathered(lines, history):
        if count - min(line.first for line in lines) < first:
            continue
        advised = rule.advise(known, USUAL, memory)
        memory = advised.memory
        if not math.isfinite(advised.value):
            continue
        last = max(LEAST, whole_cpu(advised.value) / 1000)
        if math.isnan(current):
            current = last
        elif abs(last - current) > TAKES * current:
            current, changes = last, changes + 1
        size[count : count + each] = current
    return size, changes, last


def _gathered(lines: Sequence[Line], history: History) -> Iterator[tuple[int, Known]]:
    """At every full hour: how many steps have passed, and what the samples of all replicas come to."""
    each, hours = round(HOUR / history.step), history.count // round(HOUR / history.step)
    places = np.concatenate([line.first + np.arange(len(line.used)) for line in lines])
    values = np.concatenate([line.used for line in lines])
    known = np.isfinite(values)
    places, values = places[known], values[known]
    order = np.argsort(places, kind="stable")
    places, values = places[order], values[order]
    cuts = np.searchsorted(places, np.arange(hours + 1) * each)
    ats = history.start + (places + 1.0) * history.step
    avg, high, histogram = np.full(hours, math.nan), np.full(hours, math.nan), Histogram()
    for hour in range(hours):
        span = slice(int(cuts[hour]), int(cuts[hour + 1]))
        if span.stop > span.start:
            avg[hour], high[hour] = values[span].mean(), values[span].max()
            histogram.add_all(values[span], ats[span])
        count = (hour + 1) * each
        if count >= history.count:
            return
        since = max(0, hour + 1 - RING)
        start = history.start + since * HOUR
        rings = (Series(start, HOUR, ring[since : hour + 1]) for ring in (avg, high))
        yield count, Known(histogram, *rings)


def _verdict(sized: Sequence[Sized], groups: int) -> Verdict:
    saved = sum(one.asked - one.sized for one in sized)
    asked = sum(one.asked for one in sized)
    samples = sum(one.samples for one in sized)
    exceed, today = (share(sum(of * one.samples for of, one in each), samples) for each in (
        [(one.exceed, one) for one in sized], [(one.today, one) for one in sized]))  # fmt: skip
    lacking = share(sum(one.lacking * one.used for one in sized), sum(one.used for one in sized))
    changes = median(one.changes_per_day for one in sized)
    words = f"{saved:.1f} cores of requests" if saved >= 0 else f"{-saved:.1f} cores more of requests than today"
    is_assumed = share(sum(one.asked for one in sized if one.is_assumed), asked) > 0.5
    return Verdict(
        name=NAME,
        title=TITLE,
        cores=saved,
        unit="cores of requests",
        of=asked if groups > len(sized) else 0.0,
        part=f"{len(sized)} of {groups} containers" if groups > len(sized) else "",
        gain=f"{words} ({percent(share(saved, asked))} of what was asked for)",
        risk=(
            f"above the request {often(exceed)} (today {often(today)}), {percent(lacking)} of all use; "
            "felt only where a node is full"
        ),
        level=level_of(0.0 if exceed <= CLOSE * today else lacking),
        short=lacking,
        needs=NEEDS,
        but=ASSUMED if is_assumed else "",
        notes=_notes(sized, groups, is_assumed=is_assumed),
        figures={
            "saved_cores": saved, "asked_cores": asked, "sized_cores": sum(one.sized for one in sized),
            "used_cores": sum(one.used for one in sized), "exceed_share": exceed, "exceed_share_today": today,
            "lacking_share": lacking, "changes_per_day_median": changes, "containers": len(sized),
        },
        table=_table(sized),
    )  # fmt: skip


def _notes(sized: Sequence[Sized], groups: int, *, is_assumed: bool) -> tuple[str, ...]:
    small = [one for one in sized if one.sized > one.asked]
    more = sum(one.sized - one.asked for one in small)
    said = {
        f"{len(small)} of {len(sized)} ask for too little: together {more:.1f} cores more": bool(small),
        f"{len(sized)} of {groups} containers were replayed: the largest that ran long enough": groups > len(sized),
        "requests are not told but assumed: the saving is what the assumption makes it, the sizes are not": is_assumed,
    }
    return tuple(note for note, holds in said.items() if holds)


def _table(sized: Sequence[Sized]) -> Table:
    rows = [
        (
            one.name,
            f"{one.replicas:.1f}",
            f"{share(one.asked, one.replicas):.2f}" + "*" * one.is_assumed,
            f"{one.last:.2f}",
            f"{one.asked - one.sized:+.1f}",
            percent(one.exceed),
            percent(one.today),
            f"{one.changes_per_day:.1f}",
        )
        for one in sorted(sized, key=lambda one: (one.sized - one.asked, one.name))
    ]
    return Table(
        titles=("service", "replicas", "request", "size", "cores saved", "above size", "above request", "changes/day"),
        rows=tuple(rows),
        said=("size: recommended at the end, per replica; saved: in the mean, all replicas; *: request assumed",),
        of="services",
    )
