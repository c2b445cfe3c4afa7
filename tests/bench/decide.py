"""Scheduling decisions per second: mask, scores, the best and the runner-up, division of cards, columns up to date.

Two clusters, their CPU filled to between half and two thirds with pods of their own; then pods are decided in their
order, with all plugins and default settings. The *fleet*: machines of the simulated day, one in six with cards, and a
day's pods of all four classes, most of them guests (64 shapes). *openb*: the nodes of a GPU cluster in their
proportions, four in five with cards, and its trace (108 shapes, three in four pods with cards). Every decision charges
its node; pods leave as others come, so a cluster stays as full as it is. Usage of all nodes is known, all lend.

Latency is that of 5,000 decisions of a scheduler that has just started: every shape's first one weighs all nodes, and
where these are more than one in a hundred, the 99th percentile is one of them. With a report folded per decision for
each of five nodes (10,000 nodes at 1 Hz, 2,000 decisions/s) rows change faster than a shape comes back; that row says
what is left then. FGD is measured on the trace's own GPU nodes, as pools of cards are run.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import msgspec

from neap.common.model.advice import Headroom
from neap.common.model.placement import Placement
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from tests.bench.curve import Curve, Line, draw
from tests.bench.measure import Row, Work, rate
from tests.bench.samples import fleet_nodes, fleet_workloads, gpu_nodes, trace_nodes, trace_workloads, uid

FULL: Final = 0.70  # of a node, at most, before the measured decisions
DECISIONS: Final = 500
LATENCIES: Final = 5_000
ROUNDS: Final = 15  # 7,500 decisions
CHURN: Final = 5
NODES: Final = 10_000
SIZES: Final = (1_000, 3_000, NODES, 20_000, 50_000)
PODS: Final = 100_000  # a cluster full of them is read when a scheduler starts
GOAL, GOAL_FGD, GOAL_MS, GOAL_REBUILD = 5_000.0, 3_000.0, 3.0, 2.0
FIGURE: Final = Path(__file__).resolve().parents[2] / "docs" / "figures" / "decisions.svg"
FGD: Final = Settings(
    order=("node_selector", "fit", "fgd", "gpu_share", "load_aware", "allocation"),
    weights={"gpu_share": 0.0, "load_aware": 0.0, "allocation": 0.0},
)


def rows() -> Iterator[Row]:
    fleet, trace = ([pod_of(workload) for workload in some] for some in (fleet_workloads(), trace_workloads()))
    curve: list[tuple[int, float, float]] = []
    for nodes in SIZES:
        cluster = Cluster(list(fleet_nodes(nodes)), fleet)
        if nodes == NODES:
            yield cluster.latency_row(f"a pod of {LATENCIES:,} at {NODES:,} nodes of a fleet", GOAL_MS)
        first = median(cluster.first_time(pod) for pod in Random(3).sample(cluster.shapes, 20)) * 1e6
        row = cluster.rate_row(f"scheduler: decisions at {nodes:,} nodes of a fleet", GOAL if nodes == NODES else None)
        curve.append((nodes, 1e6 / row.value, first))
        yield msgspec.structs.replace(row, note=f"{row.note}; {first:,.0f} µs to weigh a shape for the first time")
        if nodes == NODES:
            yield cluster.churn_row()
    yield grown(curve)
    cluster = Cluster(list(trace_nodes(NODES, Random(1))), trace)
    yield cluster.latency_row(f"the same of openb at {NODES:,} nodes")
    yield cluster.rate_row(f"decisions at {NODES:,} nodes of openb")
    yield cluster.churn_row()
    yield fgd_row(trace)
    yield rebuilt_row(trace)


def grown(curve: Sequence[tuple[int, float, float]]) -> Row:
    """The curve as one number, and as the figure."""
    few, many = curve[0], curve[-1]
    lines = (
        Line("a decision", tuple((nodes, cost) for nodes, cost, _ in curve)),
        Line("the first one of a shape", tuple((nodes, first) for nodes, _, first in curve)),
        Line("if it grew with the nodes", tuple((nodes, few[1] * nodes / few[0]) for nodes, _, _ in curve), faint=True),
    )
    FIGURE.write_text(draw(Curve("What a scheduling decision costs", "nodes", "µs", lines)), encoding="utf-8")
    told = ", ".join(f"{nodes:,}: {cost:.0f} µs" for nodes, cost, _ in curve)
    times = many[0] / few[0]
    return Row(name=f"cost of a decision with {times:.0f} times the nodes", value=many[1] / few[1], unit="times",
               at_most=times, note=f"{told}; drawn in docs/figures/{FIGURE.name}")  # fmt: skip


def fgd_row(pods: Sequence[Pod]) -> Row:
    """The trace's GPU nodes, its pods with cards, by fragmentation alone."""
    nodes = list(gpu_nodes())
    cluster = Cluster(nodes, [pod for pod in pods if pod.asks], FGD)
    return cluster.rate_row(f"the same by FGD at {len(nodes):,} GPU nodes", GOAL_FGD)


