"""A node's four rooms in one process, a real nats-server, and what happens on the node while that is gone.

The host is virtual and its time is moved by the test, a second at a time and only when nobody has anything left to
do, so it does not matter how fast the machine is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from neap.common.bus.alone import Alone
from neap.common.bus.local import LocalFirst
from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, ENFORCEMENT, NODE_USAGE, PLACEMENTS, STREAMS, TOPOLOGY, TRAIL
from neap.common.cpuset import parse_cpuset
from neap.common.model.enforcement import Stance
from neap.common.model.placement import Checkpoint
from neap.common.model.qos import KubeQos
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.trail import TrailEntry
from neap.common.runtime.journal import NoJournal
from neap.common.runtime.launch import Process, build_services, find_room, outsides
from neap.common.runtime.settings import ProcessSettings
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB, MIB, Seconds
from neap.reporter.reader import NodeReader
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import Curve, Memory, VirtualContainer, VirtualPod, Work
from neap.virtual.snapshot import load_snapshot
from tests.bench.samples import MACHINE, a_placement, a_workload, uid
from tests.conftest import SOON

ROOMS = ("reporter", "advisor", "enforcer", "evictor")
NODE = "n1"
OWNERS, GUESTS = range(4), range(4, 8)
RISES: Seconds = 120.0  # when the owners' load rises
ALONE = Alone(start=10.0, most=150.0)
TTL, GRACE = 30.0, 10.0  # of advice; of the enforcer
AFTER = TTL + GRACE + 5.0
IDLE = 30  # turns of the loop in which nobody has anything to do


class HandClock:
    """The clock port; time passes when somebody says so."""

    speed = 1.0

    def __init__(self) -> None:
        self._now: Seconds = 0.0
        self._sleepers: list[tuple[Seconds, asyncio.Future[None]]] = []

    def now(self) -> Seconds:
        return self._now

    async def sleep_until(self, at: Seconds) -> None:
        while self._now < at:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((at, woken))
            await woken

    def set(self, now: Seconds) -> None:
        self._now = now
        due = [woken for at, woken in self._sleepers if at <= now and not woken.done()]
        self._sleepers = [(at, woken) for at, woken in self._sleepers if at > now]
        for woken in due:
            woken.set_result(None)


def a_node() -> VirtualHost:
    """64 CPUs; owners that need 4 cores and later 40 in all, guests that take whatever they get."""
    host = VirtualHost(load_snapshot(MACHINE), node=NODE)
    rise = Curve(points=(*[1.0] * int(RISES // 10), *[10.0] * 200), step=10.0)
    for number in (*OWNERS, *GUESTS):
        guest = number in GUESTS
        demand = Work(core_seconds=1e9, width=16.0) if guest else rise
        requests = {} if guest else {CPU: 12_000, MEMORY: GIB}
        main = VirtualContainer(id=f"{number:064x}", requests=requests, demand=demand, memory=Memory(start=64 * MIB))
        qos = KubeQos.BEST_EFFORT if guest else KubeQos.BURSTABLE
        host.start(VirtualPod(uid=uid(number), qos=qos, containers=(main,)))
    return host


@dataclass
class Agent:
    """The process under test, and the node it runs on."""

    host: VirtualHost
    clock: HandClock
    process: Process
    local: LocalFirst
    seqs: list[int] = field(default_factory=list)  # of reports heard in the process

    async def passes(self, seconds: float) -> None:
        """Time, a second at a time; everybody finishes what he has to do in it."""
        for _ in range(int(seconds)):
            self.host.advance(self.clock.now() + 1.0)
            self.clock.set(self.clock.now() + 1.0)
            await self.is_idle()

    async def is_idle(self) -> None:
        quiet = 0
        async with asyncio.timeout(SOON):
            while quiet < IDLE:
                await asyncio.sleep(0)
                busy = any(run.driver.busy_since is not None or any(run.driver.backlog) for run in self.process.running)
                quiet = 0 if busy else quiet + 1

    def guests(self) -> frozenset[int]:
        """CPUs that guests may run on, as the kernel says."""
        seen = NodeReader(self.host, clock=self.clock.now, node=NODE).sample().containers
        mine = [each.cgroup for each in seen if each.uid in {uid(number) for number in GUESTS}]
        assert len(mine) == len(GUESTS)
        texts = {self.host.read(f"/sys/fs/cgroup/{cgroup}/cpuset.cpus.effective") for cgroup in mine}
        assert len(texts) == 1
        return parse_cpuset(texts.pop())

    async def stance(self) -> Stance:
        found = await self.local.get(ENFORCEMENT.at(node=NODE))
        assert found is not None
        return found.message.stance


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def agent(server: NatsServer, host: VirtualHost, clock: HandClock, journal: Path) -> AsyncIterator[Agent]:
    """Left by an exception-free exit it is killed, as kill -9 does: nobody is asked to stop."""
    rooms = tuple(find_room(name) for name in ROOMS)
    process = Process(rooms, ProcessSettings(nodes=(NODE,), alone=ALONE, nats_url=server.url))
    settings = {room.name: room.settings() for room in rooms}
    settings["enforcer"] = msgspec.structs.replace(settings["enforcer"], journal_dir=str(journal))
    local = process.go_local(clock, (NODE,))
    outside = outsides(local, clock, NoTracer(), {NODE: host, "": host}, 0)
    reach = partial(process.connect, lambda: connect(server.url, name="neap-agent", echo=False, within=1.0))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(local.run(reach))]
        services = build_services(rooms, settings, outside, nodes=(NODE,))
        running.append(group.create_task(process.run(services, NoJournal(), asyncio.Event())))
        await until(lambda: process.running)
        it = Agent(host, clock, process, local)
        async with local.subscribe(NODE_USAGE.only(node=NODE)) as usages:
            running.append(group.create_task(_note(usages, it.seqs)))
            yield it
            for task in running[1:]:
                task.cancel()
        await local.close()


async def _note(usages: AsyncIterator[Any], seqs: list[int]) -> None:
    async for item in usages:
        seqs.append(item.message.seq)  # noqa: PERF401  it never ends


async def place(bus: Bus) -> None:
    """The node's pods on its ledger."""
    await bus.ensure(STREAMS, CHANNELS)
    workloads = [a_workload(number, cores=12.0, guest=number in GUESTS) for number in (*OWNERS, *GUESTS)]
    entry = Checkpoint(at=0.0, source="scheduler", node=NODE, placements=tuple(map(a_placement, workloads)))
    await bus.append(PLACEMENTS.at(node=NODE), entry, seen=0, id="test")


