"""Placing by load: windows over time, thresholds, targets, portraits, and what all that does against requests alone."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest

from neap.common.contract.catalogue import PROFILES
from neap.common.errors import SettingsError
from neap.common.model.placement import Placement
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import CPU
from neap.common.model.workload import Workload
from neap.common.units import GIB, KIB, MINUTE
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.load import USED_BY_OWNERS
from neap.scheduler.core.nodes.portraits import GUESSED, PORTRAITS
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.windows import day_of, histogram_of, hour_of, mean_of, percentile
from neap.scheduler.core.pods.estimate import Guess, estimate
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.plugins import allocation, fit, load_aware
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies as wired
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_offer, an_owner, policies

CPU_USED = USED_BY_OWNERS[0]
CPU_ONLY = {"memory_weight": 0.0}


def live(table: NodeTable, cores: dict[str, float], minutes: int, *, start: int = 0, free: int = 32 * GIB) -> int:
    """Nodes that use this much, reported every 20 s; returns the minute at which it is then."""
    for minute in range(start, start + minutes):
        for second in (0.0, 20.0, 40.0):
            at = minute * MINUTE + second
            for node, used in cores.items():
                table.measure(a_usage(node, at=at, cpu=used, free=free), at)
            table.expire(at)
    table.expire((start + minutes) * MINUTE)
    return start + minutes


def a_table(*names: str, cores: float = 32, gib: int = 64) -> NodeTable:
    table = NodeTable()
    for name in names:
        table.describe(a_node(name, cores=cores, gib=gib))
    return table


def scores(table: NodeTable, pod: Pod, **settings: Any) -> list[float]:
    found = load_aware.idle(pod, table.view(), load_aware.Settings(**settings))
    assert found is not None
    return [round(float(score), 6) for score in found]


def failed(table: NodeTable, pod: Pod, **settings: Any) -> dict[str, str]:
    """By reason, what is said of the first row, where a rule rejects it."""
    rules = load_aware.cool(pod, table.view(), load_aware.Settings(**settings))
    told = {}
    for rule in rules:
        assert rule.near is not None
        near = rule.near()
        assert ((near.missing > 0) == ~rule.passes).all()
        if not rule.passes[0]:
            told[rule.reason] = near.tell(0)
    return told


# -- windows ---------------------------------------------------------------------------------------------------------


def test_the_mean_is_of_15_minutes_and_unknown_until_two_thirds_of_them_were_seen() -> None:
    table = a_table("n1")
    now = live(table, {"n1": 10.0}, 9)
    assert np.isnan(table.columns[mean_of(CPU_USED)][0])
    now = live(table, {"n1": 10.0}, 1, start=now)
    assert table.columns[mean_of(CPU_USED)][0] == 10_000
    now = live(table, {"n1": 25.0}, 5, start=now)
    assert table.columns[mean_of(CPU_USED)][0] == 15_000
    live(table, {"n1": 25.0}, 15, start=now)
    assert table.columns[mean_of(CPU_USED)][0] == 25_000


def test_hour_and_day_are_the_largest_minutes_and_forget_them_in_time() -> None:
    table = a_table("n1")
    now = live(table, {"n1": 2.0}, 60)
    now = live(table, {"n1": 30.0}, 1, start=now)
    now = live(table, {"n1": 2.0}, 14, start=now)
    assert table.columns[hour_of(CPU_USED)][0] == 30_000
    assert np.isnan(table.columns[day_of(CPU_USED)][0]), "an hour says nothing about a day"
    now = live(table, {"n1": 2.0}, 60, start=now)
    assert table.columns[hour_of(CPU_USED)][0] == 2_000
    now = live(table, {"n1": 2.0}, 15 * 60, start=now)
    assert table.columns[day_of(CPU_USED)][0] == 30_000
    live(table, {"n1": 2.0}, 10 * 60, start=now)
    assert table.columns[day_of(CPU_USED)][0] == 2_000


def test_minutes_without_a_report_are_unknown_once_the_last_one_is_stale() -> None:
    table = a_table("n1", "n2")
    now = live(table, {"n1": 10.0, "n2": 10.0}, 15)
    now = live(table, {"n2": 10.0}, 12, start=now)
    assert np.isnan(table.columns[mean_of(CPU_USED)]).tolist() == [True, False]
    live(table, {"n1": 10.0, "n2": 10.0}, 10, start=now)
    assert table.columns[mean_of(CPU_USED)].tolist() == [10_000, 10_000]


def test_reports_that_come_seldom_stand_for_their_period() -> None:
    table = a_table("n1")
    for minute in range(0, 31, 2):
        at = minute * MINUTE
        table.measure(a_usage("n1", at=at, cpu=10.0, period=120.0), at)
        table.expire(at)
    assert table.columns[mean_of(CPU_USED)][0] == 10_000


def test_a_restarted_scheduler_knows_nothing_of_the_past_and_says_so() -> None:
    before = a_table("n1")
    live(before, {"n1": 10.0}, 20)
    table = a_table("n1")
    table.measure(a_usage("n1", at=1200.0, cpu=30.0), 1200.0)
    table.expire(1200.0)
    pod = pod_of(an_owner("u1"))
    (said,) = failed(table, pod).values()
    assert said == (
        "owners used 30 of 32 cores, 94%, of {node} at the last report "
        "(what was used in the last 15 minutes is not known yet), at most 65% allowed"
    )
    assert not failed(before, pod)


def test_the_percentile_of_a_days_minutes() -> None:
    table = a_table("n1")
    now = live(table, {"n1": 3.1}, 90)
    live(table, {"n1": 30.0}, 10, start=now)
    histogram = table.columns[histogram_of(CPU_USED)]
    assert percentile(histogram, 0.5).tolist() == [0.10]
    assert percentile(histogram, 0.95).tolist() == [0.94]
    assert np.isnan(percentile(np.zeros((1, 50), dtype=np.float32), 0.9)).all()
    pod = pod_of(an_owner("u1"))
    assert failed(table, pod, cpu_limit=0.7) == {}, "the mean is below"
    assert list(failed(table, pod, cpu_limit=0.7, limit_on="p95")) == ["owners use over 70% of cpu"]
    assert failed(table, pod, cpu_limit=0.95, limit_on="p95") == {}


def test_memory_per_node_does_not_grow_with_time() -> None:
    table = a_table("n1")
    live(table, {"n1": 1.0}, 1)
    before = {name: table.columns[name].nbytes for name in table.columns.names}
    live(table, {"n1": 1.0}, 200, start=1)
    assert {name: table.columns[name].nbytes for name in table.columns.names} == before


# -- thresholds and scores -------------------------------------------------------------------------------------------


def test_golden_thresholds_look_at_the_15_minute_mean() -> None:
    limits = {"cpu_limit": 0.60, "memory_limit": 0.80}
    memory = 64 * GIB - 5_035_916 * KIB
    for cores, now, rejected in ((1.088, 31.0, False), (21.088, 0.1, True)):
        table = a_table("n1")
        minute = live(table, {"n1": cores}, 15, free=memory)
        table.measure(a_usage("n1", at=minute * MINUTE, cpu=now, free=memory), minute * MINUTE)  # a peak does not count
        told = failed(table, pod_of(an_owner("u1")), **limits)
        assert bool(told) is rejected
        if rejected:
            assert told["owners use over 60% of cpu"] == (
                "owners used 21.088 of 32 cores, 66%, of {node} in the last 15 minutes, at most 60% allowed"
            )


@pytest.mark.parametrize(
    ("target", "used", "expected"),
    [(50, 10, 60), (50, 60, 40), (50, -1, 50), (50, 101, 0), (30, 0.1, 30), (100, 40, 100)],
)
def test_golden_target_packing(target: float, used: float, expected: float) -> None:
    assert int(load_aware.target_score(np.array([float(used)]), target)[0]) == expected


@pytest.mark.parametrize("target", [0.0, -1.0, 100.5, float("nan")])
def test_a_target_out_of_bounds_is_an_error(target: float) -> None:
    with pytest.raises(ValueError, match="is not above 0 and at most 100"):
        load_aware.target_score(np.zeros(1), target)
    with pytest.raises(SettingsError, match="load_aware"):
        wired(Settings(tune={"load_aware.cpu_target": target / 100}))


def test_target_packing_prefers_the_node_nearest_to_the_target() -> None:
    table = a_table("idle", "half", "full")
    live(table, {"idle": 1.0, "half": 14.0, "full": 28.0}, 1)
    pod = pod_of(an_owner("u1", cores=2))
    found = scores(table, pod, score="target", **CPU_ONLY)
    assert found == [58.4375, 99.0625, 7.1875]  # (1 + 1.7) / 32 = 8.4 %, 49.1 %, 92.8 %


def test_windows_are_weighed_30_30_40_and_only_the_recent_one_gets_pods_not_yet_measured() -> None:
    table = a_table("n1")
    now = live(table, {"n1": 24.0}, 17 * 60)
    live(table, {"n1": 8.0}, 75, start=now)
    pod = pod_of(an_owner("u1", cores=4))
    cycle = Cycle(table, policies("fit"))
    cycle.decide(pod_of(an_owner("f1", cores=4)), 1e6)
    recent, hour, day = 100 * (32 - 8 - 3.4 - 3.4) / 32, 75.0, 25.0
    assert scores(table, pod, **CPU_ONLY) == [round(0.3 * recent + 0.3 * hour + 0.4 * day, 6)]
    assert scores(table, pod, **CPU_ONLY, day_weight=0.0) == [(recent + hour) / 2]
    guest = pod_of(a_guest("g1", cores=4))
    assert scores(table, guest, **CPU_ONLY) == scores(table, pod, **CPU_ONLY)


def test_a_pod_that_has_just_started_counts_before_the_mean_shows_it() -> None:
    table = a_table("n1")
    minute = live(table, {"n1": 2.0}, 15)
    table.measure(a_usage("n1", at=minute * MINUTE + 1, cpu=18.0), minute * MINUTE + 1)
    assert scores(table, pod_of(an_owner("u1", cores=0)), **CPU_ONLY)[0] < 50


def test_where_only_pods_that_ask_are_placed_by_load() -> None:
    table = a_table("n1")
    live(table, {"n1": 31.0}, 1)
    plain, asking, refusing = (
        pod_of(an_owner("u1", annotations=annotations))
        for annotations in ({}, {"neap.io/load-aware": "true"}, {"neap.io/load-aware": "false"})
    )
    for pod in (plain, asking, refusing):
        assert failed(table, pod), "without the switch all pods are, whatever they say"
    assert failed(table, asking, asked_only=True)
    for pod in (plain, refusing):
        settings = load_aware.Settings(asked_only=True)
        assert load_aware.cool(pod, table.view(), settings) == ()
        assert load_aware.idle(pod, table.view(), settings) is None
    assert asking.shape != plain.shape


def test_weights_that_leave_nothing_to_look_at_are_refused() -> None:
    nothing: dict[str, float | str] = {
        "load_aware.recent_weight": 0.0,
        "load_aware.hour_weight": 0.0,
        "load_aware.day_weight": 0.0,
    }
    with pytest.raises(SettingsError, match="are all 0"):
        wired(Settings(tune=nothing))


# -- portraits -------------------------------------------------------------------------------------------------------


def a_profile(owner: str, cpu: list[float] | None = None, **more: Any) -> ServiceProfile:
    portrait = {} if cpu is None else {CPU: tuple(cpu)}
    return ServiceProfile(at=0.0, source="planner", key=f"shop/{owner}", version="v1", portrait=portrait, **more)


def by_day(low: float, high: float) -> list[float]:
    """Milli-cores of a service that is busy from 8 to 20 o'clock."""
    return [high if 8 <= hour < 20 else low for hour in range(24)]


