"""Laws of rating: order of nodes does not matter, scores stay in bounds, more left is never worse when spreading."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.profile import KINDS, MEMORY_BANDWIDTH, POWER
from neap.scheduler.core.choice.framework import Parts
from neap.scheduler.core.choice.rating import (
    Zones,
    after,
    choose,
    holding,
    most_left,
    node_left,
    portion,
    rate,
    rate_by_limit,
)
from neap.scheduler.core.nodes import zones
from neap.scheduler.core.nodes.columns import Columns, code
from neap.scheduler.core.nodes.table import PRESENT
from neap.scheduler.core.nodes.view import ALL, View
from neap.scheduler.core.nodes.zones import ZoneKeeper
from neap.scheduler.core.pods.demand import Demand, ProfiledPod, profiled
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import profile_rating
from tests.unit.scheduler_world import a_guest, an_owner

NAN = float("nan")
LEFT = st.one_of(st.just(NAN), st.integers(-5000, 10_000).map(float))
KIND_NAMES = (MEMORY_BANDWIDTH, POWER)
ZONES = 3


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Nodes with limits (some unknown) and charges of two kinds, and a machine type."""
    found = Columns()
    ZoneKeeper(found)
    found.add("label/neap.io/machine-type", np.int64)
    for kind in KIND_NAMES:
        found.add(f"zone/limit/{kind}", np.float64, fill=NAN, width=zones.ZONES)
        found.add(f"zone/charged/{kind}", np.float64, width=zones.ZONES)
    for _ in range(draw(st.integers(0, 5))):
        row = found.append()
        found["label/neap.io/machine-type"][row] = draw(st.sampled_from([0, code("M1"), code("M2")]))
        for kind in KIND_NAMES:
            cells = st.lists(st.sampled_from([NAN, 1000.0, 4000.0]), min_size=ZONES, max_size=ZONES)
            found[f"zone/limit/{kind}"][row, :ZONES] = draw(cells)
            held = st.lists(st.sampled_from([0, 0, 300, 900, 1700]), min_size=ZONES, max_size=ZONES)
            found[f"zone/charged/{kind}"][row, :ZONES] = draw(held)
    return found


@st.composite
def pods(draw: st.DrawFn) -> ProfiledPod:
    amount = st.integers(0, 3000)
    demands = [
        Demand(KINDS[kind], ((code("M1"), draw(amount)), (code("M2"), draw(amount))), draw(amount))
        for kind in sorted(draw(st.sets(st.sampled_from(KIND_NAMES))))
    ]
    return profiled(pod_of(draw(st.sampled_from([an_owner(), a_guest()]))), demands, draw(st.integers(1, ZONES + 1)))


ways = st.builds(
    profile_rating.Settings,
    owners=st.sampled_from(["spread", "pack"]),
    keep_empty=st.booleans(),
    unknown=st.sampled_from(["pass", "reject"]),
)


def judged(pod: ProfiledPod, view: View, settings: Any) -> tuple[Any, Any]:
    """Feasibility and score of every row."""
    passes = np.ones(view.size, dtype=bool)
    for rule in profile_rating.have_left(pod, view, settings):
        assert rule.wakes
        assert rule.wakes <= profile_rating.PLUGIN.wakes
        passes &= rule.passes
    score = profile_rating.roomy(pod, view, settings)
    return passes, np.zeros(view.size) if score is None else score


@given(columns(), pods(), ways, st.randoms(use_true_random=False))
def test_a_node_is_judged_by_itself_whatever_the_others_are(
    found: Columns, pod: ProfiledPod, settings: Any, chance: Any
) -> None:
    order = list(range(found.size))
    chance.shuffle(order)
    order = order[: chance.randint(0, found.size)]
    whole, some = (judged(pod, View(found, rows), settings) for rows in (ALL, np.array(order, dtype=np.intp)))
    assert (whole[0][order] == some[0]).all()
    assert (whole[1][order] == some[1]).all()


@given(columns(), pods(), ways)
def test_scores_of_the_plugin_are_finite_and_within_0_and_100(found: Columns, pod: ProfiledPod, settings: Any) -> None:
    before = {name: found[name].tobytes() for name in found.names}
    passes, score = judged(pod, View(found), settings)
    assert np.isfinite(score).all()
    assert ((score >= 0) & (score <= 100)).all()
    assert (score[~passes] == 0).all() or settings.unknown == "reject"
    assert {name: found[name].tobytes() for name in found.names} == before


