"""Replicas as golden cases: requirements 004-35, 004-36, Appendix A `ihpa`; AC-21; protocol 6 of the series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neap.common.errors import InputError
from neap.foresight.cron import bounded, parse_bounds
from neap.foresight.manners import Judge
from neap.foresight.scaling import (
    BY_LEAST,
    BY_MOST,
    BY_STEP,
    BY_WINDOW,
    IS_ABSURD,
    Decision,
    Load,
    Rules,
    StabilizationWindow,
    decide,
    look_ahead,
    native,
    predicted,
)
from neap.foresight.scaling_replay import blind, rehearse

# Three replicas of one core each run at 90 % of it, target 60 %: five. 3000m expected at 500m each: six.
CORE = Rules(target=0.6, full=1.0, most=50)
BUSY = Load(use=2.7, now=3, ready=3)


def once(load: Load, rules: Rules) -> Decision:
    return decide(0.0, load, rules, StabilizationWindow())


def test_native_counts_as_the_autoscaler() -> None:
    assert native(2.7, 3, 3, CORE) == 5
    assert native(0.66 * 3, 3, 3, CORE) == 3, "10 % above the target is within the tolerance"
    assert native(0.67 * 3, 3, 3, CORE) == 4
    assert native(0.53 * 3, 3, 3, CORE) == 3, "and so a little as below"
    assert native(0.3 * 3, 3, 3, CORE) == 2
    assert native(1.2, 6, 2, CORE) == 6, "four of six still start: the two are at their target"
    assert native(2.0, 6, 0, CORE) == 6, "none is ready: nothing is measured"


@pytest.mark.parametrize(
    ("expected", "wanted", "flags"),
    [
        (None, 5, ()),
        (3.6, 6, ()),  # 3.6 cores at 0.6: the 3000m at 500m of the vector
        (1.2, 5, ()),  # the predictor is wrong, low: native protects
        (300.0, 7, (IS_ABSURD, BY_STEP, BY_MOST)),  # 500 replicas: four more at once, never above most, and said
    ],
)
def test_the_higher_of_native_and_predicted_wins(expected: float | None, wanted: int, flags: tuple[str, ...]) -> None:
    found = once(replace(BUSY, expected=expected), CORE)
    assert (found.desired, found.native, found.flags) == (wanted, 5, flags)


def test_the_vector_of_the_requirements() -> None:
    assert predicted(Load(0.0, 1, 1, expected=3.0), Rules(target=0.5, full=1.0)) == 6
    assert max(6, native(2.7, 3, 3, CORE)) == 6


def test_an_absurd_prediction_stays_below_most_however_long_it_lasts() -> None:
    wishes, now = StabilizationWindow(), 3
    for at in range(20):
        now = decide(at * 15.0, Load(2.7, now, now, expected=300.0), CORE, wishes).desired
        assert now <= CORE.most
    assert now == CORE.most


def test_an_item_of_the_future_is_not_there_yet_and_the_newest_of_now_counts() -> None:
    """AC-21: 100m since a minute, target 10m: ten, beside five by use."""
    expected = look_ahead(-60.0, 120.0, (0.100, 0.2), 0.0, 0.0)
    found = once(Load(0.05, 5, 5, expected=expected), Rules(target=0.010, full=0.02))
    assert (found.predicted, found.native) == (10, 5)
    assert look_ahead(-60.0, 120.0, (0.1, 0.2), 0.0, 60.0) == 0.2, "ours looks ahead by the lead: 200m are coming"
    assert look_ahead(60.0, 120.0, (0.1,), 0.0, 0.0) is None, "a forecast that begins later says nothing of now"


def test_a_percentage_of_the_request_is_the_target_where_none_is_named() -> None:
    """AC-21: request 20m, average utilisation 50 %: 10m each."""
    assert native(0.05, 5, 5, Rules(target=0.020 * 0.5, full=0.020)) == 5


def test_of_four_bounds_of_every_minute_the_last_holds() -> None:
    """AC-21."""
    found = parse_bounds([f"* * * * * min {low} max {high}" for low, high in ((3, 9), (2, 8), (4, 4), (1, 1))])
    assert bounded(found, 1_700_000_000.0, 1, 10)[:2] == (1, 1)


def test_replicas_are_there_before_the_rush() -> None:
    """004-36: at 20:00 the load trebles; a start takes 90 s, the lead is 180 s, a look every 15 s."""
    eight = 20 * 3600.0
    rules = Rules(target=0.7, full=1.0, most=50)
    for follows in (True, False):
        wishes, now, starting, first, late = StabilizationWindow(), 4, list[tuple[float, int]](), 0.0, 0.0
        at = eight - 1800.0 + 7.0
        while at < eight + 900.0:
            ready = now - sum(more for when, more in starting if when > at)
            use = 8.4 if at >= eight else 2.8
            late += 15.0 * (use > ready * rules.full)
            values = (2.8, 8.4, 8.4)
            expected = look_ahead(eight - 3600.0, 3600.0, values, at, 180.0 + 15.0) if follows else None
            desired = decide(at, Load(use, now, ready, expected=expected), rules, wishes).desired
            if desired > now:
                first = first or at
                starting.append((at + 90.0, desired - now))
            now = desired
            if follows and at < eight <= at + 15.0:
                assert now - sum(more for when, more in starting if when > eight) == 12
            at += 15.0
        if follows:
            assert first <= eight - 180.0
            assert late == 0.0
        else:
            assert first >= eight
            assert late >= 90.0, "without prediction late by a start"


def test_scaling_down_waits_for_the_last_minutes_and_up_does_not() -> None:
    wishes, now, seen = StabilizationWindow(), 10, list[int]()
    for at in range(0, 720, 60):
        found = decide(float(at), Load(7.0 if at == 0 else 2.1, now, now), Rules(0.7, 1.0, most=50), wishes)
        now = found.desired
        seen.append(now)
    assert seen == [10, 10, 10, 10, 10, 3, 3, 3, 3, 3, 3, 3]
    assert BY_WINDOW in once(Load(7.0, 10, 10), Rules(0.7, 1.0)).flags or seen[1] == 10
    assert decide(800.0, Load(30.0, now, now), Rules(0.7, 1.0, most=50), wishes).desired == 7, "at most 4, or double"


def test_bounds_are_said_where_they_change_something() -> None:
    assert once(Load(30.0, 40, 40), Rules(0.7, 1.0, most=20)).flags == (BY_MOST,)
    assert once(Load(0.7, 1, 1), Rules(0.7, 1.0, least=4)).flags == (BY_LEAST,)


@pytest.mark.parametrize(
    ("load", "rules", "names"),
    [
        (Load(float("nan"), 1, 1), CORE, "use is nan"),
        (Load(-1.0, 1, 1), CORE, "use is -1"),
        (Load(float("inf"), 1, 1), CORE, "use is inf"),
        (Load(1.0, 1, 2), CORE, "2 of 1 replicas ready"),
        (Load(1.0, 1, 1, expected=float("nan")), CORE, "expected use is nan"),
        (Load(1.0, 1, 1, expected=1.0, unlikely=-2.0), CORE, "unlikely use is -2"),
        (Load(1.0, 1, 1), Rules(0.0, 1.0), "target of a replica is 0"),
        (Load(1.0, 1, 1), Rules(float("nan"), 1.0), "target of a replica is nan"),
        (Load(1.0, 1, 1), Rules(0.5, 0.0), "full of a replica is 0"),
        (Load(1.0, 1, 1), Rules(0.5, 1.0, least=5, most=4), "least 5 and most 4"),
    ],
)
def test_what_does_not_hold_is_named(load: Load, rules: Rules, names: str) -> None:
    with pytest.raises(InputError, match=names):
        once(load, rules)


def test_protocol_six_to_the_digit(shared: Path) -> None:
    """The reactive rule of ../shared/data/series/reference.json; ours, with a credit, no later at 95 % of the replica-minutes."""
    assert (shared / "data" / "series" / "llm").is_dir()
    from tests.bench.scaling import requests

    loads = requests()
    rules = Rules(0.35, 0.5, most=1000)
    found = rehearse(loads, 15.0, rules, 60.0, blind, Judge())
    theirs = found.autoscaler
    assert (len(loads), theirs.short, round(theirs.paid * 60, 2), theirs.changes) == (234, 1.25, 1137.25, 14)
    assert found.own == theirs, "nothing foretold, nothing earned: the autoscaler itself"
    lent = rehearse(loads, 15.0, rules, 60.0, blind, Judge(credit=75.0)).own
    assert lent.short <= 1.25
    assert lent.paid * 60 <= 0.95 * 1137.2


def lived_through(judge: Judge) -> tuple[float, float]:
    """Ten replicas; a foretold rush of 30 s, two minutes of calm, and a rush of 90 s that nobody foretold, every look 15 s."""
    rules, loads = Rules(1.0, 1.4, most=100), [10.0] * 40 + [40.0] * 2 + [10.0] * 8 + [40.0] * 6
    judge.begin(10)
    for place, use in enumerate(loads):
        expected = max(loads[place + 1 : place + 7], default=use) if place < 42 else None
        judge.see((place + 1) * 15.0, 15.0, Load(use, 0, 0, expected), rules, 60.0)
    return judge.own.went_short, judge.reference.went_short


def test_fewer_replicas_than_the_autoscalers_are_earned_before_they_are_given_away() -> None:
    """What was spared in the first rush would not pay for the second: so replicas stay, as the autoscaler's do."""
    own, theirs = lived_through(Judge(allowance=1.0))
    assert (own, theirs) == (0.0, 30.0)
    own, theirs = lived_through(Judge(allowance=1.0, credit=75.0))
    assert own > theirs, "a credit is spent at once"