def rebuilt_row(pods: Sequence[Pod]) -> Row:
    """All columns from nothing, as after a restart; reading and decoding is not in it."""
    nodes = list(trace_nodes(NODES, Random(1)))
    held = [
        (nodes[number % NODES].node, Placement(workload=again(pod, number), charged=pod.requests))
        for number, pod in zip(range(PODS), itertools.cycle(pods), strict=False)
    ]
    table, began = NodeTable(), time.process_time()
    for topology in nodes:
        table.describe(topology)
    described = time.process_time() - began
    for node, placement in held:
        table.charge(node, placement, 0.0)
    seconds = time.process_time() - began
    return Row(name=f"columns of {NODES:,} nodes and {PODS:,} placements from nothing", value=seconds, unit="s",
               at_most=GOAL_REBUILD, note=f"{described / NODES * 1e6:.0f} µs per node, "
               f"{(seconds - described) / PODS * 1e6:.1f} µs per placement")  # fmt: skip


def again(pod: Pod, number: int) -> Workload:
    """The same workload under another name."""
    return msgspec.structs.replace(pod.workload, uid=uid(number))


class Cluster:
    """A node table as full as asked, and a cycle on it."""

    def __init__(self, nodes: Sequence[NodeTopology], pods: Sequence[Pod], settings: Settings | None = None) -> None:
        self._settings, self._random = settings or Settings(), Random(2)
        self._table = NodeTable(guess=self._settings.guess, staleness=self._settings.stale)
        self.cycle = self._new_cycle()
        self.shapes = list({pod.shape: pod for pod in pods}.values())
        self._pods, self._numbers = itertools.cycle(pods), itertools.count(1 << 24)
        self._topologies = nodes
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
        gc.collect()

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

    def rate_row(self, name: str, goal: float | None = None) -> Row:
        """Decisions of a scheduler that knows the shapes, at a steady load."""
        for pod in self.shapes:
            self.cycle.evaluate(pod)
        value = rate(self.decide(0), rounds=ROUNDS)
        note = f"{1e6 / value:.0f} µs each; {self.full:.0%} full, {len(self.shapes)} shapes of pods"
        return Row(name=name, value=value, unit="decisions/s", at_least=goal, note=note)

    def churn_row(self) -> Row:
        """The same among reports."""
        return Row(name=f"the same with {CHURN} reports folded before each", value=rate(self.decide(CHURN)),
                   unit="decisions/s", note=f"{self.placed:.0%} found a node")  # fmt: skip

    def latency_row(self, name: str, goal: float | None = None) -> Row:
        """How long pods take, one by one, when nothing is kept yet; CPU time."""
        self.cycle, took = self._new_cycle(), list[float]()
        for _ in range(LATENCIES):
            began = time.process_time_ns()
            self._decide_one()
            took.append((time.process_time_ns() - began) / 1e6)
        took.sort()
        return Row(name=f"{name}, from a cold start, 99 % within",
                   value=took[LATENCIES * 99 // 100], unit="ms", at_most=goal,
                   note=f"half {took[LATENCIES // 2]:.2f} ms, the longest {took[-1]:.1f} ms; "
                   f"{self.cycle.kept} are the first of their shape")  # fmt: skip

    def first_time(self, pod: Pod) -> float:
        """Seconds to weigh all nodes for a shape nobody asked before."""
        cycle = self._new_cycle()
        began = time.process_time()
        cycle.evaluate(pod)
        return time.process_time() - began

    def _new_cycle(self) -> Cycle:
        settings = self._settings
        return Cycle(self._table, policies(settings), quantum=settings.quantum, shapes=settings.shapes)

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

    def _fill(self, pods: Sequence[Pod]) -> float:
        """Charge pods of the trace to nodes drawn at random, where they fit, until the cluster is as full as asked."""
        total, used, table = sum(t.allocatable[CPU] for t in self._topologies), 0, self._table
        left = {t.node: [int(FULL * t.allocatable[CPU]), int(FULL * t.allocatable[MEMORY])] for t in self._topologies}
        for topology in self._topologies if pods else ():
            room = left[topology.node]
            for pod in self._random.choices(pods, k=24):
                cpu, memory = pod.requests.get(CPU, 0), pod.requests.get(MEMORY, 0)
                if cpu <= room[0] and memory <= room[1]:
                    placement = Placement(workload=again(pod, next(self._numbers)), charged=pod.requests)
                    table.charge(topology.node, placement, 0.0)
                    room[0], room[1], used = room[0] - cpu, room[1] - memory, used + cpu
        return used / total


def _report(topology: NodeTopology, at: float) -> NodeUsage:
    busy = topology.allocatable[CPU] / 1000 * Random(topology.node).uniform(0.1, 0.5)
    return NodeUsage(at=at, source="reporter", node=topology.node, seq=1, period=1.0, cpu=busy,
                     memory_available=topology.allocatable[MEMORY] // 2)  # fmt: skip


def _offer(topology: NodeTopology) -> Headroom:
    offer = {RECLAIMED_CPU: topology.allocatable[CPU] // 2, RECLAIMED_MEMORY: topology.allocatable[MEMORY] // 3}
    return Headroom(at=1.0, source="advisor", node=topology.node, offer=offer, arithmetic={})
