"""Laws of holding guests back: bounded, only suspects, always undone, and unknown input changes nothing."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.curbing import Case, Step, first_quota, named, turned
from neap.advisor.core.interference import (
    CORES,
    SIGNALS,
    STALL,
    Feeling,
    Habit,
    Interference,
    Known,
    Neighbour,
    correlation,
    heard,
    sufferings,
    suspect,
)
from neap.advisor.core.neighbours import Neighbourhood, held, noisy
from neap.common.model.advice import NodeAdvice

RULES = Interference(on=True, calm=6, trial=3, grace=9, watch=20, window=12, samples=5, enough=5)
SHARE = st.floats(0, 1)


def a_case(quota: float = 2.0, **more: object) -> Case:
    given_fields = {
        "attempt": 1, "owner": "o", "guest_name": "b/g", "owner_name": "s/o", "guest_family": "b/g",
        "owner_family": "s/o", "signal": STALL, "value": 0.5, "threshold": 0.1, "since": 0.0, "before": 0.4,
        "why": "it stalls", "quota": quota,
    }  # fmt: skip
    return Case(**(given_fields | more))  # type: ignore[arg-type]


def feelings() -> st.SearchStrategy[Feeling | None]:
    return st.none() | st.builds(Feeling, value=SHARE, usual=st.just(0.05), limit=st.just(0.1), hits=st.integers(0, 8))


@given(st.lists(feelings(), max_size=80), st.floats(0.01, 64))
def test_a_quota_never_grows_never_falls_below_the_least_and_ends(felt: list[Feeling | None], used: float) -> None:
    case: Case | None = a_case(first_quota(used, RULES))
    for feeling in felt:
        before = case
        assert before is not None
        case, what = turned(before, feeling, RULES)
        if case is None:
            break
        assert RULES.least_quota <= case.quota <= before.quota
        if feeling is None and before.step is Step.CURBED:
            assert (case, what) == (before, ""), "what nobody knows changes nothing"
        if case.step is not Step.CURBED:
            assert not case.leave
    calm = Feeling(0.0, 0.05, 0.1, 0)
    for _ in range(RULES.calm * 4 + RULES.watch + 4):
        if case is None:
            break
        case, _ = turned(case, calm, RULES)
    assert case is None, "with the owner well everything is undone and forgotten in bounded time"


@given(st.lists(feelings(), max_size=60))
def test_nobody_should_leave_whom_holding_back_has_never_helped(felt: list[Feeling | None]) -> None:
    case: Case | None = a_case(0.5)
    for feeling in felt:
        assert case is not None
        case, _ = turned(case, feeling, RULES)
        if case is None:
            return
        assert case.relieved or not case.leave
        assert case.is_sure <= case.relieved


def test_who_is_innocent_is_left_alone_for_a_while_and_who_lapsed_is_not() -> None:
    new = a_case()
    assert named(new, None, RULES) == new
    assert named(new, a_case(step=Step.INNOCENT, left=3), RULES) is None
    again = named(new, a_case(step=Step.PROVED, left=3, relieved=True, lapses=RULES.lapses - 1), RULES)
    assert again is not None
    assert again.leave
    assert named(new, a_case(), RULES) is None


def rows() -> st.SearchStrategy[list[tuple[float, float, float]]]:
    return st.lists(st.tuples(SHARE, st.floats(0, 8), st.floats(0, 8)), min_size=1, max_size=40)


def neighbours(stall: float, one: float, other: float) -> list[Neighbour]:
    near = frozenset({1})
    return [
        Neighbour("o", True, 4.0, near, near, {STALL: stall}, {CORES: 4.0}),
        Neighbour("g1", False, one, near, near, {}, {CORES: one}),
        Neighbour("g2", False, other, near, near, {}, {CORES: other}),
    ]


@given(rows())
def test_what_is_remembered_is_bounded_plain_and_the_same_after_a_journey(
    history: list[tuple[float, float, float]],
) -> None:
    known = Known()
    for row in history:
        known, felt = heard(known, neighbours(*row), RULES)
        again = msgspec.json.decode(msgspec.json.encode(Neighbourhood(known=known)), type=Neighbourhood)
        assert again.known == known
        assert len(known.rows) <= RULES.window
        assert all(len(bits) <= RULES.of for one in known.outliers.values() for bits in one.values())
        assert all(math.isfinite(feeling.limit) and feeling.limit >= RULES.floor for feeling in felt.values())
        for uid, signal in sufferings(felt, RULES):
            owner, *guests = neighbours(*row)
            found = suspect(known, owner, signal, guests, RULES)
            if found is not None:
                assert uid == "o"
                assert RULES.least <= found.r <= 1
                assert RULES.share <= found.share <= 1 + 1e-9
                assert found.samples >= RULES.samples


@given(rows())
def test_blame_does_not_depend_on_the_order_of_guests(history: list[tuple[float, float, float]]) -> None:
    known, felt = Known(), {}
    for row in history:
        known, felt = heard(known, neighbours(*row), RULES)
    owner, *guests = neighbours(*history[-1])
    assert suspect(known, owner, STALL, guests, RULES) == suspect(known, owner, STALL, guests[::-1], RULES)
    del felt


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=40))
def test_a_correlation_is_one_and_knows_when_there_is_too_little(pairs: list[tuple[float, float]]) -> None:
    r, together = correlation(pairs, least=5)
    assert -1 <= r <= 1
    assert math.isfinite(together)
    if len(pairs) < 5 or len({one for one, _ in pairs}) == 1:
        assert r == 0


@given(st.lists(SHARE, min_size=2, max_size=200))
def test_what_is_usual_lies_among_what_was_seen(values: list[float]) -> None:
    habit = Habit()
    for value in values:
        habit = habit.after(value, 50)
    assert min(values) - 1e-9 <= habit.mean <= max(values) + 1e-9
    assert 0 <= habit.square <= 1


@given(st.sampled_from(list(SIGNALS)), st.sampled_from(list(Step)), st.booleans())
def test_only_who_is_held_back_has_a_quota_and_every_weight_has_its_inverse(
    signal: str, step: Step, leave: bool
) -> None:
    state = Neighbourhood(cases={"g": a_case(signal=signal, step=step, leave=leave)})
    knobs, told = held(state)["g"], noisy(state)
    assert (knobs.cpu_max is not None) == (step is Step.CURBED) == bool(told)
    assert (knobs.io_weight is not None) == (signal == "disk stall")
    assert knobs.io_weight in (None, 1 if step is Step.CURBED else 100)
    assert NodeAdvice(at=0, source="a", node="n", seq=1, expires=1, pools=(), cgroups=(), noisy=told).noisy == told
