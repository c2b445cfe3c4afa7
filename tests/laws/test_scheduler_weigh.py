"""Weighing agrees with deciding: the best is where the pod goes, and nobody goes where it was rejected."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.weighing import FITS, UNKNOWN, Obstacle
from neap.common.model.workload import Workload
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.choice.trial import would_take
from neap.scheduler.core.nodes.table import PRESENT, NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.core.why import weigh
from tests.laws.test_scheduler_cycle import CHOICES, History, histories, run
from tests.laws.test_scheduler_table import NAMES, workloads

QUANTUM, WORTH_WAITING = 1e-6, 20.0
NEAR = 2e-3  # scores are told with three digits


@CHOICES
@given(history=histories(25), asked=workloads(), names=st.lists(st.sampled_from([*NAMES, "nowhere"]), max_size=8))
def test_the_best_one_weighed_is_where_it_is_placed(
    policies: list[Policy], history: History, asked: Workload, names: list[str]
) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies, worth_waiting=WORTH_WAITING)
    run(table, cycle, history)
    pod = pod_of(msgspec.structs.replace(asked, uid="weighed"))
    for _ in range(4):  # on what the ones before left
        every = weigh.told(table, (), *cycle.weigh(pod), quantum=QUANTUM)
        some = weigh.told(table, names, *cycle.weigh(pod), quantum=QUANTUM)
        verdicts = {
            n: (every.obstacle(c) or c, s) for n, c, s in zip(every.nodes, every.codes, every.scores, strict=True)
        }
        assert set(verdicts) == {name for name in table.names if table.columns[PRESENT][table.rows[name]]}
        assert UNKNOWN not in every.codes
        if names:
            found = [(some.obstacle(c) or c, s) for c, s in zip(some.codes, some.scores, strict=True)]
            assert found == [verdicts.get(name, (UNKNOWN, 0.0)) for name in names]
        decision = cycle.decide(pod, 1000.0)
        assert decision.node == every.best == some.best
        fits = {name: score for name, (verdict, score) in verdicts.items() if verdict == FITS}
        if decision.placement is None:
            brief = [score for verdict, score in verdicts.values() if isinstance(verdict, Obstacle) and verdict.brief]
            assert not fits or max(brief) - max(fits.values()) > WORTH_WAITING - NEAR
            return
        assert fits[decision.node] == max(fits.values())
        assert decision.score == pytest.approx(fits[decision.node], abs=NEAR)
        pod = pod_of(msgspec.structs.replace(asked, uid=f"{pod.uid}+"))


@CHOICES
@given(history=histories(25), asked=workloads())
def test_a_node_that_is_rejected_would_not_take_it_and_asking_changes_no_byte(
    policies: list[Policy], history: History, asked: Workload
) -> None:
    table = NodeTable()
    cycle = Cycle(table, policies, worth_waiting=WORTH_WAITING)
    run(table, cycle, history)
    pod = pod_of(msgspec.structs.replace(asked, uid="weighed"))
    table.ask(pod)  # its columns exist
    before = {name: table.columns[name].tobytes() for name in table.columns.names}
    changes, clock = set(table.changes), table.clock
    told = weigh.told(table, (), *cycle.weigh(pod), quantum=QUANTUM)
    assert {name: table.columns[name].tobytes() for name in table.columns.names} == before
    assert (table.changes, table.clock) == (changes, clock)
    scores = np.array(told.scores)
    assert ((scores >= 0) & (scores <= 100)).all()
    for name, code, score in zip(told.nodes, told.codes, told.scores, strict=True):
        obstacle = told.obstacle(code)
        if obstacle is not None and not obstacle.brief:
            assert score == 0
            assert would_take(policies, table, pod, table.rows[name]) is None
    best_first = [score for code, score in zip(told.codes, told.scores, strict=True) if code == FITS]
    assert best_first == sorted(best_first, reverse=True)
