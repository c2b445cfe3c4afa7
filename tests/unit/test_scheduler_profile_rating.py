"""The plugin that places a pod by what its profile says it will use."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from neap.common.model.profile import (
    KINDS,
    MEMORY_BANDWIDTH,
    POWER,
    MachineType,
    Observation,
    ProfiledKind,
    Scope,
    ServiceProfile,
    Window,
)
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.zones import ZONES
from neap.scheduler.core.pods.demand import Demand, ProfiledPod, charges, demands_of, profiled
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import fit, profile_rating
from tests.unit.scheduler_world import a_guest, a_node, an_owner

NAN = float("nan")
BANDWIDTH = KINDS[MEMORY_BANDWIDTH]
MACHINES = {
    name: MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed})
    for name, speed in {"M1": 1000.0, "M2": 2000.0, "M3": 4000.0}.items()
}


def picked(scores: Any) -> str:
    return "ABC"[int(np.argmax(scores))]


def a_table(zones: dict[str, list[float]], *, limit: float = 2000, kind: str = MEMORY_BANDWIDTH) -> NodeTable:
    """Nodes by what is left on each NUMA node; the rest of the limit is charged."""
    table = NodeTable()
    for name in zones:
        table.describe(a_node(name, cores=64, gib=512))
    fill(table, zones, limit=limit, kind=kind)
    return table


def fill(table: NodeTable, zones: dict[str, list[float]], *, limit: float, kind: str) -> None:
    table.columns.add(f"zone/limit/{kind}", np.float64, fill=NAN, width=ZONES)
    table.columns.add(f"zone/charged/{kind}", np.float64, width=ZONES)
    for name, left in zones.items():
        table.columns[f"zone/limit/{kind}"][table.row(name), : len(left)] = limit
        table.columns[f"zone/charged/{kind}"][table.row(name), : len(left)] = [limit - x for x in left]


def a_pod(amount: int, *, kind: ProfiledKind = BANDWIDTH, zones: int = 1, guest: bool = False) -> ProfiledPod:
    return profiled(pod_of(a_guest() if guest else an_owner()), [Demand(kind, (), amount)], zones)


def decide(table: NodeTable, pod: ProfiledPod, **settings: Any) -> Decision:
    policy = Policy("profile_rating", profile_rating.PLUGIN, settings=profile_rating.Settings(**settings))
    return Cycle(table, [Policy("fit", fit.PLUGIN), policy]).decide(pod)


def numa_of(decision: Decision) -> tuple[int, ...]:
    assert decision.placement is not None, decision.rejected
    return decision.placement.numa


BASE = {"A": [-400.0, -400.0, -400.0, 1500.0], "B": [-400.0, -400.0, -400.0, 800.0]}


def test_the_plugin_places_the_base_case_spread_or_packed() -> None:
    spread, pack = decide(a_table(BASE), a_pod(500)), decide(a_table(BASE), a_pod(500), owners="pack")
    assert (spread.node, numa_of(spread), dict(spread.parts)) == ("A", (3,), {"profile_rating": 50.0})
    assert (pack.node, numa_of(pack), dict(pack.parts)) == ("B", (3,), {"profile_rating": 85.0})


def test_guests_pack_by_default() -> None:
    table, guest = a_table(BASE), a_pod(500, guest=True)
    scores = [profile_rating.roomy(pod, table.view(), profile_rating.Settings()) for pod in (guest, a_pod(500))]
    assert [picked(score) for score in scores] == ["B", "A"]


def test_the_plugin_places_the_discriminating_case_and_says_why_not_the_other() -> None:
    table = a_table({"A": [-1000, -1000, -1000, 2500], "B": [-200, -200, -200, 1300]}, limit=3200)
    decision = decide(table, a_pod(1500))
    assert (decision.node, numa_of(decision)) == ("A", (3,))
    reason = f"{MEMORY_BANDWIDTH}: 1500 bytes/s predicted on 1 NUMA node"
    assert [(v.reason, v.nodes) for v in decision.rejected] == [(reason, 1)]


def test_the_plugin_rates_mixed_generations_after_placement() -> None:
    table = NodeTable()
    for name, machine in (("m1", "M1"), ("m3", "M3")):
        labels = {"neap.io/machine-type": machine}
        table.describe(msgspec.structs.replace(a_node(name, cores=64, gib=64), labels=labels))
    fill(table, {"m1": [700]}, limit=1000, kind=MEMORY_BANDWIDTH)
    fill(table, {"m3": [1100]}, limit=4000, kind=MEMORY_BANDWIDTH)
    window = Window(start=0, containers={"main": 360.0})
    profile = ServiceProfile(
        at=0, source="planner", key="shop/Deployment/w", version="1",
        observations=(Observation(kind=MEMORY_BANDWIDTH, machine="M2", windows=(window,)),),
    )  # fmt: skip
    asked = pod_of(an_owner(cores=1))
    pod = profiled(asked, demands_of(profile, asked, KINDS, MACHINES))
    assert [charges(pod, code(name))[MEMORY_BANDWIDTH] for name in ("M1", "M2", "M3", "M9")] == [180, 360, 720, 360]
    scores = profile_rating.roomy(pod, table.view(), profile_rating.Settings())
    assert scores is not None
    assert scores.tolist() == [52.0, 9.5]
    assert decide(table, pod).node == "m1"


def test_an_empty_third_node_is_left_alone_where_larges_are_expected() -> None:
    zones = BASE | {"C": [2000.0] * 4}
    assert decide(a_table(zones), a_pod(500)).node == "C"
    table = a_table({"A": [2000.0, 1500.0]})
    assert numa_of(decide(table, a_pod(500))) == (0,)
    assert numa_of(decide(a_table({"A": [2000.0, 1500.0]}), a_pod(500), keep_empty=True)) == (1,)
    assert decide(a_table(zones), a_pod(500), keep_empty=True).node == "A"


def test_unknown_nodes_pass_with_score_0_or_are_rejected_and_named() -> None:
    def table() -> NodeTable:
        found = a_table({"known": [600.0]})
        found.describe(a_node("dark"))
        return found

    scores = profile_rating.roomy(a_pod(500), table().view(), profile_rating.Settings())
    assert scores is not None
    assert scores.tolist() == [5.0, 0.0]
    dark = decide(table(), a_pod(700))
    assert (dark.node, numa_of(dark)) == ("dark", ())
    refused = decide(table(), a_pod(700), unknown="reject")
    assert refused.node == ""
    assert f"{MEMORY_BANDWIDTH} unknown" in [v.reason for v in refused.rejected]
    assert decide(NodeTable(), a_pod(1)).node == ""


def test_where_nobody_knows_anything_pods_still_run() -> None:
    table = NodeTable()
    table.describe(a_node("dark"))
    cache = ProfiledKind(name="example.com/cache", unit="bytes", scope=Scope.NUMA)
    pod = profiled(pod_of(an_owner()), [Demand(BANDWIDTH, (), 1000), Demand(cache, (), 50)], zones=2)
    for way in ("spread", "pack"):
        scores = profile_rating.roomy(pod, table.view(), profile_rating.Settings(owners=way))
        assert scores is not None
        assert scores.tolist() == [0.0]
    decision = decide(table, pod)
    assert (decision.node, numa_of(decision)) == ("dark", ())


def test_power_is_the_same_plugin_with_one_limit_per_node() -> None:
    def table() -> NodeTable:
        return a_table({"n1": [400_000.0]}, limit=400_000, kind=POWER)

    held_back = decide(table(), a_pod(420_000, kind=KINDS[POWER]))
    assert [v.reason for v in held_back.rejected] == [f"{POWER}: 420000 milliwatts predicted"]
    allowed = decide(table(), a_pod(100_000, kind=KINDS[POWER]))
    assert (allowed.node, numa_of(allowed), dict(allowed.parts)) == ("n1", (), {"profile_rating": 75.0})
    other = a_table({"n1": [100.0, 400_000.0]}, limit=400_000, kind=POWER)  # only the first cell is the node's
    assert decide(other, a_pod(100_000, kind=KINDS[POWER])).node == ""


def test_two_kinds_must_hold_on_the_same_numa_node() -> None:
    other = ProfiledKind(name="example.com/cache", unit="bytes", scope=Scope.NUMA)

    def table(cache: list[float]) -> NodeTable:
        found = a_table({"n1": [2000.0, 300.0]})
        fill(found, {"n1": cache}, limit=100, kind=other.name)
        return found

    pod = profiled(pod_of(an_owner()), [Demand(BANDWIDTH, (), 1000), Demand(other, (), 50)])
    assert numa_of(decide(table([60.0, 100.0]), pod)) == (0,)
    dark = profiled(pod_of(an_owner()), [Demand(BANDWIDTH, (), 1000), Demand(other, (), 50)])
    half = decide(a_table({"n1": [300.0, 1500.0]}), dark, keep_empty=True)  # nobody knows the other kind
    assert (numa_of(half), dict(half.parts)) == ((1,), {"profile_rating": 56.25})
    refused = decide(table([10.0, 100.0]), pod)
    assert [v.reason for v in refused.rejected] == [
        f"{other.name}, {MEMORY_BANDWIDTH}, cpu, memory on the same 1 NUMA node"
    ]


def test_a_pod_that_spans_needs_room_on_every_zone_it_gets() -> None:
    assert numa_of(decide(a_table({"n1": [700.0, 1300.0, 1200.0]}), a_pod(2400, zones=2))) == (1, 2)
    assert decide(a_table({"n1": [1100.0, 1300.0]}), a_pod(2400, zones=2)).node == ""


def test_a_profile_changes_the_shape_and_a_pod_without_one_is_nothing_to_the_plugin() -> None:
    plain = pod_of(an_owner())
    shapes = {plain.shape, a_pod(500).shape, a_pod(501).shape, a_pod(500, zones=2).shape}
    assert len(shapes) == 4
    assert a_pod(500).shape == a_pod(500).shape
    view, settings = a_table(BASE).view(), profile_rating.Settings()
    assert profile_rating.roomy(plain, view, settings) is None
    assert list(profile_rating.have_left(plain, view, settings)) == []
    assert charges(plain, 0) == {}
    assert profile_rating.roomy(profiled(plain, []), view, settings) is None


def test_a_profile_without_a_cpu_request_predicts_nothing() -> None:
    window = Window(start=0, containers={"main": 100.0})
    profile = ServiceProfile(
        at=0, source="planner", key="k", version="1",
        observations=(Observation(kind=MEMORY_BANDWIDTH, machine="M1", windows=(window,)),),
    )  # fmt: skip
    asked = pod_of(an_owner(cores=0))
    assert demands_of(profile, asked, KINDS, MACHINES) == ()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_known_kind_is_served_by_the_same_code(kind: str) -> None:
    table = a_table({"low": [100.0], "high": [900.0]}, limit=1000, kind=kind)
    assert decide(table, a_pod(50, kind=KINDS[kind])).node == "high"
    assert decide(table, a_pod(950, kind=KINDS[kind])).node == ""
