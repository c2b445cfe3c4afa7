"""A usage export of somebody's cluster, read into loads that can be replayed. Pure: text in, values out.

Two formats, in any number of files:

    *.json  the answer to a Prometheus range query (resultType matrix). Values are cores. The file's name says what:
            usage*.json (or anything else), requests*.json, capacity*.json (last value of each series counts)
            labels: node, or instance; namespace, workload, pod, container (those there are make the workload's name)
    *.csv   a header and lines: timestamp (seconds, or ISO 8601), node, cpu (cores); optional workload, request, capacity

Times are seconds since 1970, or ISO 8601 (without a zone: UTC). What looks like another unit is refused: milliseconds, and
series that only ever rise (a counter without its rate).

Samples are put on a grid of their usual distance. Before its first and after its last sample a workload uses nothing;
a sample missing in between is unknown, never zero.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Any, Final

from neap.common.errors import InputError
from neap.common.units import Cores, Ratio, Seconds
from neap.virtual.replay import Load, Owner

NODE_LABELS: Final = ("node", "instance", "kubernetes_node", "nodename", "host")
WORKLOAD_LABELS: Final = ("namespace", "workload", "pod", "container")
USAGE, REQUESTS, CAPACITY = KINDS = ("usage", "requests", "capacity")
MOST_SAMPLES: Final = 20_000_000  # of all files together
LONGEST: Final = 200_000  # samples of one node's grid
USED_OF_REQUEST: Final[Ratio] = 0.65  # peak use over request where the export names none
ALL: Final = "all"
LAST_SECOND: Final[Seconds] = 1e11  # in the year 5138: what is later is in milliseconds
JUDGED: Final = 20  # samples from which on a series can look like a counter
RISES, FALLS = 0.9, 0.02  # a counter's shares of steps: at least so many go up, at most so many (resets) down


@dataclass
class Export:
    """What was read so far: by node, and by workload below it."""

    used: dict[str, dict[str, dict[Seconds, Cores | None]]] = field(default_factory=dict)
    requests: dict[str, dict[str, Cores]] = field(default_factory=dict)
    capacity: dict[str, Cores] = field(default_factory=dict)
    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)  # of workloads, where the export has any
    samples: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # why -> series

    def add(self, node: str, workload: str, at: Seconds, cores: Cores | None, where: str) -> None:
        """One sample.

        Raises:
            InputError: it was there already, or there are too many.
        """
        line = self.used.setdefault(node, {}).setdefault(workload, {})
        if at in line:
            raise InputError(
                f"{where}: node {node}, workload {workload} has two samples at {at:.0f}: a file is there twice,"
                " or the query does not sum over all other labels"
            )
        line[at] = cores
        self.samples += 1
        if self.samples > MOST_SAMPLES:
            raise InputError(f"{where}: more than {MOST_SAMPLES} samples; export fewer days, or a larger step")


def read_file(name: str, content: str, export: Export) -> None:
    """Add one file.

    Raises:
        InputError: names the file, and the line or the series.
    """
    if name.endswith(".csv"):
        _read_csv(name, content, export)
    else:
        _read_matrix(name, content, export)


# -- Prometheus ----------------------------------------------------------------------------------------------------------


def _read_matrix(name: str, content: str, export: Export) -> None:
    kind = next((kind for kind in KINDS if name.rpartition("/")[2].startswith(kind)), USAGE)
    for index, one in enumerate(_series(name, content)):
        where = f"{name}: series {index}"
        if not (isinstance(one, dict) and isinstance(one.get("metric"), dict) and isinstance(one.get("values"), list)):
            raise InputError(f"{where}: not an object with metric and values")
        labels = {str(key): str(value) for key, value in one["metric"].items()}
        node = next((labels[label] for label in NODE_LABELS if labels.get(label)), "")
        if not node:
            raise InputError(f"{where} {labels}: names no node (one of the labels {', '.join(NODE_LABELS)})")
        workload = "/".join(labels[label] for label in WORKLOAD_LABELS if labels.get(label)) or ALL
        if workload != ALL:
            export.labels.setdefault(workload, labels)
        _take(kind, node, workload, _samples(one["values"], f"{where} {labels}"), export, where)


def _series(name: str, content: str) -> list[Any]:
    try:
        told = json.loads(content)
    except ValueError as error:
        raise InputError(f"{name}: no JSON: {error}") from None
    if isinstance(told, dict) and told.get("status") == "error":
        raise InputError(f"{name}: Prometheus refused the query: {told.get('error')}")
    found = told.get("data", told) if isinstance(told, dict) else None
    if not isinstance(found, dict) or found.get("resultType") != "matrix" or not isinstance(found.get("result"), list):
        kind = found.get("resultType") if isinstance(found, dict) else type(told).__name__
        raise InputError(f"{name}: not the answer to a range query: resultType is {kind!r}, wanted 'matrix'")
    series: list[Any] = found["result"]
    return series


def _samples(values: list[Any], where: str) -> Iterator[tuple[Seconds, Cores | None]]:
    for index, pair in enumerate(values):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise InputError(f"{where}: value {index} is {pair!r}, not [time, value]")
        yield _moment(pair[0], f"{where}: time of value {index}"), _cores(pair[1], f"{where}: value {index}")


def _take(
    kind: str, node: str, workload: str, samples: Iterable[tuple[Seconds, Cores | None]], export: Export, where: str
) -> None:
    if kind == USAGE:
        for at, cores in samples:
            export.add(node, workload, at, cores, where)
        return
    known = [cores for _, cores in samples if cores is not None]
    if not known:
        raise InputError(f"{where}: not one value of node {node}")
    if kind == CAPACITY:
        export.capacity[node] = known[-1]
    else:
        export.requests.setdefault(node, {})[workload] = known[-1]


# -- CSV -----------------------------------------------------------------------------------------------------------------


def _read_csv(name: str, content: str, export: Export) -> None:
    rows = csv.DictReader(io.StringIO(content))
    columns = [column.strip() for column in rows.fieldnames or ()]
    if lacking := [column for column in ("timestamp", "node", "cpu") if column not in columns]:
        raise InputError(f"{name}: line 1: no column {', '.join(lacking)} (there are: {', '.join(columns) or 'none'})")
    rows.fieldnames = columns
    try:
        for row in rows:
            _read_row(f"{name}: line {rows.line_num}", row, export)
    except csv.Error as error:
        raise InputError(f"{name}: line {rows.line_num}: {error}") from None


def _read_row(where: str, row: Mapping[str, Any], export: Export) -> None:
    if None in row or None in row.values():
        raise InputError(f"{where}: not as many fields as the header has")
    node, workload = row["node"].strip(), str(row.get("workload") or ALL).strip()
    if not node:
        raise InputError(f"{where}: node is empty")
    export.add(node, workload, _time(row["timestamp"].strip(), where), _cores(row["cpu"], f"{where}: cpu"), where)
    if (cores := _optional(row, "capacity", where)) is not None:
        export.capacity[node] = cores
    if (cores := _optional(row, "request", where)) is not None:
        export.requests.setdefault(node, {})[workload] = cores


def _optional(row: Mapping[str, Any], column: str, where: str) -> Cores | None:
    return _cores(row[column], f"{where}: {column}") if str(row.get(column) or "").strip() else None


def _time(text: str, where: str) -> Seconds:
    try:
        at = float(text)
    except ValueError:
        pass
    else:
        return _moment(at, f"{where}: timestamp")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{where}: timestamp {text[:40]!r} is neither seconds nor ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(value: Any, where: str) -> Seconds:
    at = _number(value, where)
    if abs(at) > LAST_SECOND:
        raise InputError(f"{where} is {at:.0f}: times are seconds since 1970 (these look like milliseconds)")
    return at


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where} is {str(value)[:40]!r}, no number") from None
    if not math.isfinite(number):
        raise InputError(f"{where} is {number}")
    return number


def _cores(value: Any, where: str) -> Cores | None:
    """A number, or None for an empty field and for Prometheus' NaN."""
    if isinstance(value, str) and value.strip().lower() in ("", "nan"):
        return None
    cores = _number(value, where)
    if cores < 0:
        raise InputError(f"{where} is {cores:g}: cores are not below zero (a counter instead of its rate?)")
    return cores


