"""NUMA placement: Katalyst's acceptance cases AC-4, AC-5 and AC-6, and what the decision says and the ledger is charged."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from neap.common.errors import InputError
from neap.common.model.enhancement import enhancement
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.units import GIB
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.zones import policy_of
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import numa
from tests.unit.numa_world import (
    ALONE,
    BIND,
    a_cluster_node,
    a_machine,
    a_pod,
    a_table,
    decide,
    passes,
    place,
    policies,
)
from tests.unit.scheduler_world import a_guest

GPU = "example.com/gpu"
BIG, SMALL = (4, 8), (2, 4)


def four(name: str, *, gpus: bool = False) -> NodeTopology:
    return a_machine(name, *[SMALL] * 4, packages=2, kinds={GPU: [2] * 4} if gpus else None)


def two(name: str, size: tuple[int, int], *, packages: int = 1, gpus: bool = False) -> NodeTopology:
    return a_machine(name, size, size, packages=packages, kinds={GPU: [size[0]] * 2} if gpus else None)


def score_table(policy: str, **more: Any) -> NodeTable:
    """N1 .. N4 of AC-4."""
    table = a_table(two("N1", BIG), two("N2", SMALL), two("N3", BIG), four("N4"), policy=policy, **more)
    place(table, "N3", a_pod("a", (1, 2), asks=BIND), 0)
    place(table, "N3", a_pod("b", (3, 6), asks=BIND), 1)
    return table


def filter_table(policy: str, *, used: bool = True, **more: Any) -> NodeTable:
    """F1 .. F5 of AC-6; `used`: F3's part in use is a bound pod's."""
    sizes = [
        two("F1", BIG, packages=2, gpus=True),
        two("F2", SMALL, packages=2, gpus=True),
        two("F3", BIG, packages=2, gpus=True),
    ]
    table = a_table(*sizes, four("F4", gpus=True), four("F5", gpus=True), policy=policy, **more)
    place(table, "F3", a_pod("a", (1, 2), asks=BIND, extra={GPU: 2}), *((1,) if used else ()))
    for uid, node, number in (("b", "F4", 0), ("c", "F4", 2), ("d", "F5", 0)):
        place(table, node, a_pod(uid, (1, 2), asks=BIND), number)
    return table


def scores(table: NodeTable, workload: Workload, **settings: Any) -> list[float] | None:
    found = numa.aligned_score(pod_of(workload), table.view(), numa.Settings(**settings))
    return None if found is None else found.tolist()


def fits(table: NodeTable, workload: Workload, **settings: Any) -> str:
    """The nodes that pass, by number."""
    rules = numa.held_together(pod_of(workload), table.view(), numa.Settings(**settings))
    return "".join(str(row + 1) for row, ok in enumerate(passes(rules, len(table))) if ok)


# -- AC-4, AC-5: scores ----------------------------------------------------------------------------------------------


def test_ac_4_scores_of_a_bound_pod() -> None:
    table, pod = score_table("single-numa-node"), a_pod("p", (2, 4), asks=BIND, extra={GPU: 1})
    assert scores(table, pod) == [50, 100, 66, 100]
    assert scores(table, pod, score="least") == [50, 0, 33, 0]
    assert scores(table, a_pod("p", (2, 4))) is None, "not concerned: no opinion"


def test_ac_5_scores_of_a_pod_alone() -> None:
    alone = a_pod("p", (2, 4), asks=ALONE)
    assert scores(score_table("single-numa-node"), alone) == [50, 100, 0, 100]
    assert scores(score_table("numeric"), a_pod("p", (3, 6), asks=ALONE)) == [75, 75, 0, 75]


def test_ac_5_scores_of_native_pods() -> None:
    native: dict[str, Any] = {"qos": QosClass.SHARED}
    single, numeric = score_table("single-numa-node", pinned_cpu=True), score_table("numeric", pinned_cpu=True)
    assert scores(single, a_pod("p", (4, 8), **native)) == [100, 0, 0, 0]
    empty = a_table(two("N1", BIG), two("N2", SMALL), four("N4"), policy="single-numa-node", pinned_cpu=True)
    assert scores(empty, a_pod("p", (2, 4), **native), score="balanced") == [100, 100, 100]
    assert scores(single, a_pod("p", (2, 4), **native), score="balanced") == [100] * 4
    assert scores(numeric, a_pod("p", (4, 8), **native)) == [0] * 4
    assert scores(single, a_pod("p", (0.35, 1), **native)) is None, "not whole CPUs"


def test_what_katalyst_gets_wrong_is_right_here() -> None:
    table = score_table("single-numa-node")
    assert scores(table, a_pod("p", (2, 4), asks=BIND), aligned=("example.com/none",)) == [100] * 4, "no weight at all"
    assert scores(table, a_pod("p", (2, 4), asks=BIND), aligned=(CPU,), score="balanced") == [100] * 4, "one kind"
    sparse = a_table(a_machine("n", BIG, BIG, numbers=(0, 64)))
    place(sparse, "n", a_pod("a", (3, 2), asks=BIND), 0)
    decision = decide(sparse, a_pod("p", (2, 4), asks=BIND))
    assert decision.placement is not None
    assert decision.placement.numa == (64,)
    place(sparse, "n", a_pod("b", (2, 1), asks=BIND), 64)
    sparse.discharge("n", "p")
    assert decide(sparse, a_pod("q", (3, 1), asks=BIND)).node == ""


# -- AC-6: filter ----------------------------------------------------------------------------------------------------


def test_ac_6a_native_pods() -> None:
    table, native = filter_table("SingleNUMANodeContainerLevel", pinned_cpu=True), {"qos": QosClass.SHARED}
    assert fits(table, a_pod("p", (4, 8), **native)) == "13"
    assert fits(table, a_pod("p", (2, 4), (2, 4), **native)) == "12345"
    assert fits(table, a_pod("p", (0.35, 1), **native)) == "12345"
    assert fits(table, a_pod("p", (4, 8), extra={"a/b": 1}, **native)) == "13"
    assert fits(filter_table("numeric", pinned_cpu=True), a_pod("p", (4, 8), **native)) == "12345"
    assert fits(filter_table("single-numa-node"), a_pod("p", (4, 8), **native)) == "12345", "no static kubelet"


def test_ac_6b_a_kind_that_is_aligned_must_come_from_the_same_numa_node() -> None:
    table, pod = filter_table("numeric"), a_pod("p", (4, 8), asks=BIND, extra={GPU: 6})
    assert fits(table, pod) == "13"
    assert fits(table, pod, aligned=(CPU, MEMORY, GPU)) == ""


def test_ac_6c_two_containers() -> None:
    pod = a_pod("p", (2, 4), (2, 4), asks=BIND, extra={GPU: 3})
    assert fits(filter_table("numeric"), pod) == "12345"
    aligned = (CPU, MEMORY, GPU)
    assert fits(filter_table("numeric", used=False), pod, aligned=aligned) == "13", "who is not bound blocks nothing"
    assert fits(filter_table("numeric"), pod, aligned=aligned) == "1", (
        "F3 has 4 + 2 left: 3 and 3 cannot be cut from it"
    )


def test_ac_6d_alone() -> None:
    assert fits(filter_table("numeric"), a_pod("p", (4, 8), asks=ALONE)) == "1235"
    for containers in ([(2, 4)], [(2, 4), (2, 4)]):
        for policy in ("single-numa-node", "numeric"):
            assert fits(filter_table(policy), a_pod("p", *containers, asks=ALONE)) == "12345"


# -- what is chosen, charged and said --------------------------------------------------------------------------------


def numa_of(table: NodeTable, workload: Workload, *names: str, **settings: Any) -> tuple[int, ...]:
    decision = decide(table, workload, *names, **settings)
    assert decision.placement is not None, decision.rejected
    return decision.placement.numa


def test_the_lowest_numa_node_that_holds_a_bound_pod_is_named_and_charged() -> None:
    table = a_table(a_machine("n", BIG, BIG, system="0"))
    decision = decide(table, a_pod("p", (4, 2), asks=BIND))
    assert decision.placement is not None
    assert decision.placement.numa == (1,), "CPU 0 is the system's"
    assert decision.why == ("NUMA 1 by policy numeric",)
    assert table.columns["zone/charged/cpu"][0, :3].tolist() == [0, 4000, 0]
    assert table.columns["zone/limit/cpu"][0, :2].tolist() == [3000, 4000]
    assert numa_of(table, a_pod("q", (3, 2), asks=BIND)) == (0,)


def test_who_is_not_bound_blocks_no_numa_node_but_the_node_is_never_overrun() -> None:
    table = a_table(a_machine("n", BIG, BIG))
    for uid in "abc":
        assert numa_of(table, a_pod(uid, (2, 2), qos=QosClass.SHARED)) == ()
    assert numa_of(table, a_pod("p", (2, 2), asks=BIND)) == (0,)
    assert decide(table, a_pod("q", (1, 1), asks=BIND)).node == "", "NUMA nodes have room, the node has none"


def test_numa_nodes_alone_are_charged_whole_and_nobody_else_is_bound_there() -> None:
    table = a_table(a_machine("n", BIG, BIG, BIG))
    decision = decide(table, a_pod("p", (2, 1), asks=ALONE))
    assert decision.placement is not None
    assert (decision.placement.numa, decision.placement.exclusive) == ((0,), True)
    assert decision.placement.charged == {CPU: 4000, MEMORY: 8 * GIB}
    assert decision.why == ("NUMA 0 alone by policy numeric",)
    assert numa_of(table, a_pod("q", (1, 1), asks=BIND)) == (1,)
    assert numa_of(table, a_pod("r", (1, 1), asks=ALONE)) == (2,)
    assert decide(table, a_pod("s", (1, 1), asks=ALONE)).node == ""
    place(table, "n", a_pod("t", (4, 1), qos=QosClass.SHARED))
    table.discharge("n", "r")
    refused = decide(table, a_pod("u", (1, 1), asks=ALONE))
    assert [v.reason for v in refused.rejected] == ["free as much as its NUMA nodes have"]


def test_restricted_takes_the_fewest_by_size_and_keeps_to_a_package() -> None:
    table = a_table(four("n"), policy="restricted")
    place(table, "n", a_pod("a", (1, 1), asks=BIND), 1)
    assert numa_of(table, a_pod("p", (4, 8), asks=BIND)) == (2, 3)
    assert decide(a_table(four("n"), policy="numeric"), a_pod("p", (4, 8), asks=BIND)).node == ""
    assert numa_of(a_table(four("n")), a_pod("p", (4, 8), asks=BIND | {"neap.io/numa-nodes": "2"})) == (0, 1)


def test_a_node_whose_policy_is_none_promises_nothing_and_says_so() -> None:
    decision = decide(a_table(four("n"), policy="none"), a_pod("p", (2, 4), asks=BIND))
    assert decision.placement is not None
    assert decision.placement.numa == ()
    assert decision.why == ("not bound to NUMA nodes: the node's topology policy is none",)


def test_more_than_eight_numa_nodes_are_too_many_for_the_numeric_policy_alone() -> None:
    wide = a_machine("n", *[SMALL] * 9, packages=1)
    assert decide(a_table(wide, policy="numeric"), a_pod("p", (1, 1), asks=BIND)).node == ""
    assert numa_of(a_table(wide, policy="single-numa-node"), a_pod("p", (1, 1), asks=BIND)) == (0,)
    assert numa_of(a_table(wide, policy="restricted"), a_pod("p", (4, 1), asks=BIND)) == (0, 1)
    wider = a_table(a_machine("n", *[SMALL] * 20), policy="single-numa-node")
    assert wider.columns["zones/left-out"][0] == 4


def test_a_numa_node_without_cpus_holds_nobody() -> None:
    table = a_table(a_machine("n", (0, 64), SMALL))
    assert numa_of(table, a_pod("p", (1, 1), asks=BIND)) == (1,)
    guest = msgspec.structs.replace(a_guest("g"), annotations=BIND)
    assert numa_of(table, guest, "numa") == (1,)


def test_cards_draw_their_pod_to_their_numa_node() -> None:
    table = a_table(a_machine("n", BIG, BIG, cards=(1, 1)))
    pod = a_pod("p", (1, 1), asks=BIND, extra={GPU_CORE: 50, GPU_MEMORY: 1000})
    assert numa_of(table, pod) == (1,)
    place(table, "n", a_pod("a", (3, 1), asks=BIND), 1)
    assert numa_of(table, a_pod("q", (2, 1), asks=BIND, extra={GPU_CORE: 50, GPU_MEMORY: 1000})) == (0,), "soft"


def test_a_miss_names_the_numa_node_that_comes_nearest() -> None:
    table = a_table(a_machine("n", BIG, BIG, numbers=(0, 2)))
    place(table, "n", a_pod("a", (2, 1), asks=BIND), 0)
    place(table, "n", a_pod("b", (1, 1), asks=BIND), 2)
    (rule,) = numa.held_together(pod_of(a_pod("p", (4, 1), asks=BIND)), table.view(), numa.Settings())
    assert rule.near is not None
    near = rule.near()
    assert near.missing.tolist() == [1.0]
    assert near.tell(0) == "1 NUMA nodes needed: best NUMA node 2 has 3000 of 4000 cpu left, 4000 needed"
    wide = a_table(a_machine("n", *[SMALL] * 9))
    (rule,) = numa.held_together(pod_of(a_pod("p", (1, 1), asks=BIND)), wide.view(), numa.Settings())
    assert rule.near is not None
    assert np.isinf(rule.near().missing[0])
    assert rule.near().tell(0) == "has 9 NUMA nodes, and its policy numeric finds none that could hold it"


def test_a_machine_told_again_is_charged_anew() -> None:
    table = a_table(a_machine("n", BIG, BIG))
    place(table, "n", a_pod("a", (3, 1), asks=BIND), 1)
    before = table.columns["zone/charged/cpu"].tobytes()
    table.describe(a_machine("n", BIG, BIG))
    assert table.columns["zone/charged/cpu"].tobytes() == before
    table.describe(a_machine("n", BIG))
    assert table.columns["zone/charged/cpu"].sum() == 0
    table.discharge("n", "a")
    assert table.columns["zone/charged/cpu"].sum() == 0


def test_numa_nodes_that_share_a_limit_share_what_is_charged() -> None:
    shared = a_machine("n", BIG, BIG)
    package = shared.machine.children[0]
    root = msgspec.structs.replace(
        shared.machine, children=(msgspec.structs.replace(package, allocatable={"mb": 3000}),)
    )
    table = a_table(msgspec.structs.replace(shared, machine=root))
    assert table.columns["zone/limit/mb"][0, :2].tolist() == [3000, 3000]
    placement = Placement(workload=a_pod("a", (2, 1)), charged={CPU: 2000, "mb": 1001}, numa=(0, 1))
    table.charge("n", placement, 0.0)
    assert table.columns["zone/charged/mb"][0, :2].tolist() == [1002, 1002]
    table.discharge("n", "a")
    assert table.columns["zone/charged/mb"].sum() == 0


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("SingleNUMANodePodLevel", "single-numa-node"),
        ("NumericContainerLevel", "numeric"),
        ("best-effort", "none"),
        ("odd", ""),
    ],
)
def test_policies_are_read_by_all_their_names(text: str, policy: str) -> None:
    assert policy_of(text) == policy


def test_pods_that_do_not_care_cost_nothing() -> None:
    table = a_table(a_machine("n", BIG, BIG))
    pod = pod_of(a_pod("p", (2, 2), qos=QosClass.SHARED))
    for policy in policies("numa", "overcommit", "profile_rating"):
        assert policy.plugin.filter is not None
        assert list(policy.plugin.filter(pod, table.view(), policy.settings)) == []
    table.register(a_cluster_node("n", "single-numa-node", pinned_cpu=True))
    assert len(numa.held_together(pod, table.view(), numa.Settings())) == 1


@pytest.mark.parametrize("text", ["0", "17", "two", "-1", "", "٣"])
def test_how_many_numa_nodes_is_a_number_or_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="neap.io/numa-nodes"):
        enhancement({"neap.io/numa-nodes": text}, QosClass.SHARED)
    assert enhancement({"neap.io/numa-nodes": "16"}, QosClass.SHARED).numa_nodes == 16
