"""Laws of sizing: no look-ahead, scale, bounds, evidence, and input that is no use of anything."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.runtime.plugins import load
from neap.common.units import DAY, GIB, MIB
from neap.foresight.histogram import CPU, Buckets
from neap.foresight.replay import judged, replay
from neap.foresight.rule import Rule, exceeded
from neap.foresight.series import Series, Values
from neap.foresight.sizing import Kill, evidence, whole_cpu, whole_memory, within

REPLAYS = settings(max_examples=15)
RULES = load("neap.foresight.sizes", Rule)
MONOTONE = sorted(
    set(RULES) - {"snug", "katalyst"}
)  # Katalyst's weighs by value: where little use grows, its weight moves down
STEP, DAYS = 300.0, 2 * 288


def usage(seed: int, count: int = DAYS) -> Values:
    """Two days with a step, a tide, noise and spikes."""
    draw = np.random.default_rng(seed)
    time = np.arange(count)
    level = np.where(time < draw.integers(150, count), 1.0, draw.uniform(0.3, 4.0))
    tide = 1 + draw.uniform(0, 0.6) * np.sin(2 * np.pi * time / 288)
    spikes = (draw.random(count) < 0.01) * draw.uniform(1, 10)
    return level * tide * draw.gamma(30, 1 / 30, count) + spikes


def line(values: Values) -> Series:
    return Series(0.0, STEP, values)


@pytest.mark.parametrize("name", RULES)
@REPLAYS
@given(seed=st.integers(0, 99), cut=st.integers(150, DAYS - 12), times=st.floats(0, 50))
def test_what_comes_later_changes_nothing_before(name: str, seed: int, cut: int, times: float) -> None:
    values = usage(seed)
    other = values.copy()
    other[cut:] *= times
    until = (cut // 12 + 1) * 12  # sizes are in force for the hour that has begun
    for exact in (False, True):
        one, two = (replay(RULES[name], line(each), exact=exact).size for each in (values, other))
        assert np.array_equal(one[:until], two[:until], equal_nan=True)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"katalyst"}))
@REPLAYS
@given(seed=st.integers(0, 99), power=st.integers(-10, 30))
def test_another_unit_gives_the_same_size_in_it(name: str, seed: int, power: int) -> None:
    """Katalyst's weighs a sample by max(value, 0.1), which has a unit."""
    scale, buckets = 2.0**power, replace(CPU, maximum=100.0)
    there = Buckets(buckets.first * scale, buckets.maximum * scale)
    one = replay(RULES[name], line(usage(seed)), buckets=buckets)
    two = replay(RULES[name], line(usage(seed) * scale), buckets=there)
    assert two.last == pytest.approx(one.last * scale, rel=1e-9)
    assert two.changes_per_day == one.changes_per_day


@pytest.mark.parametrize("name", MONOTONE)
@REPLAYS
@given(seed=st.integers(0, 99), more=st.floats(0, 3), exact=st.booleans())
def test_more_use_never_asks_for_less(name: str, seed: int, more: float, exact: bool) -> None:
    values = usage(seed)
    above = values + more * np.random.default_rng(seed).random(len(values))
    one, two = (replay(RULES[name], line(each), exact=exact).last for each in (values, above))
    assert two >= one * (1 - 1e-9)


@REPLAYS
@given(seed=st.integers(0, 99), times=st.floats(1.0, 4.0))
def test_a_service_that_grows_by_a_factor_gets_no_less_from_snug(seed: int, times: float) -> None:
    values = usage(seed)
    one, two = (replay(RULES["snug"], line(each), exact=True).last for each in (values, values * times))
    assert two >= one * (1 - 1e-9)


@REPLAYS
@given(seed=st.integers(0, 60))
def test_snug_stays_between_what_it_may_give_back_and_what_it_may_add(seed: int) -> None:
    """Never above the plain cap by more than its slack in debt, or the step after an hour above it."""
    values = usage(seed)
    size = replay(RULES["snug"], line(values), exact=True).size
    plain = replay(RULES["vpa_like"], line(values), exact=True).size
    fit = np.isfinite(size)
    highest = np.array([values[max(0, i - 300) : i + 1].max() for i in range(len(values))])
    assert (size[fit] <= np.maximum(plain[fit] * 1.05 * 1.1 / 0.9, 1.05 * 1.1 * highest[fit]) + 1e-9).all()
    assert (size[fit] > 0).all()


@given(
    level=st.integers(1, 64 * GIB),
    count=st.integers(1, 20),
    age=st.floats(0, 7 * DAY),
    now=st.floats(1e9, 2e9),
)
def test_never_below_what_a_kill_proves(level: int, count: int, age: float, now: float) -> None:
    needed, why = evidence([Kill(now - age, f"u{index}", level) for index in range(count)], now)
    assert needed >= max(level + 100 * MIB, 1.2 * level)
    assert why
    assert whole_memory(needed) >= needed


@given(amount=st.floats(0, 1e15), least=st.integers(0, 10**12), span=st.integers(0, 10**12))
def test_targets_lie_within_their_bounds_and_round_up(amount: float, least: int, span: int) -> None:
    for whole in (whole_memory(amount), whole_cpu(amount / 1e6)):
        target, bound = within(whole, least, least + span)
        assert least <= target
        assert not span or target <= least + span
        assert bool(bound) == (target != whole)
    assert whole_memory(amount) >= amount * (1 - 1e-9) - 1e-6
    assert whole_memory(amount) <= 2 * amount + 1


@REPLAYS
@given(
    seed=st.integers(0, 30),
    places=st.lists(
        st.tuples(st.integers(0, DAYS - 1), st.sampled_from([math.nan, math.inf, -math.inf, -5.0])), max_size=200
    ),
    name=st.sampled_from(sorted(RULES)),
    exact=st.booleans(),
)
def test_samples_that_are_none_are_left_out(seed: int, places: list[tuple[int, float]], name: str, exact: bool) -> None:
    values = usage(seed)
    for place, bad in places:
        values[place] = bad
    found = replay(RULES[name], line(values), exact=exact)
    assert math.isfinite(found.last)
    assert found.last > 0
    assert 0 <= found.slack <= 1
    assert 0 <= found.exceed <= 1


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_of_nothing_but_such_samples_nothing_is_said(name: str, bad: float) -> None:
    found = replay(RULES[name], line(np.full(DAYS, bad)))
    assert math.isnan(found.last)
    assert (found.slack, found.exceed) == (0, 0)


@pytest.mark.parametrize("name", RULES)
def test_a_service_that_does_nothing_asks_for_next_to_nothing(name: str) -> None:
    found = replay(RULES[name], line(np.zeros(DAYS)))
    assert 0 <= found.last <= 0.02


@given(mean=st.floats(0, 10), above=st.floats(0, 10), size=st.floats(0, 30))
def test_the_share_above_is_a_share_and_falls_with_the_size(mean: float, above: float, size: float) -> None:
    highest = mean + above
    assert 0 <= exceeded(mean, highest, size) <= 1
    assert exceeded(mean, highest, size) >= exceeded(mean, highest, size + 1)


def test_nothing_in_force_is_judged_as_nothing() -> None:
    assert judged(line(np.ones(5)), np.full(5, math.nan)) == (0, 0, 0)