def refuse_counters(export: Export) -> None:
    """Say so if what should be cores are core-seconds so far.

    Raises:
        InputError: most series that are long enough only ever rise, but for resets; names one of them.
    """
    long = [
        (node, name, [cores for _, cores in sorted(line.items()) if cores is not None])
        for node, lines in export.used.items()
        for name, line in lines.items()
        if len(line) >= JUDGED
    ]
    rising = [(node, name) for node, name, values in long if _only_rises(values)]
    if 2 * len(rising) > len(long):
        node, name = rising[0]
        raise InputError(
            f"node {node}, workload {name}: only ever rises, as do {len(rising)} of {len(long)} series: counters,"
            " not cores; query their rate(...[5m])"
        )


def _only_rises(values: list[Cores]) -> bool:
    steps = len(values) - 1
    ups, downs = sum(b > a for a, b in pairwise(values)), sum(b < a for a, b in pairwise(values))
    return steps >= JUDGED - 1 and ups >= RISES * steps and downs <= FALLS * steps


# -- loads ---------------------------------------------------------------------------------------------------------------


def loads_of(export: Export, cores: int) -> tuple[list[Load], list[str]]:
    """A load per node, by name, and what had to be assumed; `cores` is for nodes whose capacity is not told.

    Raises:
        InputError: there is no usage, or a node's capacity is not known or less than what it used.
    """
    if not export.used:
        raise InputError("the export has no usage: not one usage*.json or *.csv with samples")
    untold = sum(w not in export.requests.get(n, {}) for n, lines in export.used.items() for w in lines)
    notes = [] if all(node in export.capacity for node in export.used) else [f"capacity: {cores} CPUs where not told"]
    if untold:
        notes.append(f"requests of {untold} workloads are not told: taken as their peak / {USED_OF_REQUEST}")
    return [_load(node, lines, export, cores) for node, lines in sorted(export.used.items())], notes


