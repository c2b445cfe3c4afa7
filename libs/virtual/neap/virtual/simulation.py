"""The whole system in one process: virtual nodes, every room, an in-memory bus.

Under SimLoop (`simulate(Simulation(...).run_day())`) time is virtual and the same seed gives the same bytes; on an
ordinary loop with an accelerated clock it is `neap up --in-process`. Every room of every node has a connection of
its own, so that it can be crashed, started again and cut off by name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, BinaryIO, Final

import msgspec

from neap.common.bus.memory import MemoryBroker, MemoryBus
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, DAY_REPORT, PLACEMENTS, PRESSURE, STREAMS, TRAIL, WORKLOAD
from neap.common.contract.channel import Channel
from neap.common.host.memory import MemoryHost
from neap.common.model.day import DayReport
from neap.common.runtime.clock import AnchoredClock, Clock, loop_clock, stopwatch
from neap.common.runtime.journal import FileJournal, Journal
from neap.common.runtime.launch import find_room
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Service
from neap.common.runtime.settings import Sources
from neap.common.telemetry.span import NoTracer, Tracer
from neap.common.units import MINUTE, Seconds
from neap.virtual.kernel import VirtualHost
from neap.virtual.parts import node_names
from neap.virtual.settings import Settings
from neap.virtual.wiring import wire_world
from neap.virtual.world import make_world

ROOMS: Final = ("virtual", "reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler")
START_UP: Final[Seconds] = 4.0  # real seconds that reading the machines and wiring the rooms may take
LEAD: Final[Seconds] = 2 * MINUTE  # before the day begins, so that every node has said what it is
JOURNALLED: Final[tuple[Channel[Any], ...]] = (WORKLOAD, PLACEMENTS, PRESSURE, TRAIL)
Fault = tuple[Seconds, Callable[["Simulation"], Awaitable[None]]]  # seconds after the day's start, and what happens


@dataclass
class Part:
    """One room on one node (node "": central), while it runs."""

    bus: MemoryBus
    stop: asyncio.Event
    task: asyncio.Task[None]
    running: Running


class ShiftedClock:
    """A clock that is wrong; negative: behind."""

    def __init__(self, clock: Clock, by: Seconds) -> None:
        self._clock, self._by = clock, by
        self.speed = clock.speed

    def now(self) -> Seconds:
        """See Clock."""
        return self._clock.now() + self._by

    async def sleep_until(self, at: Seconds) -> None:
        """See Clock."""
        await self._clock.sleep_until(at - self._by)


class Simulation:
    """See module docstring. `settings` are `section.key=value`, as on a command line."""

    def __init__(
        self,
        settings: Sequence[str],
        *,
        seed: int = 0,
        rooms: Iterable[str] = ROOMS,
        journal: BinaryIO | None = None,
        record: Journal | None = None,
        faults: Sequence[Fault] = (),
        tracer: Callable[[str], Tracer] = lambda _: NoTracer(),
        validate: bool = False,
    ) -> None:
        pairs = (pair.partition("=") for pair in settings)
        self._sources = Sources(overrides={key: value for key, _, value in pairs})
        self._seed, self._journal, self._faults, self._tracer = seed, journal, faults, tracer
        self._rooms = {name: find_room(name) for name in rooms}
        self._settings: dict[str, Any] = {
            name: self._sources.load(room.settings, name) for name, room in self._rooms.items()
        }
        self.virtual: Settings = self._settings["virtual"]
        self.parts: dict[tuple[str, str], Part] = {}
        self.counts: dict[str, float] = {}
        self._clock: Clock | None = None
        self.skew: dict[tuple[str, str], Seconds] = {}  # how far a room's clock is ahead, from its next start on
        self.away: Counter[tuple[str, str]] = Counter()  # how many faults keep a room away
        self._cut: Counter[str] = Counter()  # how many keep a node's rooms from the bus, whenever these are started
        self._broker: MemoryBroker | None = None
        self._validate, self._record = validate, record

    @property
    def clock(self) -> Clock:
        """The one clock of this world; there is none before it runs."""
        if self._clock is None:
            raise RuntimeError("the simulation does not run yet")
        return self._clock

    @property
    def broker(self) -> MemoryBroker:
        """The bus of this world; there is none before it runs."""
        if self._broker is None:
            raise RuntimeError("the simulation does not run yet")
        return self._broker

    @property
    def nodes(self) -> tuple[str, ...]:
        """The virtual nodes, by name."""
        return node_names(self.virtual.nodes)

    def pods_on(self, node: str) -> set[str]:
        """Uids of what a virtual host has, whatever anybody says about it."""
        return set(self.host(node).pods)

    def host(self, node: str) -> VirtualHost:
        """The machine itself."""
        return self._world.hosts[node]

    async def run_day(self, see: Callable[[DayReport], None] = lambda _: None) -> DayReport:
        """Live through the whole day; its last report. `see` is shown every one of them."""
        loop = asyncio.get_running_loop()
        clock = loop_clock(loop, epoch=self.virtual.start - LEAD)
        async with self.running(clock) as bus, bus.watch(DAY_REPORT.only()) as reports:
            async for item in reports:
                if isinstance(item, Received):
                    see(item.message)
                    if item.message.over:
                        return item.message
        raise RuntimeError("the day ended without a report")

    @asynccontextmanager
    async def running(self, clock: Clock) -> AsyncIterator[Bus]:
        """Everything runs; yields a connection to look on."""
        self._clock, self._broker = clock, MemoryBroker(random=Random(f"{self._seed}.bus"))
        self._world = make_world(self.virtual, clock)
        watching = self.broker.bus("watching")
        await watching.ensure(STREAMS, CHANNELS)
        async with asyncio.TaskGroup() as group:
            self._group = group
            beside = [group.create_task(self._write(channel)) for channel in JOURNALLED if self._journal is not None]
            for name, room in self._rooms.items():
                for node in self._world.hosts if room.per_node else ("",):
                    self.start(name, node)
            beside.append(group.create_task(self._break()))
            yield watching
            for part in self.parts.values():
                part.stop.set()
            await asyncio.gather(*(part.task for part in self.parts.values()))
            for task in beside:
                task.cancel()

    def start(self, name: str, node: str) -> None:
        """Start one room on one node, as its process would; nothing if it runs."""
        if (name, node) in self.parts:
            return
        bus, stop = self.broker.bus(f"{name}.{node}" if node else name), asyncio.Event()
        if self._cut[node]:
            self.broker.disconnect(bus)
        service, outside = self.wire(name, node, bus)
        if isinstance(self._record, FileJournal):
            self._record.begin(name, self._settings[name], outside.seed)
        running = Running(service, outside, count=self._count, journal=self._record, validate=self._validate)
        self.parts[name, node] = Part(bus, stop, self._group.create_task(running.run(stop)), running)

    async def crash(self, name: str, node: str) -> None:
        """End one room as kill -9 would: no last word, nothing flushed; nothing if it does not run."""
        part = self.parts.pop((name, node), None)
        if part is None:
            return
        self.broker.disconnect(part.bus)
        part.task.cancel()
        with suppress(asyncio.CancelledError):
            await part.task

    async def end(self, name: str, node: str) -> None:
        """End one room as its supervisor would: it says its last words; nothing if it does not run."""
        part = self.parts.pop((name, node), None)
        if part is not None:
            part.stop.set()
            await part.task
            self.broker.disconnect(part.bus)

    def cut(self, node: str) -> None:
        """Take the connections of a node's rooms away (node "": those of the central ones), also of those yet to start."""
        self._cut[node] += 1
        for part in self._on(node):
            self.broker.disconnect(part.bus)

    def mend(self, node: str) -> None:
        """Bring them back, once as often as they were taken away."""
        self._cut[node] -= 1
        for part in () if self._cut[node] else self._on(node):
            self.broker.reconnect(part.bus)

    def _on(self, node: str) -> list[Part]:
        return [part for (_, where), part in self.parts.items() if where == node]

    def wire(self, name: str, node: str, bus: Bus) -> tuple[Service, Outside]:
        """One room on one node as it is when it is new, and its surroundings."""
        room, settings = self._rooms[name], self._settings[name]
        host = self._world.hosts[node] if node else MemoryHost()
        clock = ShiftedClock(self.clock, by) if (by := self.skew.get((name, node))) else self.clock
        outside = Outside(bus=bus, clock=clock, host=host, tracer=self._tracer(name), seed=self._seed)
        if name == "virtual":
            return wire_world(settings, self._world, outside.clock), outside
        placed = msgspec.structs.replace(settings, node=node) if room.per_node else settings
        return room.wire(placed, outside), outside

    def _count(self, metric: str, by: float, labels: dict[str, str]) -> None:
        key = f"{metric}{{{','.join(f'{k}={v}' for k, v in sorted(labels.items()))}}}"
        self.counts[key] = self.counts.get(key, 0.0) + by

    async def _break(self) -> None:
        for after, fault in sorted(self._faults, key=lambda pair: pair[0]):
            await self.clock.sleep_until(self.virtual.start + after)
            await fault(self)

    async def _write(self, channel: Channel[Any]) -> None:
        """Every stored message as one line; the loop's order is the journal's order."""
        async with self.broker.bus(f"journal.{channel.pattern}").follow(channel.only()) as items:
            async for item in items:
                if isinstance(item, Received) and self._journal is not None:
                    line = {"seq": item.seq, "subject": item.subject, "message": item.message}
                    self._journal.write(msgspec.json.encode(line) + b"\n")


@asynccontextmanager
async def in_process(
    settings: Sequence[str], *, epoch: Seconds, speed: float, seed: int = 0, rooms: Iterable[str] = ROOMS
) -> AsyncIterator[Bus]:
    """All rooms on the running loop under an accelerated clock; yields a connection to look on."""
    lead = max(LEAD, START_UP * speed)
    clock = AnchoredClock(epoch=epoch - lead, anchor=stopwatch(), speed=speed, stopwatch=stopwatch)
    async with Simulation(settings, seed=seed, rooms=rooms).running(clock) as bus:
        yield bus
