"""What guests are offered: Katalyst's acceptance cases A7, A8, A9, A11, profiles, and offers that move slowly."""

from __future__ import annotations

import math
from typing import Any

import pytest

from neap.advisor.core.foreseeing import foresee
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import Claim, Forecast, HeadroomView, Supply
from neap.advisor.core.smoothing import Shape, Smoothed, push
from neap.advisor.core.survival import Cell, Past, promised, survival
from neap.advisor.plugins import headroom_canonical as canonical
from neap.advisor.plugins import headroom_profile as profile
from neap.advisor.plugins import headroom_utilisation as utilisation
from neap.common.contract.catalogue import PROFILES
from neap.common.model.placement import Placed
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.resource import CPU, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.runtime.machine import Gone, Tick
from neap.common.units import GIB, HOUR
from tests.unit.test_advisor_node import DEDICATED, PERIOD, RECLAIMED, Node, a_pod, a_topology

ON_PURPOSE = {
    "A7 whole cores": "Katalyst rounds up to whole cores; we offer milli-cores, so the case rounds ours",
    "A7 per CPU": "Katalyst sums usage per CPU; reports say who uses CPU, and guests' CPUs are their own or counted in part",
    "A9 buffer": "Katalyst adds 20 GiB and 0.6 x free on top of what it computed; nothing of that is there to keep",
    "A9 unknown": "a pod without metrics counts 8 GiB there, its request here",
    "A9 not synced": "an error there; here nothing is offered and it is said why",
    "A8 exclusive": "see test_advisor_alone: a NUMA node held alone lends CPUs only where its service says so, and no memory",
}

# -- A7, A8 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "each", "guests", "quota", "last", "tuning", "expected"),
    [
        pytest.param(10, 0.3, 3.0, None, 10.0, {}, 13, id="A7 normal report"),
        pytest.param(10, 0.3, 3.0, 5.0, 10.0, {}, 8, id="A7 limited by quota"),
        pytest.param(10, 0.8, 1.0, None, 10.0, {}, 5, id="A7 overlap with share"),
        pytest.param(10, 0.0, 0.0, None, 10.0, {"oversold": 1.2}, 12, id="A7 all idle"),
        pytest.param(10, 0.9, 9.0, None, 15.0, {"most": 0.8}, 14, id="A7 usage over max"),
        pytest.param(96, 0.3, 28.8, None, 86.0, {}, 96, id="A7 limited by capacity rate, all CPUs lent"),
    ],
)
def test_utilisation_headroom_of_katalyst(
    cpus: int, each: float, guests: float, quota: float | None, last: float, tuning: dict[str, float], expected: int
) -> None:
    supply = Supply(cpus=cpus, busy=cpus * each, guests=guests, quota=quota)
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=96, reserved=0, last=last, supply=supply)
    offer = utilisation.advise(view, utilisation.Settings(**{"oversold": 1.5} | tuning))
    assert math.ceil(offer.amount - 1e-9) == expected, ON_PURPOSE["A7 whole cores"]


def test_utilisation_headroom_prints_how_it_came_about() -> None:
    supply = Supply(cpus=10, busy=3, guests=3)
    view = HeadroomView(kind=RECLAIMED_CPU, capacity=96, reserved=0, last=10, supply=supply)
    offer = utilisation.advise(view, utilisation.Settings(oversold=1.5))
    assert offer.arithmetic == "13.0 = 10.0 last + 10.0 supply x 0.30, at least 10.0, at most 15.0"


def test_the_plain_supply_is_the_canonical_sum_of_what_is_there() -> None:
    assert utilisation.supply(Supply(cpus=10, busy=3, guests=3)) == 10, "A7 util option disabled"
    for unknown in (Supply(cpus=10, guests=3), Supply(cpus=10, busy=3), Supply(cpus=10, busy=math.nan, guests=3)):
        view = HeadroomView(kind=RECLAIMED_CPU, capacity=32, reserved=2, claims=(Claim(20, "online"),), supply=unknown)
        assert utilisation.advise(view, utilisation.Settings()).amount == 10


@pytest.mark.parametrize(
    ("upper", "for_owners", "for_guests", "expected"),
    [
        pytest.param(90, 0, 0, 90, id="A8 no estimate"),
        pytest.param(90, 10, 0, 80, id="A8 reserved for allocate"),
        pytest.param(90, 0, 10, 100, id="A8 reserved for reclaim"),
    ],
)
def test_region_headroom_of_katalyst(upper: float, for_owners: float, for_guests: float, expected: float) -> None:
    """Its upper bound is what is left beside the guests' reserve, so ours is both together."""
    view = HeadroomView(
        kind=RECLAIMED_CPU, capacity=upper + for_guests, reserved=0, claims=(Claim(for_owners, "reserve"),)
    )
    assert canonical.advise(view, canonical.Settings()).amount == expected