def _load(node: str, lines: Mapping[str, Mapping[Seconds, Cores | None]], export: Export, cores: int) -> Load:
    capacity = int(export.capacity.get(node, cores))
    if capacity < 1:
        raise InputError(f"node {node}: its CPUs are not told; add capacity*.json, a column capacity, or --cores")
    times = sorted({at for line in lines.values() for at in line})
    gaps = [b - a for line in lines.values() for a, b in pairwise(sorted(line))]
    if not gaps:
        raise InputError(f"node {node}: fewer than two samples")
    step, first = median(gaps), times[0]
    count = round((times[-1] - first) / step) + 1
    if count > LONGEST:
        raise InputError(f"node {node}: {count} samples of {step:g} s, more than {LONGEST}")
    asked = export.requests.get(node, {})
    owners = []
    for workload, line in sorted(lines.items()):
        used = _on_grid(line, first, step, count)
        peak = max((cores for cores in used if cores is not None), default=0.0)
        owners.append(Owner(workload, asked.get(workload, peak / USED_OF_REQUEST), used))
    highest = max(sum(used or 0.0 for used in each) for each in zip(*(owner.used for owner in owners), strict=True))
    if highest > capacity * 1.05:
        raise InputError(f"node {node}: uses {highest:.1f} cores of {capacity}: is its usage in cores?")
    return Load(node, capacity, step, tuple(owners))


def _on_grid(
    line: Mapping[Seconds, Cores | None], first: Seconds, step: Seconds, count: int
) -> tuple[Cores | None, ...]:
    grid: list[Cores | None] = [None] * count
    for at, cores in line.items():
        place = round((at - first) / step)
        there = grid[place]
        grid[place] = there if cores is None else cores if there is None else max(there, cores)
    left, right = (round((at - first) / step) for at in (min(line), max(line)))
    return tuple(cores if left <= i <= right else 0.0 for i, cores in enumerate(grid))