async def trail(bus: Bus) -> list[TrailEntry]:
    async with asyncio.timeout(SOON), bus.follow(TRAIL.only()) as lines:
        found: list[TrailEntry] = []
        async for item in lines:
            if isinstance(item, CaughtUp):
                return found
            found.append(item.message)
    return found


async def test_the_reflex_goes_on_without_nats_and_ends_in_the_safe_state(tmp_path: Path) -> None:
    host, clock = a_node(), HandClock()
    everything = host.machine.cpus
    async with NatsServer(store=tmp_path / "store") as server, agent(server, host, clock, tmp_path / "journal") as node:
        outside = await connect(server.url, name="neap-test")
        await place(outside)
        await until(lambda: all(run.ready.is_set() for run in node.process.running))
        await node.passes(RISES - 60)
        wide = node.guests()
        assert 0 < len(wide) < len(everything)

        await server.kill()
        await until(lambda: not node.local.health.connected and node.local.solitude.is_alone)
        await node.passes(40)  # longer than advice lives: it is being renewed
        assert node.guests() == wide
        await node.passes(50)
        narrow = node.guests()
        assert len(narrow) < len(wide) / 1.5, "the owners' load has risen"
        assert await node.stance() is Stance.FOLLOWING
        assert "NATS" in node.process.not_ready()[0]
        assert node.process.not_alive() == []

        await node.passes(ALONE.most - 90 + AFTER)
        assert node.guests() == everything
        assert await node.stance() is Stance.SAFE
        assert "advice lapses: more than 2m30s" in node.process.not_ready()[0]

        await server.start()
        await until(lambda: node.local.health.connected and outside.health.connected)
        await until(lambda: not node.local.solitude.is_alone and not len(node.local.events))
        await node.passes(10)
        assert node.guests() == narrow
        assert await node.stance() is Stance.FOLLOWING
        assert node.process.not_ready() == []
        assert node.seqs == sorted(set(node.seqs)), "every report was heard once, in order"
        stored = await outside.get(TOPOLOGY.at(node=NODE))
        assert isinstance(stored, Received)
        lines = await trail(outside)
        told = [line.id for line in lines]
        assert len(told) == len(set(told)), "nothing is told twice"
        assert any(RISES - 60 < line.at < RISES + 60 for line in lines), "what was done meanwhile is told"
        assert [line.at for line in lines if line.about.uid == uid(GUESTS[0])] == sorted(
            line.at for line in lines if line.about.uid == uid(GUESTS[0])
        )
        await outside.close()


async def test_a_node_that_starts_without_nats_gives_back_what_an_earlier_life_wrote(tmp_path: Path) -> None:
    host, clock = a_node(), HandClock()
    everything = host.machine.cpus
    async with NatsServer(store=tmp_path / "store") as server:
        outside = await connect(server.url, name="neap-test")
        await place(outside)
        async with agent(server, host, clock, tmp_path / "journal") as node:
            await until(lambda: all(run.ready.is_set() for run in node.process.running))
            await node.passes(10)
            assert len(node.guests()) < len(everything)
        await server.kill()
        began = clock.now()
        async with agent(server, host, clock, tmp_path / "journal") as node:
            await node.passes(1)
            confined = node.guests()
            assert len(confined) < len(everything), "kill -9 leaves the node as it is"
            async with asyncio.timeout(SOON):
                while node.guests() != everything:
                    await node.passes(1)
            assert clock.now() - began >= ALONE.start, "NATS may only be slow to start"
            assert "has not yet read all of LEDGER" in str(node.process.not_ready())
            await server.start()
            await until(lambda: all(run.ready.is_set() for run in node.process.running))
            await node.passes(10)
            assert 0 < len(node.guests()) < len(everything)
        await outside.close()