def replica(uid: str, service: str, cores: float = 10) -> Workload:
    return an_owner(uid, cores=cores, owner=service)


def test_a_portrait_replaces_the_guess() -> None:
    table = a_table("n1")
    day = replica("u1", "Deployment/day")
    assert table.expected(day).amounts == estimate(day, Guess()).amounts == (8500, round(0.7 * GIB))
    table.learn(a_profile("Deployment/day", by_day(500, 4000)))
    assert table.expected(day).amounts == (4000, round(0.7 * GIB)), "a kind without portrait is guessed"
    live(table, {"n1": 8.0}, 1)
    pod = pod_of(day, expected=table.expected(day))
    assert scores(table, pod, **CPU_ONLY) == [62.5]  # 100 · (32 − 8 − 4) / 32
    assert pod.shape != pod_of(day).shape
    table.learn(a_profile("Deployment/day"))
    assert table.expected(day).portrait is None


@pytest.mark.parametrize("bad", [[1.0] * 23, [1.0] * 25, [-1.0] + [1.0] * 23, [float("nan")] * 24, [1e300] * 24, []])
def test_a_portrait_of_another_length_or_with_mad_amounts_counts_as_absent(bad: list[float]) -> None:
    table = a_table("n1")
    table.learn(a_profile("Deployment/day", bad))
    assert table.expected(replica("u1", "Deployment/day")).portrait is None


