"""Laws of table, plugins and cycle: what is kept is what would be worked out anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.gpu import empty_rooms
from neap.common.model.qos import QosClass
from neap.common.model.resource import GPU_CORE, GPU_MEMORY, RECLAIMED_CPU
from neap.common.model.workload import Container, Workload
from neap.common.runtime.plugins import load
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.evaluation import FITS
from neap.scheduler.core.choice.framework import Plugin, Policy
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.pods.pod import Pod, pod_of
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_offer, an_owner, policies

PLUGINS = load("neap.scheduler.plugins", Plugin)
NAMES = [f"n{i}" for i in range(5)]
GPU = st.sampled_from([None, None, (30, 5000), (70, 9000), (100, 0), (200, 0)])


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    uid = f"u{draw(st.integers(0, 30))}"
    if draw(st.booleans()):
        return a_guest(uid, cores=draw(st.sampled_from([0.5, 1, 3])))
    selector = draw(st.sampled_from([{}, {}, {"zone": "a"}]))
    models = draw(st.sampled_from([(), (), ("A10",)]))
    workload = an_owner(
        uid, cores=draw(st.sampled_from([1, 2, 5])), gpu=draw(GPU), node_selector=selector, gpu_models=models
    )
    if draw(st.booleans()):
        return workload
    second = Container(name="side", requests={"cpu": 500, GPU_CORE: 60, GPU_MEMORY: 6000})
    return an_owner(uid, gpu=(60, 6000), containers=(*workload.containers, second))


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    node, at = draw(st.sampled_from(NAMES)), float(draw(st.integers(0, 500)))
    what = draw(
        st.sampled_from(["node", "usage", "offer", "decide", "decide", "decide", "leave", "expire", "gone", "ready"])
    )
    cores = draw(st.sampled_from([2, 8, 16]))
    match what:
        case "node":
            model, zone = draw(st.sampled_from(["T4", "A10"])), draw(st.sampled_from("ab"))
            return what, a_node(node, cores=cores, cards=draw(st.integers(0, 3)), model=model, zone=zone)
        case "usage":
            return what, (
                a_usage(
                    node, at=at, cpu=cores * draw(st.sampled_from([0.1, 0.5, 0.7])), containers={"u1": 0.5, "u2": 0.1}
                ),
                at,
            )
        case "offer":
            return what, (an_offer(node, at=at, cores=cores / 2), at)
        case "decide":
            return what, (draw(workloads()), at)
        case "leave":
            return what, (node, f"u{draw(st.integers(0, 30))}")
        case "ready":
            return what, (node, draw(st.booleans()))
    return what, node if what == "gone" else at


def play(table: NodeTable, cycle: Cycle, what: str, with_: Any) -> None:
    match what:
        case "node":
            table.describe(with_)
        case "usage":
            table.measure(*with_)
        case "offer":
            table.offer(*with_)
        case "decide":
            cycle.decide(pod_of(with_[0]), with_[1])
        case "leave":
            table.discharge(*with_)
        case "expire":
            table.expire(with_)
        case "gone":
            table.forget(with_)
        case "ready":
            table.set_ready(*with_)


@given(st.lists(steps(), max_size=40), workloads())
def test_a_kept_evaluation_is_the_one_from_scratch(history: list[tuple[str, Any]], asked: Workload) -> None:
    table = NodeTable()
    cycle, pod = Cycle(table, policies()), pod_of(asked)
    for what, with_ in history:
        play(table, cycle, what, with_)
        kept, fresh = cycle.evaluate(pod), Cycle(table, policies()).evaluate(pod)
        divided = kept.codes == len(kept.reasons) - 1  # refused at reserve: filters alone cannot know
        assert kept.reasons == fresh.reasons
        assert (kept.codes[~divided] == fresh.codes[~divided]).all()
        assert (kept.totals[~divided] == fresh.totals[~divided]).all()
        assert (kept.later == fresh.later).all()
        assert (kept.scores == fresh.scores).all()
        assert (fresh.codes[divided] == FITS).all()
        assert (kept.counts == np.bincount(kept.codes, minlength=len(kept.reasons))).all()
    table.validate()


@given(st.lists(steps(), max_size=30), workloads())
def test_reserve_and_unreserve_leave_every_byte_as_it_was(history: list[tuple[str, Any]], asked: Workload) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies())
    for what, with_ in history:
        play(table, cycle, what, with_)
    for node in NAMES:
        table.discharge(node, asked.uid)
    before = {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}
    decision = cycle.decide(pod_of(asked), 1000.0)
    if decision.placement is not None:
        table.discharge(decision.node, asked.uid)
    after = {name: table.columns[name].tobytes() for name in table.columns.names if name != VERSION}
    assert {name: after[name] for name in before} == before


@given(st.permutations(NAMES), st.lists(workloads(), max_size=20), st.integers(0, 3))
def test_decisions_do_not_depend_on_the_order_in_which_nodes_came(
    order: list[str], asked: list[Workload], seed: int
) -> None:
    def decide(names: list[str]) -> list[str]:
        table = NodeTable(order_seed=seed)
        for name in names:
            table.describe(a_node(name, cards=2))
            table.offer(an_offer(name), 0.0)
        cycle = Cycle(table, policies())
        return [cycle.decide(pod_of(workload)).node for workload in asked]

    assert decide(order) == decide(NAMES)


@given(st.lists(workloads(), min_size=1, max_size=100))
def test_what_is_reserved_never_exceeds_a_node_or_a_card(asked: list[Workload]) -> None:
    table = NodeTable()
    nodes = [a_node("n1", cores=8, cards=2), a_node("n2", cores=16, cards=3, model="A10", zone="a")]
    for node in nodes:
        table.describe(node)
        table.offer(an_offer(node.node), 0.0)
    cycle = Cycle(table, policies())
    for workload in asked:
        cycle.decide(pod_of(workload))
    for node in nodes:
        held = table.charges(node.node).values()
        for kind, amount in {**node.allocatable, RECLAIMED_CPU: 4000}.items():
            assert sum(p.charged.get(kind, 0) for p in held) <= amount
        rooms = {room.index: room for room in empty_rooms(node.cards)}
        for share in (share for p in held for share in p.gpus):
            rooms[share.card] = rooms[share.card].take(share)
        assert all(min(room.core_free, room.memory_free_mib, 16 - room.containers) >= 0 for room in rooms.values())
        assert table.cards.rooms(table.row(node.node)) == tuple(rooms.values())


def test_100_parallel_reserves_of_one_card_never_exceed_it() -> None:
    table = NodeTable()
    table.describe(a_node(cores=1000, gib=1000, cards=1))
    cycle = Cycle(table, policies())
    decisions = [cycle.decide(pod_of(an_owner(f"u{i}", gpu=(7, 1000)))) for i in range(100)]
    assert sum(d.placement is not None for d in decisions) == 14
    (room,) = table.cards.rooms(0)
    assert (room.core_free, room.memory_free_mib, room.containers) == (2, 2000, 14)


@pytest.mark.parametrize("name", PLUGINS)
@given(history=st.lists(steps(), max_size=25), asked=workloads(), data=st.data())
def test_every_plugin_keeps_the_rules_of_a_plugin(
    name: str, history: list[tuple[str, Any]], asked: Workload, data: st.DataObject
) -> None:
    table, plugin, pod = NodeTable(), PLUGINS[name], pod_of(asked)
    cycle = Cycle(table, policies())
    for what, with_ in history:
        play(table, cycle, what, with_)
    before = {column: table.columns[column].tobytes() for column in table.columns.names}
    rows = np.array(
        sorted(data.draw(st.sets(st.integers(0, max(0, len(table) - 1)))) if len(table) else ()), dtype=np.intp
    )
    check_filter(plugin, pod, table, rows)
    check_score(plugin, pod, table, rows)
    assert before == {column: table.columns[column].tobytes() for column in table.columns.names}, (
        "a plugin wrote to the table"
    )
    assert plugin.settings() == plugin.settings()


def check_filter(plugin: Plugin[Any], pod: Pod, table: NodeTable, rows: np.ndarray[Any, Any]) -> None:
    if plugin.filter is None:
        return
    whole = plugin.filter(pod, table.view(), plugin.settings())
    some = plugin.filter(pod, table.view(rows), plugin.settings())
    assert [rule.reason for rule in whole] == [rule.reason for rule in some]
    for rule, part in zip(whole, some, strict=True):
        assert rule.passes.dtype == np.bool_
        assert rule.passes.shape == (len(table),)
        assert (rule.passes[rows] == part.passes).all(), "a part gives what the whole gives"
        assert rule.wakes
        assert rule.wakes <= plugin.wakes, "a rejected pod must be woken by what the plugin names"


def check_score(plugin: Plugin[Any], pod: Pod, table: NodeTable, rows: np.ndarray[Any, Any]) -> None:
    if plugin.score is None:
        return
    whole = plugin.score(pod, table.view(), plugin.settings())
    some = plugin.score(pod, table.view(rows), plugin.settings())
    assert (whole is None) == (some is None)
    if whole is not None and some is not None:
        assert whole.shape == (len(table),)
        assert np.isfinite(whole).all()
        assert ((whole >= 0) & (whole <= 100)).all()
        assert (whole[rows] == some).all(), "a part gives what the whole gives"


def test_a_tie_goes_to_the_first_node_of_one_fixed_permutation() -> None:
    def first_choices(seed: int) -> list[str]:
        table = NodeTable(order_seed=seed)
        for i in range(20):
            table.describe(a_node(f"n{i}"))
        cycle = Cycle(table, [Policy("fit", PLUGINS["fit"])])
        return [cycle.decide(pod_of(an_owner(f"u{i}", cores=1))).node for i in range(16)]

    chosen = first_choices(1)
    assert chosen == [chosen[0]] * 8 + [chosen[8]] * 8, "the same node is filled before the next is opened"
    assert len({first_choices(seed)[0] for seed in range(10)}) > 3, "the permutation depends on the seed"


def test_dedicated_and_system_classes_are_owners() -> None:
    for qos in (QosClass.DEDICATED, QosClass.SYSTEM, QosClass.SHARED):
        assert not pod_of(an_owner(qos=qos)).guest
