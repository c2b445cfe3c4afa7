"""When a node's resource is short: thresholds with hysteresis over the usage reports.

    cpu     PSI some, 10 s        rises above cpu_stall_high,     is over at or below cpu_stall_low
    memory  PSI full, 10 s        rises above memory_stall_high,  is over at or below memory_stall_low
    memory  available / capacity  rises below available_low,      is over at or above available_back

An unknown value changes nothing. Between the two thresholds the state stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from neap.common.model.resource import MEMORY
from neap.common.model.usage import NodeUsage, Pressure, PressureKind
from neap.reporter.settings import Settings


@dataclass(frozen=True, slots=True)
class Watch:
    """One measured value against its two thresholds; `sign` is -1 where less is worse."""

    kind: PressureKind
    metric: str
    value: float | None
    high: float
    low: float
    sign: int = 1


def watches(settings: Settings, usage: NodeUsage, capacity: Mapping[str, int]) -> Iterator[Watch]:
    """Everything watched, with its value in this report."""
    cpu, memory = usage.cpu_stall, usage.memory_stall
    yield Watch(
        PressureKind.CPU,
        "cpu_some10",
        cpu.some10 if cpu else None,
        settings.cpu_stall_high,
        settings.cpu_stall_low,
    )
    yield Watch(
        PressureKind.MEMORY,
        "memory_full10",
        memory.full10 if memory else None,
        settings.memory_stall_high,
        settings.memory_stall_low,
    )
    if total := capacity.get(MEMORY):
        available = usage.memory_available
        yield Watch(
            PressureKind.MEMORY,
            "memory_available_ratio",
            None if available is None else available / total,
            settings.available_low,
            settings.available_back,
            sign=-1,
        )


@dataclass
class PressureFold:
    """Which metrics are above their thresholds right now."""

    risen: set[str] = field(default_factory=set)

    def fold(self, settings: Settings, usage: NodeUsage, capacity: Mapping[str, int]) -> list[Pressure]:
        """Crossings since the report before."""
        crossed: list[Pressure] = []
        for watch in watches(settings, usage, capacity):
            if watch.value is None:
                continue
            was = watch.metric in self.risen
            if not was and watch.value * watch.sign > watch.high * watch.sign:
                self.risen.add(watch.metric)
            elif was and watch.value * watch.sign <= watch.low * watch.sign:
                self.risen.discard(watch.metric)
            else:
                continue
            crossed.append(
                Pressure(
                    at=usage.at,
                    source=usage.source,
                    node=usage.node,
                    kind=watch.kind,
                    metric=watch.metric,
                    value=watch.value,
                    threshold=watch.low if was else watch.high,
                    risen=not was,
                )
            )
        return crossed