def test_services_that_are_busy_at_different_hours_share_a_node_and_those_at_the_same_do_not() -> None:
    table = a_table("n1")
    live(table, {"n1": 1.0}, 1)
    table.learn(a_profile("Deployment/day", by_day(1000, 15_000)))
    table.learn(a_profile("Deployment/night", by_day(15_000, 1000)))
    day, night = replica("u1", "Deployment/day"), replica("u2", "Deployment/night")
    table.charge("n1", Placement(workload=day, charged=day.requests), 0.0)
    assert not failed(table, pod_of(night, expected=table.expected(night)))
    again = replica("u3", "Deployment/day")
    assert failed(table, pod_of(again, expected=table.expected(again))) == {
        "owners would use over 65% of cpu": "owners would use 30 of 32 cores, 94%, of {node} from 08:00 UTC, "
        "by portraits, at most 65% allowed"
    }
    assert not failed(table, pod_of(again, expected=table.expected(again)), portraits=False)
    assert not failed(table, pod_of(again)), "a pod without portrait is held against what is measured"


def test_what_the_hours_bring_is_summed_over_owners_and_follows_new_profiles() -> None:
    table = a_table("n1")
    table.offer(an_offer("n1"), 0.0)
    empty = {name: table.columns[name].tobytes() for name in (*PORTRAITS, *GUESSED)}
    plain, day, guest = replica("u1", "Deployment/plain", 2), replica("u2", "Deployment/day"), a_guest("g1")
    for workload in (plain, day, guest):
        table.charge("n1", Placement(workload=workload, charged=workload.requests), 0.0)
    assert table.columns[GUESSED[0]][0] == 1700 + 8500
    seen = table.clock
    table.learn(a_profile("Deployment/day", by_day(1000.2, 3000)))
    assert table.clock > seen, "kept evaluations of the node are looked at again"
    assert table.columns[GUESSED[0]][0] == 1700
    assert table.columns[PORTRAITS[0]][0].tolist() == by_day(1001, 3000)
    table.learn(a_profile("Deployment/day", by_day(2000, 3000)))
    table.learn(a_profile("Deployment/day", by_day(2000, 3000)))
    assert table.columns[PORTRAITS[0]][0].tolist() == by_day(2000, 3000)
    for workload in (plain, day, guest):
        table.discharge("n1", workload.uid)
    assert {name: table.columns[name].tobytes() for name in empty} == empty


