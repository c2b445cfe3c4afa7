"""What a usage report costs those who hear it.

"Folded" means: from a decoded message to the scheduler's columns, on nodes with twenty measured containers of which
six are guests, so that every container is looked at. Decoding is a row of its own. The advisor and the evictor do
more with a report than fold it, a whole round of decisions, but only for their own node; they are here to compare.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import msgspec

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.settings import Settings as AdvisorSettings
from neap.common.contract.catalogue import ADVICE, NODE_USAGE, PLACEMENTS, POLICY, TOPOLOGY
from neap.common.contract.catalogue import NODES as OBJECTS
from neap.common.model.placement import Checkpoint
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Machine, Synced
from neap.common.runtime.plugins import load
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.rule import Rule
from neap.evictor.settings import Settings as EvictorSettings
from neap.reporter.reader import NodeReader
from neap.scheduler.core.nodes.table import NodeTable
from tests.bench.measure import Row, Work, rate
from tests.bench.samples import a_host, a_placement, a_usage, a_workload, trace_nodes

NODES, CONTAINERS = 1000, 20
GOAL = 20_000.0
ROUNDS = 400  # reports to one node


def rows() -> Iterator[Row]:
    table, clock = _table(), itertools.count(1)
    reports = [a_usage(f"n{i}", CONTAINERS, first=i * CONTAINERS) for i in range(NODES)]
    payloads = [NODE_USAGE.encode(usage) for usage in reports]

    def fold() -> int:
        at = float(next(clock))
        for usage in reports:
            table.measure(usage, at)
        return NODES

    def decode_and_fold() -> int:
        at = float(next(clock))
        for payload in payloads:
            table.measure(NODE_USAGE.decode(payload), at)
        return NODES

    fold()  # lands what is in flight
    note = f"{CONTAINERS} containers each, {NODES} nodes"
    yield Row(name="usage reports folded into the scheduler's columns", value=rate(fold, rounds=15), unit="reports/s",
              at_least=GOAL, note=note)  # fmt: skip
    yield Row(name="the same from bytes: decoded and folded", value=rate(decode_and_fold), unit="reports/s",
              note=f"{len(payloads[0])} bytes each")  # fmt: skip
    yield from _deciding()


def _table() -> NodeTable:
    table = NodeTable()
    for node, topology in enumerate(trace_nodes(NODES, Random(1))):
        table.describe(topology)
        for i in range(CONTAINERS):
            table.charge(topology.node, a_placement(a_workload(node * CONTAINERS + i, guest=i % 3 == 2)), at=0.0)
    return table


def _deciding() -> Iterator[Row]:
    """Advisor and evictor of one virtual node, fed what its reporter said."""
    host = a_host(CONTAINERS)
    reader = NodeReader(host, clock=lambda: host.now, node="n1")
    placed = tuple(a_placement(a_workload(i, cores=1.0, guest=i % 3 == 2)) for i in range(CONTAINERS))
    before = [reader.topology(), Checkpoint(at=0.0, source="scheduler", node="n1", placements=placed)]
    reports: list[NodeUsage] = []
    for second in range(1, ROUNDS + 1):
        host.advance(float(second))
        reports.append(reader.sample())
    advisor = AdvisorMachine(AdvisorSettings(node="n1"), load("neap.advisor.plugins", Policy))
    evictor = EvictorMachine(EvictorSettings(node="n1"), load("neap.evictor.plugins", Rule))
    machines: dict[str, Machine] = {"advisor": advisor, "evictor": evictor}
    for name, machine in machines.items():
        for number, message in enumerate(before, start=1):
            machine.handle(Arrived(0.0, message, seq=number))
        for channel in (TOPOLOGY, PLACEMENTS, ADVICE, POLICY, OBJECTS):
            machine.handle(Synced(0.0, channel))
        yield Row(name=f"{name}: rounds of decisions, one per report", value=rate(_rounds(machine, reports)),
                  unit="reports/s", note=f"one node, {CONTAINERS} pods")  # fmt: skip


def _rounds(machine: Machine, reports: list[NodeUsage]) -> Work:
    lives = itertools.count()

    def work() -> int:
        later = next(lives) * (ROUNDS + 1)
        for usage in reports:
            at = usage.at + later
            machine.handle(Arrived(at, msgspec.structs.replace(usage, at=at)))
        return len(reports)

    return work
