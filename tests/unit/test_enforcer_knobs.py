"""Single knobs: what is written, what counts as taken, what is put back; and how gently memory is taken."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.common.host.port import Refused
from neap.common.model.advice import KnobWrite, WriteStatus
from neap.common.runtime.machine import Stopping
from neap.common.units import GIB, MIB
from neap.enforcer.core.knob import Site
from neap.enforcer.core.offload import Reading, read, step
from neap.enforcer.settings import Offloading
from tests.laws.test_enforcer_crash import a_world
from tests.unit.test_enforcer_machine import GUEST, KNOBS, MOUNT, World, advice, for_pod

SETTINGS = Offloading()
CALM = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def told(world: World, knob: str) -> list[KnobWrite]:
    return [write for said in world.said for write in said.writes if write.knob == knob]


def put(world: World, name: str, text: str) -> None:
    world.host.put(f"{MOUNT}/kubepods/{GUEST}/{name}", text)


# -- knobs of the kernel ---------------------------------------------------------------------------------------------


def test_every_new_knob_is_written_as_the_kernel_takes_it() -> None:
    knobs = {"cpu_max": 2.0, "cpu_burst": 0.5, "memory_min": 4096, "memory_low": 8192, "swap_max": 0, "io_weight": 50}
    world = a_world().hear(advice(1, for_pod("g-1", **knobs, io_max={"8:0": {"wbps": 500, "rbps": -1}})))
    assert {name: world.text(f"{GUEST}/{name}") for name in ("cpu.max.burst", "memory.min", "memory.low")} == {
        "cpu.max.burst": "50000",
        "memory.min": "4096",
        "memory.low": "8192",
    }
    assert world.text(f"{GUEST}/memory.swap.max") == "0"
    assert world.text(f"{GUEST}/io.weight").splitlines() == ["default 50", "8:16 700"]
    assert world.text(f"{GUEST}/io.max") == "8:0 rbps=max wbps=500 riops=max wiops=max"


@pytest.mark.parametrize(
    "knobs",
    [
        {"cpu_burst": -1.0},
        {"cpu_burst": math.nan},
        {"memory_min": -1},
        {"memory_low": 1 << 63},
        {"swap_max": -2},
        {"io_weight": 0},
        {"io_max": {}},
        {"io_max": {"sda": {"rbps": 1}}},
        {"io_max": {"8:0": {}}},
        {"io_max": {"8:0": {"rbps": 0}}},
        {"io_max": {"8:0\n8:1": {"rbps": 1}}},
        {"io_max": {"8:0": {"speed": 1}}},
        {"resctrl": "../x"},
        {"memory_down_to": -5},
    ],
)
def test_odd_values_of_the_new_knobs_are_refused_and_nothing_is_written(knobs: dict[str, Any]) -> None:
    world = a_world()
    world.host.mount()  # type: ignore[attr-defined]
    world.hear(advice(1, for_pod("g-1", **knobs)))
    assert world.writes == 0
    assert [write.status for write in world.last] == [WriteStatus.REFUSED]


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 4.0, -1.0]), st.sampled_from([0.0, 0.5, 1.0, 3.0])), max_size=5))
def test_quota_and_burst_are_written_in_the_order_the_kernel_takes(pairs: list[tuple[float, float]]) -> None:
    world = a_world()
    for seq, (quota, burst) in enumerate(pairs, start=1):
        burst = min(burst, quota) if quota > 0 else burst  # noqa: PLW2901  more than the quota is refused rightly
        world.hear(advice(seq, for_pod("g-1", cpu_max=quota, cpu_burst=burst)))
    world.live(Stopping(100.0))
    assert all(write.status is WriteStatus.WRITTEN for said in world.said for write in said.writes)


def test_limits_of_a_device_go_back_exactly_and_what_others_set_meanwhile_stays() -> None:
    world = a_world().hear(advice(1, for_pod("g-1", io_max={"8:0": {"wbps": 500}, "8:32": {"riops": 9}})))
    world.host.write(f"{MOUNT}/kubepods/{GUEST}/io.max", "8:48 rbps=7")
    world.hear(advice(2, for_pod("g-1", io_max={"8:0": {"wbps": 400}, "8:64": {"rbps": 3}})))
    world.live(Stopping(3.0))
    assert world.text(f"{GUEST}/io.max").splitlines() == [
        "8:0 rbps=1000000 wbps=max riops=max wiops=max",
        "8:48 rbps=7 wbps=max riops=max wiops=max",
    ]


def test_only_our_domains_of_a_group_go_back() -> None:
    keep = KNOBS["schemata"].keep
    kept = keep(None, "L3:0=ff;1=ff\nMB:0=100;1=100", "MB:0=50")
    kept = keep(kept, "L3:0=f;1=ff\nMB:0= 50;1= 20", "MB:1=10;0=30")
    assert kept == "MB:0=100;1=20\n"


def test_what_the_kernel_shows_and_could_not_be_put_back_is_never_written_over() -> None:
    world = a_world()
    put(world, "io.weight", "a new kind of text\n")
    world.hear(advice(1, for_pod("g-1", io_weight=5)))
    assert told(world, "io.weight")[0].status is WriteStatus.REFUSED
    assert "could not be taken back" in told(world, "io.weight")[0].why
    assert world.text(f"{GUEST}/io.weight") == "a new kind of text"


def test_a_value_that_the_kernel_makes_something_else_of_is_told_and_not_written_every_period() -> None:
    world = a_world()
    world.host.on_write("memory.low", lambda *_: "4096\n")
    world.hear(advice(1, for_pod("g-1", memory_low=1 << 30)))
    assert told(world, "memory.low")[0].status is WriteStatus.REFUSED
    assert "keeps '4096'" in told(world, "memory.low")[0].why
    for second in range(2, 34):
        world.tick(float(second))
    assert len(told(world, "memory.low")) <= 7
    world.live(Stopping(40.0))
    assert world.said[-1].restored


def test_what_the_kubelet_writes_over_ours_is_put_right_and_is_what_comes_back() -> None:
    """A pod that is resized while the enforcer is there."""
    world = a_world().hear(advice(1, for_pod("g-1", cpu_weight=2, memory_max=1 << 30)))
    world.host.write(f"{MOUNT}/kubepods/{GUEST}/memory.max", str(3 << 30))
    world.tick(2.0)
    assert world.text(f"{GUEST}/memory.max") == str(1 << 30)
    assert world.counted["neap_enforcer_drift_total"] == 1
    world.live(Stopping(3.0))
    assert world.text(f"{GUEST}/memory.max") == str(3 << 30)
    assert world.text(f"{GUEST}/cpu.weight") == "79"


# -- memory, gently --------------------------------------------------------------------------------------------------


def test_a_step_is_the_share_of_the_source_and_less_the_more_it_hurts() -> None:
    now = Reading(GIB, 0.0)
    assert step(now, None, 0, SETTINGS)[0] == int(GIB * 0.05)
    assert step(Reading(GIB, 0.025), None, 0, SETTINGS)[0] == int(GIB * 0.05 * 0.5)
    assert step(Reading(100 * GIB, 0.0), None, 0, SETTINGS)[0] == SETTINGS.largest_step
    assert step(now, None, GIB - 5, SETTINGS)[0] == 5
    before = Reading(GIB, 0.0, refaulted=100, stolen=1000)
    assert step(Reading(GIB, 0.0, refaulted=150, stolen=2000), before, 0, SETTINGS)[0] == int(GIB * 0.05 * 0.5)


@given(
    current=st.integers(0, 1 << 45),
    level=st.integers(0, 1 << 45),
    stalled=st.one_of(st.none(), st.floats(0, 1)),
    refaulted=st.integers(0, 1 << 40),
    stolen=st.integers(0, 1 << 40),
)
def test_a_step_never_goes_below_the_level_nor_into_pressure(
    current: int, level: int, stalled: float | None, refaulted: int, stolen: int
) -> None:
    before = Reading(current, 0.0, 5, 5)
    amount, why = step(Reading(current, stalled, refaulted, stolen), before, level, SETTINGS)
    assert 0 <= amount <= min(max(0, current - level), SETTINGS.largest_step)
    assert bool(amount) != bool(why)
    if stalled is None or stalled >= SETTINGS.stall:
        assert amount == 0


def test_a_guest_is_brought_down_in_steps_once_for_each_advice() -> None:
    world = a_world()
    path = f"{MOUNT}/kubepods/{GUEST}/memory.current"
    put(world, "memory.current", f"{100 * MIB}\n")

    def reclaim(_: str, text: str) -> str:
        world.host.put(path, f"{int(world.host.read(path)) - int(text)}\n")
        return ""

    world.host.on_write("memory.reclaim", reclaim)
    world.hear(advice(1, for_pod("g-1", memory_down_to=90 * MIB)))
    for second in range(2, 10):
        world.tick(float(second))
    assert int(world.host.read(path)) == 90 * MIB
    assert [int(write.after) for write in told(world, "memory.reclaim")] == [5 * MIB, int(95 * MIB * 0.05), MIB // 4]
    put(world, "memory.current", f"{100 * MIB}\n")
    world.tick(10.0).tick(11.0)
    assert len(told(world, "memory.reclaim")) == 3
    world.hear(advice(12, for_pod("g-1", memory_down_to=90 * MIB)))
    assert len(told(world, "memory.reclaim")) == 4
    assert world.journal.load() == {}


def test_reclaim_stops_where_its_cgroup_begins_to_wait_and_goes_on_when_it_does_not() -> None:
    world = a_world()
    put(world, "memory.pressure", CALM.replace("avg10=0.00", "avg10=6.20"))
    world.hear(advice(1, for_pod("g-1", memory_down_to=0))).tick(2.0).tick(3.0)
    stopped = told(world, "memory.reclaim")
    assert [write.status for write in stopped] == [WriteStatus.REFUSED]
    assert "6.20% of the time stalled (limit 5.00%)" in stopped[0].why
    put(world, "memory.pressure", CALM)
    world.tick(4.0)
    assert told(world, "memory.reclaim")[-1].status is WriteStatus.WRITTEN


def test_less_than_asked_is_told_and_is_no_error_and_ends_it() -> None:
    world = a_world()

    def busy(path: str, _: str) -> str:
        raise Refused(f"write {path}: Resource temporarily unavailable (EAGAIN)")

    world.host.on_write("memory.reclaim", busy)
    world.hear(advice(1, for_pod("g-1", memory_down_to=0))).tick(2.0).tick(3.0)
    ((write),) = told(world, "memory.reclaim")
    assert write.status is WriteStatus.WRITTEN
    assert "reclaimed less than asked" in write.why


def test_the_whole_node_takes_no_more_at_once_than_it_may_and_everybody_gets_a_turn() -> None:
    world = a_world()
    for uid in ("g-1", "g-2"):
        world.host.put(f"{MOUNT}/kubepods/besteffort/pod{uid}/memory.current", f"{100 * GIB}\n")
    world.settings = type(world.settings)(node="n1", offload=Offloading(most_at_once=64 * MIB))
    world.start()
    world.hear(advice(1, *(for_pod(uid, memory_down_to=0) for uid in ("g-1", "g-2")))).tick(2.0)
    assert [write.cgroup.rpartition("pod")[2] for write in told(world, "memory.reclaim")] == ["g-1", "g-2"]


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_no_text_of_a_file_breaks_the_reading(current: str, pressure: str, stat: str) -> None:
    texts = {Site("/c", "memory.current"): current, Site("/c", "memory.pressure"): pressure}
    found = read("/c", texts | {Site("/c", "memory.stat"): stat})
    assert found is None or found.stalled is None or not math.isnan(found.stalled)


@given(st.text(max_size=100), st.text(max_size=100), st.sampled_from(sorted(KNOBS)))
def test_no_text_of_a_file_breaks_a_knob(wanted: str, shown: str, file: str) -> None:
    knob = KNOBS[file]
    assert knob.same(wanted, wanted)
    knob.same(wanted, shown)
    with suppress(InputError):
        knob.inverse(knob.keep(None, shown, wanted))