# -- against requests alone ------------------------------------------------------------------------------------------


def natively() -> list[Policy]:
    """What a scheduler does that looks at requests alone."""
    return [Policy("fit", fit.PLUGIN), Policy("allocation", allocation.PLUGIN)]


def test_requests_choose_the_hot_node_and_we_the_idle_one() -> None:
    def choose(chosen: list[Policy]) -> str:
        table = a_table("n1", "n2")
        for node, requested in (("n1", 16), ("n2", 19.2)):  # 50 % and 60 % requested
            held = an_owner(f"of-{node}", cores=requested, gib=1)
            table.charge(node, Placement(workload=held, charged=held.requests), -1e3)
        live(table, {"n1": 28.8, "n2": 9.6}, 1, free=60 * GIB)  # 90 % and 30 % used
        return Cycle(table, chosen).decide(pod_of(an_owner("new", cores=2, gib=1)), 60.0).node

    assert choose(natively()) == "n1"
    assert choose(list(wired(Settings()))) == "n2"
    tune: dict[str, float | str] = {"load_aware.cpu_limit": 1.0}
    assert choose(list(wired(Settings(tune=tune)))) == "n2", "by score, not by threshold alone"


CORES, HOT = 64, 0.65  # a node's, and the share of them above which it is hot
FACTOR = 2  # at least so many times fewer hot nodes


