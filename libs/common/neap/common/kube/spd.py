"""A service's profile in the words of Katalyst's ServiceProfileDescriptor, and back.

    status.aggMetrics[avg].items[hour].containers[name].usage["memory_bandwidth-M2"] = "200"       MB/s per core

A window has a key for every machine type of the table: what was observed there, else what was observed on the best
sampled type times the ratio, as `predicted` does. Amounts are whole MB/s, or thousandths ("1500m"), rounded up; the
timestamp is the hour's, UTC, the window 1h0m0s. Read back, every key is an observation: a status does not tell which
were worked out. Of profiled kinds only memory bandwidth has a name by machine type there, so only that is told.
Source: requirements 1.5.5 (004-14); kubewharf/katalyst-api workload/v1alpha1; MB-3, MB-5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from neap.common.errors import InputError
from neap.common.kube.katalyst import (
    AggregatedMetrics,
    ContainerMetrics,
    DescriptorSpec,
    DescriptorStatus,
    MetricItem,
)
from neap.common.model.indicator import Concern, Indicator
from neap.common.model.profile import (
    KINDS,
    MEMORY_BANDWIDTH,
    MachineType,
    Observation,
    ServiceProfile,
    Window,
    ratio,
)
from neap.common.units import HOUR, parse_duration, parse_quantity

BANDWIDTH: Final = "memory_bandwidth"  # with -TYPE behind it: on machines of that type
MEGA: Final = 1e6
AVERAGE: Final = "avg"
KIND: Final = KINDS[MEMORY_BANDWIDTH]


def status_of(profile: ServiceProfile, machines: Iterable[MachineType]) -> DescriptorStatus:
    """See module docstring; empty where nothing is known of memory bandwidth."""
    seen = [one for one in profile.observations if one.kind == MEMORY_BANDWIDTH and one.usable]
    table = {one.name: one.speeds.get(MEMORY_BANDWIDTH) for one in machines}
    found: dict[float, dict[str, dict[str, str]]] = {}  # by start, by container, by key
    for target in sorted({*table, *(one.machine for one in seen)}):
        source = min(seen, key=lambda one: (one.machine != target, -one.pod_hours, one.machine), default=None)
        if source is None:
            continue
        own = source.machine == target
        known = 1.0 if own else ratio(KIND.scales, table.get(source.machine), table.get(target))
        key = f"{BANDWIDTH}-{target}" if target else BANDWIDTH
        for window in source.windows:
            hour = found.setdefault(window.start // HOUR * HOUR, {})
            for container, amount in window.containers.items():
                hour.setdefault(container, {})[key] = _quantity(amount / MEGA * (1.0 if known is None else known))
    if not found:
        return DescriptorStatus()
    items = tuple(_item(start, found[start]) for start in sorted(found))
    return DescriptorStatus(agg_metrics=(AggregatedMetrics(aggregator=AVERAGE, items=items),))


def observations_of(status: DescriptorStatus) -> tuple[Observation, ...]:
    """The bandwidth a status tells, by machine type, in bytes/s per core.

    Raises:
        InputError: a time, a window or an amount is none.
    """
    seen: dict[str, list[Window]] = {}
    averages = (one for one in status.agg_metrics or () if one.aggregator == AVERAGE)
    for item in (item for metrics in averages for item in metrics.items or ()):
        start = 0.0 if item.timestamp is None else moment(item.timestamp)
        length = parse_duration(item.window) if item.window else HOUR
        for machine, used in sorted(_by_machine(item.containers or ()).items()):
            seen.setdefault(machine, []).append(Window(start=start, containers=used, length=length))
    return tuple(
        Observation(kind=MEMORY_BANDWIDTH, machine=machine, windows=tuple(windows))
        for machine, windows in sorted(seen.items())
    )


def tells_bandwidth(metrics: AggregatedMetrics) -> bool:
    """Whether it speaks of memory bandwidth at all."""
    return any(_by_machine(item.containers or ()) for item in metrics.items or ())


def indicators_of(spec: DescriptorSpec, status: DescriptorStatus) -> tuple[Indicator, ...]:
    """Targets of business and system, with what business says it is now; an entry that is none is left out."""
    current = {str(one.get("name")): one.get("current") for one in status.business_status or () if _is_map(one)}
    found = []
    for concern, given in ((Concern.BUSINESS, spec.business_indicator), (Concern.SYSTEM, spec.system_indicator)):
        for one in given or ():
            name = one.get("name") if _is_map(one) else None
            if not isinstance(name, str) or not name:
                continue
            bounds = _bounds(one.get("indicators"))
            now = _number(current.get(name)) if concern is Concern.BUSINESS else None
            lower, upper = bounds.get("LowerBound"), bounds.get("UpperBound")
            found.append(Indicator(name=name, concern=concern, lower=lower, upper=upper, current=now))
    return tuple(found)


def moment(text: str) -> float:
    """A time as Kubernetes writes it, in seconds since the epoch.

    Raises:
        InputError: it is none, or says no time zone.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"not a time: {text[:64]!r} (example: 2026-11-22T17:00:00Z)") from None
    if found.tzinfo is None:
        raise InputError(f"a time without a zone: {text[:64]!r} (example: 2026-11-22T17:00:00Z)")
    return found.timestamp()


def _item(start: float, containers: Mapping[str, Mapping[str, str]]) -> MetricItem:
    return MetricItem(
        timestamp=datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        window="1h0m0s",
        containers=tuple(
            ContainerMetrics(name=name, usage=dict(sorted(usage.items()))) for name, usage in sorted(containers.items())
        ),
    )


def _quantity(amount: float) -> str:
    """Kubernetes' own words: whole numbers, else thousandths; rounded up, a millionth is the float's."""
    milli = math.ceil(round(amount * 1000, 6))
    return f"{milli // 1000}" if milli % 1000 == 0 else f"{milli}m"


def _by_machine(containers: Sequence[ContainerMetrics]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for container in containers:
        for metric, amount in (container.usage or {}).items():
            name, _, machine = metric.partition("-")
            if name == BANDWIDTH:
                found.setdefault(machine, {})[container.name] = float(parse_quantity(str(amount)) * int(MEGA))
    return found


def _bounds(given: object) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in given if isinstance(given, list | tuple) else ():
        value = _number(one.get("value")) if _is_map(one) else None
        if value is not None:
            found[str(one.get("indicatorLevel"))] = value
    return found


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _is_map(one: object) -> bool:
    return isinstance(one, Mapping)
