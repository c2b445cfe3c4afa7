"""The arithmetic of over-commitment: Katalyst's cases, requirements 001-08, and how a ratio moves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.kube.katalyst import NodeOvercommitConfig
from neap.common.model.overcommit import in_the_way, sold
from neap.common.model.placement import Placement
from neap.common.model.resource import CPU
from neap.common.units import GIB, HOUR
from neap.foresight.overcommit import Demand, Pace, foreseen, in_steps, moved, on_step
from tests.unit.scheduler_world import an_owner

PACE = Pace(step=0.05, rise=0.1)


@pytest.mark.parametrize(
    ("asked", "used", "cpu", "memory"),
    [
        ((4.0, 8 * GIB), (1.0, 2 * GIB), 1.6, 1.17),  # (i)
        ((8.0, 16 * GIB), (5.0, 13 * GIB), 1.0, 1.0),  # (ii)
        ((0.0, 0), (0.0, 0), 1.0, 1.0),  # (iii)
        ((4.0, 8 * GIB), (0.0, 0), 1.75, 1.25),  # (iv)
    ],
)
def test_ac_19_what_is_used_now_in_place_of_the_peak_is_katalysts_realtime_ratio(
    asked: tuple[float, int], used: tuple[float, int], cpu: float, memory: float
) -> None:
    """Source: katalyst-core overcommitmentaware/realtime TestUpdate; 16 cores, 32 GiB; set ratio 10."""
    assert min(10, foreseen(Demand(16, asked[0]), used[0], target=0.6, least=0.4)) == pytest.approx(cpu, abs=0.01)
    found = foreseen(Demand(32 * GIB, asked[1]), used[1], target=0.8, least=0.8)
    assert min(10, found) == pytest.approx(memory, abs=0.01)


def test_001_08_a_node_of_32_cores_with_a_peak_of_12_bears_48() -> None:
    assert foreseen(Demand(32, 30), 12, target=0.6, least=0.4) == pytest.approx(1.5)
    assert sold(32_000, 1.5) == 48_000
    pods = [Placement(workload=(pod := an_owner(uid, cores=15)), charged=pod.requests) for uid in ("a", "b")]
    assert in_the_way({CPU: 32_000}, {CPU: 1.5}, pods) == {}
    pods += [Placement(workload=(pod := an_owner("c", cores=17)), charged=pod.requests)]
    assert in_the_way({CPU: 32_000}, {CPU: 1.4}, pods) == {CPU: ("shop/c",)}, "47 > 44.8 = 32 x 1.4"


@pytest.mark.parametrize(
    ("original", "ratio", "expected"),
    [
        (44_000, 2.0, 88_000),
        (48_000, 2.0, 96_000),
        (186 * GIB, 1.2, 239_659_175_116),
        (192 * GIB, 1.2, 247_390_116_249),
        (15_600, 1.0, 15_600),
        (15_600, 1.2, 18_720),
    ],
)
def test_ac_17_and_ac_18_what_the_webhook_and_the_controller_make_of_a_ratio(
    original: int, ratio: float, expected: int
) -> None:
    """Source: katalyst-core webhook node_test.go case0, controller/overcommit/node TestNodeOvercommitResource."""
    assert sold(original, ratio) == expected


def test_ac_18_memory_in_thousandths_is_a_whole_byte_less_exact_there() -> None:
    """29258114498560m are 29258114498.56 bytes: Katalyst rounds the product of the fraction, we sell whole bytes."""
    assert sold(29_258_114_498, 1.2) == 35_109_737_397
    assert math.floor(29_258_114_498.56 * 1.2 + 0.5) == 35_109_737_398


def test_ac_27_of_two_configurations_of_a_pool_the_newest_counts_until_it_is_gone() -> None:
    import msgspec

    from neap.gateway.core.kinds.table import ratios

    def config(name: str, created: str, cpu: str) -> NodeOvercommitConfig:
        told = {
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"nodeOvercommitSelectorVal": "web", "resourceOvercommitRatio": {"cpu": cpu}},
        }
        return msgspec.convert(told, NodeOvercommitConfig)

    label = {"katalyst.kubewharf.io/overcommit_node_pool": "web"}
    old, new = config("a", "2026-01-01T00:00:00Z", "1.5"), config("b", "2026-01-02T00:00:00Z", "2")
    assert ratios([old, new], label) == ratios([new, old], label) == {"cpu": 2.0}
    assert ratios([old], label) == {"cpu": 1.5}


def test_owned_cores_are_neither_sold_twice_nor_part_of_the_peak() -> None:
    demand = Demand(original=32, requested=26, owned=8)
    assert foreseen(demand, 9, target=0.75, least=0.4) == pytest.approx(0.75 * 18 / 9)
    assert sold(32_000, 1.5, 8_000) == 44_000
    assert demand.running == 1.0
    assert Demand(original=32, requested=47).running == pytest.approx(47 / 32)
    assert Demand(original=8, requested=8, owned=8).running == 1.0


@pytest.mark.parametrize("peak", [math.nan, math.inf, -1.0])
def test_a_peak_that_is_none_bears_nothing_more(peak: float) -> None:
    assert foreseen(Demand(32, 30), peak, target=0.75, least=0.4) == 1.0


def test_a_ratio_falls_at_once_and_rises_a_step_at_a_time() -> None:
    assert moved(None, 1.43, 2.0, 0, PACE) == 1.4
    assert moved(1.4, 1.22, 2.0, 0, PACE) == 1.2
    assert moved(1.2, 1.9, 2.0, 0.4 * HOUR, PACE) == 1.2, "not yet"
    assert moved(1.2, 1.9, 2.0, 0.5 * HOUR, PACE) == 1.25
    assert moved(1.2, 1.29, 2.0, HOUR, PACE) == 1.2, "a step more than that is not borne"
    assert moved(1.2, 1.3, 2.0, HOUR, PACE) == 1.25
    assert moved(1.2, 1.9, 1.22, HOUR, PACE) == 1.22, "no more than is set"
    assert moved(1.5, 1.9, 1.4, 0, PACE) == 1.4


@given(st.lists(st.floats(0.99, 1.01), min_size=2, max_size=60), st.floats(1.1, 1.9))
def test_what_trembles_about_a_step_does_not_flap(noise: list[float], about: float) -> None:
    force, moves = None, -1
    for at, share in enumerate(noise):
        new = moved(force, about * share, 3.0, at * HOUR, PACE)
        force, moves = new, moves + (new != force)
    assert moves <= 1, "it falls to the lowest, once or not at all"


@given(st.floats(0, 1000), st.floats(0, 2000), st.floats(0, 1000), st.floats(0.1, 1), st.floats(0.01, 1))
def test_what_is_foreseen_keeps_the_peak_within_the_target(
    original: float, asked: float, peak: float, target: float, least: float
) -> None:
    ratio = foreseen(Demand(original, asked), peak, target=target, least=least)
    assert 1 <= ratio < math.inf
    if ratio > 1:
        load = min(1.0, max(least, peak / asked))
        assert peak + load * (ratio * original - asked) <= target * original * (1 + 1e-9) + 1e-9


@given(st.floats(1, 100), st.floats(0.01, 1))
def test_steps_round_down_and_what_runs_rounds_up(ratio: float, step: float) -> None:
    assert on_step(ratio, step) <= ratio + 1e-6
    assert in_steps(ratio) >= ratio - 1e-6
