"""Laws of what guests are promised: windows, survival, and offers that move by bounded steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.lending import Lending, lend, nothing
from neap.advisor.core.policy import Claim, Forecast, HeadroomPolicy, HeadroomView, Policy, Supply, choose
from neap.advisor.core.smoothing import Shape, Smoothed, push
from neap.advisor.core.survival import CELLS, Cell, Past, promised, remember, survival
from neap.advisor.settings import Settings
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.runtime.plugins import load

POLICIES = load("neap.advisor.plugins", Policy)
OURS = ("headroom_canonical", "headroom_profile", "headroom_utilisation")
SETTINGS = Settings(node="n")
CHOSEN = choose(POLICIES, SETTINGS.provision, SETTINGS.headroom, SETTINGS.memory, {})
OFFERS = st.lists(st.tuples(st.sampled_from((1.0, 60.0, 600.0)), st.integers(0, 64_000)), max_size=40)
CORES = st.floats(0, 64)


def a_view(used: float, capacity: float = 64.0, asked: float = 8.0) -> HeadroomView:
    return HeadroomView(kind=RECLAIMED_CPU, capacity=capacity, reserved=1, claims=(Claim(used, "online"),), asked=asked)


def one_more(
    before: Lending | None,
    view: HeadroomView,
    at: float,
    *,
    growing: bool = True,
    alarms: Mapping[str, str] | None = None,
) -> Lending:
    return lend((view,), before, CHOSEN, SETTINGS, at=at, growing=growing, alarms=alarms or {})


# -- bounded steps ---------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 120), CORES, st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_an_offer_falls_by_a_bounded_step_a_minute_unless_there_is_an_emergency_and_then_it_says_so(
    rounds: list[tuple[float, float, bool, bool]],
) -> None:
    before, at, waited = None, 0.0, 0.0
    for wait, used, growing, urgent in rounds:
        at += wait
        waited += wait  # since it could rise last
        view = a_view(used)
        raw = int(max(0.0, 63 - used) * 1000 + 1e-6)
        now = one_more(before, view, at, growing=growing, alarms={RECLAIMED_CPU: "fire"} if urgent else {})
        offer, text = now.offer[RECLAIMED_CPU], now.arithmetic[RECLAIMED_CPU]
        assert 0 <= offer <= 64_000
        if before is not None:
            last = before.offer[RECLAIMED_CPU]
            assert min(raw, last) <= offer <= max(raw, last)
            assert offer <= last + (480 * waited / 60 + 1) * growing
            assert urgent or offer >= last - 480 * wait / 60 - 1
            assert not urgent or offer <= raw
            assert ("falling slowly" in text) == (offer > raw)
            assert ("at once: fire" in text) == (urgent and raw < last - math.ceil(64_000 * 0.0075 * wait / 60))
        before, waited = now, 0.0 if growing or before is None else waited


@given(CORES, st.floats(0, 63), st.sampled_from(("owners", "machine")))
def test_an_offer_never_lasts_longer_than_what_it_is_made_of(used: float, less: float, what: str) -> None:
    first = one_more(None, a_view(used), 0.0)
    view = a_view(used + less, asked=8 + less) if what == "owners" else a_view(used, capacity=64 - less)
    then = one_more(first, view, 1.0)
    raw = max(0.0, view.capacity - 1 - sum(claim.total for claim in view.claims))
    assert then.offer[RECLAIMED_CPU] <= raw * 1000 + 1e-6 or less < 1e-6


@given(st.integers(0, 64_000), st.integers(1, 20))
def test_after_a_fall_it_takes_several_reports_until_everything_is_offered_again(low: int, count: int) -> None:
    before = Lending({RECLAIMED_CPU: low}, {RECLAIMED_CPU: ""})
    for index in range(count):
        before = one_more(before, a_view(0.0), index * 60.0)
        assert before.offer[RECLAIMED_CPU] <= low + 480 * index


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 30_000))
def test_an_offer_rises_as_far_however_many_rounds_without_a_report_come_between(lively: list[bool], low: int) -> None:
    steady = before = Lending({RECLAIMED_CPU: low}, {RECLAIMED_CPU: ""})
    for index, growing in enumerate([*lively, True], start=1):
        before = one_more(before, a_view(0.0), index * 60.0, growing=growing)
    steady = one_more(steady, a_view(0.0), 60.0 * (len(lively) + 1))
    assert abs(before.offer[RECLAIMED_CPU] - steady.offer[RECLAIMED_CPU]) <= len(lively)


@given(st.integers(0, 64_000))
def test_once_a_node_reports_again_all_is_offered_that_guests_have_cpus_for(low: int) -> None:
    blind = nothing("there is no usage", SETTINGS, 0.0, Lending({RECLAIMED_CPU: low}, {RECLAIMED_CPU: ""}))
    assert one_more(blind, a_view(0.0), 60.0).offer[RECLAIMED_CPU] == 63_000


# -- how long it lasts -----------------------------------------------------------------------------------------------


def a_past(offers: list[tuple[float, int]], window: float = 7200.0) -> Past:
    past, at = Past(), 0.0
    for wait, offer in offers:
        at += wait
        past = remember(past, at, offer, window)
    return past


@given(OFFERS, st.floats(0.1, 1), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_survival_is_no_longer_than_what_was_watched_and_shorter_for_the_careful(
    offers: list[tuple[float, int]], fraction: float, one: float, two: float
) -> None:
    past = a_past(offers)
    watched = past.until - past.cells[0].start if past.cells else 0.0
    bold, careful = (survival(past, fraction=fraction, confidence=level) for level in sorted((one, two)))
    assert 0 <= careful <= bold <= watched


@given(OFFERS, st.integers(0, 64_000), st.floats(0.5, 0.999), st.floats(0.5, 0.999))
def test_a_promise_is_part_of_the_offer_and_smaller_for_the_careful(
    offers: list[tuple[float, int]], now: int, one: float, two: float
) -> None:
    past = a_past(offers)
    bold, careful = (promised(past, horizon=600, confidence=level, now=now) for level in sorted((one, two)))
    assert 0 <= careful <= bold <= now


@given(OFFERS)
def test_the_past_is_bounded_and_keeps_the_lowest_offer(offers: list[tuple[float, int]]) -> None:
    past = a_past(offers, window=1e9)
    assert len(past.cells) <= CELLS + 1
    assert min((cell.lowest for cell in past.cells), default=0) == min((offer for _, offer in offers), default=0)
    assert msgspec.json.decode(msgspec.json.encode(past), type=Past) == past


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 10))
def test_survival_is_what_counting_by_hand_says_where_nothing_is_censored(levels: list[int], tenths: int) -> None:
    """The last cell is empty, so everybody is taken by then and the estimate is the plain share."""
    cells = [Cell(float(at), level, level, level) for at, level in enumerate([*levels, 0])]
    past, fraction = Past(tuple(cells), float(len(levels))), tenths / 10
    lives = sorted(
        next(other.start for other in cells[index:] if other.lowest < fraction * cell.first - 1e-9) - cell.start
        for index, cell in enumerate(cells[:-1])
    )
    over = [life for rank, life in enumerate(lives) if 1 - (rank + 1) / len(lives) < 0.9 - 1e-9]
    assert survival(past, fraction=fraction, confidence=0.9) == min(over)


# -- windows ---------------------------------------------------------------------------------------------------------

SHAPES = st.builds(
    Shape,
    size=st.integers(1, 5),
    ttl=st.sampled_from((3.0, math.inf)),
    least=st.floats(0, 1),
    most=st.floats(1, 5) | st.just(math.inf),
    percentile=st.none() | st.floats(0, 1),
)


@given(SHAPES, st.lists(st.floats(-100, 100) | st.just(math.nan), max_size=20))
def test_what_a_window_tells_lies_within_its_samples_and_moves_by_no_more_than_a_step(
    shape: Shape, amounts: list[float]
) -> None:
    state, seen = Smoothed(), list[float]()
    for at, amount in enumerate(amounts):
        seen += [amount] if math.isfinite(amount) else []
        after = push(state, float(at), amount, shape)
        if after.told is not None:
            assert min(seen) - 1e-9 <= after.told <= max(seen) + 1e-9
            assert state.told is None or abs(after.told - state.told) <= shape.most + 1e-9
        assert state.told is None or after.told is not None, "forgot what it had told"
        assert len(after.samples) <= shape.size
        state = msgspec.json.decode(msgspec.json.encode(after), type=Smoothed)
        assert state == after


# -- headroom policies -----------------------------------------------------------------------------------------------

VIEWS = st.builds(
    HeadroomView,
    kind=st.just(RECLAIMED_CPU),
    capacity=st.floats(0, 512),
    reserved=st.floats(0, 8),
    system=st.none() | st.floats(0, 8),
    claims=st.lists(
        st.builds(Claim, st.floats(0, 200), st.sampled_from(("online", "dedicated")), st.floats(1, 2)), max_size=3
    ).map(tuple),
    last=st.none() | st.floats(0, 512),
    supply=st.none()
    | st.builds(
        Supply,
        cpus=st.integers(0, 512).map(float),
        busy=st.none() | st.floats(0, 512),
        guests=st.none() | st.floats(0, 512),
        quota=st.none() | st.floats(0, 512),
    ),
    forecast=st.none() | st.builds(Forecast, peak=st.floats(0, 512) | st.just(math.nan), horizon=st.just(3600.0)),
)


@pytest.mark.parametrize("name", OURS)
@given(view=VIEWS, more=st.floats(0, 64))
def test_an_offer_is_finite_within_the_machine_and_no_larger_when_owners_use_more(
    name: str, view: HeadroomView, more: float
) -> None:
    policy = POLICIES[name]
    assert isinstance(policy, HeadroomPolicy)
    one = policy.advise(view, policy.settings())
    assert 0 <= one.amount <= view.capacity
    claims = (*view.claims, Claim(more, "online"))
    busy = view.supply
    if busy is not None and busy.busy is not None:
        busy = msgspec.structs.replace(busy, busy=busy.busy + more)
    two = policy.advise(msgspec.structs.replace(view, claims=claims, supply=busy), policy.settings())
    assert two.amount <= one.amount + 1e-6
    assert policy.advise(view, policy.settings()) == one
