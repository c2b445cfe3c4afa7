"""Golden numbers and rules of the scheduling plugins, and which workloads are refused at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, LARGEST, MEMORY, RECLAIMED_CPU
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB, MIB
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.load import FLYING, FRESH, USED_BY_OWNERS
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.admission import refusal
from neap.scheduler.core.pods.estimate import Guess, estimate
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import allocation, fit, gpu_share, load_aware
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_offer, an_owner, policies

CPU_ONLY = load_aware.Settings(memory_weight=0)


def score_of(plugin: object, table: NodeTable, workload: Workload, settings: object) -> list[float]:
    return [round(float(x), 6) for x in plugin(pod_of(workload), table.view(), settings)]  # type: ignore[operator]


def test_golden_load_score_with_and_without_pods_in_flight() -> None:
    table = NodeTable()
    table.describe(a_node(cores=32))
    table.measure(a_usage(at=1.0, cpu=10.0), 1.0)
    asked = an_owner("new", cores=4)
    assert score_of(load_aware.idle, table, asked, CPU_ONLY) == [58.125]
    cycle = Cycle(table, policies("fit"))
    for i in range(2):
        cycle.decide(pod_of(an_owner(f"f{i}", cores=4)), 2.0)
    assert score_of(load_aware.idle, table, asked, CPU_ONLY) == [36.875]


def test_a_pod_is_in_flight_until_a_report_shows_it() -> None:
    table = NodeTable()
    table.describe(a_node(cores=32))
    Cycle(table, policies("fit")).decide(pod_of(an_owner("u1", cores=4)), 10.0)
    table.measure(a_usage(at=9.0, containers={"u1": 1.0}), 11.0)  # measured before it was placed
    table.measure(a_usage(at=11.0), 11.0)
    assert table.columns[FLYING[0]][0] == 3400
    table.measure(a_usage(at=12.0, cpu=3.0, containers={"u1": 3.0}), 12.0)
    assert table.columns[FLYING[0]][0] == 0


def test_a_pod_that_no_report_shows_is_waited_for_only_so_long() -> None:
    table = NodeTable()
    table.describe(a_node())
    Cycle(table, policies("fit")).decide(pod_of(an_owner("u1")), 0.0)
    table.expire(299.0)
    assert table.columns[FLYING[0]][0] == 850
    table.expire(301.0)
    assert table.columns[FLYING[0]][0] == 0


def test_a_burst_on_equal_nodes_spreads_evenly_and_does_not_herd() -> None:
    table = NodeTable()
    for i in range(6):
        table.describe(a_node(f"n{i}", cores=32))
        table.measure(a_usage(f"n{i}", at=1.0, cpu=8.0), 1.0)
    cycle = Cycle(table, policies())
    placed = Counter(cycle.decide(pod_of(an_owner(f"u{i}", cores=1)), 1.5).node for i in range(20))
    assert max(placed.values()) - min(placed[f"n{i}"] for i in range(6)) <= 1


def test_an_owner_waits_for_a_busy_ledger_rather_than_strand_cards() -> None:
    table = NodeTable()
    table.describe(a_node("plain", cores=32))
    table.describe(a_node("cards", cores=32, cards=4))
    cycle = Cycle(table, policies(), worth_waiting=20.0)
    table.set_ready("plain", False)
    waiting = cycle.decide(pod_of(an_owner("u1")))
    assert (waiting.node, waiting.busy, waiting.feasible) == ("", 1, 1)
    assert NodeChanged.READY in waiting.wakes
    table.set_ready("plain", True)
    assert cycle.decide(pod_of(an_owner("u1"))).node == "plain"


def test_a_pod_does_not_wait_for_a_node_that_is_hardly_better() -> None:
    table = NodeTable()
    table.describe(a_node("larger", cores=32))
    table.describe(a_node("smaller", cores=28))
    table.set_ready("larger", False)
    assert Cycle(table, policies(), worth_waiting=20.0).decide(pod_of(an_owner("u1"))).node == "smaller"


def test_owners_are_kept_off_hot_nodes_but_what_guests_use_does_not_count() -> None:
    table = NodeTable()
    guest = a_guest("g1")
    for name in ("hot", "lent"):
        table.describe(a_node(name, cores=10))
        table.offer(an_offer(name), 0.0)
    cycle = Cycle(table, policies())
    table.charge("lent", Placement(workload=guest, charged=guest.requests), 0.0)
    table.measure(a_usage("hot", at=1.0, cpu=6.6), 1.0)
    table.measure(a_usage("lent", at=1.0, cpu=9.0, containers={"g1": 4.0}), 1.0)
    assert table.columns[USED_BY_OWNERS[0]].tolist() == [6600, 5000]
    decision = cycle.decide(pod_of(an_owner("u1")), 1.0)
    assert decision.node == "lent"
    assert [(v.reason, v.nodes) for v in decision.rejected] == [("owners use over 65% of cpu", 1)]


def test_a_node_whose_reports_stopped_is_filtered_and_one_that_never_reported_is_not() -> None:
    table = NodeTable()
    table.describe(a_node("silent"))
    table.describe(a_node("new"))
    table.measure(a_usage("silent", at=1.0), 1.0)
    table.expire(150.0)
    assert table.columns[FRESH].tolist() == [True, False]
    table.expire(200.0)
    decision = Cycle(table, policies()).decide(pod_of(an_owner()), 200.0)
    assert decision.node == "new"
    assert dict(decision.parts)["load_aware"] == 0.0
    assert [(v.reason, v.nodes) for v in decision.rejected] == [("usage report too old", 1)]


def test_staleness_counts_in_report_periods_where_they_are_long() -> None:
    table = NodeTable()
    table.describe(a_node())
    table.measure(a_usage(at=0.0, period=60.0), 0.0)
    table.expire(599.0)
    assert table.columns[FRESH].tolist() == [True]
    table.expire(601.0)
    assert table.columns[FRESH].tolist() == [False]


def test_reports_from_a_clock_that_runs_ahead_do_not_silence_the_next_ones() -> None:
    table = NodeTable()
    table.describe(a_node())
    table.measure(a_usage(at=1e9, cpu=1.0), 10.0)
    table.measure(a_usage(at=11.0, cpu=2.0), 11.0)
    assert table.columns[USED_BY_OWNERS[0]].tolist() == [2000]


def test_estimates_follow_limits_then_requests_then_defaults() -> None:
    def of(requests: dict[str, int], limits: dict[str, int]) -> tuple[int, int]:
        workload = an_owner(containers=(Container(name="c", requests=requests, limits=limits),))
        return estimate(workload, Guess()).amounts

    assert of({CPU: 4000, MEMORY: 1000}, {}) == (3400, 700)
    assert of({CPU: 4000, MEMORY: 1000}, {CPU: 4000, MEMORY: 1000}) == (3400, 700)
    assert of({CPU: 4000, MEMORY: 1000}, {CPU: 8000, MEMORY: 3000}) == (8000, 3000)
    assert of({}, {}) == (250, 200 * MIB)
    assert of({RECLAIMED_CPU: 1000}, {}) == (850, 200 * MIB)


def test_least_and_most_allocated() -> None:
    table = NodeTable()
    for name, cores in (("small", 4), ("big", 16)):
        table.describe(a_node(name, cores=cores, gib=16))
    asked = an_owner(cores=2, gib=4)
    spread, pack = allocation.Settings(), allocation.Settings(owners="pack")
    assert score_of(allocation.balance, table, asked, spread) == [62.5, 81.25]
    assert score_of(allocation.balance, table, asked, pack) == [37.5, 18.75]
    weighted = allocation.Settings(weights={MEMORY: 0.0})
    assert score_of(allocation.balance, table, asked, weighted) == [50.0, 87.5]
    assert score_of(allocation.balance, table, an_owner(cores=5, gib=1), pack)[0] == 53.125, "over full is full"


def test_every_kind_is_accounted_also_one_nobody_knew() -> None:
    table = NodeTable()
    amounts = {CPU: 8000, "example.com/fpga": 2}
    table.describe(a_node("plain"))
    special = a_node("special")
    table.describe(
        type(special)(**{f: getattr(special, f) for f in special.__struct_fields__} | {"allocatable": amounts})
    )
    asked = an_owner(containers=(Container(name="c", requests={"example.com/fpga": 2}),))
    cycle = Cycle(table, [Policy("fit", fit.PLUGIN)])
    assert cycle.decide(pod_of(asked)).node == "special"
    again = cycle.decide(pod_of(an_owner("u2", containers=asked.containers)))
    assert again.node == ""
    assert [(v.plugin, v.reason, v.nodes) for v in again.rejected] == [("fit", "example.com/fpga", 2)]


def test_gpu_pods_pack_nodes_and_cards_and_name_what_is_short() -> None:
    table = NodeTable()
    for name, cards in (("n1", 2), ("n2", 2), ("none", 0)):
        table.describe(a_node(name, cores=64, cards=cards))
    cycle = Cycle(table, policies("fit", "gpu_share"))
    placed = [cycle.decide(pod_of(an_owner(f"u{i}", gpu=(50, 8000)))) for i in range(4)]
    assert [[share.card for share in d.placement.gpus] for d in placed if d.placement] == [[0], [0], [1], [1]]
    assert len({d.node for d in placed}) == 1
    whole = cycle.decide(pod_of(an_owner("whole", gpu=(200, 0))))
    assert whole.placement is not None
    assert [(s.card, s.core, s.memory_mib) for s in whole.placement.gpus] == [(0, 100, 16000), (1, 100, 16000)]
    last = cycle.decide(pod_of(an_owner("last", gpu=(1, 256))))
    assert [(v.reason, v.nodes) for v in last.rejected] == [("card with 1 % and 256 MiB left", 2), ("no card", 1)]


def test_an_owner_without_gpu_leaves_the_cpu_beside_cards_alone_while_there_is_other() -> None:
    table = NodeTable()
    table.describe(a_node("cards", cores=64, cards=2))
    table.describe(a_node("plain", cores=4))
    cycle = Cycle(table, policies("fit", "gpu_share", "allocation"))
    assert [cycle.decide(pod_of(an_owner(f"u{i}", cores=2))).node for i in range(3)] == ["plain", "plain", "cards"]
    table.offer(an_offer("cards"), 0.0)
    guest = cycle.decide(pod_of(a_guest("g")))
    assert "gpu_share" not in dict(guest.parts)


def test_card_models_are_respected_per_card() -> None:
    table = NodeTable()
    table.describe(a_node("n1", cards=1, model="T4"))
    table.describe(a_node("n2", cards=1, model="A10"))
    cycle = Cycle(table, policies())
    assert cycle.decide(pod_of(an_owner("u1", gpu=(10, 300), gpu_models=("A10", "H100")))).node == "n2"
    nowhere = cycle.decide(pod_of(an_owner("u2", gpu=(10, 300), gpu_models=("H100",))))
    assert [(v.reason, v.nodes) for v in nowhere.rejected] == [("card model not H100", 2)]


def test_a_pod_whose_parts_cannot_be_divided_goes_to_the_next_best_node() -> None:
    table = NodeTable()
    for name in ("n1", "n2"):
        table.describe(a_node(name, cores=64, cards=2))
    cycle = Cycle(table, policies("fit", "gpu_share"))
    first = cycle.decide(pod_of(an_owner("u0", gpu=(60, 300)))).node
    containers = tuple(Container(name=f"c{core}", requests={GPU_CORE: core, GPU_MEMORY: 300}) for core in (60, 61))
    pair = an_owner("pair", containers=containers)  # 140 % are left on the first node, but not 60 on two cards
    decision = cycle.decide(pod_of(pair))
    assert decision.placement is not None
    assert decision.node != first
    assert ("gpu_share", "cannot be divided", 1) in [(v.plugin, v.reason, v.nodes) for v in decision.rejected]
    assert gpu_share.PLUGIN.reserve is not None


@pytest.mark.parametrize(
    ("workload", "wrong"),
    [
        (an_owner(cores=-1), "container 'main' requests: cpu -1000 is negative"),
        (
            an_owner(containers=(Container(name="c", requests={CPU: LARGEST + 1}),)),
            f"requests of cpu, {LARGEST + 1}, are beyond",
        ),
        (an_owner(containers=tuple(Container(name=c, requests={CPU: LARGEST - 5}) for c in "ab")), "are beyond"),
        (an_owner(qos=QosClass.RECLAIMED), "may not ask for cpu, memory, but for neap.io/reclaimed-cpu"),
        (a_guest(qos=QosClass.SHARED), "shared_cores may not ask for neap.io/reclaimed-cpu"),
        (a_guest(containers=(Container(name="c", requests={CPU: 1, RECLAIMED_CPU: 1}),)), "owns or borrows, not both"),
        (
            an_owner(qos=QosClass.DEDICATED, containers=(Container(name="c", requests={MEMORY: GIB}),)),
            "asks for no cpu",
        ),
        (an_owner(gpu=(30, 0)), "needs neap.io/gpu-memory of at least 256 MiB"),
        (an_owner(gpu=(150, 1000)), "multiple of 100"),
        (an_owner("", name="ok"), "uid '' must be"),
        (an_owner("a b", name="ok"), "uid 'a b' must be"),
        (an_owner(name=""), "name not usable in a subject"),
        (an_owner(namespace="a*"), "namespace not usable in a subject"),
        (an_owner(containers=()), "0 containers"),
        (an_owner(containers=(Container(name="", requests={}),)), "container name '' is missing"),
        (an_owner(containers=(Container(name="c", requests={}),) * 2), "container name 'c' is not unique"),
        (
            an_owner(containers=(Container(name="c", requests={CPU: 2}, limits={CPU: 1}),)),
            "limit of cpu 1 is below the request 2",
        ),
        (an_owner(containers=(Container(name="c", requests={"": 2}),)), "'' is no name of a resource kind"),
        (an_owner(init_requests={CPU: -5}), "init containers: cpu -5 is negative"),
        (an_owner(attempt=0), "attempt 0 is out of bounds"),
        (an_owner(priority=1 << 40), "priority 1099511627776 is out of bounds"),
    ],
)
def test_what_can_never_run_is_refused_with_the_reason(workload: Workload, wrong: str) -> None:
    assert wrong in refusal(workload)


def test_what_can_run_is_not_refused() -> None:
    for workload in (an_owner(), a_guest(), an_owner(gpu=(100, 0)), an_owner(qos=QosClass.DEDICATED)):
        assert refusal(workload, f"neap.v1.workload.{workload.namespace}.{workload.name}") == ""
    assert "was submitted under the name of shop/other" in refusal(an_owner(), "neap.v1.workload.shop.other")
    assert "does not match" in refusal(an_owner(), "neap.v1.elsewhere")


def test_columns_grow_in_place_and_keep_what_they_hold() -> None:
    table = NodeTable()
    for i in range(200):
        table.describe(a_node(f"n{i}", cores=i + 1, cards=1))
    assert table.view().allocatable(CPU).tolist() == [1000.0 * (i + 1) for i in range(200)]
    assert np.unique(table.columns["node/order"]).size == 200
