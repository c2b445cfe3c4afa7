"""Laws of what owners' profiles spare: never more than the canonical estimate, never less than what is used."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.advisor.core.foreseeing import AHEAD, UNLIKE, Profiles, foretold
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import PodView, PoolView
from neap.advisor.plugins import provision_canonical as canonical
from neap.advisor.plugins import provision_profile as profile
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.resource import CPU
from neap.common.model.usage import ContainerUsage
from neap.common.units import HOUR
from tests.unit.test_advisor_node import a_pod

CORES = st.floats(0, 64)
FACTORS = st.floats(1, 8)
HOURS = st.tuples(*[FACTORS] * 24)
BELIEVE = 10


@st.composite
def pods(draw: st.DrawFn) -> PodView:
    now, smooth, peak = draw(CORES), draw(CORES), draw(CORES)
    peak = max(now, peak)
    swing = draw(st.none() | FACTORS)
    return PodView(
        uid=draw(st.uuids()).hex,
        request=draw(CORES),
        limit=draw(st.none() | CORES),
        now=draw(st.none() | st.just(now)),
        smooth=smooth,
        peak=peak,
        stall=draw(st.none() | st.floats(0, 1)),
        settled=draw(st.booleans()),
        level=max(smooth, peak),
        swing=swing,
        profile="" if swing is None else draw(st.sampled_from(("a1", "b2"))),
    )


VIEWS = st.builds(
    PoolView, name=st.just("share"), pods=st.lists(pods(), max_size=6).map(tuple), held=st.integers(0, 64),
    fresh=st.booleans(),
)  # fmt: skip
MEMORIES = st.tuples(st.floats(0, 1), st.floats(0, 1))


def cores(view: PoolView, memory: canonical.Memory = canonical.START, **settings: Any) -> float:
    return profile.advise(view, profile.Settings(**settings), memory)[0].cores


@given(VIEWS, MEMORIES)
def test_profiles_spare_and_never_add(view: PoolView, memory: canonical.Memory) -> None:
    plain, after = canonical.advise(view, canonical.Settings(), memory)
    told, remembered = profile.advise(view, profile.Settings(), memory)
    assert told.cores <= plain.cores + 1e-9
    assert remembered == after, "what is remembered is the canonical policy's"
    assert math.isclose(told.cores, told.estimate * told.ratio + told.reserve, abs_tol=1e-6) or not told.estimate


@given(VIEWS, MEMORIES)
def test_without_profiles_it_is_the_canonical_policy(view: PoolView, memory: canonical.Memory) -> None:
    blind = replace(view, pods=tuple(replace(pod, swing=None, profile="") for pod in view.pods))
    assert profile.advise(blind, profile.Settings(), memory) == canonical.advise(blind, canonical.Settings(), memory)


@given(VIEWS)
def test_a_pool_covers_what_its_pods_use_now_and_the_floor(view: PoolView) -> None:
    settings = profile.Settings()
    least = sum(
        min(pod.now * (1 + settings.floor), pod.limit or math.inf) for pod in view.pods if pod.now and pod.limit != 0
    )
    assert cores(view) >= least - 1e-9 if view.pods else cores(view) == 0


@given(VIEWS, st.floats(1, 2))
def test_who_swings_more_gets_no_less(view: PoolView, more: float) -> None:
    wilder = replace(view, pods=tuple(replace(p, swing=None if p.swing is None else p.swing * more) for p in view.pods))
    assert cores(wilder) >= cores(view) - 1e-9


@given(VIEWS)
def test_every_version_that_counted_is_named(view: PoolView) -> None:
    told, _ = profile.advise(view, profile.Settings(), canonical.START)
    if told.by:
        assert told.by in told.reason
        assert all(pod.profile in told.by for pod in view.pods if pod.swing and pod.settled and pod.now is not None)


# -- whether a profile is believed -----------------------------------------------------------------------------------


def a_profile(portrait: tuple[float, ...], swing: tuple[float, ...]) -> ServiceProfile:
    key = profile_key(a_pod("cart").workload)
    return ServiceProfile(at=0, source="planner", key=key, version="a1", portrait={CPU: portrait}, swing={CPU: swing})


@given(
    st.lists(st.floats(0, 4), min_size=1, max_size=60),
    st.tuples(*[st.floats(100, 4000)] * 24),
    HOURS,
    st.floats(0, 1e6),
)
def test_a_profile_counts_only_after_it_was_right_for_long_enough(
    used: list[float], portrait: tuple[float, ...], swing: tuple[float, ...], start: float
) -> None:
    pod, track = Pod.of(a_pod("cart")), Track(window=5)
    profiles = Profiles()
    profiles.learn(a_profile(portrait, swing), "cart")
    wrong = -1
    for number, cores in enumerate(used):
        told, level = track.foretold, track.level
        if told is None or level is None or cores > min(told.most, level * told.swing):
            wrong = number
        track.observe([ContainerUsage(uid="cart", container="c", cgroup="c", cpu=cores)], 0.3, 1e6)
        profiles.foretell([pod], {"cart": track}, start + 60.0 * number, BELIEVE)
        assert track.believed == (number - wrong >= BELIEVE)
        assert track.view(pod, 1, stale=True).swing is None, "nothing is believed that cannot be judged"


@given(st.tuples(*[st.floats(100, 4000)] * 24), HOURS, st.integers(0, 100), st.floats(0, 3599))
def test_what_is_foretold_covers_this_hour_and_the_next_few_minutes(
    portrait: tuple[float, ...], swing: tuple[float, ...], hour: int, into: float
) -> None:
    told = foretold(a_profile(portrait, swing), hour * HOUR + into)
    assert told is not None
    hours = [hour % 24, (hour + 1) % 24] if into >= HOUR - AHEAD else [hour % 24]
    assert told.swing == max(swing[h] for h in hours)
    assert told.most == max(portrait[h] * swing[h] for h in hours) / 1000 * (1 + UNLIKE)
