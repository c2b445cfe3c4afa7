"""Golden numbers of service profiles: per core, across machine generations, by windows, size classes, baselines."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.common.model.profile import (
    KINDS,
    MEMORY_BANDWIDTH,
    POWER,
    Baseline,
    MachineType,
    Observation,
    ProfiledKind,
    Scaling,
    ServiceProfile,
    SizeClass,
    Window,
    is_baseline,
    per_core,
    predict,
    predicted,
    profile_key,
    ratio_matrix,
    sentinel,
    size_class,
    spd_request,
)
from neap.common.model.resource import LARGEST
from tests.unit.scheduler_world import an_owner

SPEEDS = {"M1": 1000.0, "M2": 2000.0, "M3": 4000.0}
MACHINES = {name: MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed}) for name, speed in SPEEDS.items()}
BANDWIDTH = KINDS[MEMORY_BANDWIDTH]


def seen(on: str, *windows: float, kind: str = MEMORY_BANDWIDTH, hours: float = 1.0) -> Observation:
    return Observation(
        kind=kind,
        machine=on,
        windows=tuple(Window(start=3600.0 * i, containers={"main": use}) for i, use in enumerate(windows)),
        pod_hours=hours,
    )


def amount(seen_on: list[Observation], cpu: int, target: str, kind: ProfiledKind = BANDWIDTH) -> int | None:
    found = predicted(kind, seen_on, cpu, target, MACHINES)
    return None if found is None else found.amount


def test_golden_usage_per_core_and_none_without_a_request() -> None:
    assert per_core(300 + 100, 4) == 100
    assert per_core(400, 0) is None


def test_golden_machine_ratio_is_worked_out_from_the_speeds() -> None:
    assert ratio_matrix(SPEEDS) == {
        "M1": {"M1": 1, "M2": 2, "M3": 4},
        "M2": {"M1": 0.5, "M2": 1, "M3": 2},
        "M3": {"M1": 0.25, "M2": 0.5, "M3": 1},
    }


def test_a_fourth_machine_needs_only_its_speed_and_the_direction_belongs_to_the_kind() -> None:
    matrix = ratio_matrix(SPEEDS | {"M4": 3000.0})
    assert (matrix["M1"]["M4"], matrix["M4"]["M3"]) == (3, 4000 / 3000)
    assert ratio_matrix(SPEEDS, Scaling.DOWN)["M1"] == {"M1": 1, "M2": 0.5, "M3": 0.25}
    assert ratio_matrix(SPEEDS, Scaling.NONE)["M1"] == {"M1": 1, "M2": 1, "M3": 1}
    assert ratio_matrix({"M1": 1000.0, "odd": 0.0, "lie": -1.0})["M1"] == {"M1": 1, "odd": None, "lie": None}


def test_golden_prediction_on_three_generations() -> None:
    matrix = ratio_matrix(SPEEDS)
    assert predict(100, 8) == 800
    assert [predict(100, 8, matrix["M1"][on] or 0) for on in ("M2", "M3")] == [1600, 3200]
    assert [amount([seen("M1", 100)], 8000, on) for on in SPEEDS] == [800, 1600, 3200]
    assert [amount([seen("M1", 10)], 8000, on) for on in SPEEDS] == [80, 160, 320]  # MB-3
    assert amount([seen("M3", 40)], 8000, "M1") == 80
    assert [amount([seen("M1", 150)], 1000, on) for on in ("M2", "M3")] == [300, 600]
    assert amount([seen("M3", 600)], 1000, "M1") == 150


def test_the_target_s_own_observation_wins_then_the_best_sampled() -> None:
    both = [seen("M1", 100, hours=40), seen("M2", 180, hours=400)]
    assert [amount(both, 1000, on) for on in ("M1", "M2", "M3")] == [100, 180, 360]


def test_an_unknown_machine_is_taken_at_ratio_one_and_said() -> None:
    found = predicted(BANDWIDTH, [seen("M1", 100)], 8000, "M9", MACHINES)
    assert found is not None
    assert (found.amount, found.ratio) == (800, 1.0)
    assert found.unsure == "speed of M1 or M9 unknown, taken as equal"
    known = predicted(BANDWIDTH, [seen("M1", 100)], 8000, "M2", MACHINES)
    assert known is not None
    assert known.unsure == ""


def test_nothing_is_predicted_from_nothing() -> None:
    assert amount([], 8000, "M1") is None
    assert amount([seen("M1")], 8000, "M1") is None, "no window"
    assert amount([seen("M1", 100)], 0, "M1") is None, "no CPU request"
    assert amount([seen("M1", math.nan), seen("M2", -5.0)], 8000, "M1") is None
    assert amount([seen("M1", 100, kind=POWER)], 8000, "M1") is None, "another kind"
    assert amount([seen("M1", 1e300)], 8000, "M1") == LARGEST


def test_a_kind_is_a_record_and_a_kind_nobody_knew_works() -> None:
    fpga = ProfiledKind(name="example.com/fpga-links", unit="links", per_core=False)
    assert amount([seen("M1", 3, kind=fpga.name)], 0, "M3", fpga) == 3
    assert amount([seen("M1", 2.5, kind=fpga.name)], 64_000, "M3", fpga) == 3
    cpu = ProfiledKind(name=MEMORY_BANDWIDTH, unit="milli-cores", scales=Scaling.DOWN)
    assert amount([seen("M1", 800)], 1000, "M2", cpu) == 400


def test_golden_spd_request_is_the_largest_window_summed_over_containers() -> None:
    assert spd_request([[10, 10], [20, 20]], 10) == 400
    windows = tuple(Window(start=0, containers={"a": use, "b": use}) for use in (10.0, 20.0))
    assert amount([Observation(kind=MEMORY_BANDWIDTH, machine="M1", windows=windows)], 10_000, "M1") == 400
    assert spd_request([], 10) == 0
    assert spd_request([[0.1]], 3) == 1
    assert spd_request([[0.07]], 100) == 7, "7.000000000000001 is a float's 7"


@pytest.mark.parametrize(
    ("demand", "size"),
    [(1, "small"), (1000, "small"), (1001, "medium"), (2000, "medium"), (2001, "large")],
)
def test_golden_size_classes_and_their_borders(demand: int, size: str) -> None:
    assert size_class(demand, 2000) == size


SIZES = st.integers(1, 6000)


@given(SIZES, SIZES, st.integers(2, 4000))
def test_size_classes_are_packing_guarantees(one: int, other: int, limit: int) -> None:
    classes = {size_class(one, limit), size_class(other, limit)}
    fits = one + other <= limit
    if classes == {SizeClass.SMALL}:
        assert fits
    if classes == {SizeClass.MEDIUM} or SizeClass.LARGE in classes:
        assert not fits


@given(st.sampled_from(list(SPEEDS)), st.integers(1, 4000))
def test_a_service_has_the_same_size_class_on_every_generation(on: str, demand: int) -> None:
    matrix = ratio_matrix(SPEEDS)
    classes = {size_class(demand * (matrix[on][to] or 0), SPEEDS[to]) for to in SPEEDS}
    assert len(classes) == 1


SPEED = st.floats(1, 1e6)


@given(st.dictionaries(st.text(max_size=3), SPEED, min_size=1, max_size=4), st.sampled_from(list(Scaling)))
def test_ratios_go_back_and_through(speeds: dict[str, float], scales: Scaling) -> None:
    matrix = {a: {b: ratio or 0.0 for b, ratio in row.items()} for a, row in ratio_matrix(speeds, scales).items()}
    for a in speeds:
        assert matrix[a][a] == 1
        for b in speeds:
            assert matrix[a][b] * matrix[b][a] == pytest.approx(1)
            assert all(matrix[a][c] == pytest.approx(matrix[a][b] * matrix[b][c]) for c in speeds)


def test_pods_of_one_deployment_share_a_profile_and_a_canary_has_its_own() -> None:
    feed = [profile_key(an_owner(uid, owner="Deployment/feed")) for uid in ("p1", "p2")]
    assert set(feed) == {"shop/Deployment/feed"}
    assert profile_key(an_owner("p3", owner="Deployment/feed-canary")) not in feed
    assert profile_key(an_owner("p4")) == "shop/Pod/p4"


PODS = [(1690848000.0, "pod1"), (1690848001.0, "pod2"), (1690848002.0, "pod3")]


def test_golden_baseline_sentinel_and_who_is_baseline() -> None:
    assert sentinel(reversed(PODS), 50) == PODS[1]
    assert sentinel(PODS[:1], 50) == PODS[0]
    assert [sentinel(PODS, percent) for percent in (None, 0, 100)] == [None] * 3
    assert sentinel([], 50) is None
    half = Baseline(percent=50, sentinel=PODS[1])
    assert [is_baseline(pod, half) for pod in PODS] == [True, True, False]
    assert not any(is_baseline(pod, Baseline(percent=percent)) for pod in PODS for percent in (None, 0))
    assert all(is_baseline(pod, Baseline(percent=100)) for pod in PODS)
    with pytest.raises(InputError, match="without a sentinel"):
        is_baseline(PODS[0], Baseline(percent=50))


def test_a_profile_survives_the_wire() -> None:
    profile = ServiceProfile(
        at=1.0,
        source="planner",
        key="shop/Deployment/feed",
        version="7",
        observations=(seen("M1", 100, 120),),
        baseline=Baseline(percent=50, sentinel=PODS[1]),
    )
    assert msgspec.json.decode(msgspec.json.encode(profile), type=ServiceProfile) == profile
