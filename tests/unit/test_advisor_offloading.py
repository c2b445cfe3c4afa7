"""Memory that is taken back: Katalyst's acceptance cases A10 a and c, and what nobody loses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.advisor.core.policy import MemoryPod, MemoryView
from neap.advisor.plugins import memory_offloading as offloading
from neap.advisor.plugins import memory_reaper as reaper
from neap.common.units import GIB, MIB
from tests.unit.test_advisor_memory import a_guest, a_view, an_owner
from tests.unit.test_advisor_node import RECLAIMED, Node, a_pod

SWAPPING = offloading.Settings(swap=1)
# Where ours differs on purpose:
ON_PURPOSE = {
    "A10 a": "drop_cache empties whole containers until 70 GiB; we take what is lacking from the largest, bounded a report",
    "A10 b": "see test_advisor_memory: page cache that could go anyway is no reason for a higher limit",
    "A10 c": "idle page cache stands for cache − mapped: reports tell it, and mapped pages are in use",
    "errors": "a missing metric is an error there and no advice; here the pod is left alone, or its request counts",
    "balance": "of NUMA nodes: see test_advisor_balance",
}


def levels(view: MemoryView, settings: offloading.Settings | None = None) -> dict[str, int | None]:
    said = offloading.advise(view, settings or offloading.Settings())
    return {target: knobs.memory_down_to for target, knobs in said.knobs.items()}


def a_pod_of(used: int, idle: int, **more: Any) -> MemoryPod:
    return a_guest(used=used, working=used - idle, cache=idle, **{"stall": 0.01} | more)


@pytest.mark.parametrize(
    ("stalled", "used", "taken"),
    [
        pytest.param(0.01, 10 * GIB, 96636764, id="A10 c PSI policy"),
        pytest.param(0.01, 4 * GIB, 38654705, id="A10 c cgroup of 4 GiB"),
        pytest.param(0.2, 10 * GIB, 0, id="beyond the limit nothing"),
    ],
)
def test_offloading_by_pressure_of_katalyst(stalled: float, used: int, taken: int) -> None:
    assert int(offloading.by_pressure(used, stalled, offloading.Settings())) == taken


@pytest.mark.parametrize(
    ("last", "inactive", "known", "taken"),
    [
        pytest.param(10, 0, {}, 10.5, id="a little more than last time"),
        pytest.param(10, 200, {}, 20.0, id="a tenth of what is inactive"),
        pytest.param(95, 9000, {}, 100.0, id="at most 1 % of what is used"),
        pytest.param(10, 200, {"accuracy": 0.5}, 5.0, id="half came back"),
        pytest.param(10, 200, {"efficiency": 0.5}, 10.0, id="much was scanned for little"),
        pytest.param(10, 200, {"accuracy": -1.0}, 0.0, id="more came back than was taken"),
    ],
)
def test_offloading_by_refault(last: float, inactive: int, known: dict[str, float], taken: float) -> None:
    assert offloading.by_refault(10_000, last, inactive, offloading.Settings(), **known) == pytest.approx(taken)


def test_guests_give_what_is_idle_a_little_at_a_time_and_it_is_said() -> None:
    said = offloading.advise(a_view(a_pod_of(4 * GIB, idle=GIB)), offloading.Settings())
    assert said.knobs["pod/g"].memory_down_to == 4 * GIB - 38654705
    assert said.reason == "36.86Mi not needed lately taken back from 1"


def test_without_swap_only_idle_cache_goes_and_with_it_more() -> None:
    view = a_view(a_pod_of(4 * GIB, idle=0))
    assert levels(view) == {}, "A10 c no swap and cache == mapped"
    assert levels(view, SWAPPING) == {"pod/g": 4 * GIB - 38654705}


def test_who_cannot_be_measured_or_waits_or_owns_is_left_alone() -> None:
    assert levels(a_view(a_pod_of(4 * GIB, GIB, stall=None))) == {}
    assert levels(a_view(a_pod_of(4 * GIB, GIB, stall=0.5))) == {}
    assert levels(a_view(a_pod_of(4 * GIB, GIB, refaults=1e9), period=60.0)) == {}
    owner = an_owner(used=4 * GIB, working=3 * GIB, cache=GIB, stall=0.0)
    assert levels(a_view(owner)) == {}
    assert levels(a_view(owner), offloading.Settings(owners=1)).keys() == {"pod/s"}
    for worse in ({"fresh": False}, {"blind": "no usage"}):
        assert levels(replace(a_view(a_pod_of(4 * GIB, GIB)), **worse)) == {}


@given(
    st.integers(0, 64 * GIB),
    st.integers(0, 64 * GIB),
    st.floats(0, 1),
    st.none() | st.floats(0, 1e6),
    st.integers(0, 1),
)
def test_nobody_gives_more_than_a_hundredth_nor_what_it_uses(
    used: int, idle: int, stall: float, refaults: float | None, swap: int
) -> None:
    pod = a_pod_of(used, min(idle, used), stall=stall, refaults=refaults)
    for level in levels(a_view(pod, period=30.0), offloading.Settings(swap=swap)).values():
        assert level is not None
        assert MIB <= used - level <= used * 0.01
        assert swap or used - level <= pod.idle_cache


def test_it_is_off_until_it_is_named_and_then_the_enforcer_is_told() -> None:
    guest = a_pod("g", RECLAIMED)
    assert offloading.PLUGIN.settings is offloading.Settings
    off, on = Node(guest), Node(guest, memory=("memory_guard", "memory_offloading"))
    for node in (off, on):
        node.report(3, g=1.0)
    assert "not needed lately" not in off.why("reclaimed")
    assert "memory of all guests up to" in on.why("reclaimed")


def test_caches_of_katalyst_a10_a() -> None:
    """500 GiB, 30 free, critical 50: the guest with 60 gives the 20 that lack; with a target of 100 the next gives too."""
    caches = {"a": 60, "b": 10, "c": 20}
    guests = [a_guest(uid, used=cache * GIB, working=0, cache=cache * GIB) for uid, cache in caches.items()]
    view = a_view(*guests, capacity=500 * GIB, free=30 * GIB)
    one = reaper.advise(view, reaper.Settings(low=0.1, step=1))
    assert {target: knobs.memory_down_to for target, knobs in one.knobs.items()} == {"pod/a": 40 * GIB}
    two = reaper.advise(view, reaper.Settings(low=0.2, step=1))
    assert two.knobs.keys() == {"pod/a", "pod/c"}, ON_PURPOSE["A10 a"]
