"""One's own record of use, and what would have been recommended on it: the same rule, the same arithmetic. Pure.

    *.csv    timestamp, value (any unit), or timestamp, node, cpu (cores) with optional workload and request
    *.json   the answer to a Prometheus range query

Samples are put on a grid that divides an hour, the mean of those that fall into one place; what is missing is unknown.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Final

import numpy as np

from neap.common.errors import InputError
from neap.common.units import DAY, HOUR, MINUTE, Seconds
from neap.console.core.export import Export, read_file
from neap.console.core.sizefigure import Panel
from neap.foresight.histogram import Buckets
from neap.foresight.replay import Replayed, hourly, replay
from neap.foresight.rule import Aim, Rule, spoken
from neap.foresight.series import Series, Values

GRIDS: Final = tuple(minutes * MINUTE for minutes in (1, 5, 10, 15, 20, 30, 60))
FINEST: Final = 5 * MINUTE  # as the planner's own
LONGEST: Final = 400 * DAY  # from the first sample to the last


@dataclass(frozen=True)
class Line:
    """One series of the file."""

    name: str
    series: Series
    request: float | None = None


def read(name: str, content: str) -> list[Line]:
    """Every series of a file.

    Raises:
        InputError: names the file, and the line or the series.
    """
    header = content.partition("\n")[0]
    columns = [column.strip().lower() for column in header.split(",")]
    if name.endswith(".csv") and "value" in columns and "timestamp" in columns:
        return [Line(name.rpartition("/")[2].removesuffix(".csv"), on_grid(_values(name, content), name))]
    export = Export()
    read_file(name, content, export)
    return [
        Line(
            f"{workload} on {node}",
            on_grid(_known(line), f"{name}: {workload}"),
            export.requests.get(node, {}).get(workload),
        )
        for node, lines in sorted(export.used.items())
        for workload, line in sorted(lines.items())
    ]


def on_grid(samples: Mapping[Seconds, float], where: str) -> Series:
    """Samples by time on a step that divides an hour, from a full hour on.

    Raises:
        InputError: fewer than two, or too far apart for a series.
    """
    times = sorted(samples)
    if len(times) < 2:
        raise InputError(f"{where}: {len(times)} samples; at least two are needed")
    if times[-1] - times[0] > LONGEST:
        gap, after = max((later - earlier, earlier) for earlier, later in pairwise(times))
        longest = f"the longest gap is {spoken(gap)}, after {datetime.fromtimestamp(after, UTC):%Y-%m-%d}"
        raise InputError(
            f"{where}: {spoken(times[-1] - times[0])} from first to last; {longest} (at most {spoken(LONGEST)})"
        )
    usual = median(later - earlier for earlier, later in pairwise(times))
    step = next((grid for grid in GRIDS if grid >= max(usual * 0.99, FINEST)), HOUR)
    start = math.floor(times[0] / HOUR) * HOUR
    count = int((times[-1] - start) // step) + 1
    places = ((np.array(times) - start) // step).astype(int)
    sums, counts = np.zeros(count), np.zeros(count)
    np.add.at(sums, places, [samples[at] for at in times])
    np.add.at(counts, places, 1)
    return Series(start, step, np.divide(sums, counts, out=np.full(count, math.nan), where=counts > 0))


def told(line: Line, found: Replayed, plain: Replayed) -> str:
    """What the rule comes to on one series."""
    span = spoken(len(line.series) * line.series.step)
    now = f"request {line.request:.4g} -> " if line.request is not None else ""
    outcome = (
        f"{found.slack:.1%} unused, been exceeded {found.exceed:.2%} of the time, changed {found.changes_per_day:.2f}"
    )
    lines = (
        f"{line.name}   {span}, a value every {line.series.step / MINUTE:g} min",
        f"  {now}{found.last:.4g} ({found.basis})",
        f"  would have left {outcome} times a day",
        f"  the plain percentile with its margin: {plain.slack:.1%}, {plain.exceed:.2%}, {plain.changes_per_day:.2f}",
    )
    return "\n".join(lines)


def replayed(line: Line, rule: Rule, aim: Aim) -> Replayed:
    """The rule on a series of any unit, from the samples themselves."""
    known = line.series.values[np.isfinite(line.series.values) & (line.series.values >= 0)]
    usual = float(np.median(known)) if len(known) else 1.0
    scale = usual or (float(known.mean()) if len(known) else 1.0) or 1.0
    return replay(rule, line.series, aim, exact=True, buckets=Buckets(scale / 50, scale * 2000))


def panel(line: Line, found: Replayed) -> Panel:
    """Hours of use, and the sizes that would have been in force."""
    each = round(HOUR / line.series.step)
    mean, highest = hourly(line.series.values, each)
    sizes = found.size[::each][: len(mean)]
    return Panel(
        line.name, "", line.series.start, HOUR, _open(mean), _open(highest), line.request, found.last,
        f"{found.slack:.1%} unused, exceeded {found.exceed:.2%} of the time, {found.changes_per_day:.2f} changes a day",
        _open(sizes),
    )  # fmt: skip


def _open(values: Values) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _known(line: Mapping[Seconds, float | None]) -> dict[Seconds, float]:
    return {at: value for at, value in line.items() if value is not None}


def _values(name: str, content: str) -> dict[Seconds, float]:
    rows = csv.DictReader(io.StringIO(content))
    rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or ()]
    found: dict[Seconds, float] = {}
    for row in rows:
        where = f"{name}: line {rows.line_num}"
        at = _time(str(row.get("timestamp") or "").strip(), where)
        text = str(row.get("value") or "").strip()
        if text and text.lower() != "nan":
            found[at] = _number(text, where)
    return found


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: value {text[:40]!r} is no number") from None


def _time(text: str, where: str) -> Seconds:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{where}: timestamp {text[:40]!r} is neither seconds nor ISO 8601") from None
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
