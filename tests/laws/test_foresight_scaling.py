"""Laws of scaling: within bounds, monotone in the load, never below native, calm; one set of bounds at every instant."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.common.units import DAY
from neap.foresight.cron import bounded, in_force, parse_bound
from neap.foresight.manners import AUTOSCALER, MANNERS, Judge
from neap.foresight.scaling import Load, Rules, StabilizationWindow, decide
from neap.foresight.scaling_replay import rehearse

AMOUNTS = st.floats(0, 1e4, allow_nan=False)
MAYBE = st.none() | AMOUNTS


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    least = draw(st.integers(0, 50))
    target = draw(st.floats(0.01, 10))
    return Rules(
        target, target * draw(st.floats(1, 3)), least, least + draw(st.integers(0, 100)),
        draw(st.floats(0, 0.5)), draw(st.floats(1, 600)), draw(st.floats(0.01, 5)), draw(st.integers(1, 10)),
        draw(st.floats(0.01, 1)),
    )  # fmt: skip


@st.composite
def loads(draw: st.DrawFn) -> Load:
    now = draw(st.integers(0, 200))
    expected = draw(MAYBE)
    unlikely = None if expected is None else draw(MAYBE)
    return Load(draw(AMOUNTS), now, draw(st.integers(0, now)), expected, unlikely, draw(AMOUNTS))


@given(st.lists(loads(), min_size=1, max_size=12), rules())
def test_desired_is_always_within_bounds(life: list[Load], given_: Rules) -> None:
    wishes = StabilizationWindow()
    for place, load in enumerate(life):
        assert given_.least <= decide(15.0 * place, load, given_, wishes).desired <= given_.most


@given(st.lists(loads(), max_size=6), loads(), rules(), AMOUNTS, AMOUNTS, AMOUNTS)
def test_more_load_never_means_fewer_replicas(
    before: list[Load], load: Load, given_: Rules, more: float, later: float, burst: float
) -> None:
    expected = None if load.expected is None else load.expected + later
    higher = replace(load, use=load.use + more, expected=expected, burst=load.burst + burst)
    found = []
    for last in (load, higher):
        wishes = StabilizationWindow()
        for place, each in enumerate(before):
            decide(15.0 * place, each, given_, wishes)
        found.append(decide(15.0 * len(before), last, given_, wishes).desired)
    assert found[0] <= found[1]


@given(st.lists(loads(), min_size=1, max_size=12), rules())
def test_prediction_only_ever_adds(life: list[Load], given_: Rules) -> None:
    """Whatever is foretold, desired is no less than what native alone comes to from the same replicas."""
    with_, alone = StabilizationWindow(), StabilizationWindow()
    for place, load in enumerate(life):
        at = 15.0 * place
        blind = replace(load, expected=None, unlikely=None, burst=0.0)
        assert decide(at, load, given_, with_).desired >= decide(at, blind, given_, alone).desired


@given(st.floats(0, 1e3), st.integers(1, 300), rules(), MAYBE)
def test_a_constant_load_comes_to_rest(use: float, now: int, given_: Rules, expected: float | None) -> None:
    """No flapping: at most one turn, and once it rests it rests."""
    given_, wishes, seen = replace(given_, up=1.0, down=1.0), StabilizationWindow(), [now]
    for place in range(120):
        seen.append(decide(15.0 * place, Load(use, seen[-1], seen[-1], expected), given_, wishes).desired)
    moves = [after - before for before, after in pairwise(seen) if after != before]
    assert sum(a * b < 0 for a, b in pairwise(moves)) <= 1
    assert len(set(seen[60:])) == 1


@given(st.floats() | st.just(math.nan), st.integers(-5, 5), st.integers(-5, 5), st.floats(), st.none() | st.floats())
def test_bad_input_is_named_and_nothing_else_comes_out(
    use: float, now: int, ready: int, target: float, expected: float | None
) -> None:
    load, given_ = Load(use, now, ready, expected), Rules(target, 1.0)
    if load.flaw or given_.flaw:
        with pytest.raises(InputError, match=r"\w"):
            decide(0.0, load, given_, StabilizationWindow())
    else:
        assert 1 <= decide(0.0, load, given_, StabilizationWindow()).desired <= 100


@given(
    st.lists(st.floats(0, 100), min_size=20, max_size=60), st.integers(1, 19), st.lists(st.floats(0, 100), max_size=40)
)
def test_the_future_changes_nothing_of_the_past(past: list[float], cut: int, other: list[float]) -> None:
    def until(cut_: int, values: list[float]) -> list[tuple[str, int]]:
        judge, given_, seen = Judge(settle=60.0), Rules(1.0, 1.4, most=1000), []
        judge.begin(5)
        for place, use in enumerate(values):
            judge.see((place + 1) * 15.0, 15.0, Load(use, 0, 0), given_, 60.0)
            seen.append((judge.manner.name, judge.own.now))
        return seen[:cut_]

    assert until(cut, past) == until(cut, past[:cut] + other)


@given(st.lists(st.floats(0, 50), min_size=2, max_size=80))
def test_replicas_on_paper_are_never_negative_and_never_lost(values: list[float]) -> None:
    judge, given_ = Judge(settle=60.0), Rules(1.0, 1.4, most=1000)
    found = rehearse(values, 15.0, given_, 60.0, lambda _, __: (1.0, 2.0), judge)
    assert set(found.manners) == {manner.name for manner in (*MANNERS, AUTOSCALER)}
    for shadow in (judge.reference, *judge.shadows, judge.own):
        assert 0 <= shadow.ready <= shadow.now <= given_.most
        assert shadow.ready + shadow.starting == shadow.now


LOADS = st.lists(st.floats(0, 60) | st.sampled_from([0.0, 5.0, 50.0]), min_size=2, max_size=20)
SAID = st.just("the truth") | st.none() | st.tuples(st.floats(0, 100), st.floats(0, 100))


@given(
    LOADS, st.integers(1, 12), rules(), st.lists(SAID, min_size=1, max_size=8),
    st.sampled_from([15.0, 60.0]), st.floats(0, 200), st.floats(0, 0.2), st.sampled_from([600.0, DAY]),
)  # fmt: skip
def test_whatever_comes_no_manner_is_shorter_of_replicas_than_the_autoscaler_or_above_the_allowance(
    day: list[float], days: int, given_: Rules, said: list[str | tuple[float, float] | None], period: float,
    start: float, allowance: float, memory: float,
) -> None:  # fmt: skip
    """With forecasts that know all, so that much is earned and spent, with any, and with both in turns."""
    judge, first = Judge(settle=4 * period, allowance=allowance, memory=memory), max(given_.least, min(given_.most, 5))
    judge.begin(first)
    for place, use in enumerate(day * days):
        coming = [day[(place + more) % len(day)] for more in range(1, 2 + round((start + period) / period))]
        told = said[place % len(said)] or (None, None)
        expected, unlikely = (max(coming), None) if isinstance(told, str) else told
        judge.see((place + 1) * period, period, Load(use, 0, 0, expected, unlikely), given_, start)
        theirs = judge.reference
        for ours in (*judge.shadows, judge.own):
            assert ours.went_short <= theirs.went_short + 1e-6
            assert ours.paid <= (1 + allowance) * theirs.paid + allowance * first * DAY / 2 + 1e-6 * (1 + theirs.paid)


@given(LOADS, st.integers(1, 12), rules(), st.sampled_from([15.0, 75.0, 200.0]))
def test_a_credit_is_never_overdrawn(day: list[float], days: int, given_: Rules, credit: float) -> None:
    judge = Judge(settle=60.0, credit=credit)
    judge.begin(max(given_.least, min(given_.most, 5)))
    for place, use in enumerate(day * days):
        judge.see((place + 1) * 15.0, 15.0, Load(use, 0, 0), given_, 60.0)
        assert all(each.went_short <= judge.reference.went_short + credit + 1 for each in (*judge.shadows, judge.own))


FIRST, LAST = datetime(2024, 1, 1), datetime(2030, 1, 1)  # noqa: DTZ001 (UTC is put on below)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "5,50", "*"]), st.sampled_from(["*", "2", "9-18", "1,3", "*/6"]),
    st.sampled_from(["*", "1", "13", "*/2"]), st.sampled_from(["*", "3", "oct-nov"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
)  # fmt: skip


@given(
    st.lists(st.tuples(FIELDS, ZONES, st.integers(0, 20), st.integers(0, 20)), max_size=4),
    st.datetimes(FIRST, LAST),
    st.integers(0, 3),
)
def test_at_every_instant_exactly_one_set_of_bounds_is_in_force(
    written: list[tuple[tuple[str, ...], str, int, int]], when: datetime, side: int
) -> None:
    bounds = [
        parse_bound(f"{' '.join(fields)} min {low} max {low + more}", zone) for fields, zone, low, more in written
    ]
    at = when.replace(tzinfo=UTC).timestamp() + side * DAY / 4
    found = in_force(bounds, at)
    least, most, by = bounded(bounds, at, 1, 10)
    assert least <= most
    assert (by == "") == (found is None)
    assert (least, most) == ((1, 10) if found is None else (found.least, found.most))
    assert in_force(bounds, at) is found
    if found is not None and not found.cron.is_span:
        came = found.came(at)
        assert came is not None
        assert came <= at
        later = [bound.came(at) for bound in bounds if not bound.cron.is_span]
        assert came == max(each for each in later if each is not None)


@given(FIELDS, ZONES, st.datetimes(FIRST, LAST))
def test_a_bound_came_in_a_minute_that_it_names(fields: tuple[str, ...], zone: str, when: datetime) -> None:
    """Beside hours that the clocks leave out, where it comes at the jump."""
    bound = parse_bound(f"{' '.join(fields)} min 1", zone)
    came = bound.came(when.replace(tzinfo=UTC).timestamp())
    if came is not None and not bound.names(came):
        local = datetime.fromtimestamp(came, ZoneInfo(zone))
        before = datetime.fromtimestamp(came - 1, ZoneInfo(zone))
        assert local.utcoffset() != before.utcoffset()
