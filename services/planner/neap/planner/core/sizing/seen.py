"""What the record and the cluster know of a service's containers, as the arithmetic wants it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neap.common.errors import SettingsError
from neap.common.model.recommendation import Applying, Course
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Container
from neap.common.units import Seconds
from neap.foresight.rule import Aim, Known, Rule
from neap.foresight.series import Series
from neap.foresight.sizing import Past, Seen, Way
from neap.planner.core.record import ContainerRecord, Record, Used
from neap.planner.core.sizing.settings import SizingSettings


def ways(settings: SizingSettings, rules: Mapping[str, Rule]) -> tuple[Way, Way]:
    """How CPU and memory of a service are sized.

    Raises:
        SettingsError: no such rule.
    """
    for name in (settings.cpu_rule, settings.memory_rule):
        if name not in rules:
            raise SettingsError(f"sizing: no rule {name!r} (there are: {', '.join(rules)})")
    return (
        Way(
            CPU, rules[settings.cpu_rule], Aim(settings.cpu_percentile, settings.cpu_margin),
            settings.cpu_min, settings.cpu_max, settings.cpu_limit,
        ),
        Way(
            MEMORY, rules[settings.memory_rule], Aim(settings.memory_percentile, settings.memory_margin),
            settings.memory_min, settings.memory_max, settings.memory_limit,
        ),
    )  # fmt: skip


def seen_of(container: Container, record: ContainerRecord | None, applied: Applying | None) -> Seen | None:
    """One container as it was seen; None if it never was. `applied`: a change newer than the pod that was asked."""
    if record is None or not record.samples:
        return None
    asked = (applied.to if applied else {}).get(container.name, {})
    return Seen(
        name=container.name,
        first=record.first,
        last=record.last,
        cpu=_past(record.cpu),
        memory=_past(record.memory),
        kills=record.ooms,
        requests={**container.requests, **asked},
        limits=container.limits,
    )


def _past(used: Used) -> Past:
    return Past(Known(used.histogram, used.hours_avg, used.hours_max), used.startup, used.worst)


def span_of(seen: Sequence[Seen], at: Seconds) -> tuple[Seconds | None, Seconds]:
    """When the service was seen first and last: of the container seen for the shortest time, the longest ago."""
    firsts = [one.first for one in seen if one.first is not None]
    return (max(firsts), min(one.last for one in seen)) if firsts else (None, at)


def courses(record: Record, key: str) -> tuple[Course, ...]:
    """Hour by hour what every container used, for people to look at."""
    told = []
    for name in record.containers(key):
        found = record.container(key, name)
        if found is not None:
            told += [_course(name, CPU, found.cpu), _course(name, MEMORY, found.memory)]
    return tuple(told)


def _course(name: str, resource: str, used: Used) -> Course:
    return Course(
        container=name, resource=resource, start=used.hours_avg.start, avg=_values(used.hours_avg),
        max=_values(used.hours_max),
    )  # fmt: skip


def _values(series: Series) -> tuple[float | None, ...]:
    return tuple(float(value) if math.isfinite(value) else None for value in series.values)
