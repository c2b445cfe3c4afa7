"""Golden scores of spreading (least), packing (most), shaped and balanced allocation."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from neap.common.model.advice import Headroom
from neap.common.model.placement import Placement
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container, Workload
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import allocation, balanced_allocation, requested_to_capacity
from neap.scheduler.settings import Settings as SchedulerSettings
from neap.scheduler.wiring import policies
from tests.unit.scheduler_world import a_guest, a_node, an_owner

UNIT = 1024 * 84 * 1024  # Katalyst's memory unit in these cases
WEIGHTS = {RECLAIMED_CPU: 30.0, RECLAIMED_MEMORY: 70.0}
NEW = ("requested_to_capacity", "balanced_allocation", "profile_rating")


def asking(uid: str, milli: int, units: int) -> Workload:
    container = Container(name="c", requests={RECLAIMED_CPU: milli, RECLAIMED_MEMORY: units * UNIT})
    return a_guest(uid, containers=(container,))


def lender(milli: int, units: int) -> NodeTable:
    """A node that lends this much and holds two guests."""
    table = NodeTable()
    table.describe(a_node("n1"))
    offer = {RECLAIMED_CPU: milli, RECLAIMED_MEMORY: units * UNIT}
    table.offer(Headroom(at=0, source="advisor", node="n1", offer=offer, arithmetic={}), 0.0)
    for guest in (asking("p1", 2000, 2), asking("p2", 3000, 3)):
        table.charge("n1", Placement(workload=guest, charged=guest.requests), 0.0)
    return table


def score(plugin: Any, table: NodeTable, workload: Workload, **settings: Any) -> list[float]:
    found = plugin.PLUGIN.score(pod_of(workload), table.view(), plugin.Settings(**settings))
    return [float(x) for x in found]


def least(table: NodeTable, workload: Workload, **settings: Any) -> list[float]:
    return score(allocation, table, workload, **{"whole": True} | settings)


def most(table: NodeTable, workload: Workload, **settings: Any) -> list[float]:
    return score(allocation, table, workload, **{"whole": True, "owners": "pack", "guests": "pack"} | settings)


def test_golden_least_most_and_shaped_scores_of_a_guest() -> None:
    table, asked = lender(9000, 12), asking("p3", 3000, 3)
    assert least(table, asked, weights=WEIGHTS) == [26]
    assert most(table, asked, weights=WEIGHTS) == [72]
    assert score(requested_to_capacity, table, asked, weights=WEIGHTS, guests="10:3, 20:4, 50:7") == [70]


def test_unrounded_scores_are_the_formulas() -> None:
    table, asked = lender(9000, 12), asking("p3", 3000, 3)
    free = 30 * 100 * 1000 / 9000 + 70 * 100 * 4 / 12
    assert least(table, asked, weights=WEIGHTS, whole=False)[0] == pytest.approx(free / 100)
    assert most(table, asked, weights=WEIGHTS, whole=False)[0] == pytest.approx(100 - free / 100)
    assert score(balanced_allocation, table, asked)[0] == pytest.approx(100 * (1 - abs(8 / 9 - 8 / 12) / 2))


def test_what_does_not_fit_is_least_free_and_most_full() -> None:
    table, asked = lender(9000, 12), asking("big", 6000, 8)
    assert least(table, asked) == [0]
    assert most(table, asked) == [100]
    assert score(requested_to_capacity, table, asked, guests="0:10, 100:0") == [0]
    assert score(balanced_allocation, table, asked) == [100]
    half = asking("half", 6000, 1)  # memory fits, CPU does not
    assert least(table, half) == [25]
    assert most(table, half) == [75]


def test_a_kind_a_node_does_not_have_takes_no_part() -> None:
    table = lender(9000, 0)
    asked = asking("p3", 3000, 0)
    assert least(table, asked) == [11]
    assert most(table, asked) == [88]
    assert score(balanced_allocation, table, asked) == [100]
    bare = NodeTable()
    bare.describe(a_node("n1"))  # lends nothing
    for plugin in (allocation, requested_to_capacity, balanced_allocation):
        assert score(plugin, bare, asked) == [0]


def test_owners_are_weighed_by_what_they_own() -> None:
    table = NodeTable()
    table.describe(a_node("n1", cores=8, gib=32))
    asked = an_owner(cores=2, gib=24)
    assert least(table, asked) == [50]  # 75 and 25
    assert most(table, asked) == [50]  # 25 and 75
    assert score(balanced_allocation, table, asked) == [75]
    assert least(table, asked, weights={MEMORY: 0.0}) == [75]
    assert most(table, asked, weights={CPU: 3.0}) == [37]  # 37.5, cut
    nothing = allocation.PLUGIN.score
    assert nothing is not None
    assert nothing(pod_of(asked), table.view(), allocation.Settings(weights={CPU: 0.0, MEMORY: 0.0})) is None


def test_further_kinds_count_only_with_a_weight_and_an_ask() -> None:
    table = NodeTable()
    node = a_node("n1", cores=8, gib=32)
    table.describe(msgspec.structs.replace(node, allocatable={**node.allocatable, "example.com/fpga": 4}))
    asked = an_owner(containers=(Container(name="c", requests={CPU: 4000, MEMORY: 16 << 30, "example.com/fpga": 4}),))
    assert most(table, asked) == [50]
    assert most(table, asked, weights={"example.com/fpga": 2.0}) == [75]
    assert most(table, an_owner(cores=4, gib=16), weights={"example.com/fpga": 2.0}) == [50]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ("10:3,20:4,50:7", [30, 30, 35, 40, 55, 70, 70]),
        ("0:0, 100:10", [0, 10, 15, 20, 35, 50, 100]),
        ("0:10, 100:0", [100, 90, 85, 80, 65, 50, 0]),
        ("40:6", [60] * 7),
    ],
)
def test_curves_are_straight_between_points_and_flat_outside(curve: str, expected: list[float]) -> None:
    used = np.array([0, 10, 15, 20, 35, 50, 100], dtype=float)
    assert requested_to_capacity.curved(used, curve, whole=True).tolist() == expected
    assert requested_to_capacity.curved(used, curve, whole=False).tolist() == pytest.approx(expected)


def test_kinds_that_score_nothing_do_not_thin_out_the_others_and_the_mean_is_rounded() -> None:
    table = NodeTable()
    table.describe(a_node("n1", cores=8, gib=32))
    asked = an_owner(cores=2, gib=24)  # 25 % and 75 %
    assert score(requested_to_capacity, table, asked, owners="50:0, 100:10") == [50]
    assert score(requested_to_capacity, table, asked, weights={CPU: 3.0}) == [38]  # 37.5


def test_whole_steps_are_cut_towards_the_left_point() -> None:
    used = np.array([1.0, 2.0])
    assert requested_to_capacity.curved(used, "0:0,3:1", whole=True).tolist() == [3, 6]
    assert requested_to_capacity.curved(used, "0:1,3:0", whole=True).tolist() == [7, 4]


@pytest.mark.parametrize(
    "curve", ["", "50", "a:b", "50:3,50:4", "60:1,50:2", "-1:0", "101:0", "0:11", "0:nan", "nan:0"]
)
def test_a_bad_curve_stops_the_start_and_names_the_setting(curve: str) -> None:
    with pytest.raises(Exception, match=r"scheduler.tune of requested_to_capacity: curve"):
        policies(SchedulerSettings(order=("requested_to_capacity",), tune={"requested_to_capacity.owners": curve}))


def test_new_scorers_wait_to_be_named_in_the_order() -> None:
    assert not {policy.name for policy in policies(SchedulerSettings())} & set(NEW[:2])
    tune: dict[str, float | str] = {"profile_rating.keep_empty": "true", "requested_to_capacity.whole": "false"}
    found = policies(SchedulerSettings(order=NEW, tune=tune))
    assert [policy.name for policy in found] == list(NEW)
    assert (found[0].settings.whole, found[-1].settings.keep_empty) == (False, True)