# -- A9 --------------------------------------------------------------------------------------------------------------


def a_memory(capacity: float, *claims: Claim, reserved: float = 4.0, system: float = 0.0) -> float:
    """GiB in, GiB out. Katalyst's reserve for allocation is our margin; daemons and what is reserved are one there."""
    view = HeadroomView(
        kind=RECLAIMED_MEMORY,
        capacity=capacity * GIB,
        reserved=0,
        system=system * GIB,
        claims=tuple(Claim(claim.amount * GIB, claim.name, claim.ratio) for claim in claims),
    )
    return canonical.advise(view, canonical.Settings(memory_margin=reserved / capacity)).amount / GIB


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(a_memory(100, Claim(20, "online", 1.1), system=10), 64, id="A9 buffer off"),
        pytest.param(a_memory(100, Claim(30, "online", 1.1), system=10), 53, id="A9 more cache, before its buffers"),
        pytest.param(a_memory(500, Claim(250, "exclusive")), 246, id="A9 half a machine held alone"),
        pytest.param(a_memory(1000), 996, id="A9 no pods"),
        pytest.param(a_memory(1000, Claim(16, "requested")), 980, id="A9 two pods without metrics, 8 asked for each"),
        pytest.param(a_memory(1000, Claim(200, "requested")), 796, id="A9 a pod that asks for 200"),
    ],
)
def test_memory_headroom_of_katalyst(left: float, expected: float) -> None:
    assert left == pytest.approx(expected)


# -- profiles --------------------------------------------------------------------------------------------------------


def a_view(online: float, peak: float | None = 20.0, without: int = 0) -> HeadroomView:
    forecast = None if peak is None else Forecast(peak=peak, horizon=HOUR, versions=("v41",), without=without)
    return HeadroomView(
        kind=RECLAIMED_CPU, capacity=32, reserved=2, claims=(Claim(online, "online"),), forecast=forecast
    )


def test_what_is_foretold_is_not_offered_even_while_it_is_idle() -> None:
    """Golden vector 004-38."""
    offer = profile.advise(a_view(online=5.0), profile.Settings())
    assert offer.amount == pytest.approx(8.0)
    assert offer.arithmetic == ("8.0 = 32.0 capacity − 2.0 system − 20.0 online peak x 1.10; over 1h, by profiles v41")


def test_an_owner_above_its_profile_gets_what_it_claims_and_the_error_is_said() -> None:
    offer = profile.advise(a_view(online=25.0, without=2), profile.Settings())
    assert offer.amount == pytest.approx(5.0)
    assert offer.arithmetic == (
        "5.0 = 32.0 capacity − 2.0 system − 25.0 online; 3.0 more than foretold over 1h, by profiles v41, 2 owners without"
    )


@pytest.mark.parametrize("peak", [None, math.nan, math.inf, -1.0])
def test_a_forecast_that_is_none_does_not_count(peak: float | None) -> None:
    assert profile.advise(a_view(5.0, peak), profile.Settings()).amount == 25.0


def a_profile(name: str, *hours: float, version: str = "v41") -> ServiceProfile:
    return ServiceProfile(at=0, source="planner", key=f"shop/Pod/{name}", version=version, portrait={CPU: hours})


def test_the_peak_is_the_highest_hour_of_the_sum_and_the_others_count_with_what_they_use() -> None:
    pods = [Pod.of(a_pod("a", cores=8)), Pod.of(a_pod("b", cores=8)), Pod.of(a_pod("d", DEDICATED, cores=4))]
    tracks = {pod.uid: Track(10) for pod in pods}
    early, late = [1000.0] * 24, [1000.0] * 24
    early[9], late[10], late[20] = 6000.0, 3000.0, 30_000.0
    one, two = a_profile("a", *early), a_profile("b", *late, version="v7")
    assert profile_key(pods[0].workload) == one.key

    def peak(*profiles: ServiceProfile, at: float = 8.5 * HOUR, horizon: float = HOUR) -> Forecast | None:
        known = {profile.key: profile for profile in profiles}
        return foresee(RECLAIMED_CPU, pods, tracks, known, at=at, horizon=horizon)

    assert peak(one, two) == Forecast(peak=7.0, horizon=HOUR, versions=("v41", "v7"))
    assert peak(one, two, horizon=0) == Forecast(peak=2.0, horizon=0, versions=("v41", "v7"))
    assert peak(one) == Forecast(peak=14.0, horizon=HOUR, versions=("v41",), without=1), "b with its request"
    assert peak() is None
    assert peak(a_profile("a", 1.0, 2.0)) is None, "not 24 hours"
    midnight = peak(one, two, at=23.5 * HOUR, horizon=2 * HOUR)
    assert midnight is not None
    assert midnight.peak == 2.0, "the day after is like this one"


