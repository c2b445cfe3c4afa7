"""Laws of every predictor of peaks, whatever it is fed."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neap.common.runtime.plugins import load
from neap.foresight.peaking import Hosts, Predictor, foreseen, moments

PLUGINS: Final = load("neap.foresight.peaks", Predictor)
NAMES: Final = sorted(PLUGINS)
WHOLE: Final = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 130)),
    elements=st.floats(0, 1000, width=32),
)
BROKEN: Final = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(0, 60)),
    elements=st.one_of(st.floats(0, 1000, width=32), st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 1e300])),
)


def hosts_of(samples: np.ndarray) -> Hosts:
    return Hosts(samples, np.full(samples.shape[:2], 1000.0))


@pytest.mark.parametrize("name", NAMES)
@given(samples=WHOLE, seed=st.integers(0, 100))
def test_the_order_of_the_pods_does_not_matter(name: str, samples: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(samples.shape[1])
    one, other = (PLUGINS[name].peak(hosts_of(each)) for each in (samples, samples[:, order]))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(samples=WHOLE)
def test_what_is_reckoned_with_is_never_below_what_is_used_now(name: str, samples: np.ndarray) -> None:
    found = foreseen(PLUGINS[name], hosts_of(samples))
    known = ~np.isnan(found)
    assert (known == (samples.shape[2] >= 24)).all()
    assert (found[known] >= samples[:, :, -1].sum(axis=1)[known] - 1e-6).all()
    assert (found[known] <= 1000.0 * samples.shape[1] + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
@given(samples=WHOLE)
def test_hosts_do_not_know_of_each_other(name: str, samples: np.ndarray) -> None:
    together = PLUGINS[name].peak(hosts_of(samples))
    alone = np.concatenate([PLUGINS[name].peak(hosts_of(samples[i : i + 1])) for i in range(len(samples))])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@given(samples=WHOLE)
def test_more_margin_never_foresees_less(name: str, samples: np.ndarray) -> None:
    plugin, known = PLUGINS[name], hosts_of(samples)
    low, high = (plugin.at(plugin.margin * share).peak(known) for share in (0.5, 1.0))
    assert (low <= high + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
@given(samples=BROKEN)
def test_whatever_is_broken_the_answer_is_a_number_or_unknown(name: str, samples: np.ndarray) -> None:
    with np.errstate(all="raise", over="ignore", under="ignore"):
        fit = np.where((samples >= 0) & (samples <= 2.0**53), samples, np.nan)
        found = foreseen(PLUGINS[name], hosts_of(fit))
    assert not np.isinf(found).any()
    assert (found[~np.isnan(found)] >= 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(samples=WHOLE)
def test_nobody_beside_them_changes_nothing(name: str, samples: np.ndarray) -> None:
    nobody = np.full((samples.shape[0], 1, samples.shape[2]), np.nan)
    padded = Hosts(
        np.concatenate([samples, nobody], axis=1),
        np.concatenate([np.full(samples.shape[:2], 1000.0), np.full((samples.shape[0], 1), np.nan)], axis=1),
    )
    np.testing.assert_allclose(PLUGINS[name].peak(padded), PLUGINS[name].peak(hosts_of(samples)), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_another_future_moves_nothing(name: str) -> None:
    chance = np.random.default_rng(7)
    samples = chance.uniform(0, 50, (2, 4, 200))
    for now in (60, 120, 150):
        changed = samples.copy()
        changed[:, :, now:] = chance.uniform(0, 1000, changed[:, :, now:].shape)
        ours, theirs = (
            [PLUGINS[name].peak(known) for known, _ in moments(each, np.full((2, 4), 1000.0))][: now - 24 + 1]
            for each in (samples, changed)
        )
        np.testing.assert_array_equal(ours, theirs)
