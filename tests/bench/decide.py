"""Scheduling decisions per second: mask, scores, argmax, division of cards, and the columns brought up to date.

A cluster of the nodes of the openb trace, in its proportions, its CPU filled to about two thirds with pods of the trace;
then pods of the trace are decided in its order, with all plugins and default settings. Every decision charges its
node; pods leave as others come, so the cluster stays as full as it is. Usage of all nodes is known, all lend.

With a report folded per decision for each of five nodes (10,000 nodes at 1 Hz, 2,000 decisions/s) rows change faster
than a shape comes back; that row says what is left then. A shape seen for the first time is weighed on every node.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from random import Random
from statistics import median

import msgspec

from neap.common.model.advice import Headroom
from neap.common.model.placement import Placement
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.scheduler.core.cycle import Cycle
from neap.scheduler.core.pod import Pod, pod_of
from neap.scheduler.core.table import NodeTable
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from tests.bench.measure import Row, Work, rate
from tests.bench.samples import trace_nodes, trace_workloads, uid

FULL = 0.70  # of a node, at most, before the measured decisions
DECISIONS = 400
CHURN = 5
GOAL = 2_000.0


def rows() -> Iterator[Row]:
    pods = [pod_of(workload) for workload in trace_workloads()]
    for nodes, goal in ((1_000, None), (10_000, GOAL)):
        cluster = Cluster(nodes, pods)
        for pod in {pod.shape: pod for pod in pods}.values():
            cluster.cycle.evaluate(pod)
        note = f"{cluster.full:.0%} full, {len({pod.shape for pod in pods})} shapes of pods"
        yield Row(name=f"scheduler: decisions at {nodes:,} nodes", value=rate(cluster.decide(0)), unit="decisions/s",
                  at_least=goal, note=note)  # fmt: skip
        yield Row(name=f"the same with {CHURN} reports folded before each", value=rate(cluster.decide(CHURN)),
                  unit="decisions/s", note=f"{cluster.placed:.0%} found a node")  # fmt: skip
        seconds = [cluster.first_time(pod) for pod in Random(3).sample(pods, 40)]
        yield Row(name=f"a shape weighed for the first time, {nodes:,} nodes", value=median(seconds) * 1e6, unit="µs")


class Cluster:
    """A node table as full as asked, and a cycle on it."""

    def __init__(self, nodes: int, pods: list[Pod]) -> None:
        self._settings, self._random = Settings(), Random(2)
        self._table = NodeTable(guess=self._settings.guess, staleness=self._settings.stale)
        self.cycle = Cycle(
            self._table, policies(self._settings), quantum=self._settings.quantum, shapes=self._settings.shapes
        )
        self._pods, self._numbers = itertools.cycle(pods), itertools.count(1 << 24)
        self._topologies = list(trace_nodes(nodes, Random(1)))
        self._here: list[tuple[str, str]] = []
        self._at = 1.0
        self.asked = self.found = 0
        for topology in self._topologies:
            self._table.describe(topology)
        self.full = self._fill([pod for pod in pods if not pod.asks and not pod.guest])
        self._reports = [_report(topology, self._at) for topology in self._topologies]
        for topology, report in zip(self._topologies, self._reports, strict=True):
            self._table.measure(report, self._at)
            self._table.offer(_offer(topology), self._at)

    @property
    def placed(self) -> float:
        """Share of the decisions that found a node."""
        return self.found / max(self.asked, 1)

    def decide(self, churn: int) -> Work:
        """A batch of decisions, each after `churn` reports; for every pod placed one leaves."""
        stale = itertools.cycle(self._reports)

        def work() -> int:
            for _ in range(DECISIONS):
                self._at += 0.0005
                for report in itertools.islice(stale, churn):
                    self._table.measure(report, self._at)
                self._decide_one()
            return DECISIONS

        return work

    def first_time(self, pod: Pod) -> float:
        """Seconds to weigh all nodes for a shape nobody asked before."""
        cycle = Cycle(self._table, policies(self._settings))
        began = time.perf_counter()
        cycle.evaluate(pod)
        return time.perf_counter() - began

    def _decide_one(self) -> None:
        pod = next(self._pods)
        decision = self.cycle.decide(pod, self._at)
        self.asked += 1
        if decision.placement is None:
            return
        self.found += 1
        self._here.append((decision.node, pod.uid))
        if len(self._here) > DECISIONS:
            self._table.discharge(*self._here.pop(0))

    def _fill(self, pods: list[Pod]) -> float:
        """Charge pods of the trace to nodes drawn at random, where they fit, until the cluster is as full as asked."""
        total, used, table = sum(t.allocatable[CPU] for t in self._topologies), 0, self._table
        left = {t.node: [int(FULL * t.allocatable[CPU]), int(FULL * t.allocatable[MEMORY])] for t in self._topologies}
        for topology in self._topologies:
            room = left[topology.node]
            for pod in self._random.choices(pods, k=24):
                cpu, memory = pod.requests.get(CPU, 0), pod.requests.get(MEMORY, 0)
                if cpu <= room[0] and memory <= room[1]:
                    workload = msgspec.structs.replace(pod.workload, uid=uid(next(self._numbers)))
                    table.charge(topology.node, Placement(workload=workload, charged=pod.requests), 0.0)
                    room[0], room[1], used = room[0] - cpu, room[1] - memory, used + cpu
        return used / total


def _report(topology: NodeTopology, at: float) -> NodeUsage:
    busy = topology.allocatable[CPU] / 1000 * Random(topology.node).uniform(0.1, 0.5)
    return NodeUsage(at=at, source="reporter", node=topology.node, seq=1, period=1.0, cpu=busy,
                     memory_available=topology.allocatable[MEMORY] // 2)  # fmt: skip


def _offer(topology: NodeTopology) -> Headroom:
    offer = {RECLAIMED_CPU: topology.allocatable[CPU] // 2, RECLAIMED_MEMORY: topology.allocatable[MEMORY] // 3}
    return Headroom(at=1.0, source="advisor", node=topology.node, offer=offer, arithmetic={})