def test_a_profile_shrinks_the_offer_when_it_comes_and_lets_it_grow_again_when_it_goes() -> None:
    node = Node(a_pod("a", cores=8), headroom="headroom_profile", offer_drop=1.0, offer_rise=1.0)
    node.report(12, a=2.0)
    before = node.headroom.offer[RECLAIMED_CPU]
    node.hear(a_profile("a", *[20_000.0] * 24), "profiles/a")
    node.report(1, a=2.0)
    assert node.headroom.offer[RECLAIMED_CPU] == 8000
    assert "20.0 online peak x 1.10; over 1h, by profiles v41" in node.headroom.arithmetic[RECLAIMED_CPU]
    node.tell(Gone(node.at, PROFILES, "profiles/a"))
    node.report(12, a=2.0)
    assert node.headroom.offer[RECLAIMED_CPU] == before


# -- A11 -------------------------------------------------------------------------------------------------------------


def told(shape: Shape, amounts: list[float], step: float = 1.0, start: float = 0.0) -> list[float | None]:
    state, said = Smoothed(), list[float | None]()
    for index, amount in enumerate(amounts):
        state = push(state, start + index * step, amount, shape)
        said.append(state.told)
    return said


def test_average_window_of_katalyst_a11() -> None:
    shape, state, said = Shape(size=3, ttl=10, least=0.3, most=4), Smoothed(), []
    for at, amount in [*enumerate((0.6, 0.8, 0.4, 1.2, 1.4, 15)), (100, 0), (101, 0), (102, 0)]:
        state = push(state, float(at), amount, shape)
        said.append(state.told)
    assert said[:2] == [None, None]
    assert said[2:] == pytest.approx([0.6, 0.6, 1.0, 5.0, 5.0, 5.0, 1.0])


@pytest.mark.parametrize(
    ("size", "share", "amounts", "expected"),
    [
        pytest.param(5, 1.0, [1, 2, 1.5, 3, 2, 6, 5, 1, 1, 1, 1, 1], [3, 6, 6, 6, 6, 6, 5, 1], id="A11 p100"),
        pytest.param(5, 0.0, [1, 2, 1.5, 3, 2, 6, 5, 1, 1, 1, 1, 1], [1, 1.5, 1.5, 1, 1, 1, 1, 1], id="A11 p0"),
        pytest.param(10, 0.2, list(range(1, 13)), [2, 3, 4], id="A11 p20"),
    ],
)
def test_percentile_windows_of_katalyst(size: int, share: float, amounts: list[float], expected: list[float]) -> None:
    said = told(Shape(size=size, percentile=share), amounts)
    assert said == [None] * (size - 1) + expected


# -- offers that move slowly -----------------------------------------------------------------------------------------

CORES = RECLAIMED_CPU


def a_node(use: float = 4.0, **tuning: Any) -> Node:
    tuning = {"offer_rise": 1.0, "peak_reports": 1, "peak_seconds": 0.0} | tuning
    node = Node(a_pod("a", cores=20), a_pod("g", RECLAIMED), **tuning)
    node.report(12, a=use, g=1.0)
    return node


def test_a_rise_of_owners_spends_their_margin_before_what_guests_were_promised() -> None:
    node = a_node(12.0, offer_drop=0.02)
    before, guests = node.headroom.offer[CORES], len(node.cpus("reclaimed"))
    node.report(1, a=15.0, g=1.0)
    assert len(node.cpus("reclaimed")) >= before // 1000
    assert len(node.cpus("share")) >= 15 * 1.1
    assert node.headroom.offer[CORES] == before - 640
    assert "falling slowly from" in node.headroom.arithmetic[CORES]
    node.report(20, a=15.0, g=1.0)
    assert "falling" not in node.headroom.arithmetic[CORES]
    assert len(node.cpus("reclaimed")) < guests


