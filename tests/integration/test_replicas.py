"""Three schedulers on one ledger, in three processes, while everything goes wrong that may.

They are killed with -9, the NATS server as well; their connections stall and are cut; submissions, starts and ends are
told twice, and late. Then the ledger is audited from its first entry: nothing is given that is not there, nobody is
placed twice, nobody is lost. NEAP_SOAK=100000 says how many pods; the default is what a test run has time for.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
import msgspec
import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, PLACEMENTS, STREAMS, TOPOLOGY, WORKLOAD
from neap.common.errors import PortError
from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Started, Submitted
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.runtime.clock import stopwatch, wall_seconds
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB
from neap.console.shell.stack import spawn
from neap.virtual.audit import audit, held_by
from neap.virtual.history import read_history
from tests.conftest import HANG
from tests.integration.slow_wire import SlowWire

PODS: Final = int(os.environ.get("NEAP_SOAK", "1500"))
LONGEST: Final = max(HANG - 60.0, PODS / 50)  # seconds
SCHEDULERS, NODES, CARDS = 3, 150, 4
TWICE = 0.2  # of all that is told
LATE = 2.0  # seconds, at most, until it is told again
RUNS = 0.4  # seconds, at most, that a pod runs
SOAK: Final = PODS > 20_000  # long enough for rarer blows and stalls; with as many as in a short run it takes hours
ABREAST = 500 if SOAK else 1500  # pods submitted and not over; 1500 are more than there is room for
BETWEEN = (8.0, 20.0) if SOAK else (2.0, 6.0)  # seconds from one blow to the next
STALLS = 0.001 if SOAK else 0.02  # of all pieces on their way


COUNTED: Final = re.compile(r"neap_scheduler_(?:appends|decisions)_total\{(.*)\} ([0-9.e+]+)")


class _Line(msgspec.Struct):
    health_port: int = 0


class Cluster:
    """The processes, and what the test says and hears on a wire of its own."""

    def __init__(self, server: NatsServer, wire: SlowWire, bus: Bus, folder: Path) -> None:
        self.server, self.wire, self.bus, self.folder = server, wire, bus, folder
        self.random = Random(PODS)
        self.schedulers: list[asyncio.subprocess.Process] = []
        self.over: set[str] = set()
        self.held: dict[str, str] = {}
        self.placed = 0
        self.blows: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._telling = asyncio.TaskGroup()

    async def live(self, pods: list[Workload]) -> None:
        """Until all of them are over, and nobody holds anything."""
        async with asyncio.timeout(LONGEST), self._telling:
            hearing = asyncio.ensure_future(self._hear())
            hitting = asyncio.ensure_future(self._hit())
            for pod in pods:
                await self._until(lambda: self.submitted - len(self.over) < ABREAST)
                self._tell(pod, Submitted(at=wall_seconds(), source="test", workload=pod), "submitted")
                self.submitted += 1
            await self._until(lambda: len(self.over) == len(pods))
            hitting.cancel()
            await self._until(lambda: not self.held)
            hearing.cancel()

    submitted = 0

    async def start(self, shard: int) -> None:
        """A scheduler process, or another one in the place of one that was killed."""
        settings = [
            f"process.nats_url={self.wire.url}", f"scheduler.shard={shard}", f"scheduler.shards={SCHEDULERS}",
            "scheduler.append.checkpoint_every=32", f"process.name=neap-scheduler-{shard}",
        ]  # fmt: skip
        command = [sys.executable, "-m", "neap.scheduler", *(part for one in settings for part in ("--set", one))]
        process = await spawn(command, log=self.folder / f"scheduler-{shard}.log")
        self.schedulers[shard:] = [process, *self.schedulers[shard + 1 :]]

    async def count(self, shard: int) -> None:
        """What this life of a scheduler has counted, as far as it answers."""
        log = (self.folder / f"scheduler-{shard}.log").read_bytes().splitlines()
        ports = [port for line in log if (port := msgspec.json.decode(line, type=_Line).health_port)]
        with suppress(OSError, aiohttp.ClientError, TimeoutError, IndexError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2.0)) as http,
                http.get(f"http://127.0.0.1:{ports[-1]}/metrics") as answer,
            ):
                for labels, amount in COUNTED.findall(await answer.text()):
                    self.counted[labels] += int(float(amount))

    async def _hit(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(*BETWEEN))
            blow = self.random.choice(("scheduler killed", "scheduler killed", "connections cut", "server killed"))
            self.blows[blow] += 1
            if blow == "connections cut":
                self.wire.cut()
            elif blow == "server killed":
                await self.server.kill()
                await self.server.start()
            else:
                shard = self.random.randrange(SCHEDULERS)
                await self.count(shard)
                self.schedulers[shard].kill()
                await self.schedulers[shard].wait()
                await self.start(shard)

    async def _hear(self) -> None:
        """The kubelets: what is placed starts, runs for a moment and ends."""
        async with self.bus.follow(PLACEMENTS.only()) as entries:
            async for entry in entries:
                match entry:
                    case Received(message=Placed(placement=placement, node=node)):
                        self.placed += 1
                        self.held[placement.workload.uid] = node
                        self._telling.create_task(self._run(placement, node))
                    case Received(message=Released(uid=uid)):
                        self.held.pop(uid, None)
                        self._changed.set()

    async def _run(self, placement: Placement, node: str) -> None:
        workload = placement.workload
        uid, attempt = workload.uid, workload.attempt
        self._tell(workload, Started(at=wall_seconds(), source="test", uid=uid, node=node, attempt=attempt), "started")
        await asyncio.sleep(self.random.uniform(0.0, RUNS))
        ended = Ended(at=wall_seconds(), source="test", uid=uid, node=node, attempt=attempt, reason=EndReason.FINISHED)
        self._tell(workload, ended, "ended")
        self.over.add(uid)
        self._changed.set()

    def _tell(self, about: Workload, event: LifecycleEvent, what: str) -> None:
        """Now, and sometimes once more later."""
        self._telling.create_task(self._emit(about, event, f"{about.uid}.{what}"))
        if self.random.random() < TWICE:
            again = f"{about.uid}.{what}.{next(self._numbers)}"
            self._telling.create_task(self._emit(about, event, again, self.random.uniform(0.0, LATE)))

    async def _emit(self, about: Workload, event: LifecycleEvent, id: str, after: float = 0.0) -> None:
        await asyncio.sleep(after)
        while True:
            with suppress(PortError):  # the server is away
                await self.bus.emit(WORKLOAD.at(namespace=about.namespace, name=about.name), event, id=id)
                return

    async def _until(self, true: object) -> None:
        while not true():  # type: ignore[operator]
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as ending:
        server = await ending.enter_async_context(NatsServer(store=tmp_path / "nats"))
        wire = await ending.enter_async_context(SlowWire(server.port, Random(1), STALLS))
        bus = await connect(server.url, name="neap-test")
        ending.push_async_callback(bus.close)
        await bus.ensure(STREAMS, CHANNELS)
        for number in range(NODES):
            await bus.put(TOPOLOGY.at(node=f"n{number}"), a_node(f"n{number}"))
        made = Cluster(server, wire, bus, tmp_path)
        await ending.enter_async_context(_ended(made))
        for shard in range(SCHEDULERS):
            await made.start(shard)
        yield made


@asynccontextmanager
async def _ended(cluster: Cluster) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in cluster.schedulers:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def a_node(name: str) -> NodeTopology:
    amounts = {CPU: 16_000, MEMORY: 64 * GIB, GPU_CORE: 100 * CARDS, GPU_MEMORY: 24_000 * CARDS}
    cards = tuple(Card(index=i, uuid=f"{name}-{i}", model="A10", memory_mib=24_000) for i in range(CARDS))
    machine = Zone(kind=ZoneKind.MACHINE, index=0)
    return NodeTopology(at=0.0, source="reporter", node=name, machine=machine, numa=(), cards=cards, capacity=amounts,
                        allocatable=amounts)  # fmt: skip


def pods(random: Random) -> list[Workload]:
    return [a_pod(number, random) for number in range(PODS)]


def a_pod(number: int, random: Random) -> Workload:
    requests = {CPU: random.choice((500, 1000, 2000, 4000)), MEMORY: random.choice((1, 2, 4)) * GIB}
    if random.random() < 0.4:
        core = random.choice((20, 35, 50, 100))
        requests |= {GPU_CORE: core} | ({} if core == 100 else {GPU_MEMORY: 100 * core})
    containers = (Container(name="main", requests=requests),)
    uid = f"{number:08x}-aaaa-4bbb-8ccc-{number:012x}"
    return Workload(uid=uid, namespace="soak", name=f"pod-{number}", qos=QosClass.SHARED, containers=containers)


@pytest.mark.timeout(LONGEST + 60)
async def test_three_schedulers_share_one_ledger_and_nothing_is_doubled_or_lost(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    began = stopwatch()
    await cluster.live(pods(Random(2)))
    took = stopwatch() - began
    for shard in range(SCHEDULERS):
        await cluster.count(shard)
    history = await read_history(cluster.bus)
    told_twice = "was told before"  # of the workloads' stream that is what this test does
    breaches = [breach for breach in audit(history) if not (breach.startswith("workloads ") and told_twice in breach)]
    assert breaches == []
    assert all(not held for held in held_by(history.ledger).values())
    placed = {item.message.placement.workload.uid for item in history.ledger if isinstance(item.message, Placed)}
    assert len(placed) == PODS
    with capsys.disabled():
        sys.stdout.write(
            f"\n{cluster.placed} placed in {took:.0f} s by {SCHEDULERS} schedulers; {dict(cluster.blows)}, "
            f"{cluster.wire.stalls} stalls; counted, as far as lives were long enough: {dict(cluster.counted)}; no breach\n"
        )
