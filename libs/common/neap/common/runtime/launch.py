"""From names to running services: rooms are found by name, wired, and kept running in one process.

`neap.<name>.wiring` has SETTINGS and `wire`, PER_NODE where the settings' field `node` does not say it already, and
`tunable` where policy may change settings.
Nothing here imports a room statically: common knows no room.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import msgspec

from neap.common.bus.local import LocalFirst
from neap.common.bus.port import Bus, BusHealth
from neap.common.contract.catalogue import CHANNELS, STREAMS
from neap.common.contract.channel import Pattern
from neap.common.contract.permissions import NODE_SERVICES
from neap.common.errors import Denied, PortError, SettingsError
from neap.common.host.open import open_host
from neap.common.host.port import HostFs
from neap.common.runtime.clock import Clock, accelerated_clock, stopwatch, wall_clock
from neap.common.runtime.health import Probes
from neap.common.runtime.inbox import Turns
from neap.common.runtime.journal import Journal
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Service
from neap.common.runtime.settings import ProcessSettings
from neap.common.runtime.tuning import Tunable
from neap.common.telemetry.log import get_logger
from neap.common.telemetry.metrics import Metrics, Sample, declared_by
from neap.common.telemetry.span import Tracer
from neap.common.units import Seconds, format_duration

FIRST_RETRY: Final[Seconds] = 0.25
LAST_RETRY: Final[Seconds] = 5.0

_SECRET: Final = re.compile(r"//[^@/\s,]*@")
Connect: TypeAlias = Callable[[], Awaitable[Bus]]


@dataclass(frozen=True)
class Room:
    """A service by name: what its wiring module says."""

    name: str
    settings: type[msgspec.Struct]
    wire: Callable[[Any, Outside], Service]
    per_node: bool
    tunable: Callable[[], Tunable[Any]] | None = None  # what policy may change; None: nothing


def find_room(name: str) -> Room:
    """The room of this name.

    Raises:
        SettingsError: there is none here.
    """
    module = f"neap.{name}.wiring"
    if not name.isidentifier() or find_spec(f"neap.{name}") is None or find_spec(module) is None:
        raise SettingsError(f"no service named {name!r} is installed here (no module {module})")
    wiring = import_module(module)
    settings: type[msgspec.Struct] = wiring.SETTINGS
    per_node = getattr(wiring, "PER_NODE", "node" in settings.__struct_fields__)
    return Room(name, settings, wiring.wire, bool(per_node), getattr(wiring, "tunable", None))


def build_services(
    rooms: Iterable[Room],
    settings: Mapping[str, Any],
    outside: Callable[[str, str], Outside],
    *,
    nodes: Iterable[str],
) -> list[tuple[Service, Outside]]:
    """Every room wired: once per node, central ones once. `outside(name, node)` is what that service may touch."""
    everywhere, built = tuple(nodes), []
    for room in rooms:
        mine = settings[room.name]
        for node in everywhere if room.per_node else ("",):
            placed = msgspec.structs.replace(mine, node=node) if room.per_node else mine
            around = outside(room.name, node)
            built.append((room.wire(placed, around), around))
    return built


def make_clock(spec: str) -> Clock:
    """Real time, or "epoch=...,origin=...,speed=..." for an accelerated day shared by many processes.

    Raises:
        SettingsError: the spec does not hold.
    """
    if not spec:
        return wall_clock()
    try:
        parts = {name.strip(): float(value) for name, value in (part.split("=") for part in spec.split(","))}
    except ValueError:
        parts = {}
    if set(parts) != {"epoch", "origin", "speed"} or not parts["speed"] > 0:
        raise SettingsError(
            f"process.clock = {spec!r} (allowed: empty, or epoch=SECONDS,origin=SECONDS,speed=FACTOR above 0)"
        )
    return accelerated_clock(**parts)


@dataclass
class Process:
    """The services of one process, and what its health port says about them."""

    rooms: tuple[Room, ...]
    settings: ProcessSettings
    metrics: Metrics = field(default_factory=Metrics)
    running: list[Running] = field(default_factory=list)
    bus: Bus | None = None
    trouble: str = "starting"
    when_ready: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        for room in self.rooms:
            self.metrics.declare(declared_by(room.name))
        self.metrics.observe(self.samples)

    @property
    def is_agent(self) -> bool:
        """Whether these are rooms of a node that have something to tell each other, also while NATS is away."""
        return len(self.rooms) > 1 and all(room.name in NODE_SERVICES for room in self.rooms)

    @property
    def probes(self) -> Probes:
        """For the health port."""
        return Probes(self.not_alive, self.not_ready, self.metrics.exposition)

    def not_alive(self) -> list[str]:
        """Why this process should be restarted."""
        now, wrong = stopwatch(), []
        for running in self.running:
            since = running.driver.busy_since
            if since is not None and now - since > self.settings.stuck_after:
                wrong.append(f"{_who(running)} has been handling one event for {format_duration(now - since)}")
        return wrong

    def not_ready(self) -> list[str]:
        """Why this process is not up to date."""
        if self.bus is None or not self.running:
            return [self.trouble]
        return self.away() + [
            f"{_who(running)} has not yet read all of {', '.join(running.waiting_for)}"
            for running in self.running
            if not running.ready.is_set()
        ]

    def away(self) -> list[str]:
        """That the bus is, and what follows."""
        if self.bus is None or self.bus.health.connected:
            return []
        said = f"NATS at {without_secrets(self.settings.nats_url)} is not reachable; reconnecting"
        if isinstance(self.bus, LocalFirst):
            solitude, most = self.bus.solitude, format_duration(self.settings.alone.most)
            then = f"advice lapses after {most}" if not solitude.is_too_long else f"advice lapses: more than {most}"
            said += f"; alone for {format_duration(solitude.lasts)}, {then}"
        return [said]

    def samples(self) -> Iterator[Sample]:
        """What bus and drivers count."""
        for running in self.running:
            labels, (events, instructions) = {"service": running.service.name}, running.driver.backlog
            yield Sample("neap_events_handled_total", running.driver.handled, labels)
            yield Sample("neap_events_handling_seconds_total", running.driver.handling_seconds, labels)
            yield Sample("neap_events_waiting_count", events, labels)
            yield Sample("neap_instructions_waiting_count", instructions, labels)
            yield Sample("neap_service_ready_count", float(running.ready.is_set()), labels)
        if self.bus is not None:
            yield from bus_samples(self.bus.health)
        if isinstance(self.bus, LocalFirst):
            yield from local_samples(self.bus)

    def go_local(self, clock: Clock, nodes: Collection[str]) -> LocalFirst:
        """The local bus of an agent."""
        here = said_here(frozenset(room.name for room in self.rooms), frozenset(nodes))
        self.bus = local = LocalFirst(now=clock.now, said_here=here, alone=self.settings.alone)
        return local

    async def connect(self, connect: Connect) -> Bus:
        """Until it works: an absent NATS is a state, not an error."""
        delay, log, url = FIRST_RETRY, get_logger("process"), without_secrets(self.settings.nats_url)
        while True:
            try:
                async with AsyncExitStack() as undo:
                    bus = await connect()
                    undo.push_async_callback(bus.close)
                    await ensure(bus)
                    undo.pop_all()
            except (PortError, OSError) as error:
                self.trouble = f"NATS not reachable at {url}: {without_secrets(str(error))}; retrying"
                log.warning("bus.unreachable", why=self.trouble, url=url, again_in=delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY)
            else:
                log.info("bus.connected", url=url)
                self.bus, self.trouble = self.bus or bus, "services are starting"
                return bus

    async def run(self, services: Iterable[tuple[Service, Outside]], journal: Journal, stop: asyncio.Event) -> None:
        """Run the services until `stop`; one that crashes takes the process along, which is then restarted."""
        self.running = [
            Running(service, outside, count=self.metrics.count, journal=journal) for service, outside in services
        ]
        async with asyncio.TaskGroup() as group:
            for running in self.running:
                group.create_task(running.run(stop, within=self.settings.shutdown_grace))
            group.create_task(self._tell_ready(stop))

    async def _tell_ready(self, stop: asyncio.Event) -> None:
        async def all_ready() -> None:
            for running in self.running:
                await running.ready.wait()
            self.when_ready()
            get_logger("process").info("process.ready", services=[_who(running) for running in self.running])

        await unless(stop, all_ready())


def bus_samples(health: BusHealth) -> Iterator[Sample]:
    """What the bus adapter counts."""
    yield Sample("neap_bus_connected_count", float(health.connected))
    yield Sample("neap_bus_reconnects_total", health.reconnects)
    yield Sample("neap_bus_lost_total", health.lost)
    yield Sample("neap_bus_denied_total", health.denied)
    yield Sample("neap_bus_unsent_total", health.unsent)
    for channel, count in sorted(health.poison.items()):
        yield Sample("neap_bus_poison_total", count, {"channel": channel})


def local_samples(bus: LocalFirst) -> Iterator[Sample]:
    """What the local bus counts."""
    yield Sample("neap_bus_alone_seconds", bus.solitude.lasts)
    yield Sample("neap_bus_kept_count", len(bus.events))
    yield Sample("neap_bus_dropped_total", bus.events.dropped, {"why": "too many"})
    yield Sample("neap_bus_dropped_total", bus.events.stale, {"why": "too old"})


def said_here(rooms: Collection[str], nodes: Collection[str]) -> Callable[[Pattern[Any]], bool]:
    """Whether nobody but these rooms on these nodes says what matches a pattern."""

    def said(only: Pattern[Any]) -> bool:
        sayers = only.channel.says
        return any(room in rooms for room in sayers) and only.channel.tokens_of(only.subject).get("node") in nodes

    return said


async def ensure(bus: Bus) -> None:
    """Streams and buckets of the catalogue; a service that may not create them trusts that somebody else did."""
    try:
        await bus.ensure(STREAMS, CHANNELS)
    except Denied as error:
        get_logger("process").info("bus.ensure.denied", why=str(error))


def outsides(
    bus: Bus, clock: Clock, tracer: Tracer, hosts: Mapping[str, HostFs], seed: int
) -> Callable[[str, str], Outside]:
    """The real outside of a process: one bus, clock and tracer for all, and the host of each node."""
    turns = Turns()

    def outside(_name: str, node: str) -> Outside:
        return Outside(bus=bus, clock=clock, host=hosts[node], tracer=tracer, seed=seed, turns=turns)

    return outside


def open_hosts(spec: str, nodes: Iterable[str]) -> dict[str, HostFs]:
    """The host of each node; a central service (node "") has no business on any, and sees its own.

    Raises:
        SettingsError: the spec does not hold.
    """
    return {"": open_host("/", ""), **{node: open_host(spec, node) for node in nodes}}


async def unless(stop: asyncio.Event, work: Awaitable[Any]) -> bool:
    """Whether `work` came to its end; it is cancelled when `stop` is set first."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def without_secrets(text: str) -> str:
    """A text without the user and password of the addresses in it."""
    return _SECRET.sub("//", text)


def _who(running: Running) -> str:
    return f"{running.service.name} on {running.service.node}" if running.service.node else running.service.name
