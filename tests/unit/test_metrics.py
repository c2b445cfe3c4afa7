"""Counting is plain arithmetic, and a name nobody declared loses nothing but its own series."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from neap.common.bus.health import Health
from neap.common.runtime.launch import bus_samples
from neap.common.telemetry import log
from neap.common.telemetry.metrics import (
    METRICS,
    MOST_SERIES,
    UNKNOWN,
    Metric,
    MetricKind,
    Metrics,
    Sample,
    counter,
    declared_by,
    gauge,
)

EVICTIONS = counter("neap_evictor_evictions_total", "Guests asked to go.", "rule")
QUEUE = gauge("neap_scheduler_queue_count", "Workloads waiting.")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, out = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    log.configure(stream=out)
    yield out
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def exposed(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_counts_add_up_per_series() -> None:
    metrics = Metrics(EVICTIONS, QUEUE)
    for by, rule in ((1.0, "memory"), (2.0, "memory"), (1.0, "cpu")):
        metrics.count("neap_evictor_evictions_total", by, {"rule": rule})
    metrics.count("neap_scheduler_queue_count", 5.0, {})
    metrics.count("neap_scheduler_queue_count", -2.0, {})
    assert metrics.read()["neap_evictor_evictions_total"] == {("memory",): 3.0, ("cpu",): 1.0}
    assert metrics.read()["neap_scheduler_queue_count"] == {(): 3.0}


def test_prometheus_reads_what_was_counted() -> None:
    metrics = Metrics(EVICTIONS, QUEUE)
    metrics.count("neap_evictor_evictions_total", 3.0, {"rule": 'a "quoted"\nrule'})
    seen = exposed(metrics)
    assert seen["neap_evictor_evictions_total", ('a "quoted"\nrule',)] == 3.0
    assert seen["neap_scheduler_queue_count", ()] == 0.0
    assert seen["process_resident_memory_bytes", ()] > 1e6


@pytest.mark.parametrize(
    ("name", "by", "labels"),
    [
        ("neap_evictor_typo_total", 1.0, {}),
        ("neap_evictor_evictions_total", 1.0, {}),
        ("neap_evictor_evictions_total", 1.0, {"role": "memory"}),
        ("neap_evictor_evictions_total", 1.0, {"rule": "memory", "pod": "x"}),
        ("neap_evictor_evictions_total", -1.0, {"rule": "memory"}),
    ],
)
def test_a_count_nobody_declared_is_counted_as_such_and_logged_once(
    lines: io.StringIO, name: str, by: float, labels: dict[str, str]
) -> None:
    metrics = Metrics(EVICTIONS)
    for _ in range(3):
        metrics.count(name, by, labels)
    assert metrics.read()[UNKNOWN] == {(name,): 3.0}
    assert metrics.read()["neap_evictor_evictions_total"] == {}
    assert [(line["event"], line["metric"]) for line in map(json.loads, lines.getvalue().splitlines())] == [
        ("metric.unknown", name)
    ]


@pytest.mark.usefixtures("lines")
def test_series_are_bounded() -> None:
    metrics = Metrics(EVICTIONS)
    for number in range(MOST_SERIES + 500):
        metrics.count("neap_evictor_evictions_total", 1.0, {"rule": str(number)})
        metrics.count(f"neap_wild_{number}_total", 1.0, {})
    for name in ("neap_evictor_evictions_total", UNKNOWN):
        assert len(metrics.read()[name]) == MOST_SERIES + 1
        assert metrics.read()[name]["other",] == 500.0


def test_sources_are_read_when_asked_and_added_up() -> None:
    metrics = Metrics(QUEUE)
    waiting = [1.0, 2.0]
    metrics.observe(lambda: [Sample("neap_scheduler_queue_count", each) for each in waiting])
    assert exposed(metrics)["neap_scheduler_queue_count", ()] == 3.0
    waiting.append(4.0)
    assert exposed(metrics)["neap_scheduler_queue_count", ()] == 7.0


def test_the_bus_tells_what_it_lost() -> None:
    health = Health(connected=True, reconnects=2, lost=7, poison={"neap.v1.node.{node}.usage": 3}, denied=1, unsent=4)
    metrics = Metrics()
    metrics.observe(lambda: bus_samples(health))
    seen = {(name.removeprefix("neap_bus_"), *labels): value for (name, labels), value in exposed(metrics).items()}
    assert seen["connected_count",] == 1.0
    assert seen["reconnects_total",] == 2.0
    assert seen["lost_total",] == 7.0
    assert seen["denied_total",] == 1.0
    assert seen["unsent_total",] == 4.0
    assert seen["poison_total", "neap.v1.node.{node}.usage"] == 3.0


@pytest.mark.parametrize(
    "name", ["evictions_total", "neap_evictions", "neap_Evictor_x_total", "neap_evictor_evictions"]
)
def test_a_name_off_the_pattern_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neap_<room>_<noun>_<unit>"):
        counter(name, "A doc.")


def test_one_name_means_one_thing() -> None:
    Metrics(EVICTIONS, EVICTIONS)
    with pytest.raises(ValueError, match="declared twice, and differently"):
        Metrics(EVICTIONS, Metric(EVICTIONS.name, MetricKind.COUNTER, "Something else."))


def test_a_room_without_a_table_has_no_metrics() -> None:
    assert declared_by("common.telemetry") == METRICS
    assert declared_by("common.bus") == ()


@pytest.mark.parametrize("room", ["reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler"])
def test_every_metric_a_room_names_is_in_its_table_and_no_other_is(room: str) -> None:
    sources = (Path(__file__).parents[2] / "services" / room).rglob("*.py")
    named = {name for path in sources for name in re.findall(r'"(neap_[a-z0-9_]+)"', path.read_text())}
    assert named - {metric.name for metric in METRICS} == {metric.name for metric in declared_by(room)}
