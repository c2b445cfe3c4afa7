"""Laws of the history: order does not matter, the next life knows the same, bad input changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.runtime.machine import Tick
from neap.common.units import DAY, HOUR, MINUTE
from neap.foresight.histogram import CPU, MEMORY, Histogram
from neap.foresight.series import Series
from neap.foresight.windows import group
from neap.planner.core.history.codes import MOST, WHOLE, counted, decoded, encoded, uncounted
from neap.planner.core.history.hours import Hours
from neap.planner.core.history.past import joined
from tests.unit.history_world import CART, GIB, START, HistoryWorld

CLOSE = 4e-4
NOW = 1_700_000_000.0

cores = st.floats(0.0, 64.0, allow_subnormal=False)
some_cores = st.one_of(st.just(0.0), st.floats(2**-11, 64.0))  # a mean below 2^-16 is kept as zero
some_bytes = st.one_of(st.just(0), st.integers(1 << 17, 1 << 38))  # a mean below 4 KiB is kept as zero
ages = st.floats(0.0, 40 * DAY)
samples = st.lists(st.tuples(cores, ages, st.floats(0.01, 100.0)), min_size=1, max_size=30)
weird = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -1e-9])
odd_times = st.sampled_from(
    [START + 3600.0, START - 400 * DAY, math.nan, math.inf, -math.inf, START + 3650 * DAY, -START]
)


def histogram(of: Sequence[tuple[float, float, float]]) -> Histogram:
    found = Histogram(CPU)
    for value, age, weight in of:
        assert found.add(value, NOW - age, weight)
    return found


@given(samples, st.randoms(use_true_random=False), st.floats(0.0, 1.0))
def test_the_order_of_samples_does_not_matter(of: list[tuple[float, float, float]], random: Any, share: float) -> None:
    shuffled = list(of)
    random.shuffle(shuffled)
    one, other = histogram(of), histogram(shuffled)
    weights = [found.weights.sum() * 2 ** ((found.reference - NOW) / DAY) for found in (one, other)]
    assert weights[0] == pytest.approx(weights[1])
    sure = [found.percentile(share) for found in (one, other)]
    edge = np.cumsum(one.weights) / max(one.weights.sum(), 1e-300)
    if np.abs(edge - share).min() > 1e-9:  # not just between two buckets
        assert sure[0] == sure[1]


@given(samples)
def test_a_percentile_lies_in_the_bucket_of_a_sample_and_rises_with_its_share(
    of: list[tuple[float, float, float]],
) -> None:
    found = histogram(of)
    told = [found.percentile(share) for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert told == sorted(told)
    ends = {float(CPU.ends[CPU.index(value)]) for value, *_ in of}
    assert set(told) <= ends


@given(st.floats(0.0, 1e13), st.sampled_from([CPU, MEMORY]))
def test_a_bucket_holds_what_lies_in_it(value: float, buckets: Any) -> None:
    index = int(buckets.index(value))
    assert buckets.starts[index] <= value
    assert value < buckets.ends[index] or index == len(buckets) - 1


@given(st.lists(st.tuples(st.integers(0, 9), cores), max_size=40), st.randoms(use_true_random=False))
def test_an_hour_is_made_of_its_own_samples_whatever_order_they_come_in(
    of: list[tuple[int, float]], random: Any
) -> None:
    one, other, ring = Hours(1, "cpu", 1), Hours(1, "cpu", 1), range(10)
    for hours, samples in ((one, of), (other, random.sample(of, len(of)))):
        for hour, value in samples:
            assert hours.add(hour, np.zeros(1, np.intp), np.array([value]))
    own = {hour: [value for at, value in of if at == hour] for hour in ring}
    known = [hour for hour in ring if own[hour]]
    for how, wanted in (("avg", lambda values: sum(values) / len(values)), ("max", max)):
        for hours in (one, other):
            told = hours.series(0, how, 10)
            assert told.start == (known[0] * HOUR if known else told.start)
            found = {round(told.start / HOUR) + i: v for i, v in enumerate(told.values) if not math.isnan(v)}
            assert sorted(found) == known
            assert list(found.values()) == pytest.approx([wanted(own[hour]) for hour in known], rel=0.001, abs=1e-4)


@given(
    st.lists(st.one_of(cores, st.just(math.nan)), min_size=1, max_size=50),
    st.sampled_from([10.0, 60.0, 300.0, 3600.0, 7200.0]),
)
def test_grouping_keeps_what_was_used(values: list[float], step: float) -> None:
    found = group(Series(START, step, np.array(values)), 300.0, 60.0)
    known = [value for value in values if not math.isnan(value)]
    assert found.sums.sum() == pytest.approx(sum(known) * step / 60.0)
    assert (found.highest <= max(known, default=0.0)).all()


@given(
    st.lists(st.one_of(st.floats(0.0, MOST["cpu"]), st.just(math.nan)), min_size=1),
    st.sampled_from(["cpu", "replicas"]),
)
def test_codes_are_near_and_coding_twice_changes_nothing(values: list[float], kind: str) -> None:
    amounts = np.array(values)
    once = decoded(encoded(amounts, kind), kind)
    close = CLOSE if kind == "cpu" else WHOLE + 2e-4  # replicas near a whole number become it
    assert once == pytest.approx(amounts, rel=close, abs=2e-5, nan_ok=True)
    np.testing.assert_array_equal(decoded(encoded(once, kind), kind), once)


def test_small_counts_are_exact() -> None:
    small = np.arange(29.0)
    np.testing.assert_array_equal(uncounted(counted(small)), small)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50)), max_size=40))
def test_spans_that_were_told_stay_told(told: list[tuple[int, int]]) -> None:
    spans = joined([(float(start), float(start + length)) for start, length in told])
    assert len(spans) <= 16
    assert all(any(a <= start and start + length <= b for a, b in spans) for start, length in told)
    assert all(a[1] < b[0] for a, b in pairwise(spans))


minutes = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["n1", "n2"]), some_cores, some_bytes), max_size=16)


def lived(reports: Sequence[tuple[int, str, float, int]], *, upset: Sequence[tuple[str, Any]] = ()) -> HistoryWorld:
    """Reports of one window, in this order, and then what is no input at all."""
    world, now = HistoryWorld(), START + 5 * MINUTE
    world.place("a", "n1")
    world.place("b", "n2")
    for minute, node, cpu, memory in reports:
        world.report(START + minute * MINUTE, {"a" if node == "n1" else "b": (cpu, memory)}, node, now=now)
    for number, (kind, what) in enumerate(upset):
        if kind == "value":
            node = f"odd{number}"
            world.place(node, node, "Deployment/other")
            world.report(START + 4.5 * MINUTE, {node: (what, 1)}, node, now=now)
        elif kind == "time":
            world.report(what, {"a": (1.0, GIB)}, now=now)
        else:
            world.tell(now, [what, None], start=START - 600, container="main")
    world.hear(Tick(now + 1, "history"))
    return world


def known(world: HistoryWorld) -> list[Any]:
    """Everything a desk can ask for."""
    record, found = world.history.container(CART, "main"), []
    for series in (
        *(world.history.total(CART, name) for name in ("cpu", "memory")),
        *(world.history.node(node, "cpu") for node in ("n1", "n2")),
        world.history.replicas(CART),
    ):
        found += [None] if series is None else [series.start, *series.values.tolist()]
    if record is not None:
        for used in (record.cpu, record.memory):
            found += [used.hours_avg.start, *used.hours_avg.values, *used.hours_max.values, *used.histogram.weights]
        found += [record.first, record.last, record.samples]
    return found


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all((a is None) == (b is None) for a, b in pairs) and [
        a for a, _ in pairs if a is not None
    ] == pytest.approx([b for _, b in pairs if b is not None], rel=CLOSE, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(minutes, st.randoms(use_true_random=False))
def test_reports_of_one_window_may_come_in_any_order(reports: list[tuple[int, str, float, int]], random: Any) -> None:
    once = list({(minute, node): (minute, node, cpu, memory) for minute, node, cpu, memory in reports}.values())
    before = known(lived(once))
    random.shuffle(once)
    assert same(known(lived(once)), before)


@settings(max_examples=30, deadline=None)
@given(
    minutes,
    st.lists(st.one_of(st.tuples(st.just("value"), weird), st.tuples(st.just("time"), odd_times), st.tuples(st.just("past"), weird)), max_size=5),
)  # fmt: skip
def test_bad_input_is_counted_and_nothing_else_changes(
    reports: list[tuple[int, str, float, int]], upset: list[tuple[str, Any]]
) -> None:
    world = lived(reports, upset=upset)
    assert same(known(world), known(lived(reports)))
    counts = sum(world.skipped(why) for why in ("time", "value", "past empty"))
    assert counts == len(upset)


@settings(max_examples=20, deadline=None)
@given(minutes, st.integers(0, 3))
def test_the_next_life_knows_the_same(reports: list[tuple[int, str, float, int]], hours: int) -> None:
    world = lived(reports)
    end = START + 6 * MINUTE + hours * 3600
    pages = world.pages(end)
    next_life = HistoryWorld(pages=pages, at=end)
    next_life.history._at = world.history._at = START + 5 * 3600
    assert same(known(next_life), known(world))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_harmed_page_is_refused_or_read_and_nothing_breaks(data: st.DataObject) -> None:
    world = lived([(minute, "n1", 1.0, GIB) for minute in range(5)])
    pages = world.pages(START + 6 * MINUTE)
    index = data.draw(st.integers(0, len(pages) - 1))
    what = bytearray(pages[index].what)
    for place in data.draw(st.lists(st.integers(0, len(what) - 1), min_size=1, max_size=4)):
        what[place] = data.draw(st.integers(0, 255))
    harmed = type(pages[index])(at=0.0, source="planner", page=pages[index].page, version=1, rows=1, what=bytes(what))
    next_life = HistoryWorld(pages=[harmed if i == index else page for i, page in enumerate(pages)], at=START + 600)
    known(next_life)
    next_life.place("a")
    next_life.live(START + 600, 8, {"a": (1.0, GIB)})
    assert next_life.history.total(CART, "cpu") is not None
