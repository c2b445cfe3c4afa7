"""Golden cases of rating nodes by what is left per NUMA node."""

from __future__ import annotations

from typing import Any

import numpy as np

from neap.scheduler.core.choice.rating import (
    Zones,
    after,
    choose,
    holding,
    most_left,
    most_left_sentence,
    node_left,
    portion,
    rate,
    rate_by_limit,
    shown,
)

NAN = float("nan")


def numbers(*values: Any) -> Any:
    return np.array(values, dtype=np.float64)


class Row:
    """One node's NUMA nodes, filled one pod at a time: each on the one with the most left, or the tightest."""

    def __init__(self, limit: float, count: int) -> None:
        self.zones = Zones(np.full((1, count), limit), np.zeros((1, count)))
        self.picks: list[int] = []

    def place(self, demand: float, *, count: int = 1, pack: bool = False, keep: bool = False) -> Row:
        each = portion(numbers(demand), count)
        holds = holding(self.zones, each, overflows=True)
        left = self.zones.left
        choice = choose(holds, -left if pack else left, count, untouched=self.zones.charged == 0 if keep else None)
        assert choice.enough[0], f"{demand} fits nowhere on {self.left}"
        self.zones.charged[0, choice.cells[0]] += each[0]
        self.picks += [int(cell) for cell in choice.cells[0]]
        return self

    @property
    def left(self) -> list[float]:
        return [float(x) for x in self.zones.left[0]]


def lefts(*rows: Row) -> Any:
    return np.array([row.left for row in rows])


def picked(scores: Any) -> str:
    return "ABC"[int(np.argmax(scores))]


def test_golden_rating() -> None:
    assert rate(numbers(1000, 1500, 2000)).tolist() == [0, 50, 100]


def test_equal_and_single_nodes_are_rated_100_unknown_and_infeasible_ones_0() -> None:
    assert rate(numbers(7, 7, 7)).tolist() == [100, 100, 100]
    assert rate(numbers(7)).tolist() == [100]
    assert rate(numbers(1000, NAN, 1500, 2000)).tolist() == [0, 0, 50, 100]
    assert rate(numbers(1000, 9000, 2000), np.array([True, False, True])).tolist() == [0, 0, 100]
    assert rate(numbers(NAN, NAN)).tolist() == [0, 0]
    assert rate(numbers()).tolist() == []


def test_by_limit_a_small_difference_stays_small() -> None:
    assert rate(numbers(2000, 2001)).tolist() == [0, 100]
    assert rate_by_limit(numbers(2000, 2001), numbers(4000, 4000)).tolist() == [50.0, 50.025]
    assert rate_by_limit(numbers(-5, NAN, 9), numbers(10, 10, 0)).tolist() == [0, 0, 0]


def test_golden_numa_against_node() -> None:
    left = np.array([[1000.0, 1000.0], [1500.0, 0.0]])
    assert rate(node_left(left)).tolist() == [100, 0], "the sum picks X"
    assert rate(most_left(left)).tolist() == [0, 100], "the best NUMA node picks Y"


def base_case() -> tuple[Row, Row]:
    a, b = Row(2000, 4), Row(2000, 4)
    for row, fourth in ((a, 500), (b, 1200)):
        for large in range(3):
            row.place(2400)
            assert row.left == [-400] * (large + 1) + [2000] * (3 - large)
        row.place(fourth)
    return a, b


def test_golden_ab_base_step_by_step() -> None:
    a, b = base_case()
    assert (a.picks, b.picks) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert a.left == [-400, -400, -400, 1500]
    assert b.left == [-400, -400, -400, 800]
    left = lefts(a, b)
    assert rate(most_left(left)).tolist() == [100, 0]
    assert node_left(left).tolist() == [300, -400]
    rest = most_left(left) - 500
    assert picked(rate(rest, rest >= 0)) == "A"
    assert picked(rate(rest, rest >= 0, pack=True)) == "B"
    assert most_left_sentence(["A", "B"], left) == "most-left NUMA: A=1500 B=800"
    assert a.place(500).picks[-1] == 3
    assert a.left[3] == 1000


