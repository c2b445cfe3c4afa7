"""Guests behind owners that have NUMA nodes alone: Katalyst's cases, and what it comes to on a node.

Cases A8 of the reference are those of a region held alone as well, in the reference's source word for word the same
table (headroompolicy/policy_numa_exclusive_test.go: 90, 80, 100).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from neap.advisor.core.policy import AloneView, PodView
from neap.advisor.plugins.headroom_exclusive import Settings, advise
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import NodeAdvice
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.runtime.machine import Tick
from tests.unit.policy_world import a_policy, an_edition
from tests.unit.test_advisor_node import Node
from tests.unit.test_advisor_numa import ALONE, DEDICATED, RECLAIMED, a_pod

PLAIN = {"growth": 0.0, "margin": 0.0, "reserve": 0.0}


def a_view(cpus: float, request: float = 0.0, use: float | None = None, stall: float | None = None) -> AloneView:
    pod = PodView(uid="x", request=request, now=use, smooth=use, peak=use, stall=stall, settled=True)
    return AloneView(cpus=cpus, pod=pod)


@pytest.mark.parametrize(
    ("view", "tuning", "expected"),
    [
        pytest.param(a_view(90), {}, 90, id="A8 exclusive, no estimate"),
        pytest.param(a_view(90), {"reserve": 10.0}, 80, id="A8 exclusive, reserved for allocation"),
        pytest.param(a_view(90 + 10), {}, 100, id="A8 exclusive, reserved for reclaim: part of its CPUs here"),
        pytest.param(a_view(4, request=4), {}, 0, id="A2 exclusive, no metrics: it needs its request of 4, of 4"),
        pytest.param(a_view(8, request=4), {}, 4, id="no metrics, 8 CPUs for a request of 4"),
        pytest.param(a_view(8, request=8, use=2.0), {}, 5.5, id="1.25 x usage, whatever it asked for"),
        pytest.param(a_view(8, request=8, use=2.0, stall=0.05), {}, 2.75, id="a score of half is half of it"),
        pytest.param(a_view(8, request=8, use=2.0, stall=0.1), {}, 0, id="the least score is nothing"),
        pytest.param(a_view(8, request=8, use=7.9), {}, 0, id="nothing is left over: no least amount for guests"),
    ],
)
def test_what_an_owner_alone_leaves_over(view: AloneView, tuning: dict[str, float], expected: float) -> None:
    assert advise(view, Settings(**PLAIN | tuning)).amount == pytest.approx(expected)


def test_the_sum_is_printed() -> None:
    said = advise(a_view(16, request=16, use=3.2, stall=0.05), Settings())
    assert said.arithmetic == "5.0 = (16.0 alone − 4.0 used x 1.35 − 0.5 reserve) x 0.50 for 5% of the time waiting"
    assert advise(a_view(4, use=4.0), Settings()).arithmetic.startswith("0.0, because -3.2 = 4.0 alone − 5.0 used")


# -- on a node -------------------------------------------------------------------------------------------------------

ITS = frozenset(range(16, 32))  # the CPUs of NUMA node 1


def a_node(**more: Any) -> Node:
    return Node(*PODS, **{"lend_alone": True, "grow_step": 1.0} | more)


PODS = a_pod("x", DEDICATED, 8, (1,), ALONE), a_pod("s", cores=4), a_pod("g", RECLAIMED)


def lent(node: Node) -> frozenset[int]:
    return node.cpus("reclaimed") & ITS


def its(node: Node) -> frozenset[int]:
    return parse_cpuset(node.knobs("pod/x").knobs.cpus or "")


def test_nothing_is_lent_of_nodes_held_alone_unless_somebody_says_so() -> None:
    for off in ({"lend_alone": False}, {"lend": False}):
        node = a_node(**off)
        node.report(12, x=1.0, s=1.0, g=1.0)
        assert not lent(node)
        assert its(node) == ITS


def test_guests_run_behind_the_owner_on_what_it_leaves_over_and_the_owner_loses_no_cpu() -> None:
    node = a_node()
    node.report(12, x=4.0, s=1.0, g=1.0)
    assert its(node) == ITS
    assert len(lent(node)) == 8, "16 − 5.0 x 1.35 − 0.5 = 8.75"
    assert node.knobs("class/besteffort").knobs.cpu_idle
    assert node.knobs("class/besteffort").knobs.mems == "0", "of its memory nothing is lent"
    assert "behind who has NUMA nodes alone: 8.8 = 16.0 alone − 5.0 used x 1.35 − 0.5 reserve" in node.why("reclaimed")
    assert "− 8.0 alone, not left over" in node.headroom.arithmetic[RECLAIMED_CPU]
    assert "64.0Gi exclusive" in node.headroom.arithmetic[RECLAIMED_MEMORY]


def test_what_is_offered_grows_by_what_is_behind_the_owner() -> None:
    offers = []
    for lends in (False, True):
        node = a_node(lend_alone=lends, offer_rise=1.0)
        node.report(30, x=4.0, s=1.0, g=1.0)
        offers.append(node.headroom.offer[RECLAIMED_CPU])
    assert offers[1] == offers[0] + 8000


def test_the_guests_part_shrinks_with_the_first_report_and_grows_by_steps() -> None:
    node = a_node(grow_step=0.1)
    node.report(1, x=1.0, s=1.0, g=1.0)
    grown = []
    for _ in range(16):
        node.report(1, x=1.0, s=1.0, g=1.0)
        grown.append(len(lent(node)))
    assert grown == sorted(grown)
    assert all(later - sooner <= 1 for sooner, later in pairwise(grown))
    assert grown[-1] == 13
    node.report(1, x=9.0, s=1.0, g=1.0)
    assert len(lent(node)) == 2, "16 − 9.0 x 1.1 x 1.35 − 0.5 = 2.1"
    assert its(node) == ITS


def test_an_owner_that_waits_has_nobody_behind_it() -> None:
    node = a_node()
    node.report(12, x=1.0, s=1.0, g=1.0)
    assert lent(node)
    node.report(1, x=1.0, s=1.0, g=1.0, stall=0.2)
    assert not lent(node)


def test_without_reports_no_more_is_lent_than_it_did_not_ask_for() -> None:
    node = a_node()
    node.report(12, x=1.0, s=1.0, g=1.0)
    assert len(lent(node)) == 13
    node.at += 20 * 60.0
    node.tell(Tick(node.at, "advise"))
    assert len(lent(node)) == 7, "16 − 8 asked for − 0.5"


def test_a_restart_takes_nothing_and_gives_nothing() -> None:
    node = a_node()
    node.report(12, x=4.0, s=1.0, g=1.0)
    before = node.cpus("reclaimed")
    advice: NodeAdvice = node.advice
    again = a_node(last=advice, at=node.at, grow_step=0.05)
    again.report(1, x=4.0, s=1.0, g=1.0)
    assert again.cpus("reclaimed") & ITS <= before & ITS
    assert its(again) == ITS


def test_one_service_may_lend_and_another_not() -> None:
    pods = a_pod("x", DEDICATED, 8, (1,), ALONE), a_pod("g", RECLAIMED)
    node = Node(*pods, grow_step=1.0)
    node.report(12, x=1.0, g=1.0)
    assert not lent(node)
    node.hear(a_policy("lends", an_edition({"lend_alone": True}, "service=shop/x")))
    node.report(12, x=1.0, g=1.0)
    assert lent(node)
    node.hear(a_policy("lends", an_edition({"lend_alone": True}, "service=shop/other", version=2)))
    node.report(1, x=1.0, g=1.0)
    assert not lent(node)
