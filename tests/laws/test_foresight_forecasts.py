"""What holds of every forecast, whatever the series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.runtime.plugins import load
from neap.foresight import regimes
from neap.foresight.cleaning import HIGHEST, MOST, onto_grid, sane
from neap.foresight.forecasting import MODELS, forecast
from neap.foresight.past import Model, Past
from neap.foresight.periods import periods
from neap.foresight.series import Series, Values

DAY = 24  # samples: hourly values keep these laws quick
STEP = 3600.0
NUMBERS = st.one_of(
    st.floats(min_value=0, max_value=1e6), st.sampled_from([0.0, float("nan"), float("inf"), -1.0, 1e-300, 1e300])
)


@st.composite
def loads(draw: st.DrawFn, least: int = 1, most: int = 12 * DAY) -> Values:
    """Levels, days, noise, holes and jumps, as services have them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(least, most))
    place = np.arange(size)
    told = draw(st.sampled_from([0.01, 1.0, 300.0])) * (
        1 + draw(st.sampled_from([0.0, 0.5])) * np.sin(2 * np.pi * place / DAY) + 0.1 * rng.random(size)
    )
    if draw(st.booleans()):
        told[size // 2 :] *= draw(st.sampled_from([0.0, 0.1, 3.0]))
    told[rng.random(size) < draw(st.sampled_from([0.0, 0.1, 0.6]))] = np.nan
    for wild in draw(st.lists(NUMBERS, max_size=3)):
        told[int(rng.integers(size))] = wild
    return told


@given(loads(), st.integers(1, 3 * DAY))
def test_any_series_is_forecast_or_refused_by_name_with_bands_in_order(values: Values, count: int) -> None:
    told = forecast(Series(0.0, STEP, values), count)
    known = (values >= 0) & (values <= HIGHEST)
    assert len(told.values) == (count if known.any() else 0)
    if not len(told.values):
        assert told.said
        assert not told.is_on
        return
    assert np.isfinite(told.values).all()
    assert np.isfinite(told.p99).all()
    assert (told.values >= 0).all()
    assert (told.values <= told.p90).all()
    assert (told.p90 <= told.p99).all()
    assert told.start == len(values) * STEP
    judged = [(card.model, card.horizon) for card in told.cards]
    assert len(judged) == len(set(judged)), "nobody is judged twice"
    if np.isinf(values).any() or (values < 0).any():
        assert any("left out" in line for line in told.said)


@given(loads(least=DAY), st.integers(1, 2 * DAY), st.integers(0, 2**32 - 1))
def test_no_model_looks_ahead_at_any_origin_of_a_back_test(values: Values, count: int, seed: int) -> None:
    """The future is changed, and nothing moves."""
    values = np.where(np.isfinite(values) & (values >= 0) & (values < 1e9), values, np.nan)
    origins, leads = np.array([len(values) // 3 + 1, 2 * len(values) // 3, len(values) - 2]), np.arange(1, count + 1)
    other = values.copy()
    other[origins[1] :] = np.random.default_rng(seed).random(len(values) - int(origins[1])) * 77
    for name in sorted(MODELS):
        before = MODELS[name].paths(Past(values, values, STEP, DAY, (7,)), origins, leads)
        after = MODELS[name].paths(Past(other, other, STEP, DAY, (7,)), origins, leads)
        assert before.keys() == after.keys()
        for title in before:
            assert before[title].shape == (len(origins), count)
            np.testing.assert_array_equal(before[title][:2], after[title][:2], err_msg=title)


@given(loads(least=3 * DAY), st.integers(1, DAY))
def test_a_forecast_from_a_series_cut_at_an_origin_is_that_of_the_origin(values: Values, count: int) -> None:
    """Models tell the same whether the rest of the series is there or not: their back-test is what would have been."""
    values = np.where(np.isfinite(values) & (values >= 0) & (values < 1e9), values, np.nan)
    origin, leads = len(values) - DAY, np.arange(1, count + 1)
    cut = values[:origin]
    for name in sorted(MODELS):
        whole = MODELS[name].paths(Past(values, values, STEP, DAY), np.array([origin]), leads)
        alone = MODELS[name].paths(Past(cut, cut, STEP, DAY), np.array([origin]), leads)
        for title in alone.keys() & whole.keys():
            if name != "holt_winters":  # it starts at its series' first day: another start, another level
                np.testing.assert_allclose(alone[title], whole[title], rtol=1e-9, atol=1e-12, err_msg=title)


@given(loads(), st.integers(1, DAY), st.sampled_from([2.0**-20, 2.0**-3, 2.0, 2.0**30]))
def test_other_units_are_the_same_forecast(values: Values, count: int, factor: float) -> None:
    values = np.where(values < 1e9, values, np.nan)
    one, other = forecast(Series(0.0, STEP, values), count), forecast(Series(0.0, STEP, values * factor), count)
    np.testing.assert_allclose(other.values, one.values * factor, rtol=1e-9)
    np.testing.assert_allclose(other.p99, one.p99 * factor, rtol=1e-9)
    assert [card.model for card in other.cards][:1] == [card.model for card in one.cards][:1]


@given(st.floats(1e-6, 1e12), st.integers(1, 20 * DAY), st.integers(1, 2 * DAY))
def test_what_never_changes_is_forecast_exactly(level: float, size: int, count: int) -> None:
    told = forecast(Series(0.0, STEP, np.full(size, level)), count)
    np.testing.assert_allclose(told.values, level, rtol=1e-12)
    np.testing.assert_allclose(told.p99, level, rtol=1e-9)


@given(loads(), st.integers(1, DAY))
def test_the_same_series_twice_is_the_same_forecast_and_stays_as_it_was(values: Values, count: int) -> None:
    kept = values.copy()
    one, other = forecast(Series(0.0, STEP, values), count), forecast(Series(0.0, STEP, values), count)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.p99, other.p99)
    assert one.cards == other.cards
    np.testing.assert_array_equal(values, kept)


@given(loads(least=4 * DAY))
@settings(max_examples=30)
def test_what_loses_to_yesterday_on_its_own_past_is_switched_off_and_says_so(values: Values) -> None:
    for card in forecast(Series(0.0, STEP, values), DAY).cards[:1]:
        assert card.why
        if not card.on:
            assert "switched off" in card.why or "too short" in card.why
        elif card.seasonal_mape is not None:
            assert card.mape <= card.seasonal_mape * 1.02 + 1e-9


@given(loads())
def test_only_what_was_measured_is_usable(values: Values) -> None:
    clean = sane(Series(0.0, STEP, values))[0].values
    usable, began = regimes.usable(clean, DAY)
    assert len(usable) == len(clean)
    both = np.isfinite(usable)
    np.testing.assert_array_equal(usable[both], clean[both])
    assert not np.isfinite(usable[:began]).any()
    if np.isfinite(clean).any():
        assert both.any()


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 100)), max_size=50))
def test_a_grid_has_every_sample_near_the_newest_in_its_step_whatever_their_order(
    samples: list[tuple[float, float]],
) -> None:
    at, values = [at for at, _ in samples], [value for _, value in samples]
    one, _ = onto_grid(at, values, 300.0)
    other, _ = onto_grid(at[::-1], values[::-1], 300.0)
    np.testing.assert_allclose(one.values, other.values)
    assert len(one) <= MOST
    if samples:
        assert one.start + (len(one) - 1) * 300.0 == max(at)
        assert np.isfinite(one.values[-1])


