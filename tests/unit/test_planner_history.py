"""What the planner remembers of reports, and of what others tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neap.common.model.forecast import CLUSTER_SCOPE
from neap.common.model.past import HistoryPage
from neap.common.model.qos import QosClass
from neap.common.runtime.machine import Failed, Later, Put, Tick
from neap.common.units import DAY, MINUTE
from neap.planner.core.history.desk import TellHistory
from neap.planner.core.history.hours import Hours
from neap.planner.core.history.settings import Settings
from neap.planner.core.record import ContainerRecord
from tests.unit.history_world import CART, GIB, HOUR, MIB, SMALL, START, HistoryWorld

CLOSE = 4e-4  # of codes of 16 bits


def cart(world: HistoryWorld, container: str = "main") -> ContainerRecord:
    found = world.history.container(CART, container)
    assert found is not None
    return found


def test_a_kill_is_noted_once_though_an_older_report_comes_after_it() -> None:
    world = HistoryWorld()
    world.place("a", "n1")
    for minute, kills in ((1, 0), (3, 1), (2, 0), (4, 1)):
        world.report(START + minute * MINUTE, {"a": (1.0, GIB)}, now=START + 4 * MINUTE, kills={"a": kills})
    assert len(cart(world).ooms) == 1


def test_a_late_sample_opens_its_own_hour_and_too_few_samples_make_none() -> None:
    """Requirement 004-16."""
    hours, row = Hours(1, "cpu", least=2), np.zeros(1, np.intp)
    for hour, value in ((16, 1.0), (16, 3.0), (17, 5.0), (19, 7.0), (19, 9.0)):
        assert hours.add(hour, row, np.array([value]))
    assert list(hours.series(0, "avg", 20).values) == pytest.approx([2.0, np.nan, np.nan, 8.0], rel=CLOSE, nan_ok=True)
    assert hours.add(17, row, np.array([6.0]))
    assert list(hours.series(0, "avg", 20).values) == pytest.approx([2.0, 5.5, np.nan, 8.0], rel=CLOSE, nan_ok=True)
    assert list(hours.series(0, "max", 20).values) == pytest.approx([3.0, 6.0, np.nan, 9.0], rel=CLOSE, nan_ok=True)
    assert not hours.add(16 - 14 * 24, row, np.array([1.0])), "older than what is kept"


def test_a_service_is_the_sum_of_its_replicas_and_a_container_their_mean() -> None:
    world = HistoryWorld()
    for uid, node in (("a", "n1"), ("b", "n1"), ("c", "n2")):
        world.place(uid, node)
    for minute in range(130):
        at = START + minute * MINUTE + 1
        world.report(at, {"a": (1.0, GIB), "b": (2.0, 2 * GIB)})
        world.report(at, {"c": (3.0, 3 * GIB)}, "n2")
        world.hear(Tick(at, "history"))
    total, replicas = world.history.total(CART, "cpu"), world.history.replicas(CART)
    assert total is not None
    assert replicas is not None
    assert total.start == replicas.start == START
    assert len(total) == len(replicas) == 25
    assert total.values == pytest.approx(6.0, rel=CLOSE)
    assert set(replicas.values) == {3.0}
    record = cart(world)
    assert record.samples == 390
    assert record.cpu.hours_avg.values == pytest.approx([2.0, 2.0], rel=CLOSE)
    assert record.cpu.hours_max.values == pytest.approx([3.0, 3.0], rel=CLOSE)
    assert record.memory.hours_max.values == pytest.approx([3.0 * GIB] * 2, rel=CLOSE)
    assert record.cpu.worst == "c"
    assert record.cpu.histogram.percentile(0.5) == pytest.approx(2.0, rel=0.05)
    node = world.history.node("n1", "memory", "max")
    assert node is not None
    assert node.values == pytest.approx(3.0 * GIB, rel=CLOSE)
    assert world.history.keys() == [CART]
    assert world.history.containers(CART) == ("main",)


def test_guests_are_services_but_no_owners() -> None:
    world = HistoryWorld()
    world.place("own")
    world.place("guest", owner="Job/batch", qos=QosClass.RECLAIMED)
    world.live(START, 7, {"own": (1.0, GIB), "guest": (4.0, GIB)})
    batch, node = world.history.total("shop/Job/batch", "cpu"), world.history.node("n1", "cpu")
    assert batch is not None
    assert node is not None
    assert batch.values == pytest.approx(4.0, rel=CLOSE)
    assert node.values == pytest.approx(1.0, rel=CLOSE)


def test_of_a_nodes_reports_one_a_minute_counts_and_short_ones_do_not() -> None:
    world = HistoryWorld()
    world.place("a")
    for second in range(300):
        world.report(START + second, {"a": (1.0, GIB)}, since=0 if second % 10 == 0 else 1)
    assert cart(world).samples == 5


def test_where_reports_are_rare_short_ones_count_on_top_of_their_full_one() -> None:
    world = HistoryWorld()
    world.place("a")
    world.place("b")
    world.report(START, {"a": (1.0, GIB), "b": (2.0, GIB)}, period=60.0)
    for minute in range(1, 6):
        world.report(START + minute * MINUTE, {"a": (3.0, GIB)}, period=60.0, since=1)
    world.report(START + 6 * MINUTE, {"a": (9.0, GIB)}, period=60.0, since=99)  # its full one was not heard
    record = cart(world)
    assert record.samples == 12
    world.hear(Tick(START + 300, "history"))
    total = world.history.total(CART, "cpu")
    assert total is not None
    assert total.values == pytest.approx([(3.0 + 4 * 5.0) / 5], rel=CLOSE)


def test_a_lost_report_and_a_replica_of_a_moment_are_weighed_by_time() -> None:
    world = HistoryWorld()
    world.place("a", "n1")
    world.place("b", "n2")
    for minute in range(5):
        at = START + minute * MINUTE + 1
        if minute != 2:
            world.report(at, {"a": (2.0, GIB)}, "n1")  # one is lost: the others speak for it
        world.report(at, {"b": (1.0, GIB)} if minute < 2 else {}, "n2")  # gone after two of five
    world.hear(Tick(START + 301, "history"))
    total, replicas = world.history.total(CART, "cpu"), world.history.replicas(CART)
    assert total is not None
    assert replicas is not None
    assert total.values == pytest.approx([2.0 + 0.4], rel=CLOSE)
    assert replicas.values == pytest.approx([1.4], rel=CLOSE)


def test_a_total_without_the_half_of_its_replicas_is_absent_and_without_a_few_is_scaled() -> None:
    world = HistoryWorld()
    for number in range(20):
        world.place(f"p{number}", f"n{number}")
    world.place("q0", "n0", "Deployment/pair")
    world.place("q1", "n1", "Deployment/pair")
    for minute in range(10):
        for number in range(20):
            if number != 1 or minute < 5:  # n1 falls silent
                used = {f"p{number}": (1.0, GIB)} | ({f"q{number}": (1.0, GIB)} if number < 2 else {})
                world.report(START + minute * MINUTE + 1, used, f"n{number}")
        world.hear(Tick(START + minute * MINUTE + 1, "history"))
    world.hear(Tick(START + 601, "history"))
    total, pair = world.history.total(CART, "cpu"), world.history.total("shop/Deployment/pair", "cpu")
    assert total is not None
    assert pair is not None
    assert total.values == pytest.approx([20.0, 20.0], rel=CLOSE)
    assert pair.values == pytest.approx([2.0], rel=CLOSE)  # of the second window nothing is told


def test_the_first_minutes_of_a_replica_are_kept_apart() -> None:
    world = HistoryWorld()
    world.place("a", started=START)
    world.report(START + 30, {"a": (8.0, 4 * GIB)})
    for minute in range(6, 70):
        world.report(START + minute * MINUTE, {"a": (1.0, GIB)})
    record = cart(world)
    assert record.cpu.startup == 8.0
    assert record.memory.startup == 4 * GIB
    assert record.cpu.hours_max.values == pytest.approx([1.0], rel=CLOSE)
    assert record.cpu.histogram.percentile(1.0) == pytest.approx(1.0, rel=0.06)


def test_rising_kills_are_evidence_and_what_was_there_before_is_not() -> None:
    world = HistoryWorld()
    world.place("a", limit=512 * MIB)
    world.place("b")
    for minute, kills in ((0, {"a": 3, "b": 1}), (1, {"a": 3, "b": 1}), (2, {"a": 4, "b": 3})):
        used = {"a": (1.0, 300 * MIB), "b": (1.0, (700 - 200 * minute) * MIB)}
        world.report(START + minute * MINUTE, used, kills=kills)
    ooms = cart(world).ooms
    assert [(oom.uid, oom.at) for oom in ooms] == [("a", START + 120), ("b", START + 120)]
    assert ooms[0].had == 512 * MIB  # its limit
    assert ooms[1].had == pytest.approx(700 * MIB)  # without one, the most that was seen of late
    world.report(START + 180, {"a": (1.0, GIB), "b": (1.0, GIB)}, kills={"a": 1, "b": 0})  # counters began anew
    assert len(cart(world).ooms) == 2


def test_a_container_is_known_by_its_runtimes_id_and_not_guessed() -> None:
    world = HistoryWorld()
    world.place("a", containers=("web", "proxy"), started=START - HOUR)
    world.place("b", owner="Deployment/other", containers=("web", "proxy"))
    world.report(START, {"a/web": (2.0, GIB), "a/proxy": (0.5, GIB), "b/web": (1.0, GIB), "b/proxy": (1.0, GIB)})
    assert world.history.containers(CART) == ("proxy", "web")
    assert cart(world, "web").cpu.histogram.percentile(0.9) == pytest.approx(2.0, rel=0.05)
    assert world.history.containers("shop/Deployment/other") == ()
    assert world.skipped("name") == 2
    world.hear(Tick(START + 300, "history"))
    total, replicas = world.history.total("shop/Deployment/other", "cpu"), world.history.replicas(CART)
    assert total is not None
    assert replicas is not None
    assert total.values == pytest.approx([2.0], rel=CLOSE)
    assert list(replicas.values) == [1.0]  # two containers, one pod


def test_a_late_report_opens_its_own_window_again() -> None:
    world = HistoryWorld()
    world.place("a", "n1")
    for minute in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10):
        world.report(START + minute * MINUTE, {"a": (1.0, GIB)})
        world.hear(Tick(START + minute * MINUTE, "history"))
    before = world.history.total(CART, "cpu")
    world.report(START + 3 * MINUTE, {"a": (6.0, GIB)}, now=START + 10 * MINUTE)
    world.hear(Tick(START + 10 * MINUTE, "history"))
    after = world.history.total(CART, "cpu")
    assert before is not None
    assert after is not None
    assert before.values == pytest.approx([1.0, 1.0], rel=CLOSE)
    assert after.values == pytest.approx([2.0, 1.0], rel=CLOSE)
    world.report(START + 3.5 * MINUTE, {"a": (9.0, GIB)}, now=START + 10 * MINUTE)  # that minute was told
    world.hear(Tick(START + 11 * MINUTE, "history"))
    assert cart(world).samples == 11


@pytest.mark.parametrize(
    ("used", "why"),
    [
        ((math.nan, GIB), "value"),
        ((-1.0, GIB), "value"),
        ((math.inf, GIB), "value"),
        ((1e9, GIB), "value"),
        ((1.0, -5), "value"),
        ((1.0, 1 << 60), "value"),
    ],
)
def test_numbers_that_are_none_are_left_out_and_counted(used: tuple[float, int], why: str) -> None:
    world = HistoryWorld()
    world.place("a")
    world.report(START, {"a": used})
    record = cart(world)
    assert world.skipped(why) == 1
    assert record.cpu.histogram.is_empty != record.memory.histogram.is_empty  # the other resource is taken


def test_reports_of_another_time_are_refused_and_said_once() -> None:
    world = HistoryWorld()
    world.place("a")
    for ahead in (600.0, 601.0, -15 * DAY, math.nan, math.inf, 3650 * DAY):
        world.report(START + ahead, {"a": (1.0, GIB)}, now=START)
    assert world.skipped("time") == 6
    assert [item.why for item in world.said if isinstance(item, TellHistory)] == ["time"]
    assert world.history.container(CART, "main") is None


def test_containers_of_nobody_are_counted() -> None:
    world = HistoryWorld()
    world.place("a", "n1")
    world.report(START, {"nobody": (1.0, GIB), "a": (1.0, GIB)}, "n2")  # a is not there
    assert world.skipped("pod") == 2
    assert world.history.keys() == []


def test_after_ten_years_the_new_counts_and_the_old_is_gone() -> None:
    world = HistoryWorld()
    world.place("a")
    world.live(START, 70, {"a": (8.0, GIB)})
    later = START + 3650 * DAY
    world.live(later, 70, {"a": (1.0, GIB)})
    total, record = world.history.total(CART, "cpu"), cart(world)
    assert total is not None
    assert total.start == later
    assert record.cpu.hours_max.values == pytest.approx([1.0], rel=CLOSE)
    assert record.cpu.histogram.percentile(1.0) == pytest.approx(1.0, rel=0.06)


def test_rows_of_those_unseen_for_long_are_given_to_others() -> None:
    settings = Settings(most_containers=2, most_services=2, most_nodes=4, most_tracked=1, least=1)
    world = HistoryWorld(settings)
    world.place("a", owner="Job/one")
    world.place("b", owner="Job/two")
    world.place("c", owner="Job/three")
    world.live(START, 7, {"a": (1.0, GIB), "b": (9.0, GIB), "c": (5.0, GIB)})
    assert world.history.keys() == ["shop/Job/one", "shop/Job/two"]
    assert world.skipped("full") > 0
    later = START + 2 * DAY  # the table is full, and two days are enough
    world.live(later, 2, {"b": (9.0, GIB)})
    world.live(later + HOUR + 60, 8, {"c": (5.0, GIB)})
    assert world.history.keys() == ["shop/Job/three", "shop/Job/two"]
    total, record = world.history.total("shop/Job/three", "cpu"), world.history.container("shop/Job/three", "main")
    assert total is not None
    assert record is not None
    assert np.nanmax(total.values) == pytest.approx(5.0, rel=CLOSE)
    assert record.cpu.histogram.percentile(0.01) == pytest.approx(5.0, rel=0.05)  # nothing of who was there before


def test_a_tracked_service_keeps_weeks_and_others_a_day() -> None:
    world = HistoryWorld()
    world.place("a")
    world.place("b", owner="Deployment/other")
    end = world.live(START, 60, {"a": (1.0, GIB), "b": (1.0, GIB)})
    world.history.track(CART)
    world.live(end + 20 * DAY, 10, {"a": (1.0, GIB), "b": (1.0, GIB)})
    long, short = world.history.total(CART, "cpu"), world.history.total("shop/Deployment/other", "cpu")
    assert long is not None
    assert short is not None
    assert long.start == START
    assert np.isfinite(long.values).sum() == 13
    assert short.start == end + 20 * DAY


def test_the_next_life_knows_the_same() -> None:
    world = HistoryWorld()
    world.place("a", started=START - 60)
    world.place("b", "n2")
    world.history.track(CART)
    end = world.live(START, 63, {"a": (1.0, GIB)}, "n1")
    world.live(end, 70, {"b": (3.0, GIB)}, "n2")
    world.report(end + 4300, {"b": (3.0, GIB)}, "n2", kills={"b": 1})
    end += 4500
    next_life = HistoryWorld(pages=world.pages(end), at=end)
    for name in ("cpu", "memory"):
        before, after = world.history.total(CART, name), next_life.history.total(CART, name)
        assert before is not None
        assert after is not None
        assert before.start == after.start
        np.testing.assert_array_equal(before.values, after.values)
    before_all, after_all = cart(world), cart(next_life)
    assert after_all.ooms == before_all.ooms != ()
    assert (after_all.samples, after_all.first, after_all.last) == (
        before_all.samples, before_all.first, before_all.last,
    )  # fmt: skip
    assert after_all.cpu.startup == before_all.cpu.startup == 1.0
    assert after_all.cpu.worst == before_all.cpu.worst
    np.testing.assert_array_equal(after_all.cpu.histogram.weights, before_all.cpu.histogram.weights)
    assert after_all.cpu.hours_avg.values == pytest.approx(before_all.cpu.hours_avg.values, rel=CLOSE, nan_ok=True)
    assert {page.page: page.what for page in next_life.pages(end)} == {}  # nothing changed: nothing to write


@pytest.mark.parametrize("harm", ["version", "short", "noise", "empty", "another shape"])
def test_a_page_that_cannot_be_read_is_refused_and_said_and_the_others_are_read(harm: str) -> None:
    world = HistoryWorld()
    world.place("a")
    end = world.live(START, 70, {"a": (1.0, GIB)})
    pages = {page.page: page for page in world.pages(end)}
    name = "containers-0"
    broken = {
        "version": {"version": 2},
        "short": {"what": pages[name].what[: len(pages[name].what) // 2]},
        "noise": {"what": b"z" + bytes(range(256))},
        "empty": {"what": b""},
        "another shape": {"what": pages["services-0"].what[:-3] + b"xyz"},
    }[harm]
    wrong = HistoryPage(
        **({"at": end, "source": "planner", "page": name, "version": 1, "rows": 1, "what": pages[name].what} | broken)
    )  # type: ignore[arg-type]
    next_life = HistoryWorld(pages=[wrong if page.page == name else page for page in pages.values()], at=end)
    assert next_life.counted("neap_planner_history_pages_total", outcome="refused") == 1
    assert [item.about for item in next_life.said if isinstance(item, TellHistory)] == [name]
    assert next_life.history.container(CART, "main") is None
    assert next_life.history.total(CART, "cpu") is not None


def test_pages_are_written_in_rotation_and_again_only_if_they_changed() -> None:
    world = HistoryWorld()
    world.place("a")
    end = world.live(START, 60, {"a": (1.0, GIB)})
    often = [sum(item.value.page == "containers-0" for item in world.said if isinstance(item, Put))]
    assert 4 <= often[0] <= 7  # an hour, at most every ten minutes
    world.said.clear()
    for minute in range(60):
        world.hear(Tick(end + minute * MINUTE, "history"))
    written = [item.value.page for item in world.said if isinstance(item, Put)]
    assert len(written) == len(set(written))  # what was still open; then nothing happens any more


def test_a_page_that_could_not_be_written_is_written_again() -> None:
    world = HistoryWorld()
    world.place("a")
    end = world.live(START, 30, {"a": (1.0, GIB)})
    for put in [item for item in world.said if isinstance(item, Put)]:
        world.hear(Failed(end, put, "away", may_retry=True))
    again: set[str] = set()
    for tick in range(20):
        again |= {item.value.page for item in world.hear(Tick(end + tick * 10, "history")) if isinstance(item, Put)}
    assert "containers-0" in again


# -- the past ------------------------------------------------------------------------------------------------------------


def test_day_one_is_not_blind() -> None:
    world = HistoryWorld()
    week = [2.0 + math.sin(minute / 720) for minute in range(7 * 24 * 12)]
    start = START - 7 * DAY
    for replica in ("r1", "r2"):
        world.tell(START, week, start=start, step=300.0, container="main", replica=replica)
    record, total, replicas = cart(world), world.history.total(CART, "cpu"), world.history.replicas(CART)
    assert total is not None
    assert replicas is not None
    assert len(record.cpu.hours_avg) == 7 * 24
    assert record.cpu.hours_avg.values[0] == pytest.approx(np.mean(week[:12]), rel=CLOSE)
    assert record.cpu.hours_max.values[5] == pytest.approx(max(week[60:72]), rel=CLOSE)
    assert total.start == start
    assert total.values == pytest.approx([2 * value for value in week], rel=2 * CLOSE)
    assert set(replicas.values) == {2.0}
    assert record.first == start
    again = HistoryWorld(pages=world.pages(START + 60), at=START + 60).history.total(CART, "cpu")
    assert again is not None
    np.testing.assert_array_equal(again.values, total.values)
    assert world.counted("neap_planner_history_past_total", outcome="taken") == 2 * len(week)


def test_what_we_saw_ourselves_is_not_told_again() -> None:
    world = HistoryWorld()
    world.place("a")
    end = world.live(START, 60, {"a": (1.0, GIB)})
    world.tell(end, [5.0] * 120, start=START - HOUR, container="main", replica="a")
    total, record = world.history.total(CART, "cpu"), cart(world)
    assert total is not None
    assert total.values == pytest.approx([5.0] * 12 + [1.0] * 11, rel=CLOSE)
    assert record.cpu.hours_max.values == pytest.approx([5.0, 1.0], rel=CLOSE)


def test_the_same_line_twice_counts_once_and_an_overlap_only_what_is_new() -> None:
    world = HistoryWorld()
    for start, count in ((START - 2 * HOUR, 60), (START - 2 * HOUR, 60), (START - 1.5 * HOUR, 60)):
        world.tell(START, [1.0] * count, start=start, container="main", replica="a")
    total = world.history.total(CART, "cpu")
    assert total is not None
    assert total.values == pytest.approx([1.0] * 18, rel=CLOSE)
    assert cart(world).samples == 90
    assert world.skipped("past told") == 1
    again = HistoryWorld(pages=world.pages(START + 60), at=START + 60)
    again.tell(START + 60, [1.0] * 60, start=START - 2 * HOUR, container="main", replica="a")
    assert again.skipped("past told") == 1


def test_a_whole_services_and_a_nodes_past_are_totals() -> None:
    world = HistoryWorld()
    world.tell(START, [4.0, None, 6.0], start=START - 900, step=300.0)
    world.tell(
        START,
        [8e9] * 3,
        start=START - 900,
        step=300.0,
        namespace=CLUSTER_SCOPE,
        kind="Node",
        name="n7",
        resource="memory",
    )
    total, node = world.history.total(CART, "cpu"), world.history.node("n7", "memory")
    assert total is not None
    assert node is not None
    assert total.values == pytest.approx([4.0, math.nan, 6.0], rel=CLOSE, nan_ok=True)
    assert node.values == pytest.approx(8e9, rel=CLOSE)
    assert world.history.replicas(CART) is None


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"resource": "gpu"}, "past resource"),
        ({"start": math.nan}, "past time"),
        ({"start": START + DAY}, "past time"),
        ({"step": 0.001}, "past time"),
        ({"name": ""}, "past name"),
        ({"values": [None, math.nan, -1.0, math.inf, 1e12]}, "past empty"),
        ({"values": []}, "past empty"),
        ({"start": START - 400 * DAY}, "past seen"),
    ],
)
def test_lines_that_say_nothing_are_left_out_and_counted(told: dict[str, object], why: str) -> None:
    world = HistoryWorld()
    world.tell(START, **({"values": [1.0, 2.0], "start": START - HOUR} | told))  # type: ignore[arg-type]
    assert world.skipped(why) == 1
    assert world.history.total(CART, "cpu") is None


def test_a_line_of_the_past_waits_until_it_is_known_what_is_stored() -> None:
    world = HistoryWorld()
    unread = type(world.history)(SMALL, world.cluster)
    world.history = unread
    assert [type(item) for item in world.tell(START, [1.0], start=START - 60)] == [Later]