def test_golden_ab_discriminating_the_node_sum_picks_a_node_that_cannot_hold_the_pod() -> None:
    a, b = Row(3200, 4), Row(3200, 4)
    for row, large, fourth in ((a, 4200, 700), (b, 3400, 1900)):
        for _ in range(3):
            row.place(large)
        row.place(fourth)
    left = lefts(a, b)
    assert left.tolist() == [[-1000, -1000, -1000, 2500], [-200, -200, -200, 1300]]
    assert node_left(left).tolist() == [-500, 700]
    assert picked(rate(node_left(left))) == "B", "kept to show that it is wrong"
    assert most_left(left).tolist() == [2500, 1300]
    asked = np.full(2, 1500.0)
    holds = holding(Zones(np.full((2, 4), 3200.0), 3200.0 - left), asked, overflows=True)
    choice = choose(holds, left)
    rest = after(left, asked, choice)
    assert choice.enough.tolist() == [True, False]
    assert most_left(left)[1] - 1500 == -200
    assert picked(rate(rest)) == "A"
    assert rest[0] == 1000
    assert np.isnan(rest[1])


def test_golden_mixed_generations_are_rated_after_placement() -> None:
    raw, rest = numbers(700, 1100), numbers(700 - 180, 1100 - 720)
    assert rate(raw).tolist() == [0, 100], "raw left favours the fast machine"
    assert rest.tolist() == [520, 380]
    assert rate(rest).tolist() == [100, 0]
    assert np.argmax(rate_by_limit(rest, numbers(1000, 4000))) == 0


def test_the_state_does_not_depend_on_the_order_of_pods() -> None:
    first, last = Row(2000, 4).place(500), base_case()[0]
    for _ in range(3):
        first.place(2400)
    assert sorted(first.left) == sorted(last.left) == [-400, -400, -400, 1500]


def test_overflow_is_clamped_for_reports_only() -> None:
    visible, saturated = shown(lefts(base_case()[0]))
    assert visible.tolist() == [[0, 0, 0, 1500]]
    assert saturated.tolist() == [[400, 400, 400, 0]]


def test_a_large_pod_overflows_only_a_zone_it_has_to_itself() -> None:
    row = Row(2000, 2).place(2400).place(500)
    assert not holding(row.zones, numbers(2400), overflows=True).any()
    assert not holding(Row(2000, 2).zones, numbers(2400)).any(), "a kind that must not overflow"


def test_a_pod_over_several_zones_bears_even_parts_on_each() -> None:
    zones = Zones(np.array([[2000.0, 1400.0]]), np.zeros((1, 2)))
    assert not choose(holding(zones, portion(numbers(3000), 2)), zones.left, 2).enough[0]
    assert choose(holding(zones, portion(numbers(2800), 2)), zones.left, 2).enough[0]
    assert Row(2000, 4).place(2400, count=2).left == [800, 800, 2000, 2000]
    assert portion(numbers(1000), 3).tolist() == [334]


def test_a_dense_node_keeps_whole_zones_for_those_who_need_one() -> None:
    """MB-1: eight NUMA nodes of 1000, larges of 1600 over two, then a small beside a small."""
    a, b = Row(1000, 8), Row(1000, 8)
    for row, fourth in ((a, 300), (b, 750)):
        for _ in range(3):
            row.place(1600, count=2, keep=True)
        row.place(fourth, keep=True)
        assert sorted(row.left) == sorted([200.0] * 6 + [1000.0 - fourth, 1000.0])
    assert node_left(lefts(a, b)).tolist() == [2900, 2450]
    assert most_left(lefts(a, b)).tolist() == [1000, 1000]
    a.place(300, keep=True)
    b.place(300, keep=True)
    assert sorted(a.left)[-2:] == [400, 1000]
    assert rate(most_left(lefts(a, b))).tolist() == [100, 0]


def test_a_node_of_crumbs_is_no_home() -> None:
    """MB-2: the sum says X, but no NUMA node of X can hold 750."""
    left = np.array([[300.0] * 8, [1000.0, 200.0] + [0.0] * 6])
    holds = holding(Zones(np.full((2, 8), 1000.0), 1000 - left), np.full(2, 750.0))
    assert picked(rate(node_left(left))) == "A"
    assert choose(holds, left).enough.tolist() == [False, True]
    assert rate(most_left(left)).tolist() == [0, 100]


def test_unknown_nodes_are_named_and_lists_are_short() -> None:
    left = np.array([[1.0, 5.0], [NAN, NAN], [NAN, 9.0]])
    assert most_left_sentence(["A", "B", "C"], left) == "most-left NUMA: C=9 A=5; unknown: B"
    many = most_left_sentence([f"n{i}" for i in range(9)], np.ones((9, 1)))
    assert many == "most-left NUMA: n0=1 n1=1 n2=1 n3=1 n4=1 and 4 more"
