"""Every golden case of service profiles under its number: requirements 1.5, and the acceptance cases of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest

from neap.common.kube.katalyst import AggregatedMetrics, DescriptorSpec, DescriptorStatus
from neap.common.kube.own import TargetRef
from neap.common.kube.spd import indicators_of, observations_of, status_of
from neap.common.model.indicator import Concern, Indicator, Level, performance, targets
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
    Window,
    class_key,
    is_baseline,
    per_core,
    predicted,
    profile_key,
    ratio_matrix,
    sentinel,
    spd_request,
)
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.units import HOUR
from neap.console.core.descriptor import descriptor, read, text_of
from neap.foresight.series import Series
from neap.foresight.windows import group, window_of
from neap.planner.core.history.hours import Hours
from neap.planner.core.profiling.judging import judge
from neap.planner.core.profiling.portrait import grouped
from neap.scheduler.core.choice.rating import rate, rate_by_limit
from tests.unit.scheduler_world import an_owner

SPEEDS: Final = {"M1": 1000.0, "M2": 2000.0, "M3": 4000.0}
MATRIX: Final = {
    "M1": {"M1": 1, "M2": 2, "M3": 4},
    "M2": {"M1": 0.5, "M2": 1, "M3": 2},
    "M3": {"M1": 0.25, "M2": 0.5, "M3": 1},
}
BANDWIDTH: Final = KINDS[MEMORY_BANDWIDTH]
AUGUST: Final = 1724342400.0  # 2024-08-22T16:00:00Z
GOLDEN: Final = """\
status:
  aggMetrics:
  - aggregator: avg
    items:
    - timestamp: "2024-08-22T16:00:00Z"
      window: 1h0m0s
      containers:
      - name: main
        usage: {memory_bandwidth-M1: "100", memory_bandwidth-M2: "200", memory_bandwidth-M3: "400"}
