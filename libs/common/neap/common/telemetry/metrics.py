"""Metrics: a table declared once, plain numbers in the hot path, Prometheus text when somebody asks.

Every room declares its own in `metrics.py`, and its machine counts by name:

    METRICS: Final = (
        counter("neap_evictor_evictions_total", "Guests asked to go.", "rule"),
        gauge("neap_evictor_pressure_ratio", "Worst pressure right now.", "resource"),
    )
    Count("neap_evictor_evictions_total", labels={"rule": "memory"})

Names are neap_<room>_<noun>_<unit>, counters end in _total. Labels are bounded: nodes, rules and resources, never
pods; after MOST_SERIES combinations the rest is counted as "other". A name or label set that nobody declared is
counted under neap_unknown_metric_total and logged once: a typo loses no event and stops no service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from neap.common.telemetry.log import get_logger

MOST_SERIES: Final = 1000
OTHER: Final = "other"
UNKNOWN: Final = "neap_unknown_metric_total"
_NAME: Final = re.compile(r"neap(_[a-z0-9]+){2,}")


class MetricKind(StrEnum):
    """A counter only grows; a gauge goes both ways."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Metric(msgspec.Struct, frozen=True):
    """One line of the table."""

    name: str
    kind: MetricKind
    doc: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.endswith("_total") != (self.kind is MetricKind.COUNTER):
            raise ValueError(f"metric {self.name!r}: neap_<room>_<noun>_<unit>; counters, and only they, end in _total")


class Sample(msgspec.Struct, frozen=True):
    """One number that somebody else keeps, read when asked for."""

    name: str
    value: float
    labels: Mapping[str, str] = {}


def counter(name: str, doc: str, *labels: str) -> Metric:
    """A number that only grows; ends in _total."""
    return Metric(name, MetricKind.COUNTER, doc, labels)


def gauge(name: str, doc: str, *labels: str) -> Metric:
    """A number that goes both ways; `Count` adds to it."""
    return Metric(name, MetricKind.GAUGE, doc, labels)


METRICS: Final = (
    counter(UNKNOWN, "Counts under a name or label set that no table declares.", "metric"),
    counter("neap_events_handled_total", "Events a machine has handled.", "service"),
    counter("neap_events_handling_seconds_total", "Seconds spent on them, effects included.", "service"),
    counter("neap_events_overtaken_total", "Events not handled because a newer one said it all.", "service"),
    gauge("neap_events_waiting_count", "Events waiting for the machine.", "service"),
    gauge("neap_instructions_waiting_count", "Instructions waiting for the bus.", "service"),
    counter("neap_policy_refused_total", "Editions of policy documents that did not hold.", "service"),
    counter("neap_policy_changes_total", "Times policy changed the settings in force.", "service"),
    counter(
        "neap_memory_refused_total", "Memories of an earlier life, or of this one, that were of no use.", "service"
    ),
    counter("neap_effects_failed_total", "Instructions that could not be carried out.", "effect"),
    gauge("neap_service_ready_count", "Services that have read everything stored.", "service"),
    gauge("neap_bus_connected_count", "1 while the bus is reachable."),
    counter("neap_bus_reconnects_total", "Connections to the bus after the first."),
    counter("neap_bus_lost_total", "LATEST messages dropped because a reader was too slow."),
    counter("neap_bus_unsent_total", "LATEST messages dropped because the bus was away."),
    gauge("neap_bus_alone_seconds", "How long an agent has been going on without NATS."),
    gauge("neap_bus_kept_count", "Events of an agent that wait for NATS."),
    counter("neap_bus_dropped_total", "Events of an agent that NATS never got: too many, or commands too old.", "why"),
    counter("neap_bus_poison_total", "Messages that could not be decoded.", "channel"),
    counter("neap_bus_denied_total", "Attempts the bus refused for want of a right."),
    counter("neap_spans_dropped_total", "Spans that could not be handed to the exporter."),
)


def declared_by(room: str) -> tuple[Metric, ...]:
    """The table of neap.<room>.metrics, empty where there is none."""
    name = f"neap.{room}.metrics"
    return tuple(import_module(name).METRICS) if find_spec(name) else ()


class Metrics:
    """The numbers of one process. `count` costs two dictionary look-ups."""

    def __init__(self, *declared: Metric) -> None:
        self._declared: dict[str, Metric] = {}
        self._cells: dict[str, dict[tuple[str, ...], float]] = {}
        self._sources: list[Callable[[], Iterable[Sample]]] = []
        self._told: set[str] = set()
        self.declare(METRICS)
        self.declare(declared)

    def declare(self, metrics: Iterable[Metric]) -> None:
        """Add lines to the table; the same line twice is one.

        Raises:
            ValueError: two different lines of one name.
        """
        for metric in metrics:
            if self._declared.setdefault(metric.name, metric) != metric:
                raise ValueError(f"metric {metric.name} is declared twice, and differently")
            self._cells.setdefault(metric.name, {})

    def count(self, name: str, by: float, labels: Mapping[str, str]) -> None:
        """Add; never fails."""
        metric = self._declared.get(name)
        try:
            known = metric is not None and len(labels) == len(metric.labels)
            series = tuple([str(labels[label]) for label in metric.labels]) if known and metric is not None else ()
        except KeyError:
            known, series = False, ()
        if metric is None or not known or (by < 0 and metric.kind is MetricKind.COUNTER):
            self._unknown(name, by, labels)
            return
        cells = self._cells[name]
        if series not in cells and len(cells) >= MOST_SERIES:
            series = (OTHER,) * len(series)
        cells[series] = cells.get(series, 0.0) + by

    def observe(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Ask `source` whenever the metrics are read; samples of one series are added up."""
        self._sources.append(source)

    def read(self) -> dict[str, dict[tuple[str, ...], float]]:
        """All numbers now: name -> label values -> number."""
        numbers = {name: dict(cells) for name, cells in self._cells.items()}
        for source in self._sources:
            for sample in source():
                metric = self._declared[sample.name]
                series = tuple(sample.labels[label] for label in metric.labels)
                numbers[sample.name][series] = numbers[sample.name].get(series, 0.0) + sample.value
        return numbers

    def exposition(self) -> bytes:
        """Everything, with what the process itself uses, in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def families(self) -> Iterator[Any]:
        """The table as prometheus_client wants it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        kinds = {MetricKind.COUNTER: CounterMetricFamily, MetricKind.GAUGE: GaugeMetricFamily}
        for name, cells in sorted(self.read().items()):
            metric = self._declared[name]
            family = kinds[metric.kind](name, metric.doc, labels=metric.labels)
            for series, value in sorted(cells.items() if cells or metric.labels else {(): 0.0}.items()):
                family.add_metric(series, value)
            yield family

    def _unknown(self, name: str, by: float, labels: Mapping[str, str]) -> None:
        self.count(UNKNOWN, 1.0, {"metric": name})
        if name not in self._told and len(self._told) < MOST_SERIES:
            self._told.add(name)
            known = self._declared.get(name)
            why = "nobody declared it" if known is None else f"a {known.kind} with labels {list(known.labels)}"
            get_logger("metrics").warning("metric.unknown", metric=name, by=by, labels=dict(labels), why=why)


class _Collector:
    """What prometheus_client asks when somebody reads /metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Any]:
        return self._metrics.families()
