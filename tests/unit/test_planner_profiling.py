"""The profiles desk: what is measured, what is told of it and when, and what people told stays theirs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from neap.common.contract.catalogue import MACHINE_TYPES, PROFILES
from neap.common.errors import SettingsError
from neap.common.model.profile import (
    KINDS,
    MEMORY_BANDWIDTH,
    Baseline,
    Observation,
    ProfiledKind,
    ServiceProfile,
    class_key,
    predicted,
)
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Container
from neap.common.runtime.machine import Arrived
from neap.planner.core.profiling.settings import ProfilingSettings
from tests.unit.planner_profiles_world import HOUR, START, World, feed, used
from tests.unit.policy_world import a_policy, an_edition
from tests.unit.scheduler_world import an_owner

FEED = "shop/Deployment/feed"
LATE = 900.0


def seen(world: World, kind: str = MEMORY_BANDWIDTH, key: str = FEED) -> dict[str, Observation]:
    """By machine type."""
    profile = world.told.get(key)
    return {one.machine: one for one in profile.observations if one.kind == kind} if profile is not None else {}


def test_bandwidth_is_told_per_requested_core_by_machine_type_and_hour() -> None:
    world = World()
    world.label("n1", "M1")
    world.run(*feed(2, cores=4))
    for amount in (300.0, 500.0):
        world.use({"feed-0": amount, "feed-1": amount})
    world.live(1.5)
    one = seen(world)["M1"]
    assert [(window.start, window.containers) for window in one.windows] == [(START, {"main": 100.0})]
    assert (one.stable, one.spread, one.pod_hours) == (True, 0.0, pytest.approx(0.1, abs=0.05))
    found = predicted(KINDS[MEMORY_BANDWIDTH], [one], 8000, "M1", {})
    assert found is not None
    assert found.amount == 800
    assert world.ask(FEED).profile == world.told[FEED]


def test_machine_types_have_observations_of_their_own_also_the_one_nobody_named() -> None:
    world = World()
    world.label("n2", "M2")
    first, second = feed(2)
    world.run(first)
    world.run(second, on="n2")
    world.use({"feed-0": 100})
    world.use({"feed-1": 200}, on="n2")
    world.live(1.5)
    assert {machine: one.peak for machine, one in seen(world).items()} == {"": 100, "M2": 200}
    assert "speed of a machine or M2 unknown" in (predicted(KINDS[MEMORY_BANDWIDTH], [seen(world)[""]], 1000, "M2", {}) or Any).unsure  # type: ignore[union-attr]  # fmt: skip


def test_without_a_cpu_request_there_is_no_value_per_core_and_that_is_said() -> None:
    world = World()
    world.run(an_owner("p", owner="Deployment/feed", containers=(Container(name="main", requests={}),)))
    world.report(used("p", bandwidth=100.0))
    world.live(1.5)
    assert seen(world) == {}
    assert "no value per core: cpu request missing" in world.ask(FEED).says


def test_pods_that_differ_count_by_their_90th_percentile_and_it_is_said() -> None:
    world = World()
    world.run(*feed(10))
    world.use({f"feed-{i}": 50.0 if i % 2 else 500.0 for i in range(10)})
    world.live(1.5)
    one = seen(world)[""]
    assert (one.stable, one.peak, one.spread) == (False, 500, pytest.approx(0.818, abs=0.001))
    assert "unstable: pods differ by 82%; p90 counts, not the mean" in world.ask(FEED).says
    alike = World()
    alike.run(*feed(10))
    alike.use({f"feed-{i}": 95.0 + i for i in range(10)})
    alike.live(1.5)
    assert (seen(alike)[""].stable, seen(alike)[""].peak) == (True, 99.5)
    assert "unstable" not in alike.ask(FEED).says


def test_the_containers_of_a_pod_keep_their_names() -> None:
    world = World()
    two = (Container(name="app", requests={CPU: 1000}), Container(name="proxy", requests={CPU: 1000}))
    pod = an_owner("p", owner="Deployment/feed", containers=two)
    world.run(pod)
    world.report(used("p", container="x", cgroup="/x", bandwidth=60.0))
    assert world.counts["of a container nobody named"] == 1
    world.start(pod, app="x", proxy="y")
    both = (
        used("p", container="x", cgroup="/x", bandwidth=60.0),
        used("p", container="y", cgroup="/y", bandwidth=20.0),
    )
    world.report(*both)
    world.live(1.5)
    assert seen(world)[""].windows[0].containers == {"app": 30.0, "proxy": 10.0}, "per core of the whole pod"


def test_a_late_sample_is_in_its_own_window_and_one_that_is_too_late_in_none() -> None:
    world = World()
    world.run(*feed(1))
    world.use({"feed-0": 100})
    world.at = START + HOUR + LATE - 60
    world.use({"feed-0": 300}, at=START + 30)
    world.use({"feed-0": 1})
    world.live(0.25, step=60)
    assert seen(world)[""].peak == 200
    world.use({"feed-0": 9e9}, at=START + 30)
    world.live(3)
    assert (seen(world)[""].peak, world.counts["late"]) == (200, 1)


def test_too_few_samples_are_no_window() -> None:
    world = World(samples=3)
    world.run(*feed(1))
    world.use({"feed-0": 100})
    world.use({"feed-0": 100})
    world.live(1.5)
    assert world.told == {}
    answer = world.ask(FEED)
    assert (answer.profile, answer.says) == (None, "profile: none, no window of it is complete")


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf, 1e300])
def test_what_is_no_amount_is_named_and_left_out(amount: float) -> None:
    world = World()
    world.run(*feed(1))
    world.use({"feed-0": amount})
    world.use({"feed-0": 40})
    world.live(1.5)
    assert (seen(world)[""].peak, world.counts["no amount"]) == (40, 1)


def test_reports_from_the_future_and_of_strangers_are_named_and_left_out() -> None:
    world = World()
    world.use({"nobody": 1.0})
    world.use({"feed-0": 1.0}, at=world.at + 10 * HOUR)
    world.use({"feed-0": 1.0}, at=math.nan)
    world.use({"feed-0": 1.0}, period=0.0)
    world.live(2)
    assert world.told == {}
    assert world.counts == {"of a pod nobody placed": 1, "from the future": 2, "without a period": 1}


def test_a_short_report_says_nothing_new_of_those_it_does_not_list() -> None:
    world = World()
    world.run(*feed(2))
    world.use({"feed-0": 100, "feed-1": 100})
    world.use({"feed-0": 300}, since=1)
    world.live(1.5)
    assert seen(world)[""].spread == pytest.approx(1 / 3, abs=0.01), "200 and 100"


# -- what is told, and when ------------------------------------------------------------------------------------------


def test_a_profile_that_hardly_changes_keeps_its_version_for_a_day() -> None:
    world = World()
    world.run(*feed(1))
    world.use({"feed-0": 100})
    world.live(1.5)
    first = world.told[FEED]
    for _ in range(5):
        world.use({"feed-0": 105})
        world.live(1)
    assert world.told[FEED] is first
    world.use({"feed-0": 130})
    world.live(2)
    assert [profile.version == first.version for profile in world.puts] == [True, False]
    assert len(first.version) == 12
    world.use({"feed-0": 131})
    world.live(22)
    assert len(world.puts) == 2
    world.live(3)
    assert [one.observations[0].peak for one in world.puts] == [100, 130, 131], "lesser changes once a day"


def test_the_same_content_has_the_same_version_whenever_it_is_told() -> None:
    versions = set()
    for later in (0.0, 60.0):
        world = World()
        world.at += later
        world.run(*feed(1))
        world.use({"feed-0": 100})
        world.live(1.5)
        versions.add(world.told[FEED].version)
    assert len(versions) == 1


def test_what_people_told_is_never_written_over_and_what_was_measured_waits_beside_it() -> None:
    theirs = ServiceProfile(at=START, source="gateway", key=FEED, version="g1", baseline=Baseline(percent=50))
    world = World({FEED: theirs})
    world.run(*feed(1))
    world.use({"feed-0": 100})
    world.live(2)
    assert world.puts == []
    answer = world.ask(FEED)
    assert answer.profile == theirs
    assert [one.peak for one in answer.measured.observations] == [100]
    assert answer.says.startswith("told by the gateway; what was measured is not put in its place")
    world.lose_profile(FEED)
    world.live(1)
    assert [profile.source for profile in world.puts] == ["planner"]


def test_the_next_life_goes_on_from_what_is_stored() -> None:
    first = World()
    first.label("n1", "M1")
    first.run(*feed(1))
    first.use({"feed-0": 100})
    first.record.give(FEED, [1.0] * 24, [1e6] * 24)
    first.live(1.5)
    second = World(first.told)
    second.label("n1", "M1")
    second.run(*feed(1))
    second.live(3)
    assert second.puts == [], "nothing is news, though nothing was measured yet"
    second.use({"feed-0": 200})
    second.live(2)
    assert [window.containers["main"] for window in seen(second)["M1"].windows] == [200], "the day's busiest hour"
    assert second.told[FEED].portrait == first.told[FEED].portrait, "what is not known any more stands"


def test_only_so_many_services_are_looked_at_in_one_go_and_all_within_the_hour() -> None:
    world = World(most=10)
    for i in range(95):
        world.run(*feed(1, name=f"s{i}"))
        world.use({f"s{i}-0": 100.0}, on=f"n{i}")
    world.at += HOUR + LATE
    told = []
    for _ in range(12):
        before = len(world.puts)
        world.plan()
        told.append(len(world.puts) - before)
    assert max(told) <= 11, "ten services, and their class"
    assert sum(told) == 95 + 1


def test_a_service_that_is_gone_is_forgotten_in_time() -> None:
    world = World(forget=48 * HOUR)
    world.run(*feed(1))
    world.use({"feed-0": 100})
    world.live(2)
    world.end("feed-0")
    world.live(40, step=HOUR)
    assert FEED in world.told
    world.live(30, step=HOUR)
    assert FEED not in world.told
    assert world.desk.answer(replace(_request(), name="feed")).profile is None


def test_a_stored_profile_under_a_key_that_is_none_is_nobodys() -> None:
    world = World(forget=HOUR)
    odd = ServiceProfile(at=START, source="planner", key="odd", version="1", used={"cpu": 10.0})
    world.hear(Arrived(START, odd, "shop.Deployment.feed"))
    world.live(3, step=HOUR)
    assert not world.puts


def _request() -> Any:
    from neap.common.model.profile import ProfileRequest

    return ProfileRequest(namespace="shop", kind="Deployment", name="feed")


# -- portraits, classes, baselines, machine types ---------------------------------------------------------------------


def test_a_portrait_has_whole_amounts_for_every_hour_once_a_day_is_known() -> None:
    world = World()
    world.run(*feed(1))
    world.record.give(FEED, [0.1] * 23, [1e6] * 23)
    world.live(1.5)
    assert world.told[FEED].portrait == {}
    assert "no portrait" in world.ask(FEED).says
    start = int(START // HOUR) % 24
    world.record.give(FEED, [0.5 + i / 1000 for i in range(48)], [1e9 + i for i in range(48)])
    world.live(1)
    portrait = world.told[FEED].portrait
    assert {kind: len(hours) for kind, hours in portrait.items()} == {CPU: 24, MEMORY: 24}
    assert portrait[CPU][start] == 524, "the higher of two days, in milli-cores"
    assert portrait[MEMORY][start] == 1e9 + 24
    assert world.told[FEED].used[CPU] == pytest.approx(547, rel=0.07), "the end of a histogram's bucket"


def test_a_service_nobody_measured_has_the_median_demand_of_its_class() -> None:
    world = World()
    for i, amount in enumerate((100.0, 200.0, 900.0)):
        world.run(*feed(1, name=f"s{i}"))
        world.use({f"s{i}-0": amount}, on=f"n{i}")
    world.run(*feed(1, name="new"))
    world.live(2)
    shared = world.told[class_key(QosClass.SHARED)]
    assert [one.peak for one in shared.observations] == [200]
    answer = world.ask("shop/Deployment/new")
    assert answer.profile is None
    assert answer.says.startswith("profile: none, no window of it is complete, that of its class neap.class/QosClass/")
    assert PROFILES.at(namespace="neap.class", kind="QosClass", name="shared-cores").subject


def test_the_oldest_pods_are_baseline_and_the_youngest_of_them_is_named() -> None:
    world = World(baseline=50)
    for pod in feed(3):
        world.run(pod)
        world.at += 1
    world.live(1.5)
    assert world.told[FEED].baseline == Baseline(percent=50, sentinel=(START + 1, "feed-1"))


def test_a_baseline_of_one_service_comes_by_policy() -> None:
    from neap.common.contract.catalogue import POLICY
    from neap.common.runtime.machine import Synced

    world = World()
    document = a_policy("b", an_edition({"profiling.baseline": 100}, f"service={FEED}"), room="planner")
    world.hear(Arrived(START, document))
    world.hear(Synced(START, POLICY))
    world.run(*feed(1), *feed(1, name="other"))
    world.live(1.5)
    assert {key: told.baseline.percent for key, told in world.told.items()} == {FEED: 100}


def test_the_table_of_machine_types_is_told_and_a_fourth_type_is_one_row_of_policy() -> None:
    from neap.common.contract.catalogue import POLICY
    from neap.common.runtime.machine import Synced

    world = World(machines={"M1": {MEMORY_BANDWIDTH: 1000.0}})
    world.plan()
    assert world.types is not None
    assert [one.name for one in world.types.types] == ["M1"]
    row = an_edition({"profiling": {"machines": {"M4": {MEMORY_BANDWIDTH: 3000}}}})
    world.hear(Arrived(START, a_policy("m", row, room="planner")))
    world.hear(Synced(START, POLICY))
    world.plan()
    assert [(one.name, one.speeds[MEMORY_BANDWIDTH]) for one in world.types.types] == [("M1", 1000), ("M4", 3000)]
    assert MACHINE_TYPES.decode(MACHINE_TYPES.encode(world.types)) == world.types


def test_a_kind_from_the_settings_is_measured_by_the_fields_it_names() -> None:
    kind = ProfiledKind(name="example.com/cards", unit="cards", per_core=False, measured=("gpu",))
    world = World(kinds={"cards": kind})
    world.run(*feed(1))
    world.report(used("feed-0", gpu=1.5))
    world.live(1.5)
    assert seen(world, kind.name)[""].peak == 1.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"machines": {"M1": {MEMORY_BANDWIDTH: 0.0}}},
        {"machines": {"": {}}},
        {"machines": {"M1": {MEMORY_BANDWIDTH: math.inf}}},
        {"kinds": {"k": ProfiledKind(name="k", unit="", measured=("nothing",))}},
    ],
)
def test_a_table_that_does_not_hold_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ProfilingSettings(**wrong)