"""


def types(**more: float) -> dict[str, MachineType]:
    table = SPEEDS | more
    return {name: MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed}) for name, speed in table.items()}


def seen(on: str, *windows: float, hours: float = 1.0, kind: str = MEMORY_BANDWIDTH) -> Observation:
    made = tuple(Window(start=AUGUST + 3600 * i, containers={"main": use}) for i, use in enumerate(windows))
    return Observation(kind=kind, machine=on, windows=made, pod_hours=hours)


def on(target: str, *observations: Observation, cores: float = 8, **more: float) -> int | None:
    found = predicted(BANDWIDTH, observations, int(cores * 1000), target, types(**more))
    return None if found is None else found.amount


def of_kind(kind: ProfiledKind, use: float, cores: float, target: str = "M1") -> int | None:
    found = predicted(kind, [seen("M1", use, kind=kind.name)], int(cores * 1000), target, types())
    return None if found is None else found.amount


def keys(*owners: str) -> list[str]:
    return [profile_key(an_owner(f"p{i}", owner=owner)) for i, owner in enumerate(owners)]


def rated(*left: float) -> list[float]:
    return rate(np.array(left, dtype=float)).tolist()


def windowed(how: str, *samples: tuple[float, float], least: int = 1) -> list[tuple[float, float]]:
    """As the planner keeps what a container used; milli-cores."""
    hours = Hours(1, CPU, least)
    for at, value in samples:
        hours.add(window_of(at, HOUR), np.zeros(1, np.intp), np.array([value / 1000]))
    told = hours.series(0, how, window_of(max(at for at, _ in samples), HOUR) + 1)
    return [(told.start + i * HOUR, round(v * 1000, 6)) for i, v in enumerate(told.values) if not math.isnan(v)]


def summed(*samples: tuple[float, float]) -> list[float]:
    values = np.full(3600, math.nan)
    for at, value in samples:
        values[int(at - AUGUST)] = value
    return group(Series(AUGUST, 1.0, values), HOUR, 1.0).sums.tolist()


def as_yaml(status: DescriptorStatus) -> str:
    import msgspec

    return text_of({"status": msgspec.to_builtins(status)})


def judged(*totals: float) -> tuple[bool, float]:
    found = judge([{"main": total} for total in totals], 0.25)
    return found.stable, found.total


PODS: Final = [(1690848000.0, "pod1"), (1690848001.0, "pod2"), (1690848002.0, "pod3")]
TWO: Final = [[10, 10], [20, 20]]
HALF: Final = Baseline(percent=50, sentinel=PODS[1])
SAMPLES: Final = ((AUGUST, 80.0), (AUGUST + 60, 100.0), (AUGUST + 3599, 120.0))
LATE: Final = (*SAMPLES, (AUGUST + 3600, 7.0), (AUGUST + 1, 100.0))


def business(name: str, lower: float | None, upper: float | None, current: float | None) -> Indicator:
    return Indicator(name=name, lower=lower, upper=upper, current=current)


SYSTEM: Final = [
    Indicator(name="cpu_sched_wait", concern=Concern.SYSTEM, lower=10, upper=100),
    Indicator(name="cpi", concern=Concern.SYSTEM, lower=1.4, upper=2.4),
]

CASES: Final[dict[str, tuple[Callable[[], Any], Any]]] = {
    "004-01 known types differ by the matrix": (lambda: [on(m, seen("M1", 100)) for m in SPEEDS], [800, 1600, 3200]),
    "004-01 an unknown type is ratio 1": (lambda: on("M9", seen("M1", 100)), 800),
    "004-03 a class has a key no service has": (lambda: class_key(QosClass.SHARED), "neap.class/QosClass/shared-cores"),
    "004-04 revisions of one Deployment": (lambda: len(set(keys("Deployment/feed", "Deployment/feed"))), 1),
    "004-04 a canary": (lambda: len(set(keys("Deployment/feed", "Deployment/feed-canary"))), 2),
    "004-04 a bare pod": (lambda: keys(""), ["shop/Pod/p0"]),
    "004-05": (lambda: per_core(300 + 100, 4), 100),
    "004-05 no request": (lambda: per_core(400, 0), None),
    "004-06": (lambda: on("M1", seen("M1", 100)), 800),
    "004-07 alike": (lambda: judged(*range(95, 105)), (True, 99.5)),
    "004-07 bimodal": (lambda: judged(*[50] * 5, *[500] * 5), (False, 500)),
    "004-07 one pod": (lambda: judged(70), (True, 70)),
    "004-08": (lambda: on("M2", seen("M1", 100)), 1600),
    "004-09": (lambda: ratio_matrix(SPEEDS), MATRIX),
    "004-10 up": (lambda: [on(m, seen("M1", 150), cores=1) for m in ("M2", "M3")], [300, 600]),
    "004-10 back": (lambda: on("M1", seen("M3", 600), cores=1), 150),
    "004-10 a fourth type is a row": (lambda: on("M4", seen("M1", 100), M4=3000.0), 2400),
    "004-10 down is the kind's": (lambda: ratio_matrix(SPEEDS, Scaling.DOWN)["M1"], {"M1": 1, "M2": 0.5, "M3": 0.25}),
    "004-10b best sampled": (lambda: on("M3", seen("M1", 100, hours=40), seen("M2", 180, hours=400), cores=1), 360),
    "004-10b observed": (lambda: on("M1", seen("M1", 100, hours=40), seen("M2", 180, hours=400), cores=1), 100),
    "004-11": (lambda: rated(1000, 1500, 2000), [0, 50, 100]),
    "004-12 equal": (lambda: rated(7, 7), [100, 100]),
    "004-12 one": (lambda: rated(7), [100]),
    "004-12 unknown": (lambda: rated(math.nan, 1, 2), [0, 0, 100]),
    "004-13 absolute": (lambda: rate_by_limit(np.array([2000.0, 2001]), np.array([4000.0, 4000])).tolist(), [50, 50.025]),
    "004-13b left after": (lambda: rated(700 - 180, 1100 - 720), [100, 0]),
    "004-14": (lambda: as_yaml(status_of(a_profile(), types().values())), GOLDEN),
    "004-15 avg": (lambda: windowed("avg", *SAMPLES), [(AUGUST, 100)]),
    "004-15 max": (lambda: windowed("max", *SAMPLES), [(AUGUST, 120)]),
    "004-15 sum": (lambda: summed(*SAMPLES), [300]),
    "004-16 a late sample is in its own window": (lambda: windowed("avg", *LATE), [(AUGUST, 100), (AUGUST + 3600, 7)]),
    "004-16 too few are absent": (lambda: windowed("avg", *LATE, least=2), [(AUGUST, 100)]),
    "004-42 network, per pod": (lambda: of_kind(KINDS["neap.io/network"], 100, 4, "M3"), 400),
    "004-42 power does not scale": (lambda: of_kind(KINDS[POWER], 100, 4.2, "M3"), 420),
    "004-42 a kind nobody knew": (lambda: of_kind(ProfiledKind(name="x/y", unit="z", per_core=False), 3, 0, "M3"), 3),
    "MB-3": (lambda: [on(m, seen("M1", per_core(60 + 20, 8) or 0)) for m in SPEEDS], [80, 160, 320]),
    "MB-3 from M3": (lambda: on("M1", seen("M3", 40)), 80),
    "MB-3 a native key": (lambda: on("M1", seen("M3", 40, hours=99), seen("M1", 11, hours=1)), 88),
    "MB-4": (lambda: (rated(1000, 1500, 2000), rated(5, 5), rated(5)), ([0, 50, 100], [100, 100], [100])),
    "MB-5": (lambda: spd_request(TWO, 10), 400),
    "AC-9 sentinel": (lambda: sentinel(reversed(PODS), 50), PODS[1]),
    "AC-9 one pod": (lambda: sentinel(PODS[:1], 50), PODS[0]),
    "AC-9 none": (lambda: [sentinel([], 50), *(sentinel(PODS, p) for p in (None, 0, 100))], [None] * 4),
    "AC-9 membership": (lambda: [is_baseline(pod, HALF) for pod in PODS], [True, True, False]),
    "AC-9 all": (lambda: {is_baseline(pod, Baseline(percent=100)) for pod in PODS}, {True}),
    "AC-9 nobody": (lambda: {is_baseline(pod, Baseline(percent=p)) for pod in PODS for p in (0, None)}, {False}),
    "AC-10 bandwidth": (lambda: spd_request(TWO, 10), 400),
    "AC-10 series": (lambda: two_by_two().sums, (20, 40)),
    "AC-10 good": (lambda: performance([business("RPCLatency", 10, 100, 40)]), Level.GOOD),
    "AC-10 poor": (lambda: performance([business("a", None, 50, 60), business("b", 10, 100, 40)]), Level.POOR),
    "AC-10 perfect": (lambda: performance([business("a", 20, None, 10)]), Level.PERFECT),
    "AC-10 no reading": (lambda: performance([business("a", 20, 30, None)]), Level.UNKNOWN),
    "AC-10 targets": (lambda: targets(SYSTEM), {"cpu_sched_wait": (10, 100), "cpi": (1.4, 2.4)}),
    "AC-28": (lambda: (grouped([10, 20], 2, "avg"), grouped([10, 20], 2, "max")), ([15], [20])),
}  # fmt: skip


def two_by_two() -> Observation:
    windows = tuple(Window(start=0, containers={"a": use, "b": use}) for use in (10.0, 20.0))
    return Observation(kind=MEMORY_BANDWIDTH, machine="M1", windows=windows)


def a_profile(*observations: Observation, **more: Any) -> ServiceProfile:
    told = observations or (seen("M1", 100e6),)
    return ServiceProfile(
        **{"at": 0.0, "source": "t", "key": "s/Deployment/w", "version": "1"} | more, observations=told
    )


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    made, wanted = CASES[case]
    assert made() == wanted


# -- 004-14: to the byte ---------------------------------------------------------------------------------------------


def test_the_yaml_of_the_slides_is_written_as_it_was_read() -> None:
    text = f"spec:\n  targetRef: {{kind: Deployment, name: w}}\n{GOLDEN}"
    told = read(text)
    assert as_yaml(told.status) == GOLDEN
    profile = a_profile(*observations_of(told.status))
    assert [one.machine for one in profile.observations] == ["M1", "M2", "M3"]
    assert as_yaml(status_of(profile, types().values())) == GOLDEN, "also by way of a profile"
    whole = descriptor(profile, types().values())
    assert descriptor(a_profile(*observations_of(read(whole).status)), types().values()) == whole
    assert GOLDEN in whole


def test_windows_are_written_on_the_hour_with_fractions_in_thousandths() -> None:
    window = Window(start=AUGUST + 59.0, containers={"b": 1.5e6, "a": 1e6 / 3})
    told = status_of(a_profile(Observation(kind=MEMORY_BANDWIDTH, machine="", windows=(window,))), ())
    [item] = (told.agg_metrics or ())[0].items or ()
    assert (item.timestamp, item.window) == ("2024-08-22T16:00:00Z", "1h0m0s")
    usages = [(one.name, one.usage) for one in item.containers or ()]
    assert usages == [("a", {"memory_bandwidth": "334m"}), ("b", {"memory_bandwidth": "1500m"})]
    assert as_yaml(read(descriptor(a_profile(*observations_of(told)), ())).status) == as_yaml(told)


def test_what_is_not_known_is_not_written() -> None:
    assert status_of(a_profile(seen("M1", math.nan)), types().values()) == DescriptorStatus()
    assert observations_of(DescriptorStatus(agg_metrics=(AggregatedMetrics(aggregator="max"),))) == ()


def test_indicators_of_a_descriptor_have_their_bounds_and_what_business_says_now() -> None:
    spec = DescriptorSpec(
        target_ref=TargetRef(kind="Deployment", name="w"),
        business_indicator=(
            {"name": "RPCLatency", "indicators": [{"indicatorLevel": "LowerBound", "value": 10}, {"indicatorLevel": "UpperBound", "value": 100}]},
            {"name": "", "indicators": "nonsense"}, "nonsense",
        ),
        system_indicator=({"name": "cpi", "indicators": [{"indicatorLevel": "UpperBound", "value": 2.4}, {"indicatorLevel": "Sideways"}]},),
    )  # fmt: skip
    found = indicators_of(spec, DescriptorStatus(business_status=({"name": "RPCLatency", "current": 60}, 7)))
    assert found == (
        business("RPCLatency", 10, 100, 60),
        Indicator(name="cpi", concern=Concern.SYSTEM, upper=2.4),
    )
    assert performance(found) is Level.GOOD
