"""A production GPU cluster as an exam: how much of its cards each way of placing pods gets allocated.

The openb trace by its recipe (openb_trace.py). FGD and ours are the scheduler itself, node table, cycle and reserve,
with the plugin `fgd`; the others are simulated beside it (openb_rivals.py). Ours is the plugin as it comes; FGD is the
plugin set as published. A card has 256 MiB per percent and slices ask in proportion, because the trace says nothing
about the memory of cards. Nodes stand in a permutation drawn by the seed, and the first among equals wins.

    python -m tests.bench openb        (some minutes; needs ../shared)

Ours was designed on arrivals by the seeds 100 to 109 and on lists with other shares of the same shapes, and frozen
before it met the seeds of the exam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from msgspec.structs import replace

from neap.common.errors import InputError
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.units import MIB
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.fragments import Mix
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.nodes.cards import CORE
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Numbers
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.core.pods.typical import MILLI, Typical
from neap.scheduler.plugins import fgd, fit, gpu_share
from tests.bench.measure import Row
from tests.bench.openb_rivals import WAYS, simulated
from tests.bench.openb_trace import (
    FOLDER,
    SEEDS,
    TRACES,
    Curve,
    Job,
    Meter,
    arrivals,
    mix_of,
    published,
    read_jobs,
    read_nodes,
    room_of,
    typical,
)

SLACK, BASELINE_SLACK, LEAST_DEFAULT, MOST_FRAGMENTED = 0.2, 0.6, 95.4, 8.0  # points of percent
PERCENT: Final = 256  # MiB of a card
POLICIES: Final = ("FGD", "ours", *(name for name in WAYS if name != "FGD"), "Random")


class Live:
    """The scheduler on the cluster of the trace, empty."""

    def __init__(self, order: Iterable[Policy], seed: int, ruler: Mix) -> None:
        self.table, self._ruler, self._nodes = NodeTable(order_seed=seed), ruler, read_nodes()
        for topology in topologies():
            self.table.describe(topology)
        self.cycle = Cycle(self.table, tuple(order), shapes=1024)
        nodes, self._count = self._nodes, 0
        self.allocated, self._fragments = 0, ruler.fragmentation(room_of(nodes.cpu, nodes.cards, nodes.models))

    @property
    def fragments(self) -> float:
        """F over all nodes."""
        return float(self._fragments.sum())

    def submit(self, job: Job) -> Decision:
        """Place a pod if it fits anywhere."""
        self._count += 1
        decision = self.cycle.decide(pod_of(workload_of(job, self._count)))
        if decision.placement is not None:
            self.allocated += job.milli
            self._measure(self.table.rows[decision.node])
        return decision

    def _measure(self, row: int) -> None:
        free, one = self.table.view(np.array([row])), slice(row, row + 1)
        cards = np.maximum(free.column(CORE)[:, :8], 0) * MILLI
        self._fragments[row] = self._ruler.fragmentation(room_of(free.free(CPU), cards, self._nodes.models[one]))[0]


def topologies() -> Iterator[NodeTopology]:
    """The nodes of the trace as a reporter would describe them; row i of the table is node i."""
    nodes, models = read_nodes(), _models()
    for i, name in enumerate(nodes.names):
        amounts = {CPU: int(nodes.cpu[i]), MEMORY: int(nodes.memory[i]) * MIB}
        cards = tuple(
            Card(index=j, uuid=f"{name}-{j}", model=models[i], memory_mib=100 * PERCENT)
            for j in range(int((nodes.cards[i] > 0).sum()))
        )
        yield NodeTopology(at=0.0, source="reporter", node=name, machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(),
                           cards=cards, capacity=amounts, allocatable=amounts)  # fmt: skip


def workload_of(job: Job, number: int) -> Workload:
    """A pod of the trace as somebody would submit it."""
    requests = {CPU: job.cpu, MEMORY: job.memory * MIB}
    if job.tag:
        requests[GPU_CORE] = job.milli // MILLI
    elif job.cards:
        requests |= {GPU_CORE: job.core // MILLI, GPU_MEMORY: PERCENT * job.core // MILLI}
    return Workload(uid=f"u{number}", namespace="trace", name=f"u{number}", qos=QosClass.SHARED,
                    containers=(Container(name="main", requests=requests),), gpu_models=job.models)  # fmt: skip


def ours(trace: str) -> tuple[Policy, ...]:
    """The plugin as it comes, alone, knowing the list's pods."""
    return alone(fgd.Settings(typical=text_of(typical(trace, 1.0))))


