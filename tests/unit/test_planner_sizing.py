"""The sizing desk: what it tells and when, what it applies, and how it takes back what did harm."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from neap.common.errors import SettingsError
from neap.common.model.qos import QosClass
from neap.common.model.recommendation import Resized, ResizeHow
from neap.common.model.resource import CPU, MEMORY
from neap.common.runtime.machine import Arrived
from neap.common.units import DAY, GIB, HOUR
from neap.foresight.sizing import Kill
from neap.planner.core.sizing.settings import SizingSettings
from tests.unit.planner_sizing_world import FEED, START, World


def ready(**settings: Any) -> World:
    """Two replicas that ask for 8 cores and 8 Gi and use two of each, for two weeks."""
    world = World(**settings)
    world.run()
    world.weeks()
    world.plan()
    return world


def applied(**settings: Any) -> World:
    """The same, applied and done, after a calm quarter of an hour."""
    world = ready(**settings)
    world.report(throttled=0.01, stalled=0.02)
    assert world.ask().accepted
    world.outcome(pod="feed-0")
    world.outcome(pod="feed-1")
    return world


def test_a_recommendation_says_what_it_saves_over_all_replicas() -> None:
    world = ready()
    told = world.told[FEED]
    assert told.replicas == 2
    assert told.window == 14 * DAY
    assert 2000 < world.target() < 2600
    assert told.saves[CPU] == 2 * (8000 - world.target())
    assert told.saves[MEMORY] == 2 * (8 * GIB - world.target(resource=MEMORY))
    assert not told.waits
    assert not world.resizes  # not applied unless asked for


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job"])
def test_every_kind_of_controller_is_sized(kind: str) -> None:
    world = World()
    world.run(owner=f"{kind}/feed")
    world.weeks(key=f"shop/{kind}/feed")
    world.plan()
    assert world.told[f"shop/{kind}/feed"].containers


def test_bare_pods_and_guests_are_not() -> None:
    world = World()
    world.run(1, owner="Pod/feed")
    world.run(1, owner="Deployment/guest", qos=QosClass.RECLAIMED)
    world.live(2)
    assert not world.told


def test_it_waits_for_a_day_and_says_how_long() -> None:
    world = World()
    world.run()
    world.plan()
    assert world.told[FEED].waits.startswith("preparing")
    world.weeks(hours=20)
    world.live(1.1)
    assert world.told[FEED].waits.startswith("insufficient: 20h")
    assert world.ask().says.startswith("insufficient")
    assert not world.told[FEED].containers


def test_what_trembles_is_not_told_and_what_moves_is() -> None:
    world = ready()
    first = world.target()
    for step in range(6):
        world.weeks(cores=2.0 + 0.02 * step)
        world.live(1)
    assert len(world.puts) == 1
    world.weeks(cores=4.0)
    world.live(1.1)
    assert len(world.puts) == 2
    assert world.target() > 1.5 * first
    assert world.told[FEED].version != world.puts[0].version


def test_the_bounds_of_a_policy_bind_at_once() -> None:
    world = ready()
    world.policy(cpu_min=4000, cpu_margin=0.5)
    world.live(1.1)
    assert world.target() == 4000
    assert world.told[FEED].containers[0].requests[0].bound == "min"


def test_a_service_that_is_off_is_neither_told_nor_applied() -> None:
    world = ready()
    world.policy(mode="off")
    world.live(1.1)
    assert FEED not in world.told
    assert not world.ask().accepted


def test_applying_emits_one_resize_with_its_reason_and_a_line_in_the_trail() -> None:
    world = ready()
    answer = world.ask(how=ResizeHow.IN_PLACE)
    assert answer.accepted
    [resize] = world.resizes.values()
    assert resize.requests == {"main": {CPU: world.target(), MEMORY: world.target(resource=MEMORY)}}
    assert resize.how is ResizeHow.IN_PLACE
    assert "8 cores -> 2" in resize.reason
    assert world.told[FEED].state == "applying"
    [line] = world.trail
    assert (line.what, line.about.kind, line.about.name, line.parent) == (
        "resize asked for",
        "Deployment",
        "feed",
        "Deployment/feed",
    )
    again = world.ask()
    assert not again.accepted
    assert "under way" in again.says
    world.live(0.9)
    assert len(world.resizes) == 1


def test_a_change_that_was_no_worse_stays_and_then_rests() -> None:
    world = applied()
    world.live(0.3)
    told = world.told[FEED]
    assert told.state == "applied"
    assert "no worse" in told.why
    world.weeks(cores=5.0)
    world.live(1.1)
    assert "at rest" in world.ask().says
    world.at += DAY
    world.weeks(cores=5.0)
    world.live(1.1)
    assert world.ask().accepted
    assert len(world.resizes) == 2


def test_what_is_asked_for_now_is_what_was_applied_until_newer_pods_say_otherwise() -> None:
    world = applied()
    world.live(1.5)
    world.at += DAY
    world.weeks()
    world.live(1.1)
    sums = {each.resource: each for each in world.told[FEED].containers[0].requests}
    assert sums[CPU].now == sums[CPU].target
    assert world.told[FEED].saves[CPU] == 0


@pytest.mark.parametrize(("measure", "word"), [({"throttled": 0.4}, "throttled"), ({"stalled": 0.6}, "cpu stalled")])
def test_what_got_worse_is_taken_back_with_both_numbers(measure: dict[str, Any], word: str) -> None:
    world = applied()
    world.at += 300
    world.report(**measure)
    world.live(0.3)
    told = world.told[FEED]
    assert told.state == "rolled back"
    assert word in told.why
    undo = list(world.resizes.values())[-1]
    assert undo.version == f"undo {told.version}"
    assert undo.requests == {"main": {CPU: 8000, MEMORY: 8 * GIB}}
    assert world.trail[-1].what == "rolled back"
    assert world.trail[-1].numbers[0].metric == word
    world.live(2)
    assert len(world.resizes) == 2


def test_a_kill_is_enough_at_once() -> None:
    world = applied()
    world.at += 60
    world.weeks(ooms=[Kill(world.at, "feed-1", 2 * GIB)])
    world.plan()
    assert world.told[FEED].state == "rolled back"
    assert "OOM kills 1" in world.told[FEED].why
    assert world.at - START < 600


def test_what_was_as_bad_before_is_no_reason() -> None:
    world = ready()
    world.live(0.2)
    world.report(throttled=0.4, stalled=0.6)
    world.ask()
    world.outcome()
    world.at += 300
    world.report(throttled=0.41, stalled=0.6)
    world.live(0.3)
    assert world.told[FEED].state == "applied"


def test_after_a_rollback_the_rest_doubles() -> None:
    world = ready(mode="apply", guard=600.0)
    world.outcome()
    world.at += 60
    world.report(throttled=0.9)
    world.live(0.2)
    assert world.told[FEED].state == "rolled back"
    world.at += DAY
    world.weeks()
    world.live(1.1)
    assert len(world.resizes) == 2
    world.at += DAY
    world.weeks()
    world.live(1.1)
    assert len(world.resizes) == 3


def test_somebody_may_take_it_back_once() -> None:
    world = applied()
    world.live(0.3)
    assert world.ask(undo=True).accepted
    assert world.told[FEED].state == "rolled back"
    assert not world.ask(undo=True).accepted
    assert [one.version.startswith("undo") for one in world.resizes.values()] == [False, True]


def test_deferred_and_infeasible_are_said_and_not_asked_for_again() -> None:
    world = ready()
    world.ask()
    world.outcome("deferred", pod="feed-0", detail="n9 is full")
    world.outcome("done", pod="feed-1")
    told = world.told[FEED]
    assert "1 deferred, 1 done: feed-0 deferred: n9 is full" in told.why
    world.live(3)
    assert len(world.resizes) == 1
    assert world.told[FEED].state == "applied"


def test_refused_by_all_is_refused() -> None:
    world = ready()
    world.ask()
    world.outcome("infeasible", pod="feed-0", detail="no node has 3 cores")
    world.outcome("infeasible", pod="feed-1")
    assert world.told[FEED].state == "refused"
    assert "no node has 3 cores" in world.told[FEED].why


def test_a_change_nobody_takes_up_is_given_up() -> None:
    world = ready()
    world.ask()
    world.live(1.2)
    assert world.told[FEED].state == "refused"
    assert "nobody took it up" in world.told[FEED].why


def test_words_about_another_change_are_ignored() -> None:
    world = applied()
    before = world.told[FEED]
    world.outcome("infeasible", version="somebody-else")
    assert world.told[FEED] == before
    world.hear(Arrived(world.at, Resized(
        at=world.at, source="g", namespace="shop", kind="Deployment", name="none", version="x", outcome="done",
    )))  # fmt: skip
    assert world.told[FEED] == before


def test_without_being_asked_only_by_policy_and_only_when_sure() -> None:
    world = World(mode="apply")
    world.run()
    world.weeks(hours=30)
    world.plan()
    assert not world.resizes
    world.weeks()
    world.live(1.1)
    assert len(world.resizes) == 1
    assert "by policy" in world.told[FEED].why
    world.live(30, step=600)
    assert len(world.resizes) == 1


def test_the_next_life_goes_on_with_the_guard() -> None:
    first = applied()
    second = World(told=first.told)
    second.at = first.at
    second.run()
    second.weeks()
    second.at += 300
    second.report(throttled=0.9)
    second.live(0.3)
    assert second.told[FEED].state == "rolled back"
    [undo] = second.resizes.values()
    assert undo.requests["main"][CPU] == 8000


def test_the_next_life_tells_nothing_that_stands_already() -> None:
    first = ready()
    second = World(told=first.told)
    second.run()
    second.weeks()
    second.live(2)
    assert not second.puts


def test_a_word_of_the_gateway_waits_until_the_past_is_read() -> None:
    world = applied()
    fresh = World.__new__(World)
    fresh.__dict__.update(World().__dict__)
    fresh.desk._is_read = False
    fresh.outcome("done", version="v")
    assert fresh.later == 1
    assert world.later == 0


def test_one_replica_out_of_memory_lifts_all() -> None:
    world = ready()
    low = world.target(resource=MEMORY)
    world.weeks(ooms=[Kill(world.at, "feed-1", 4 * GIB)])
    world.live(1.1)
    assert world.target(resource=MEMORY) >= 4.8 * GIB > low
    assert world.told[FEED].containers[0].worst_replica == "feed-1"
    assert world.told[FEED].containers[0].oom_kills == 1


def test_a_memory_limit_on_wish_holds_the_start() -> None:
    world = World(memory_limit=1.2)
    world.run()
    world.weeks(startup=7.0 * GIB)
    world.plan()
    [limit] = world.told[FEED].containers[0].limits
    assert limit.target >= 7 * GIB
    world.ask()
    assert next(iter(world.resizes.values())).limits == {"main": {MEMORY: limit.target}}


def test_what_it_rests_on_can_be_looked_at() -> None:
    world = ready()
    answer = world.ask(show=True)
    assert {(one.container, one.resource, len(one.avg)) for one in answer.courses} == {
        ("main", CPU, 336),
        ("main", MEMORY, 336),
    }
    assert not world.resizes
    assert not world.ask("shop/Deployment/none", show=True).accepted


def test_a_service_without_pods_is_forgotten_after_a_while() -> None:
    world = ready()
    world.end("feed-0", "feed-1")
    world.live(3, step=600)
    assert FEED in world.told
    world.at += 15 * DAY
    world.live(1.1)
    assert FEED not in world.told


def test_a_service_that_was_gone_before_the_planner_came_is_forgotten_too() -> None:
    world = World(ready().told)
    world.live(3, step=600)
    assert FEED in world.told, "its pods may come back"
    world.at += 15 * DAY
    world.live(1.1)
    assert FEED not in world.told


def test_not_all_services_are_sized_in_one_look() -> None:
    world = World(most=3)
    for index in range(8):
        world.run(1, owner=f"Deployment/s{index}")
        world.weeks(key=f"shop/Deployment/s{index}")
    world.plan()
    assert len(world.told) == 3
    world.plan()
    world.plan()
    assert len(world.told) == 8


def test_names_that_no_subject_can_have_are_counted() -> None:
    world = World()
    world.run(1, owner="Deployment/no_such_name")
    world.plan()
    assert not world.told
    assert world.counts == {"neap_planner_sizes_refused_total": 1}


def test_settings_that_contradict_each_other_are_named() -> None:
    with pytest.raises(SettingsError, match="cpu_min = 5000 is above cpu_max = 100"):
        SizingSettings(cpu_min=5000, cpu_max=100)


def test_versions_name_targets_and_stay_with_them() -> None:
    world = ready()
    version = world.told[FEED].version
    world.at += DAY
    world.weeks()
    world.live(1.1)
    assert len(world.puts) == 2
    assert world.told[FEED].version == version
    assert replace(world.puts[0], at=0.0).containers[0].requests[0].target == world.target()
    assert world.at - world.puts[1].at < 2 * HOUR
