"""A usage export as one history: capacities, and what every pod asked for and used, all on one grid. Pure.

The grid's step divides an hour and is at least that of the planner's own record (5 minutes); what falls into one place
is averaged. Before its first and after its last sample a pod is not there; in between a missing sample is unknown. Where
a total is needed, the last value stands for up to HELD missing steps: never one that came later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Final

import numpy as np

from neap.common.errors import InputError
from neap.common.units import DAY, HOUR, MINUTE, Cores, Ratio, Seconds
from neap.console.core.export import ALL, USED_OF_REQUEST, Export, refuse_counters
from neap.console.core.imported import Account, Whose, whose_is
from neap.console.core.strategies.verdict import percent
from neap.foresight.series import Series, Values

GRIDS: Final = tuple(minutes * MINUTE for minutes in (5, 10, 15, 20, 30, 60))
LONGEST: Final[Seconds] = 28 * DAY  # looked at, the newest: as long as forecasts look back
HELD: Final = 3  # steps
MOST_CPUS: Final[Cores] = 4096  # of a machine: more are milli-cores
MORE_THAN_ALL: Final = 1.05  # of a node's CPUs: then its usage is not in cores
ASKED_OF_ALL: Final = 4.0  # of a node's CPUs: then its requests are not in cores
RARE: Final = 1.5  # usual distances of samples: a series whose own is longer has fewer values than the others
DAEMON: Final = "DaemonSet"


@dataclass(frozen=True)
class Line:
    """One container, pod or whatever the export tells below a node; `used[i]` is of the grid's step first + i."""

    node: str
    whose: Whose
    container: str
    pod: str
    request: Cores
    is_told: bool  # whether the export says the request; else it is assumed
    first: int
    used: Values

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first + len(self.used)

    @cached_property
    def held(self) -> Values:
        """Short gaps filled by what was known last."""
        places = np.arange(len(self.used))
        last = np.maximum.accumulate(np.where(np.isfinite(self.used), places, -HELD - 1))
        return np.where(places - last <= HELD, self.used[np.maximum(last, 0)], math.nan)

    @property
    def mean(self) -> Cores:
        """Over the time it was there; 0 where nothing is known."""
        known = self.used[np.isfinite(self.used)]
        return float(known.mean()) if len(known) else 0.0


@dataclass(frozen=True)
class History:
    """See module docstring. `capacity`: CPUs by node, in order of names."""

    start: Seconds
    step: Seconds
    count: int
    capacity: Mapping[str, Cores]
    lines: Sequence[Line]
    usual: Seconds = 0.0  # distance of the export's samples
    notes: Sequence[str] = field(default=())

    @property
    def span(self) -> Seconds:
        """From the first step to the end of the last."""
        return self.count * self.step

    @property
    def cores(self) -> Cores:
        """All nodes together."""
        return sum(self.capacity.values())

    @cached_property
    def services(self) -> Mapping[Whose, Sequence[Line]]:
        """Those of whom the export tells names, the largest by use first."""
        found: dict[Whose, list[Line]] = {}
        for line in self.lines:
            if line.whose[2] != ALL:
                found.setdefault(line.whose, []).append(line)
        size = {whose: sum(float(np.nansum(line.used)) for line in lines) for whose, lines in found.items()}
        return {whose: found[whose] for whose in sorted(found, key=lambda whose: (-size[whose], whose))}

    @cached_property
    def asked(self) -> Cores:
        """Requests in the mean over time."""
        return sum(line.request * len(line.used) for line in self.lines) / max(1, self.count)

    @cached_property
    def is_assumed(self) -> Ratio:
        """The share of lines whose requests are not told."""
        return sum(not line.is_told for line in self.lines) / max(1, len(self.lines))

    @cached_property
    def used(self) -> Series:
        """All nodes together."""
        return self.total(self.lines)

    def total(self, lines: Iterable[Line]) -> Series:
        """Of several lines: who is not there adds nothing, who is not known makes unknown."""
        total = np.zeros(self.count)
        for line in lines:
            total[line.first : line.end] += line.held
        return Series(self.start, self.step, total)

    def of_nodes(self, names: Iterable[str]) -> History:
        """These nodes, and who ran there."""
        kept = dict.fromkeys(names)
        capacity = {name: cores for name, cores in self.capacity.items() if name in kept}
        return replace(self, capacity=capacity, lines=[line for line in self.lines if line.node in kept])

    def until(self, count: int) -> History:
        """What was known after `count` steps. Assumed requests stay: they stand for manifests."""
        lines = [replace(line, used=line.used[: count - line.first]) for line in self.lines if line.first < count]
        return replace(self, count=min(count, self.count), lines=lines)