def hot_minutes(chosen: list[Policy], seed: int) -> int:
    """Node-minutes above HOT while 200 pods come, one a minute; each uses 20 % to 140 % of what it asks.

    Half of the nodes are half busy from the start, and no request says so.
    """
    random, names = Random(seed), [f"n{i}" for i in range(20)]
    table, hot = a_table(*names, cores=CORES, gib=256), 0
    used = {name: random.choice([2.0, 32.0]) for name in names}
    cycle, seen = Cycle(table, chosen), dict[str, dict[str, float]]()
    for minute in range(200):
        at = minute * MINUTE
        for name in names:
            containers = seen.get(name, {})
            table.measure(a_usage(name, at=at, cpu=used[name], free=200 * GIB, containers=containers), at)
        table.expire(at)
        asked = random.choice([1.0, 2.0, 4.0])
        uses = asked * random.choice([0.2, 0.4, 1.0, 1.4])
        pod = pod_of(an_owner(f"u{minute}", cores=asked, gib=1))
        node = cycle.decide(pod, at + 1).node
        assert node
        seen.setdefault(node, {})[pod.uid] = uses
        used[node] += uses
        hot += sum(amount > HOT * CORES for amount in used.values())
    return hot


def test_hotspots_in_a_replay_of_200_pods_are_fewer_by_a_factor() -> None:
    native = sum(hot_minutes(natively(), seed) for seed in range(2))
    ours = sum(hot_minutes(list(wired(Settings())), seed) for seed in range(2))
    assert native > 1000
    assert FACTOR * ours <= native, (native, ours)


def test_a_burst_spreads_over_equal_nodes_also_with_a_past() -> None:
    names = [f"n{i}" for i in range(6)]
    table = a_table(*names)
    minute = live(table, dict.fromkeys(names, 8.0), 60)
    cycle = Cycle(table, list(wired(Settings())))
    placed = Counter(cycle.decide(pod_of(an_owner(f"u{i}")), minute * MINUTE + i / 20).node for i in range(20))
    assert sorted(placed.values()) == [3, 3, 3, 3, 4, 4]


def test_a_portrait_travels() -> None:
    profile = a_profile("Deployment/day", by_day(1.5, 3000))
    assert PROFILES.decode(PROFILES.encode(profile)) == profile
    assert PROFILES.decode(b'{"at":0,"source":"p","key":"shop/Deployment/day","version":"1"}').portrait == {}