@given(st.integers(3, 60), st.integers(0, 2**32 - 1))
def test_a_period_is_found_without_being_told(period: int, seed: int) -> None:
    place = np.arange(8 * max(period, 24))
    noise = np.random.default_rng(seed).normal(size=len(place))
    values = 10 + 3 * np.sin(2 * np.pi * place / period) + 0.3 * noise
    found = periods(values, STEP)
    assert found, period
    assert abs(found[0] - period) <= 1 or abs(found[0] % period) in {0, 1, period - 1}


@given(st.integers(0, 2**32 - 1))
def test_noise_has_no_period(seed: int) -> None:
    assert periods(np.random.default_rng(seed).normal(10, 1, size=14 * 24), STEP) == ()


def test_each_model_is_one_file_that_can_be_loaded_as_a_plugin() -> None:
    assert dict(load("neap.foresight.models", Model)) == dict(MODELS)


@pytest.mark.parametrize("gap", [15, 3650])
def test_days_without_a_value_are_named_and_what_was_before_them_is_not_used(gap: int) -> None:
    values = np.concatenate([np.full(DAY, 5.0), np.full(gap * DAY, np.nan), np.full(DAY, 1.0)])
    told = forecast(Series(0.0, STEP, values), 3)
    np.testing.assert_allclose(told.values, 1.0)
    kept, said = sane(Series(0.0, STEP, values))
    assert len(kept) == DAY
    assert gap > 28 or "15 days without values" in said[0]
