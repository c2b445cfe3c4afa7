"""Laws of profiles: no sample breaks a window, the future changes nothing, order does not matter, versions are content."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.common.kube.spd import observations_of, status_of
from neap.common.model.profile import MEMORY_BANDWIDTH, MachineType, Observation, ServiceProfile, Window
from neap.console.core.descriptor import descriptor, read
from neap.planner.core.lean import Packing
from neap.planner.core.profiling.judging import judge, percentile, spread_of
from neap.planner.core.profiling.portrait import HOURS, MOST_SWING, parts_of, portrait_of, swing_of
from neap.planner.core.profiling.version import is_news, versioned
from tests.unit.planner_profiles_world import HOUR, START, Remembered, World, feed, used

ODD = st.floats(allow_nan=True, allow_infinity=True)
AMOUNT = st.floats(0, 1e9)
MINUTES = st.integers(0, 179)


@given(st.lists(st.tuples(ODD | st.none(), st.floats(-1e9, 1e9) | st.just(math.nan), ODD), max_size=8))
@settings(max_examples=40, deadline=None)
def test_whatever_reports_say_profiles_hold_finite_amounts(reports: list[tuple[float | None, float, float]]) -> None:
    world = World()
    world.run(*feed(2))
    for amount, skew, period in reports:
        world.report(used("feed-0", bandwidth=amount), at=world.at + skew, period=period)
        world.report(used("feed-1", bandwidth=1.0))
    world.live(2.5)
    for profile in world.told.values():
        assert all(one.usable and one.pod_hours >= 0 for one in profile.observations)


SAMPLES = st.lists(st.tuples(MINUTES, st.sampled_from(["feed-0", "feed-1", "feed-2"]), AMOUNT), max_size=20)


def measured(samples: list[tuple[int, str, float]]) -> tuple[Observation, ...]:
    """Every sample arrives while its hour is open."""
    world = World()
    world.run(*feed(3))
    for minute, uid, amount in samples:
        world.at = max(world.at, START + minute // 60 * HOUR)
        world.use({uid: amount}, at=START + minute * 60)
    world.at = START + 3 * HOUR
    world.live(1.5)
    found = world.told.get("shop/Deployment/feed")
    return () if found is None else found.observations


@given(SAMPLES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_within_an_hour_the_order_of_samples_does_not_matter(samples: list[Any], random: Any) -> None:
    hours = [[one for one in samples if one[0] // 60 == hour] for hour in range(3)]
    shuffled = [random.sample(hour, len(hour)) for hour in hours]
    first, second = (measured([one for hour in order for one in hour]) for order in (hours, shuffled))
    assert [(one.machine, [w.start for w in one.windows]) for one in first] == [
        (one.machine, [w.start for w in one.windows]) for one in second
    ]
    assert all(math.isclose(a.peak, b.peak, rel_tol=1e-9) for a, b in zip(first, second, strict=True))


@given(SAMPLES, SAMPLES)
@settings(max_examples=40, deadline=None)
def test_what_comes_later_changes_no_window_that_is_told(now: list[Any], later: list[Any]) -> None:
    world = World(most=1000)
    world.run(*feed(3))
    for minute, uid, amount in now:
        world.use({uid: amount}, at=START + minute % 60 * 60)
    world.live(1.5)
    told = dict(world.told)
    again = World(most=1000)
    again.run(*feed(3))
    for minute, uid, amount in now:
        again.use({uid: amount}, at=START + minute % 60 * 60)
    again.at = START + HOUR
    for minute, uid, amount in later:
        again.use({uid: amount}, at=START + HOUR + min(minute, 4) * 60)
    again.live(0.5)
    assert {key: one.version for key, one in again.told.items()} == {key: one.version for key, one in told.items()}


@given(st.lists(st.dictionaries(st.sampled_from("ab"), AMOUNT, min_size=1), min_size=1, max_size=9))
def test_what_counts_lies_between_mean_and_maximum(pods: list[dict[str, float]]) -> None:
    found = judge(pods, 0.25)
    for name, amount in found.containers:
        mine = [pod[name] for pod in pods if name in pod]
        assert sum(mine) / len(mine) * (1 - 1e-9) <= amount <= max(mine) * (1 + 1e-9)


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=20), st.floats(0.01, 100))
def test_spread_has_no_unit(amounts: list[float], factor: float) -> None:
    first, second = spread_of(amounts), spread_of([factor * amount for amount in amounts])
    assert first is not None
    assert second is not None
    assert math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)
    assert percentile(amounts, 1.0) == max(amounts)
    assert percentile(amounts, 1e-9) == min(amounts)


GAPPY = st.lists(AMOUNT | st.just(math.nan) | st.just(-1.0), min_size=0, max_size=80)


@given(GAPPY, st.integers(1, 28))
@settings(max_examples=60, deadline=None)
def test_a_portrait_is_whole_or_absent(hours: list[float], days: int) -> None:
    record = Remembered()
    record.give("a/b/c", hours, hours)
    parts = parts_of(record, "a/b/c")
    told = portrait_of(parts, days=days, share=0.9)
    known = {i % HOURS for i, amount in list(enumerate(hours))[-days * HOURS :] if amount >= 0}
    assert bool(told) == (len(known) == HOURS)
    for amounts in told.values():
        assert len(amounts) == HOURS
        assert all(amount >= 0 and amount == int(amount) for amount in amounts)
    swing = swing_of(parts, days=days)
    assert bool(swing) == bool(told), "the same hours were seen"
    assert all(
        len(factors) == HOURS and all(1 <= factor <= MOST_SWING for factor in factors) for factors in swing.values()
    )


def profiles() -> st.SearchStrategy[ServiceProfile]:
    window = st.builds(
        Window,
        start=st.integers(0, 10**6).map(lambda hour: hour * HOUR),
        containers=st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), st.floats(0, 1e12), min_size=1, max_size=3),
    )  # fmt: skip
    one = st.builds(
        Observation,
        kind=st.just(MEMORY_BANDWIDTH),
        machine=st.sampled_from(["M1", "M2", "M3", "odd"]),
        windows=st.lists(window, min_size=1, max_size=3, unique_by=lambda w: w.start).map(tuple),
        pod_hours=st.floats(0, 1e6),
    )
    several = st.lists(one, max_size=3, unique_by=lambda one: one.machine).map(tuple)
    return several.map(
        lambda seen: ServiceProfile(at=0, source="t", key="s/Deployment/w", version="1", observations=seen)
    )


TABLE = [
    MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed}) for name, speed in (("M1", 1e3), ("M2", 2e3), ("M3", 4e3))
]


@given(profiles())
@settings(max_examples=60, deadline=None)
def test_a_descriptor_that_was_read_is_written_to_the_byte(profile: ServiceProfile) -> None:
    text = descriptor(profile, TABLE)
    back = replace(profile, observations=observations_of(read(text).status))
    assert descriptor(back, TABLE) == text
    assert status_of(back, TABLE) == status_of(profile, TABLE)


@given(profiles(), profiles(), st.floats(0, 1e9))
def test_a_version_is_the_content_and_nothing_else(one: ServiceProfile, other: ServiceProfile, at: float) -> None:
    assert versioned(replace(one, at=at, source="else", version="x")).version == versioned(one).version
    assert (versioned(one).version == versioned(other).version) == (one == other)
    assert not is_news(one, one, 0.1)


@given(profiles(), profiles())
def test_what_is_kept_is_what_was_told_in_a_hurry_or_not(like: ServiceProfile, told: ServiceProfile) -> None:
    packing = Packing(like)
    loose, packed = packing.loose(told), packing.packed(told)
    assert packing.unpacked(loose) == packing.unpacked(packed) == packing.unpacked(packing.tight(loose)) == told
    assert packing.tight(packed) == packed
    assert packing.tight(loose) != loose
