"""Over-commitment: acceptance case AC-7, what fit sees, and which ratios are refused."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.model.overcommit import in_the_way, sold
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.units import GIB
from neap.scheduler.core.nodes.table import NodeTable
from tests.unit.numa_world import ALONE, a_cluster_node, a_machine, a_pod, a_table, decide, place
from tests.unit.scheduler_world import a_node, an_owner

NAMES = ("fit", "numa", "overcommit")
SHARED: dict[str, Any] = {"qos": QosClass.SHARED}


def a_sold_node(owned: int, requested: int, **more: Any) -> NodeTable:
    """AC-7: 16 cores sold as 32; `owned` of the `requested` cores are whole CPUs of Guaranteed pods."""
    table = NodeTable()
    table.describe(a_node("n", cores=16, gib=256))
    told = {"ratios": {CPU: 2.0}, "pinned_cpu": True, "policy": "none"} | more
    table.register(a_cluster_node("n", original={CPU: 16000, MEMORY: 256 * GIB}, **told))
    place(table, "n", a_pod("owner", (owned, 1), **SHARED))
    place(table, "n", an_owner("rest", cores=requested - owned))
    return table


def test_ac_7_owned_cores_are_not_sold_twice() -> None:
    burstable, guaranteed = an_owner("p", cores=4), a_pod("p", (4, 1), **SHARED)
    assert decide(a_sold_node(8, 24), burstable, *NAMES).node == "", "(16 − 8) · 2 − (24 − 8) = 0"
    refused = decide(a_sold_node(4, 24), guaranteed, *NAMES)
    assert [v.reason for v in refused.rejected] == ["cores that are nobody else's"], "4 left, 8 needed"
    assert decide(a_sold_node(4, 24), burstable, *NAMES).node == "n", "exactly 4 left"
    memory = a_sold_node(4, 8, ratios={MEMORY: 1.5}, pinned_memory=True)
    assert [v.reason for v in decide(memory, burstable, *NAMES).rejected] == [
        "memory over-committed and bound by the kubelet"
    ]
    assert decide(a_sold_node(4, 24, pinned_cpu=False), guaranteed, *NAMES).node == "n"


def test_what_an_owner_costs_is_its_cpus_times_the_ratio() -> None:
    table = a_sold_node(4, 20)
    assert decide(table, a_pod("p", (4, 1), **SHARED), *NAMES).node == "n", "8 left, 8 needed"
    assert table.columns["allocatable/cpu"][0] == (16 - 8) * 2000 + 8000
    assert decide(table, an_owner("q", cores=0.001), *NAMES).node == ""
    table.discharge("n", "p")
    assert table.columns["allocatable/cpu"][0] == (16 - 4) * 2000 + 4000


def test_fit_sees_the_ratio_and_the_machine_stays_visible() -> None:
    table = a_table(a_machine("n", (32, 64)), ratios={CPU: 1.5})
    assert (table.columns["allocatable/cpu"][0], table.columns["physical/cpu"][0]) == (48_000, 32_000)
    table.describe(a_machine("n", (32, 64)))
    assert table.columns["allocatable/cpu"][0] == 48_000
    table.register(a_cluster_node("n"))
    assert table.columns["allocatable/cpu"][0] == 32_000
    table.register(a_cluster_node("n", ratios={CPU: 0.5}))
    assert table.columns["allocatable/cpu"][0] == 32_000, "never below what is there"


def test_numa_nodes_alone_cost_the_ratio_of_all_their_cpus() -> None:
    table = a_table(a_machine("n", (8, 32), (8, 32)), ratios={CPU: 2.0})
    place(table, "n", an_owner("rest", cores=17))
    refused = decide(table, a_pod("p", (1, 1), asks=ALONE), *NAMES)
    assert refused.node == "", "8 whole CPUs cost 16 of the 15 left, though it asks for one"
    table.discharge("n", "rest")
    place(table, "n", an_owner("rest", cores=16))
    assert decide(table, a_pod("p", (1, 1), asks=ALONE), *NAMES).node == "n"


@pytest.mark.parametrize(
    ("original", "ratio", "owned", "amount"),
    [
        (15_600, 1.2, 0, 18_720),
        (15_600, 1.2, 4000, 17_920),
        (29_258_114_498_560, 1.2, 0, 35_109_737_398_272),
        (1 << 60, 2.0, 0, 1 << 53),
        (1000, float("nan"), 0, 1000),
        (1000, 0.1, 0, 1000),
    ],
)
def test_what_a_node_sells(original: int, ratio: float, owned: int, amount: int) -> None:
    assert sold(original, ratio, owned) == amount


def test_a_ratio_that_is_too_low_is_refused_with_the_pods_in_the_way() -> None:
    def held(uid: str, cores: float, **more: Any) -> Placement:
        workload = an_owner(uid, cores=cores, **more)
        return Placement(workload=workload, charged=workload.requests)

    pods = [held("a", 20, priority=5), held("b", 12, priority=1), held("c", 8, priority=1)]
    assert in_the_way({CPU: 32_000}, {CPU: 1.5}, pods) == {}
    assert in_the_way({CPU: 32_000}, {CPU: 1.2}, pods) == {CPU: ("shop/b",)}
    assert in_the_way({CPU: 32_000}, {}, [*pods, held("d", 8, qos=QosClass.DEDICATED)]) == {CPU: ("shop/b", "shop/c")}
    assert in_the_way({CPU: 32_000, MEMORY: GIB}, {CPU: 2.0}, pods) == {MEMORY: ("shop/b", "shop/c")}