def test_beyond_that_margin_pools_shrink_at_once_and_no_more_is_offered_than_guests_have_cpus() -> None:
    node = a_node(12.0, promise_margin=10.0)
    guests = len(node.cpus("reclaimed"))
    node.report(1, a=15.0, g=1.0)
    assert len(node.cpus("reclaimed")) < guests
    assert node.headroom.offer[CORES] <= 1000 * len(node.cpus("reclaimed"))
    assert "all CPUs that guests have" in node.headroom.arithmetic[CORES]


def test_a_full_pool_is_an_emergency() -> None:
    node = a_node()
    full = float(len(node.cpus("share")))
    node.report(1, a=full, g=1.0)
    assert f"at once: pool share uses {full:.1f} of the {full:.0f} CPUs it had" in node.headroom.arithmetic[CORES]


def test_an_owner_that_waits_is_an_emergency() -> None:
    node = a_node()
    node.report(1, a=7.0, g=1.0, stall=0.2)
    assert "at once: shop/a waited for a CPU 20% of the time" in node.headroom.arithmetic[CORES]


def test_owners_that_arrive_and_cpus_that_go_are_emergencies() -> None:
    node = a_node()
    placed = Placed(at=node.at, source="s", node="n", placement=a_pod("d", DEDICATED, cores=8), reason="")
    node.hear(placed)
    node.report(1, a=4.0, g=1.0, d=1.0)
    assert node.headroom.offer[CORES] <= (30 - 8 - 4) * 1000
    node = a_node()
    before = node.headroom.offer[CORES]
    node.hear(a_topology(usable="0-15"))
    node.report(1, a=4.0, g=1.0)
    assert node.headroom.offer[CORES] <= before - 15_000


def test_usage_that_is_stale_is_an_emergency() -> None:
    node = a_node()
    node.at += 20 * PERIOD
    node.tell(Tick(node.at, "advise"))
    assert node.headroom.offer[CORES] == 0
    assert node.headroom.stale


def test_short_memory_is_an_emergency_for_memory_only() -> None:
    node = a_node()
    node.report(1, a=4.0, g=1.0, memory=60)
    assert "at once: 6Gi of 128Gi memory available" in node.headroom.arithmetic[RECLAIMED_MEMORY]
    assert "at once" not in node.headroom.arithmetic[CORES]


# -- how long it lasts -----------------------------------------------------------------------------------------------


def a_past(*levels: int, step: float = 300.0) -> Past:
    return Past(
        tuple(Cell(index * step, level, level, level) for index, level in enumerate(levels)), (len(levels) - 1) * step
    )


def test_survival_is_read_from_how_often_such_a_share_was_taken() -> None:
    assert survival(Past()) == 0, "nothing is known yet"
    assert survival(a_past(*[10] * 13)) == HOUR, "as long as was watched"
    assert survival(a_past(10, 10, 10, 5)) == 300, "one of four was taken after 300 s, so less than nine of ten lived"
    assert survival(a_past(10, 10, 10, 5), confidence=0.6) == 600
    assert survival(a_past(10, 10, 10, 5), fraction=0.5) == 900, "half of it was never taken"
    assert survival(a_past(0, 0, 10, 10)) == 300, "nobody can have come while nothing was offered"


def test_a_promise_is_what_was_left_99_times_of_100() -> None:
    assert promised(a_past(10), horizon=600, confidence=0.99, now=10) == 0, "nothing was watched for so long"
    assert promised(a_past(10, 10, 10), horizon=600, confidence=0.99, now=10) == 10
    assert promised(a_past(10, 9, 7, 10, 10, 10), horizon=600, confidence=0.99, now=10) == 7
    assert promised(a_past(10, 9, 7, 10, 10, 10), horizon=600, confidence=0.25, now=10) == 10
    assert promised(a_past(30, 9, 7), horizon=600, confidence=0.99, now=10) == 0


def test_guests_are_told_how_long_they_may_expect_to_stay() -> None:
    node = a_node(survival_window=600.0 * PERIOD)
    node.report(60, a=4.0, g=1.0)
    assert node.headroom.survival[CORES] >= 50 * PERIOD
    assert node.headroom.promised[CORES] == node.headroom.offer[CORES]
    late = Placed(at=node.at, source="s", node="n", placement=a_pod("late", RECLAIMED), reason="")
    node.hear(late)
    assert "; 90% of such shares lasted 1h" in node.lines[-1].why