def as_published(trace: str) -> tuple[Policy, ...]:
    """The plugin as FGD."""
    return alone(fgd.Settings(typical=text_of(mix_of(trace).typical), steps=100, ahead=False))


def alone(settings: fgd.Settings) -> tuple[Policy, ...]:
    """Nobody else scores."""
    return (
        Policy("fit", fit.PLUGIN),
        Policy("fgd", fgd.PLUGIN, settings=settings),
        Policy("gpu_share", gpu_share.PLUGIN, weight=0.0),
    )


def replay(trace: str, policy: str, seed: int) -> Curve:
    """One run. Every policy meets the same pods at one seed."""
    if policy not in {"FGD", "ours"}:
        return simulated(trace, policy, seed)
    return run(trace, ours(trace) if policy == "ours" else as_published(trace), seed)


def run(trace: str, order: Iterable[Policy], seed: int) -> Curve:
    """One run of the scheduler with any plugins."""
    live, total = Live(order, seed, mix_of(trace)), int(read_nodes().cards.sum())
    meter = Meter(total)
    for job in arrivals(read_jobs(trace), total, np.random.default_rng(seed)):
        live.submit(job)
        meter.note(job, live.allocated, live.fragments)
    return meter.curve


def mean(trace: str, policy: str, seeds: Iterable[int] = SEEDS) -> Curve:
    """The mean over seeds."""
    return Curve(*np.mean([replay(trace, policy, seed) for seed in seeds], axis=0))


def rows() -> Iterator[Row]:
    if not FOLDER.is_dir():
        raise InputError(f"the openb trace is not there: {FOLDER}")
    gains = []
    for trace in TRACES:
        found = {policy: mean(trace, policy) for policy in POLICIES}
        for policy in found:
            yield from _rows(trace, policy, found)
        gains.append(found["ours"].allocated - _reference(trace, "FGD"))
    for arrived in (100, 130):
        gain = float(np.mean([gain[arrived] for gain in gains]))
        yield Row(name=f"ours over published FGD @{arrived}, mean of traces", value=gain, unit="points", at_least=0.0)


def _rows(trace: str, policy: str, found: Mapping[str, Curve]) -> Iterator[Row]:
    rival = "FGD" if policy == "ours" else policy
    for arrived in (100, 130):
        value, wanted = float(found[policy].allocated[arrived]), float(_reference(trace, rival)[arrived])
        line = Row(name=f"{trace}: {policy} allocates @{arrived}", value=value, unit="%", rival=f"published {rival}",
                   rival_value=wanted)  # fmt: skip
        if rival == "FGD":
            least = LEAST_DEFAULT if (trace, arrived) == ("default", 130) else wanted - SLACK
            yield replace(line, at_least=round(least, 2))
        else:
            yield line
            yield Row(name=f"{trace}: {policy} @{arrived}, off by", value=abs(value - wanted), unit="points",
                      at_most=BASELINE_SLACK)  # fmt: skip
    wanted = float(_reference(trace, rival, "frag_amount_pct_of_cluster")[60])
    line = Row(name=f"{trace}: {policy} fragments @60", value=float(found[policy].fragmented[60]), unit="%",
               rival=f"published {rival}", rival_value=wanted)  # fmt: skip
    yield replace(line, at_most=MOST_FRAGMENTED) if (trace, rival) == ("default", "FGD") else line


def _reference(trace: str, policy: str, metric: str = "allocation_pct") -> Numbers:
    return published()[trace, policy, metric]


def text_of(pods: Iterable[Typical]) -> str:
    """Pods as the setting writes them."""
    return " ".join(
        f"{pod.pods}x{pod.cpu}" + (f":{pod.cards}x{pod.core}:{'|'.join(pod.models)}" if pod.cards else "")
        for pod in pods
    )


@lru_cache
def _models() -> tuple[str, ...]:
    import csv

    with (FOLDER / "openb_node_list_gpu_node.csv").open() as lines:
        return tuple(row["model"] for row in csv.DictReader(lines))
