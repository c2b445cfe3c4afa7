"""What the services of a generated day used on the days before it, as a record that somebody kept. Pure.

    "ali2018/3" today    → "ali2018/2" yesterday, "ali2018/1" the day before ..., never around the end of the list
    "ali2018/0" today    → nothing comes before it: other days of ali2018, the next ones first, and that is said
    value(replica, t)    = what its demand would be with that day's curve in the place of today's: same size, same time
                           of the day, same noise and bursts; one sample per STEP                               [cores]

Never today's curve. Days end with the full hour before the record is told, so that no hour of a day is missing.
The memory a replica touches is told as it is today, one line per service. Who has no curve has no record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from neap.common.model.past import LONGEST, PastUsage
from neap.common.model.workload import Workload
from neap.common.units import DAY, HOUR, Seconds
from neap.virtual.behaviour import PREFIX, Curves, Origin, virtual_pod
from neap.virtual.demand import offered
from neap.virtual.parts import Day
from neap.virtual.pod import Curve

STEP: Seconds = 300.0  # as a monitoring system that looks every five minutes
SOURCE = "virtual"
MOST = int(LONGEST * STEP // DAY)  # days of one message


@dataclass(frozen=True)
class Before:
    """The curves of the days before a day, yesterday's first; `others`: they are no days before, there are none."""

    curves: tuple[str, ...]
    others: bool = False


def before(curve: str, curves: Curves, days: int) -> Before:
    """At most so many; nothing for a curve that is no day of a source."""
    source, slash, number = curve.rpartition("/")
    if not slash or not number.isdigit():
        return Before(())
    numbers = sorted(int(name.removeprefix(source + "/")) for name in curves if name.startswith(source + "/"))
    earlier = [other for other in reversed(numbers) if other < int(number)]
    chosen = earlier or [other for other in numbers if other > int(number)]
    return Before(tuple(f"{source}/{other}" for other in chosen[:days]), others=bool(chosen) and not earlier)


def past_of(day: Day, curves: Curves, origin: Origin, days: int, at: Seconds) -> list[PastUsage]:
    """The record of the owners of a day, told at `at`; in the order of their submission."""
    told: list[PastUsage] = []
    services: set[tuple[str, str]] = set()
    for workload in (submission.workload for submission in day.submissions):
        name = workload.annotations.get(PREFIX + "curve", "")
        found = before(name, curves, days) if workload.owner else Before(())
        if not found.curves:
            continue
        told.append(_cpu(workload, found, curves, origin, at))
        if (workload.namespace, workload.owner) not in services:
            services.add((workload.namespace, workload.owner))
            told.append(_memory(workload, found, curves, origin, at))
    return told


def story(day: Day, curves: Mapping[str, tuple[float, ...]], days: int) -> str:
    """What a record would be made of, for people; empty if there is none."""
    names = sorted({submission.workload.annotations.get(PREFIX + "curve", "") for submission in day.submissions} - {""})
    found = {name: before(name, curves, days) for name in names}
    parts = [
        f"{', '.join(one.curves)}{' (other days of it, none comes before)' if one.others else ''} before {name}"
        for name, one in found.items()
        if one.curves
    ]
    return f"yesterday: a simulated record of the owners, by {'; '.join(parts)}" if parts else ""


def _cpu(workload: Workload, found: Before, curves: Curves, origin: Origin, at: Seconds) -> PastUsage:
    demand = virtual_pod(workload, curves, origin).containers[0].demand
    assert isinstance(demand, Curve), f"{workload.key} has a curve and no demand of one"
    end, per_day = at // HOUR * HOUR, round(DAY / STEP)
    values: list[float] = []
    for ago in range(len(found.curves), 0, -1):
        then = replace(demand, points=curves[found.curves[ago - 1]])
        values += [round(offered(then, end - ago * DAY + (slot + 0.5) * STEP), 4) for slot in range(per_day)]
    return _line(workload, "cpu", values, end, at, replica=workload.name)


def _memory(workload: Workload, found: Before, curves: Curves, origin: Origin, at: Seconds) -> PastUsage:
    touched = float(virtual_pod(workload, curves, origin).containers[0].memory.start)
    values = [touched] * (round(DAY / STEP) * len(found.curves))
    return _line(workload, "memory", values, at // HOUR * HOUR, at)


def _line(
    workload: Workload, resource: str, values: Sequence[float], end: Seconds, at: Seconds, replica: str = ""
) -> PastUsage:
    kind, _, name = workload.owner.partition("/")
    first = workload.containers[0]
    return PastUsage(
        at=at,
        source=SOURCE,
        namespace=workload.namespace,
        kind=kind,
        name=name,
        resource=resource,
        start=end - STEP * len(values),
        step=STEP,
        values=tuple(values),
        container=first.name,
        replica=replica,
        request=first.requests[resource] / (1000 if resource == "cpu" else 1) if resource in first.requests else None,
    )
