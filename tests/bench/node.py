"""What one node costs: a report, a step of the virtual kernel, an enforcer that finds nothing to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.core.waking import STORED
from neap.advisor.settings import Settings as AdvisorSettings
from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import ADVICE, NODE_USAGE
from neap.common.host.port import HostFs
from neap.common.host.remote import RemoteHost
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Checkpoint
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.machine import Arrived, Done, Event, Instruction, Put, Synced, Tick
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service
from neap.common.telemetry.span import NoTracer
from neap.enforcer.settings import Settings as EnforcerSettings
from neap.enforcer.wiring import wire as wire_enforcer
from neap.reporter.reader import NodeReader
from neap.virtual.kernel import VirtualHost
from tests.bench.measure import Row, Work, rate
from tests.bench.samples import EXAMPLES, a_host, a_placement, a_workload

PODS, TIMES, MINUTE = 20, 100, 60.0
ROOT = EXAMPLES.parent


def rows() -> Iterator[Row]:
    note = f"{PODS} containers"
    host = a_host(PODS)
    reader = NodeReader(host, clock=lambda: host.now, node="n1")
    reader.topology()

    def report() -> int:
        for _ in range(TIMES):
            host.advance(host.now + 1.0)
            NODE_USAGE.encode(reader.sample())
        return TIMES

    def step() -> int:
        for _ in range(TIMES):
            host.advance(host.now + MINUTE)
            host.observe()
        return TIMES

    yield Row(
        name="reporter: step a virtual host, read, parse, fold, encode", value=rate(report), unit="reports/s", note=note
    )
    with _served() as remote:
        yield Row(name="the same host over a unix socket, this process's part", value=rate(_remote(remote)), unit="reports/s",
                  note=note)  # fmt: skip
    yield Row(name="virtual kernel: steps of a minute, observed", value=rate(step), unit="steps/s", note=note)
    yield _enforcing(host)


def _remote(remote: HostFs) -> Work:
    clock = wall_clock()
    reader = NodeReader(remote, clock=clock.now, node="n1")
    reader.topology()

    def report() -> int:
        for _ in range(TIMES):
            NODE_USAGE.encode(reader.sample())
        return TIMES

    return report


@contextmanager
def _served() -> Iterator[HostFs]:
    with tempfile.TemporaryDirectory(prefix="neap-bench-") as folder:
        socket = str(Path(folder) / "hosts.sock")
        command = [sys.executable, "-m", "tests.bench.hostd", socket, str(PODS)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            child.stdout.readline()
            remote = RemoteHost(socket, "n1")
            yield remote
            remote.close()
            child.stdin.close()


def _enforcing(host: VirtualHost) -> Row:
    """The enforcer of a node whose advice is true already: look at everything, and leave it."""
    loop = asyncio.new_event_loop()

    async def wired() -> Service:
        outside = Outside(bus=MemoryBroker().bus("bench"), clock=wall_clock(), host=host, tracer=NoTracer())
        return wire_enforcer(EnforcerSettings(node="n1", reconcile_every=1), outside)

    service = loop.run_until_complete(wired())

    def tell(event: Event) -> int:
        pending, done = [event], 0
        while pending:
            for instruction in service.machine.handle(pending.pop(0)):
                effect = service.effects.get(type(instruction))
                if effect is not None:
                    done += 1
                    pending.append(
                        Done(host.now, instruction, loop.run_until_complete(cast("Any", effect(instruction))))
                    )
        return done

    tell(Arrived(host.now, _advice(host)))
    tell(Synced(host.now, ADVICE))
    for _ in range(3):
        tell(Tick(host.now, "reconcile"))
    assert tell(Tick(host.now, "reconcile")) == 1, "it looks, and writes nothing"
    value = rate(lambda: sum(tell(Tick(host.now, "reconcile")) for _ in range(TIMES)))
    loop.close()
    return Row(
        name="enforcer: a look at all knobs that finds nothing to do", value=value, unit="looks/s", note=f"{PODS} pods"
    )


def _advice(host: VirtualHost) -> NodeAdvice:
    """What the advisor of this node says to a ledger of these pods."""
    reader = NodeReader(host, clock=lambda: host.now, node="n1")
    advisor = AdvisorMachine(AdvisorSettings(node="n1"), load("neap.advisor.plugins", Policy))
    placed = tuple(a_placement(a_workload(i, guest=i % 3 == 2)) for i in range(PODS))
    topology, _ = reader.topology(), reader.sample()
    host.advance(host.now + 1.0)
    said: list[Instruction] = []
    events: tuple[Event, ...] = (
        Arrived(host.now, topology),
        Arrived(host.now, Checkpoint(at=host.now, source="scheduler", node="n1", placements=placed), seq=1),
        *(Synced(host.now, channel) for channel in STORED),
        Arrived(host.now, reader.sample()),
    )
    for event in events:
        said += advisor.handle(event)
    return next(put.value for put in said if isinstance(put, Put) and isinstance(put.value, NodeAdvice))