@given(columns(), pods(), st.data())
def test_freeing_never_makes_a_node_infeasible_nor_worse_when_spreading(
    found: Columns, pod: ProfiledPod, data: st.DataObject
) -> None:
    settings = profile_rating.Settings(guests="spread")
    passes, score = judged(pod, View(found), settings)
    for kind in KIND_NAMES:
        for row in range(found.size):
            cell = data.draw(st.integers(0, ZONES - 1))
            found[f"zone/charged/{kind}"][row, cell] *= data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    freed_passes, freed_score = judged(pod, View(found), settings)
    assert (freed_passes >= passes).all()
    assert (freed_score >= score).all()


@given(columns(), pods(), ways)
def test_reserve_binds_exactly_where_the_filter_passes_and_every_zone_holds_its_part(
    found: Columns, pod: ProfiledPod, settings: Any
) -> None:
    class Table:
        zones = ZoneKeeper(found)
        names = tuple(f"n{row}" for row in range(found.size))

        def view(self, rows: Any = ALL) -> View:
            return View(found, rows)

    found.add(PRESENT, np.bool_, fill=True)
    passes, _ = judged(pod, View(found), settings)
    for row in np.flatnonzero(passes):
        parts = profile_rating.charge(pod, Table(), int(row), settings, Parts())  # type: ignore[arg-type]
        assert not isinstance(parts, str)
        mine = profile_rating.held(pod, View(found))
        if not mine.known[row]:
            assert parts.numa == ()
            continue
        assert len(set(parts.numa)) == pod.zones
        for need in mine.inside:
            assert need.holds(mine.count)[row, list(parts.numa)].all()
            assert not np.isnan(need.zones.limit[row, list(parts.numa)]).any() or not need.zones.known[row]


@given(st.lists(LEFT, max_size=8), st.booleans(), st.randoms(use_true_random=False))
def test_ratings_do_not_depend_on_the_order_of_nodes(left: list[float], pack: bool, chance: Any) -> None:
    order = list(range(len(left)))
    chance.shuffle(order)
    column = np.array(left, dtype=float)
    assert rate(column[order], pack=pack).tolist() == rate(column, pack=pack)[order].tolist()


@given(st.lists(LEFT, max_size=8), st.data())
def test_ratings_follow_what_is_left(left: list[float], data: st.DataObject) -> None:
    column = np.array(left, dtype=float)
    feasible = np.array([data.draw(st.booleans()) for _ in left], dtype=bool)
    counted = feasible & ~np.isnan(column)
    for pack in (False, True):
        rating = rate(column, feasible, pack=pack)
        assert ((rating >= 0) & (rating <= 100)).all()
        assert (rating[~counted] == 0).all()
        assert not counted.any() or rating.max() == 100
        order = np.argsort(column[counted])
        steps = np.diff(rating[counted][order])
        assert (steps <= 0).all() if pack else (steps >= 0).all()
    limit = np.full(len(left), 4000.0)
    share = rate_by_limit(column, limit)
    assert ((share >= 0) & (share <= 100)).all()
    assert (np.diff(share[counted][np.argsort(column[counted])]) >= 0).all()


@given(
    st.lists(st.lists(LEFT, min_size=4, max_size=4), min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 4000)
)
def test_chosen_zones_are_the_best_that_hold_the_pod(left: list[list[float]], count: int, demand: int) -> None:
    column = np.array(left, dtype=float)
    zones = Zones(np.where(np.isnan(column), NAN, 10_000.0), 10_000.0 - np.nan_to_num(column))
    each = portion(np.full(len(left), float(demand)), count)
    choice = choose(holding(zones, each), zones.left, count)
    rest = after(zones.left, each, choice)
    for row, cells in enumerate(left):
        holding_cells = sorted((-x, i) for i, x in enumerate(cells) if x >= each[row])
        assert choice.enough[row] == (len(holding_cells) >= count)
        if choice.enough[row]:
            assert choice.cells[row].tolist() == [i for _, i in holding_cells[:count]]
            assert rest[row] == -holding_cells[count - 1][0] - each[row]
        else:
            assert np.isnan(rest[row])
    known = [[x for x in cells if x == x] for cells in left]  # noqa: PLR0124  NaN is not itself
    assert [float(x) for x in most_left(column) if x == x] == [max(cells) for cells in known if cells]  # noqa: PLR0124
    assert [float(x) for x in node_left(column) if x == x] == [sum(cells) for cells in known if cells]  # noqa: PLR0124
