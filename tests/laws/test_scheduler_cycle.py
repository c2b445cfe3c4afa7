"""Laws of the decision, over the default plugins and over all there are: what is kept, who wins, what nodes are called."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neap.common.model.node import NodeObject
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.model.scheduling import Effect, Taint
from neap.common.model.workload import Workload
from neap.common.runtime.plugins import load
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.evaluation import BUSY, FITS, NEVER, Evaluation, Places, Reason, Weighed
from neap.scheduler.core.choice.framework import Plugin, Policy
from neap.scheduler.core.nodes.stamps import LISTED, Stamps
from neap.scheduler.core.nodes.table import ORDER, VERSION, NodeTable
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies as policies_of
from tests.laws.test_scheduler_table import NAMES, play, steps, workloads
from tests.unit.scheduler_world import a_node, a_usage, an_offer, an_owner

DEFAULT = policies_of(Settings())
ALL = [Policy(name, plugin) for name, plugin in load("neap.scheduler.plugins", Plugin).items()]
CHOICES = pytest.mark.parametrize("policies", [DEFAULT, ALL], ids=["default", "all"])
History = list[tuple[str, Any]]


@st.composite
def said_of_nodes(draw: st.DrawFn) -> tuple[str, Any]:
    taints = draw(st.sampled_from([(), (Taint(key="k", value="v", effect=Effect.NO_SCHEDULE),)]))
    ratios = draw(st.sampled_from([{}, {CPU: 1.5}]))
    return "say", NodeObject(
        at=0.0, source="test", node=draw(st.sampled_from(NAMES)), taints=taints, ratios=ratios,
        cordoned=draw(st.booleans()), pinned_cpu=draw(st.booleans()), labels=draw(st.sampled_from([{}, {"zone": "b"}])),
    )  # fmt: skip


@st.composite
def dedicated(draw: st.DrawFn) -> tuple[str, Any]:
    """A pod whose CPUs are not sold twice: it changes what an over-committed node has to give."""
    return "decide", (an_owner(f"d{draw(st.integers(0, 5))}", cores=2, qos=QosClass.DEDICATED), 1.0)


def histories(most: int) -> st.SearchStrategy[History]:
    return st.lists(st.one_of(steps(), steps(), steps(), said_of_nodes(), dedicated()), max_size=most)


def run(table: NodeTable, cycle: Cycle, history: History) -> None:
    for what, with_ in history:
        if what == "say":
            table.register(with_)
        else:
            play(table, cycle, what, with_)


@CHOICES
@given(history=histories(25), asked=st.lists(workloads(), min_size=1, max_size=3))
def test_what_is_kept_is_what_plugins_say_of_the_bare_columns(
    policies: list[Policy], history: History, asked: list[Workload]
) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies)
    pods = [pod_of(workload) for workload in asked]
    for step in history:
        run(table, cycle, [step])
        for pod in pods:
            kept, fresh = cycle.evaluate(pod), Cycle(table, policies).evaluate(pod)
            divided = kept.codes >= len(kept.reasons) - sum(policy.plugin.reserve is not None for policy in policies)
            assert kept.reasons == fresh.reasons
            assert (kept.codes[~divided] == fresh.codes[~divided]).all()
            assert (kept.totals[~divided] == fresh.totals[~divided]).all()
            assert (kept.later == fresh.later).all()
            assert (kept.scores == fresh.scores).all()
            assert (kept.counts == np.bincount(kept.codes, minlength=len(kept.reasons))).all()
            bare = View(table.columns)  # nothing of it is kept
            scores = [s for p in policies if p.plugin.score and p.weight > 0
                      if (s := p.plugin.score(pod, bare, p.settings)) is not None]  # fmt: skip
            assert kept.scores.tolist() == [score.tolist() for score in scores]
            rules = [rule for p in policies if p.plugin.filter for rule in p.plugin.filter(pod, bare, p.settings)]
            passes = np.logical_and.reduce([rule.passes for rule in rules] or [bare.all()])
            assert ((fresh.codes == FITS) | (fresh.codes == BUSY) <= passes).all()


@CHOICES
@given(history=histories(20), asked=workloads())
def test_the_winner_the_runner_up_and_the_terms_are_those_of_a_plain_reading(
    policies: list[Policy], history: History, asked: Workload
) -> None:
    table = NodeTable()
    cycle, pod = Cycle(table, policies), pod_of(asked)
    run(table, cycle, history)
    assume(asked.uid not in {uid for node in NAMES for uid in table.charges(node)})  # nobody decides about those
    found, order = cycle.evaluate(pod), table.columns[ORDER]
    decision = cycle.decide(pod, 1000.0)
    refused = found.codes >= len(found.reasons) - sum(policy.plugin.reserve is not None for policy in policies)
    before = Cycle(table, policies)
    if decision.placement is None:
        assert (decision.runner_up, decision.margin, decision.parts) == ("", 0.0, ())
        return
    table.discharge(decision.node, asked.uid)
    totals = np.where(refused, NEVER, before.evaluate(pod).totals)
    ranked = sorted(
        (row for row in range(len(table)) if totals[row] > NEVER), key=lambda row: (-totals[row], order[row])
    )
    names = [table.names[row] for row in ranked]
    assert names[0] == decision.node
    assert decision.runner_up == (names[1] if len(names) > 1 else "")
    margin = (totals[ranked[0]] - totals[ranked[1]]) * 1e-6 if len(ranked) > 1 else 0.0
    assert decision.margin == pytest.approx(margin, abs=1e-9)
    weights = {policy.name: policy.weight for policy in policies}
    summed = sum(weights[name] * term for name, term in decision.parts)
    assert decision.score == pytest.approx(summed / (sum(weights[name] for name, _ in decision.parts) or 1), abs=1e-9)
    assert decision.score == pytest.approx(totals[ranked[0]] * 1e-6, abs=1e-6)


@CHOICES
@given(history=histories(20), asked=workloads(), order=st.permutations(range(len(NAMES))))
def test_names_and_order_of_nodes_change_neither_who_fits_nor_a_score(
    policies: list[Policy], history: History, asked: Workload, order: list[int]
) -> None:
    told = [(what, with_) for what, with_ in history if what not in ("decide", "leave")]
    renamed = dict(zip(NAMES, [f"other-{i}" for i in order], strict=True))

    def judged(names: dict[str, str], first: list[str]) -> dict[str, tuple[Any, ...]]:
        table = NodeTable()
        for name in first:
            table.describe(a_node(names[name], cards=2))
        for what, with_ in told:
            run(table, Cycle(table, policies), [(what, call_by(names, with_))])
        found = Cycle(table, policies).evaluate(pod_of(asked))
        columns = (found.codes, found.totals, found.later, *found.scores)
        return {name: tuple(column[table.rows[names[name]]] for column in columns) for name in NAMES}

    assert judged({name: name for name in NAMES}, NAMES) == judged(renamed, [NAMES[i] for i in order])


def call_by(names: dict[str, str], with_: Any) -> Any:
    """The same step about a node of another name."""
    if isinstance(with_, tuple):
        return (call_by(names, with_[0]), *with_[1:])
    if isinstance(with_, str):
        return names[with_]
    return with_ if isinstance(with_, float) else msgspec.structs.replace(with_, node=names[with_.node])


@CHOICES
@given(history=histories(10), asked=workloads(), count=st.integers(2, 8), order=st.randoms(use_true_random=False))
def test_identical_pods_are_interchangeable(
    policies: list[Policy], history: History, asked: Workload, count: int, order: Any
) -> None:
    pods = [msgspec.structs.replace(asked, uid=f"same-{i}", name=f"same-{i}") for i in range(count)]

    def nodes(of: list[Workload]) -> list[tuple[str, float]]:
        table = NodeTable()
        cycle = Cycle(table, policies)
        run(table, cycle, history)
        return [(decision.node, decision.score) for decision in (cycle.decide(pod_of(one), 1000.0) for one in of)]

    assert nodes(pods) == nodes(order.sample(pods, count))


@CHOICES
@given(history=histories(25), asked=workloads(), data=st.data())
def test_freeing_capacity_never_makes_a_feasible_pod_infeasible(
    policies: list[Policy], history: History, asked: Workload, data: st.DataObject
) -> None:
    table = NodeTable()
    cycle, pod = Cycle(table, policies), pod_of(asked)
    run(table, cycle, history)
    before = Cycle(table, policies).evaluate(pod).codes == FITS
    held = [(node, uid) for node in NAMES for uid in table.charges(node)]
    for node, uid in data.draw(st.lists(st.sampled_from(held), unique=True)) if held else ():
        table.discharge(node, uid)
    assert (before <= (Cycle(table, policies).evaluate(pod).codes == FITS)).all()


@given(st.integers(1, 400), st.randoms(use_true_random=False))
def test_the_best_of_blocks_is_the_best_of_all(rows: int, random: Any) -> None:
    order = np.array([random.getrandbits(64) for _ in range(rows)], dtype=np.uint64)
    found = Evaluation(Places(order), (Reason("", "", frozenset()),) * 4, (), ())
    for _ in range(10):
        changed = np.array(random.sample(range(rows), random.randint(1, rows)), dtype=np.intp)
        codes = np.array(random.choices([FITS, FITS, BUSY, 1, 3], k=len(changed)), dtype=np.int16)
        found.update(changed, Weighed(codes, np.array([float(random.randint(0, 5)) for _ in changed]), []), 1)
        ranked = sorted(
            (row for row in range(rows) if found.totals[row] > NEVER), key=lambda row: (-found.totals[row], order[row])
        )
        best = found.best()
        assert (None if best is None else int(found.places.rows[best])) == (ranked[0] if ranked else None)
        if best is not None:
            second = found.second(best)
            assert (None if second is None else int(found.places.rows[second])) == (ranked[1] if ranked[1:] else None)
            assert found.best() == best, "looking for the second leaves everything as it was"
        assert found.best_of_busy(np.arange(rows)) == found.later.max()
        assert (found.counts == np.bincount(found.codes, minlength=4)).all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300), st.integers(0, 300), st.booleans())
def test_the_listed_changes_are_those_the_stamps_show(rows: list[int], asleep: int, long: bool) -> None:
    table = NodeTable()
    for row in range(41):
        table.row(f"n{row}")
    stamps = Stamps(table.columns, "test/stamps")
    for row in [*range(41), *(rows * (1 + long * (1 + LISTED // len(rows))))]:
        stamps.stamp(row)
    since = max(0, stamps.tick - asleep)
    listed = stamps.since(since)
    assert sorted(listed) == np.flatnonzero(table.columns["test/stamps"] > since).tolist()


def test_every_change_of_a_row_is_listed_once() -> None:
    table = NodeTable()
    table.describe(a_node("n1"))
    table.describe(a_node("n2"))
    seen = table.clock
    table.measure(a_usage("n2"), 1.0)
    table.offer(an_offer("n2"), 1.0)
    assert table.changed_since(seen).tolist() == [table.rows["n2"]]
    assert table.columns[VERSION][table.rows["n2"]] == table.clock


def test_a_dedicated_pod_on_an_over_committed_node_is_seen_by_what_was_kept_of_it() -> None:
    table = NodeTable()
    cycle, pod = Cycle(table, DEFAULT), pod_of(an_owner("u1"))
    table.describe(a_node("n1", cores=16))
    table.register(NodeObject(at=0.0, source="test", node="n1", ratios={CPU: 2.0}))
    table.measure(a_usage("n1", cpu=4.0), 1.0)
    before = cycle.evaluate(pod).scores.copy()
    cycle.decide(pod_of(an_owner("d1", cores=8, qos=QosClass.DEDICATED)), 2.0)
    bare = View(table.columns)
    scores = [s for p in DEFAULT if p.plugin.score and (s := p.plugin.score(pod, bare, p.settings)) is not None]
    assert cycle.evaluate(pod).scores.tolist() == [score.tolist() for score in scores] != before.tolist()
