"""The replay of a recorded load: what was promised, what was kept, who had to leave."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError, SettingsError
from neap.common.units import MINUTE
from neap.virtual.policies import POLICIES, LendingPolicy, policy_named
from neap.virtual.replay import (
    Advisor,
    Load,
    Owner,
    held,
    percentile,
    replay,
    reports,
    together,
)
from neap.virtual.slices import CURVE_STEP, examples_root, read_slices
from neap.virtual.sold import Guests, Sold, allowance

PEER, NEAP, STATIC = POLICIES["peer"], POLICIES["neap"], POLICIES["static"]


def a_load(*used: float | None, step: float = 300.0, capacity: int = 64, request: float = 40.0) -> Load:
    return Load("n1", capacity, step, (Owner("web", request, used),))


def test_reports_pass_through_the_samples_and_lie_on_the_line_between_them() -> None:
    told = [used for _, used in reports(a_load(10.0, 20.0, 0.0, step=120.0), MINUTE)]
    assert told == [[10.0], [15.0], [20.0], [10.0], [0.0]]


def test_a_short_gap_is_bridged_and_a_long_one_is_unknown() -> None:
    short = [used for _, used in reports(a_load(10.0, None, 30.0, step=60.0), MINUTE)]
    assert short == [[10.0], [20.0], [30.0]]
    long = [used for _, used in reports(a_load(10.0, *[None] * 5, 30.0, math.nan, 1.0, step=60.0), MINUTE)]
    assert long == [[10.0], None, None, None, None, None, [30.0], [15.5], [1.0]]


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=40),
    st.lists(st.one_of(st.none(), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=40),
    st.integers(1, 12),
)
def test_a_promise_is_kept_when_it_is_there_at_every_report_ahead(
    promised: list[int], there: list[int | None], ahead: int
) -> None:
    count = min(len(promised), len(there))
    promised, there = promised[:count], there[:count]
    spans = [(promised[start], there[start + 1 : start + ahead + 1]) for start in range(count - ahead)]
    judged = [all(some >= told for some in span if some is not None) for told, span in spans if None not in span]
    assert held(promised, there, ahead) == (sum(judged) / len(judged) if judged else 1.0)


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@given(st.lists(st.floats(0, 64), min_size=1, max_size=60).map(sorted))
def test_no_guest_has_to_leave_while_the_offer_never_falls(offers: list[float]) -> None:
    sold = Sold(1.25, 5, Guests(cores=4.0, life=1e9), MINUTE)
    for offer in offers:
        sold.round(offer, 64.0)
    assert sold.evictions == 0


@given(st.floats(4, 64), st.floats(0, 64))
def test_an_offer_that_stays_small_ends_with_no_more_sold_than_the_evictor_allows(before: float, after: float) -> None:
    sold = Sold(1.1, 5, Guests(cores=4.0, life=1e9), MINUTE)
    sold.round(before, 64.0)
    for _ in range(30):
        used = sold.round(after, 64.0)
    assert used <= max(before, 1.1 * after) + 1e-9
    assert (sold.evictions > 0) == (before // 4 * 4 > 1.1 * after)


def test_what_guests_did_that_had_to_leave_is_lost() -> None:
    sold = Sold(1.0, 1, Guests(cores=4.0, life=1e9), MINUTE)
    sold.round(8.0, 8.0)  # two come
    assert sold.round(8.0, 6.0) == 6.0  # and use three quarters of what they were sold
    sold.round(4.0, 8.0)  # the younger one leaves after another minute
    assert (sold.evictions, sold.lost) == (1, pytest.approx(3 * MINUTE + 4 * MINUTE))


def test_the_peer_lends_by_its_formula_and_caps_by_its_rule() -> None:
    advisor = Advisor(a_load(20.0, 20.0), PEER, MINUTE)
    for turn in range(40):
        advisor.report(turn * MINUTE, [20.0])
    assert advisor.offer == pytest.approx(64 * 0.60 - 1 - 20.0)  # capacity × reclaim − system − used
    assert advisor.allowed == pytest.approx(64 * 0.65 - 20.0 - 1)  # capacity × suppress − used − system
    advisor.report(40 * MINUTE, [60.0])
    assert advisor.allowed == 2.0  # its floor, at once


def test_a_static_reservation_lends_what_is_not_asked_for_whatever_is_used() -> None:
    told = replay(a_load(*[5.0, 35.0] * 30), STATIC)
    assert told.offered == pytest.approx((64 - 1 - 40) / 64, abs=0.02)
    assert told.churn < 0.01
    assert told.evictions == 0


def test_on_a_steady_node_everybody_keeps_the_hardware_and_neap_lends_most() -> None:
    load = a_load(*[15.0] * 60)
    ours, peer, static = (replay(load, policy) for policy in (NEAP, PEER, STATIC))
    assert {one.room for one in (ours, peer, static)} == {1.0}
    assert ours.risk_minutes == 0
    assert ours.utilisation > peer.utilisation
    assert ours.utilisation > static.utilisation
    assert ours.owners == pytest.approx(15 / 64)


def test_a_day_of_a_real_cluster_is_lent_without_asking_owners_for_more_than_there_is() -> None:
    curve = read_slices(examples_root()).curves["ali2018/3"]
    load = Load(
        "day", 64, CURVE_STEP, tuple(Owner(f"o{i}", 7.0, tuple(16 * share for share in curve)) for i in range(4))
    )
    ours, peer = replay(load, NEAP), replay(load, PEER)
    assert ours.room >= 0.99
    assert ours.utilisation > peer.utilisation
    assert ours.evictions_per_guest_day < peer.evictions_per_guest_day


def test_while_nobody_knows_the_use_nothing_is_offered_for_long() -> None:
    told = replay(a_load(*[10.0] * 4, *[None] * 40, *[10.0] * 4, step=300.0), NEAP)
    full = replay(a_load(*[10.0] * 48, step=300.0), NEAP)
    assert told.unknown > 0.8
    assert told.offered < full.offered / 2


@pytest.mark.parametrize("policy", [NEAP, PEER, STATIC], ids=lambda policy: policy.name)
def test_a_gap_in_the_record_makes_nothing_look_better(policy: LendingPolicy) -> None:
    load = [60.0, 50.0] * 30
    full = replay(a_load(*load), policy)
    torn = replay(a_load(*load, *[None] * 120), policy)  # the same life, and then ten hours of which nobody knows
    assert torn.unknown > 0.6
    assert torn.utilisation == pytest.approx(full.utilisation, abs=0.01)
    assert (torn.kept, torn.room) == (pytest.approx(full.kept, abs=0.01), pytest.approx(full.room, abs=0.01))
    assert torn.risky == pytest.approx(full.risky, rel=0.02)


def test_the_peer_averages_over_its_window_however_often_reports_come() -> None:
    assert PEER.at(MINUTE)[0] == "advisor.smoothing=0.333333"
    advisor = Advisor(a_load(20.0, 20.0), PEER, 5 * MINUTE)
    for turn, used in enumerate([20.0] * 12 + [10.0]):
        advisor.report(turn * 5 * MINUTE, [used])
    assert advisor.offer == pytest.approx(64 * 0.60 - 1 - 10.0), "a report of 5 minutes is its whole window of 300 s"
    assert advisor.allowed == pytest.approx(64 * 0.65 - 1 - 10.0), "and in 5 minutes its suppression grows to any size"


def test_what_is_kept_of_the_whole_offer_is_told_beside_what_is_kept_of_the_promise() -> None:
    curve = read_slices(examples_root()).curves["ali2018/3"]
    load = Load("day", 64, CURVE_STEP, (Owner("o", 40.0, tuple(64 * share for share in curve)),))
    ours, peer = replay(load, NEAP), replay(load, PEER)
    assert ours.offer_kept < ours.kept
    assert peer.offer_kept == peer.kept


def test_several_nodes_weigh_by_their_cpus_and_the_worst_churn_is_told() -> None:
    small = replay(a_load(*[4.0] * 20, capacity=8, request=5.0), PEER)
    large = replay(a_load(*[5.0] * 20), PEER)
    both = together([small, large], "both", [8, 64])
    assert both.owners == pytest.approx((small.owners * 8 + large.owners * 64) / 72)
    assert both.churn == max(small.churn, large.churn)


def test_the_evictor_of_each_policy_says_how_much_may_be_sold() -> None:
    assert allowance(PEER)[0] == 1.1
    assert allowance(NEAP)[0] > 1.1


def test_a_policy_may_be_a_name_with_settings_and_an_unknown_one_is_named() -> None:
    mine = policy_named("neap,advisor.grow_step=0.05")
    assert mine.settings == ("advisor.grow_step=0.05",)
    for wrong in ("nope", "neap,grow", "neap,advisor.grow_step"):
        with pytest.raises(SettingsError, match="policy"):
            policy_named(wrong)
    with pytest.raises(InputError, match="n1"):
        replay(a_load(1.0), NEAP)
