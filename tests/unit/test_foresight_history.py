"""Histograms and windows against the numbers their sources give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neap.common.units import DAY, HOUR, MINUTE
from neap.foresight.histogram import CPU, MEMORY, Histogram, Histograms
from neap.foresight.series import Series
from neap.foresight.windows import group

NOW = 1_694_278_758.0


@pytest.mark.parametrize(
    ("ago", "told"),
    [(DAY, 20.40693), (20 * DAY, 10.207902)],
    ids=["a day ago the heavy sample still decides", "after twenty days it does not"],
)
def test_the_percentile_is_katalysts_to_the_last_digit(ago: float, told: float) -> None:
    """Katalyst, histogram_task_test.go (AC-14): 20 cores of weight 1000, and 10 now of weight 1."""
    one = Histogram(CPU)
    assert one.add(20.0, NOW - ago, 1000.0)
    assert one.add(10.0, NOW)
    assert one.percentile(0.9) == pytest.approx(told, rel=1e-6)
    many = Histograms(3, CPU, DAY)
    many.add(np.array([1, 1]), np.array([20.0, 10.0]), np.array([NOW - ago, NOW]), np.array([1000.0, 1.0]))
    assert many.of(1).percentile(0.9) == pytest.approx(told, rel=1e-6)


def test_buckets_begin_and_end_where_katalyst_has_them() -> None:
    for buckets, first, most in ((CPU, 0.01, 1000.0), (MEMORY, 1e7, 1e12)):
        assert buckets.starts[0] == 0.0
        assert buckets.starts[2] == pytest.approx(first * (1.05**2 - 1) / 0.05)
        assert buckets.ends[0] == pytest.approx(first)
        assert buckets.starts[-2] <= most <= buckets.ends[-2]
        assert len(buckets) == 176
    assert Histogram(CPU).percentile(0.5) != Histogram(CPU).percentile(0.5)  # NaN: nothing is known


def test_what_is_no_sample_changes_nothing() -> None:
    histogram = Histogram(CPU)
    refused = [(math.nan, NOW), (-0.1, NOW), (math.inf, NOW), (1.0, math.nan), (1.0, math.inf)]
    assert not any(histogram.add(value, at) for value, at in refused)
    assert not histogram.add(1.0, NOW, math.nan)
    assert histogram.is_empty


def test_ten_years_without_a_sample_leave_only_the_newest() -> None:
    histogram = Histogram(CPU)
    histogram.add(100.0, NOW, 1e6)
    histogram.add(1.0, NOW + 3650 * DAY)
    assert histogram.percentile(0.5) == histogram.percentile(1.0) == pytest.approx(1.0, rel=0.06)


def test_samples_of_80_100_and_120_come_to_100_120_or_300() -> None:
    """Requirement 004-15."""
    values = np.full(60, math.nan)
    values[[0, 30, 59]] = 80.0, 100.0, 120.0
    hour = group(Series(16 * HOUR, MINUTE, values), HOUR, MINUTE)
    assert (hour.windows.tolist(), hour.counts.tolist()) == ([16], [3.0])
    assert (hour.means[0], hour.highest[0], hour.sums[0]) == (100.0, 120.0, 300.0)


def test_values_of_any_step_fall_into_windows() -> None:
    fine = group(Series(0.0, 60.0, np.arange(12.0)), 300.0, 60.0)
    assert list(fine.windows) == [0, 1, 2]
    assert list(fine.means) == [2.0, 7.0, 10.5]
    assert list(fine.counts) == [5.0, 5.0, 2.0]
    coarse = group(Series(0.0, HOUR, np.array([1.0, math.nan, 3.0])), 300.0, 60.0)
    assert list(coarse.windows) == [*range(12), *range(24, 36)]
    assert set(coarse.means[:12]) == {1.0}