def history_of(export: Export, cores: int) -> History:
    """All that was read; `cores` is for nodes whose capacity is not told.

    Raises:
        InputError: there is no usage, or a node's capacity is not known or less than what it used.
    """
    if not export.used:
        raise InputError("the export has no usage: not one usage*.json or *.csv with samples")
    refuse_counters(export)
    every = [line for lines in export.used.values() for line in lines.values()]
    steps = [median(b - a for a, b in pairwise(sorted(line))) for line in every if len(line) > 1]
    if not steps:
        raise InputError("the export has no two samples of anything: nothing can be replayed")
    usual = float(median(steps))
    step = next((grid for grid in GRIDS if grid >= usual * 0.99), HOUR)
    newest = max(max(line) for line in every)
    oldest = min(min(line) for line in every)
    first = min(at for line in every for at in line if at >= newest - LONGEST)
    start = math.floor(first / HOUR) * HOUR
    found = Account("cpu", skipped=Counter(export.left_out))
    lines = [
        line
        for node, told in sorted(export.used.items())
        for name, samples in sorted(told.items())
        if (line := _line(export, node, name, samples, (start, step), found)) is not None
    ]
    if not lines:
        raise InputError("the export has no usage: no value of any series is known")
    count = max(line.end for line in lines)
    capacity = {node: float(int(export.capacity.get(node, cores))) for node in sorted(export.used)}
    told = History(start, step, count, capacity, lines, usual, _notes(found, newest - oldest, usual, step))
    _check(told)
    return replace(told, notes=[*told.notes, *_lacking(told, export, sum(each > RARE * usual for each in steps))])


def _line(
    export: Export, node: str, name: str, samples: Mapping[Seconds, Cores | None], grid: tuple[Seconds, Seconds],
    found: Account,
) -> Line | None:  # fmt: skip
    labels = export.labels.get(name, {})
    who: tuple[Whose, str, str] | None = (("", "", ALL), "", "")
    if name != ALL:
        who = whose_is(name, labels, found)
    if who is None:
        return None
    start, step = grid
    times = np.fromiter(samples, float, len(samples))
    values = np.array([math.nan if cores is None else cores for cores in samples.values()])
    kept = np.isfinite(values) & (times >= start)
    if not kept.any():
        found.skipped["no value is known"] += 1
        return None
    places = np.floor((times[kept] - start) / step).astype(np.int64)
    first = int(places.min())
    counts = np.bincount(places - first)
    sums = np.bincount(places - first, values[kept])
    used = np.divide(sums, counts, out=np.full(len(counts), math.nan), where=counts > 0)
    request = export.requests.get(node, {}).get(name)
    asked = float(np.nanmax(used)) / USED_OF_REQUEST if request is None else request
    return Line(node, who[0], who[1], who[2] or f"{node} {name}", asked, request is not None, first, used)


def _notes(found: Account, span: Seconds, usual: Seconds, step: Seconds) -> list[str]:
    reasons: Counter[str] = found.skipped + found.assumed
    notes = [f"{count} series: {why}" for why, count in sorted(reasons.items())]
    if span > LONGEST:
        notes.append(f"the newest {LONGEST / DAY:.0f} of {span / DAY:.0f} days were looked at")
    if usual < step * 0.99:
        notes.append(f"samples every {usual:g} s were averaged over {step:g} s, shorter peaks are not seen")
    return notes


def _lacking(told: History, export: Export, rare: int) -> list[str]:
    """What the export should have and has not."""
    steps, unknown = (
        sum(len(line.used) for line in told.lines),
        sum(int(np.isnan(line.used).sum()) for line in told.lines),
    )
    strange = sum(name not in export.used.get(node, {}) for node, asked in export.requests.items() for name in asked)
    said = {
        f"{percent(unknown / steps)} of the values between the first and the last of a series are missing: "
        "unknown, not zero": unknown > 0,
        f"{rare} series have a value less often than every {told.usual:g} s: unknown in between": rare > 0,
        f"{strange} requests are of no series of usage (other labels, or not there): not counted": strange > 0,
    }
    return [note for note, holds in said.items() if holds]


def _check(told: History) -> None:
    """Whether capacities hold.

    Raises:
        InputError: names the node.
    """
    totals, asked = ({node: np.zeros(told.count) for node in told.capacity} for _ in range(2))
    for line in told.lines:
        totals[line.node][line.first : line.end] += np.where(np.isfinite(line.used), line.used, 0.0)
        asked[line.node][line.first : line.end] += line.request * line.is_told
    for node, cores in told.capacity.items():
        if cores < 1:
            raise InputError(f"node {node}: its CPUs are not told; add capacity*.json, a column capacity, or --cores")
        if cores > MOST_CPUS:
            raise InputError(f"node {node}: is told to have {cores:.0f} CPUs: is its capacity in cores?")
        if (highest := float(totals[node].max())) > cores * MORE_THAN_ALL:
            raise InputError(f"node {node}: uses {highest:.1f} cores of {cores:.0f}: is its usage in cores?")
        if (most := float(asked[node].max())) > cores * ASKED_OF_ALL:
            raise InputError(f"node {node}: is asked for {most:.0f} cores of {cores:.0f}: are requests in cores?")


def evenly(names: Sequence[str], most: int) -> list[str]:
    """At most so many, evenly chosen."""
    return list(names) if len(names) <= most else [names[index * len(names) // most] for index in range(most)]
