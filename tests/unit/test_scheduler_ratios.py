"""The planner's ratios in the scheduler: the lowest word counts, and a pod is never touched."""

from __future__ import annotations

import math

import msgspec
import pytest

from neap.common.contract.catalogue import NODES, RATIOS
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, MEMORY
from neap.common.runtime.machine import Append, Arrived, Count, Gone
from neap.common.units import GIB
from neap.scheduler.core.nodes.table import NodeTable
from tests.unit.numa_world import a_cluster_node, a_pod, place
from tests.unit.scheduler_world import World, a_node, an_owner

NAMES = ("fit", "overcommit", "allocation")


def said(ratio: float, kind: str = CPU, node: str = "n1") -> NodeRatios:
    one = KindRatio(
        resource=kind, ratio=ratio, set=2.0, foreseen=ratio, peak=1, requested=1, original=8000, arithmetic=""
    )
    return NodeRatios(at=0.0, source="planner", node=node, kinds=(one,))


def a_table(**ratios: float) -> NodeTable:
    table = NodeTable()
    table.describe(a_node("n1", cores=8))
    if ratios:
        table.register(a_cluster_node("n1", ratios=ratios))
    return table


def sold(table: NodeTable, kind: str = CPU) -> float:
    return float(table.columns[f"allocatable/{kind}"][0])


def test_the_lowest_of_all_who_name_a_ratio_counts() -> None:
    table = a_table(cpu=1.5)
    assert sold(table) == 12_000
    table.heed(said(1.25), 0.0)
    assert sold(table) == 10_000
    table.heed(said(1.75), 0.0)
    assert sold(table) == 12_000, "the administrator's word is lower"
    table.register(a_cluster_node("n1"))
    assert sold(table) == 14_000, "the planner alone"
    table.heed(NodeRatios(at=0.0, source="planner", node="n1"), 0.0)
    assert (sold(table), table.columns["overcommit/cpu"][0]) == (8_000, 1.0)


def test_a_kind_the_planner_is_silent_about_is_the_administrators() -> None:
    table = a_table(cpu=1.5, memory=1.25)
    table.heed(said(1.25), 0.0)
    assert (sold(table), sold(table, MEMORY)) == (10_000, 40 * GIB)


def test_owned_cpus_are_not_sold_twice_by_the_planners_word_either() -> None:
    table = NodeTable()
    table.describe(a_node("n1", cores=16, gib=64))
    table.heed(said(2.0), 0.0)
    place(table, "n1", a_pod("own", (4, 1)))
    assert sold(table) == (16 - 4) * 2000 + 4000
    table.discharge("n1", "own")
    assert sold(table) == 32_000


def test_what_was_heard_before_the_machine_holds_from_then_on() -> None:
    table = NodeTable()
    table.heed(said(1.5), 0.0)
    table.describe(a_node("n1", cores=8))
    assert sold(table) == 12_000


def test_only_a_ratio_that_changed_wakes_anybody() -> None:
    table = a_table()
    table.heed(said(1.5), 0.0)
    clock = table.clock
    table.changes.clear()
    table.heed(said(1.5), 1.0)
    assert (table.clock, table.changes) == (clock, set())


def test_a_pod_that_waits_is_placed_when_the_planner_allows_more_and_none_when_it_is_gone() -> None:
    world = World(a_node("n1", cores=8), names=NAMES)
    world.submit(an_owner("a", cores=8), an_owner("b", cores=4))
    world.pass_time(1)
    assert [world.node_of(uid) for uid in ("a", "b")] == ["n1", ""]
    world.tell(Arrived(world.at, said(1.5), RATIOS.at(node="n1").subject))
    world.pass_time(1)
    assert world.node_of("b") == "n1"
    world.tell(Gone(world.at, RATIOS, RATIOS.at(node="n1").subject))
    world.submit(an_owner("c", cores=0.1))
    world.pass_time(1)
    assert (world.node_of("b"), world.node_of("c")) == ("n1", ""), "who runs stays, nobody comes"


def test_users_pods_stay_byte_for_byte_what_they_were() -> None:
    world = World(a_node("n1", cores=8), names=NAMES)
    world.tell(Arrived(world.at, said(1.5)))
    submitted = {uid: an_owner(uid, cores=cores, labels={"app": uid}) for uid, cores in (("a", 8.0), ("b", 3.5))}
    before = {uid: msgspec.json.encode(workload) for uid, workload in submitted.items()}
    world.submit(*submitted.values())
    world.pass_time(1)
    entries = [each.entry for each in world.instructions if isinstance(each, Append)]
    placed = [entry.placement for entry in entries if isinstance(entry, Placed)]
    assert {p.workload.uid: msgspec.json.encode(p.workload) for p in placed} == before
    assert {p.workload.uid: p.charged[CPU] for p in placed} == {"a": 8000, "b": 3500}, "charged as asked"


@pytest.mark.parametrize(
    ("ratios", "field", "why"),
    [
        (said(-1.0), "ratios", "negative"),
        (said(math.nan), "ratios", "beyond"),
        (said(1e9), "ratios", "beyond"),
        (msgspec.structs.replace(said(1.5), kinds=(*said(1.5).kinds, *said(1.2).kinds)), "kinds", "twice"),
        (msgspec.structs.replace(said(1.5), kinds=said(1.5).kinds * 300), "ratios", "too many"),
    ],
)
def test_ratios_that_are_none_are_refused_and_the_last_good_ones_stay(ratios: NodeRatios, field: str, why: str) -> None:
    world = World(a_node("n1", cores=8), names=NAMES)
    world.tell(Arrived(world.at, said(1.5)), Arrived(world.at, ratios))
    refused = [each for each in world.instructions if isinstance(each, Count) and "refused_input" in each.metric]
    assert [each.labels for each in refused] == [{"message": "NodeRatios", "field": field, "why": why}]
    world.submit(an_owner("a", cores=12))
    world.pass_time(1)
    assert world.node_of("a") == "n1"


def test_a_node_object_that_goes_leaves_the_planners_word() -> None:
    world = World(a_node("n1", cores=8), names=NAMES)
    node = NodeObject(at=0.0, source="gateway", node="n1", ratios={CPU: 1.25})
    world.tell(Arrived(world.at, node), Arrived(world.at, said(1.5)))
    world.submit(an_owner("a", cores=11))
    world.pass_time(1)
    assert world.node_of("a") == ""
    world.tell(Gone(world.at, NODES, NODES.at(node="n1").subject))
    world.pass_time(1)
    assert world.node_of("a") == "n1"
