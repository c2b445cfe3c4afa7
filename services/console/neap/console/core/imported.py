"""Somebody's usage export, as lines of the past for the planner: whose use each series is, on a fixed step. Pure.

    namespace, workload or pod, container    a line of that container, one per pod: histogram, hours, a part of the total
    the same without a container             summed over pods: the service's total
    none of them                             a node's own use
    every node                               besides, the sum over its series, where all of them are known

A pod without a workload's name is taken as the Deployment or StatefulSet its name speaks of; that is told, not hidden.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median, median_low
from typing import Final

import numpy as np

from neap.common.contract.channel import escape
from neap.common.errors import InputError
from neap.common.model.forecast import CLUSTER_SCOPE
from neap.common.model.past import LONGEST, PastUsage
from neap.common.units import DAY, Seconds
from neap.console.core.export import ALL, Export, refuse_counters
from neap.console.core.overlap import told_once
from neap.foresight.series import Series, Values

KIND_LABELS: Final = ("workload_type", "owner_kind", "kind")
KINDS: Final = {
    kind.lower(): kind for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet")
}
OF_DEPLOYMENT: Final = re.compile(r"(.+)-[a-z0-9]{6,10}-[a-z0-9]{5}")
OF_STATEFUL_SET: Final = re.compile(r"(.+)-\d+")
MOST_STEPS: Final = 1_000_000  # of one line's grid
NAMED: Final = 5  # lines with the largest gaps that are named

Whose = tuple[str, str, str]  # namespace, kind, name


@dataclass(frozen=True)
class Line:
    """One series: whose, and of which container of which pod."""

    whose: Whose
    series: Series
    container: str = ""
    replica: str = ""
    request: float | None = None

    @property
    def gaps(self) -> int:
        """Steps between its first and its last value of which nothing is known."""
        return int(np.isnan(self.series.values).sum())

    def __str__(self) -> str:
        return " ".join(part for part in ("/".join(self.whose), self.container, self.replica) if part)


@dataclass
class Account:
    """What became of an export of one resource."""

    resource: str
    samples: int = 0
    lines: list[Line] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # why -> series
    assumed: Counter[str] = field(default_factory=Counter)


def account(export: Export, resource: str) -> Account:
    """Every series of an export, as lines; what it tells twice counts once.

    Raises:
        InputError: these are counters.
    """
    if resource == "cpu":
        refuse_counters(export)
    export = told_once(export)
    found, parts = Account(resource, export.samples, skipped=export.left_out), dict[Whose, list[Series]]()
    pods = set[Whose]()
    for node, lines in sorted(export.used.items()):
        on_node = []
        for workload, samples in sorted(lines.items()):
            series, why = gridded(samples)
            if series is None:
                found.skipped[why] += 1
                continue
            on_node.append(series)
            if workload == ALL:
                continue
            who = whose_is(workload, export.labels.get(workload, {}), found)
            if who is None:
                continue
            whose, container, replica = who
            if container:
                pods.add(whose)
                asked = export.requests.get(node, {}).get(workload)
                found.lines.append(Line(whose, series, container, replica, asked))
            else:
                parts.setdefault(whose, []).append(series)
        if on_node:
            found.lines.append(Line((CLUSTER_SCOPE, "Node", node), summed(on_node)))
    for whose, series_of in sorted(parts.items()):
        if whose in pods:
            found.skipped["its containers are told as well"] += len(series_of)
        else:
            found.lines.append(Line(whose, summed(series_of)))
    found.lines = [line for line in found.lines if _nameable(line, found)]
    return found


def messages(found: Account, at: Seconds) -> Iterator[tuple[PastUsage, str]]:
    """The lines as messages, each with an id by which it is stored once."""
    for line in found.lines:
        values, series = line.series.values, line.series
        namespace, kind, name = line.whose
        for first in range(0, len(values), LONGEST):
            some = tuple(None if math.isnan(value) else value for value in values[first : first + LONGEST].tolist())
            start = series.start + first * series.step
            told = f"{line} {found.resource} {start} {series.step} {some}"
            yield PastUsage(
                at=at, source="console", namespace=namespace, kind=kind, name=name, resource=found.resource,
                start=start, step=series.step, values=some, container=line.container, replica=line.replica,
                request=line.request,
            ), f"past-{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"  # fmt: skip


def gridded(samples: Mapping[Seconds, float | None]) -> tuple[Series | None, str]:
    """Samples on a grid of their usual distance, the mean of those in one place; None, and why, if that is none."""
    known = {at: value for at, value in samples.items() if value is not None}
    if len(known) < 2:
        return None, f"{len(known)} values: no series"
    times = np.array(sorted(known))
    step = median_low(later - earlier for earlier, later in pairwise(times.tolist()))
    count = round((times[-1] - times[0]) / step) + 1
    if count > MOST_STEPS:
        return None, f"more than {MOST_STEPS} steps between its first and its last value"
    places = np.rint((times - times[0]) / step).astype(int)
    counts = np.bincount(places, minlength=count)
    sums = np.bincount(places, [known[at] for at in times.tolist()], count)
    values = np.divide(sums, counts, out=np.full(count, math.nan), where=counts > 0)
    return Series(float(times[0]), float(step), values), ""


def summed(lines: Sequence[Series]) -> Series:
    """Of several lines together: a line adds nothing outside its time, and makes unknown what it does not know."""
    step = median(line.step for line in lines)
    start = min(line.start for line in lines)
    count = max(round((line.end - start) / step) for line in lines)
    at, total = start + (np.arange(count) + 0.5) * step, np.zeros(count)
    for line in lines:
        places = np.floor((at - line.start) / line.step).astype(int)
        inside = (places >= 0) & (places < len(line))
        total[inside] += line.values[places[inside]]
    some: Values = total
    return Series(start, step, some)


def told(found: Account, sent: int) -> str:
    """What was read, what is missing, what was left out and why."""
    lines, owner = found.lines, Counter("Node" if line.whose[0] == CLUSTER_SCOPE else "service" for line in found.lines)
    if not lines:
        return "\n".join([f"{found.resource}: {found.samples} samples, no line", *_reasons(found)])
    steps = sum(len(line.series) for line in lines)
    gaps = sorted((line for line in lines if line.gaps), key=lambda line: -line.gaps)
    services = {line.whose for line in lines if line.whose[0] != CLUSTER_SCOPE}
    since, until = min(line.series.start for line in lines), max(line.series.end for line in lines)
    usual = median(line.series.step for line in lines)
    whose = f"{len(services)} services in {owner['service']} lines, {owner['Node']} nodes"
    said = [
        f"{found.resource}: {found.samples} samples; {whose}; {(until - since) / DAY:.1f} days, a value every {usual:g} s",
        f"  gaps: {sum(line.gaps for line in gaps) / steps:.1%} of the values are not known"
        + "".join(f"\n    {line}: {line.gaps} of {len(line.series)}" for line in gaps[:NAMED]),
    ]
    return "\n".join([*said, *_reasons(found), f"  sent: {sent} messages"])


def _reasons(found: Account) -> list[str]:
    return [
        *(f"  skipped: {count} series: {why}" for why, count in sorted(found.skipped.items())),
        *(f"  assumed: {count} series: {why}" for why, count in sorted(found.assumed.items())),
    ]


def whose_is(workload: str, labels: Mapping[str, str], found: Account) -> tuple[Whose, str, str] | None:
    """Whose series, of which container and pod; None if it is nobody's."""
    if not labels:
        return _named(workload, found), "", ""
    namespace, pod, container = (labels.get(name, "") for name in ("namespace", "pod", "container"))
    if not namespace:
        found.skipped["no label namespace"] += 1
        return None
    name, told_kind = labels.get("workload", ""), next((labels[one] for one in KIND_LABELS if labels.get(one)), "")
    if name:
        if not told_kind:
            found.assumed["a workload of no told kind is a Deployment"] += 1
        return (namespace, KINDS.get(told_kind.lower(), told_kind or "Deployment"), name), container, pod
    if not pod:
        found.skipped["no label workload or pod"] += 1
        return None
    return (namespace, *_owner(pod, found)), container, pod


def _owner(pod: str, found: Account) -> tuple[str, str]:
    for kind, pattern in (("Deployment", OF_DEPLOYMENT), ("StatefulSet", OF_STATEFUL_SET)):
        if match := pattern.fullmatch(pod):
            found.assumed[f"a pod is of the {kind} its name speaks of"] += 1
            return kind, match[1]
    return "Pod", pod


def _named(workload: str, found: Account) -> Whose:
    """namespace/Kind/name, namespace/name or a name alone, as a CSV file has it."""
    parts = workload.split("/", 2)
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    found.assumed["a workload of no told kind is a Deployment"] += 1
    return (parts[0], "Deployment", parts[1]) if len(parts) == 2 else ("default", "Deployment", workload)


def _nameable(line: Line, found: Account) -> bool:
    """Whether subjects can have its names."""
    try:
        for part in line.whose:
            escape(part) if part != CLUSTER_SCOPE else part
    except InputError:
        found.skipped[f"no usable name: {'/'.join(line.whose)[:64]}"] += 1
        return False
    return True
