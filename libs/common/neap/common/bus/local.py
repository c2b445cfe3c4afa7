"""The Bus of an agent: a local bus in front of the uplink.

What the process says of LATEST and STATE its own readers hear at once, in memory, as the object it is; and it goes up
as well. So a node's rooms go on hearing each other while NATS is away:

    LATEST          heard here at once; dropped on the way up while nobody is there
    STATE           heard here at once; the last value of a key goes up as soon as somebody is there
    EVENTS, WORK    kept under their ids, at most `alone.kept`; a command older than `alone.work` is dropped
    everything else is the uplink's, and waits for it

A value that comes back from the uplink is not heard twice, and never after a newer one of this process (local_state).
After `alone.most` without the uplink STATE is no longer heard here: what was last heard from elsewhere (placements,
policy) may be wrong by now, so advice lapses and the enforcer gives the node back. It is heard once somebody is there.

The first word on a subject waits for the server's verdict, so a missing right is an error, as with the uplink alone.
The uplink is reached in the background; it must not echo what this process publishes. See docs/adr/0012.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from neap.common.bus.alone import Alone, Solitude
from neap.common.bus.answer import answered, encode, reply_of
from neap.common.bus.health import LOG, Health
from neap.common.bus.local_reader import Behind, Hearing, Watching
from neap.common.bus.local_state import Said, headers_of
from neap.common.bus.local_up import AT_ONCE, Events
from neap.common.bus.port import Bus, BusHealth, Delivery, LedgerItem, Lost, LostRace, Received, StateItem, Stored
from neap.common.bus.reader import received
from neap.common.contract.channel import Address, Channel, Endpoint, Pattern, Stream
from neap.common.contract.subject import bucket_of, stream_of, wire_subject
from neap.common.errors import NeapError, Unavailable
from neap.common.telemetry.span import SpanContext, current
from neap.common.units import Seconds, format_duration

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")

BEAT: Final[Seconds] = 0.25  # real seconds between two looks whether somebody is there
CLOSING: Final[Seconds] = 2.0
NOTICED: Final[Seconds] = 1.0  # clock seconds away, at least, that are worth a line when it is over
UNDER_WAY: Final = 256  # LATEST messages of a subject that wait for a connection that is too slow; then the oldest drop
EVENTS: Final = "events"  # the lane of what is kept; other lanes are subjects


class LocalFirst:
    """See module docstring and `neap.common.bus.port.Bus`. It works while `run` runs.

    Args:
        now: clock seconds.
        said_here: whether everything that matches a pattern is said by this process.
        alone: bounds of going on alone.
    """

    def __init__(
        self, *, now: Callable[[], Seconds], said_here: Callable[[Pattern[Any]], bool], alone: Alone | None = None
    ) -> None:
        self.now, self.said_here, self.alone = now, said_here, alone or Alone()
        self.uplink: Bus | None = None
        self.solitude = Solitude(now, self.alone.most)
        self.hearing: dict[Hearing[Any], None] = {}
        self.watching: dict[Watching[Any], None] = {}
        self.events = Events(lambda: self.uplink if self.is_up else None, now, self.alone)
        self.said = Said(self)
        self.proven: set[str] = set()  # subjects the server is known to allow
        self._latest: dict[str, deque[tuple[Address[Any], Any, SpanContext | None]]] = {}  # on their way up
        self._refused: dict[str, NeapError] = {}  # learnt on the way up, told with the next word
        self._responders: dict[str, list[Callable[[Any], Awaitable[Any]]]] = {}
        self._nobody = Health()  # until there is an uplink
        self._attached, self._closed = asyncio.Event(), asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[asyncio.Task[Any], str] = {}  # with their lanes
        self._reconnects = 0  # seen so far
        self._told = "away"  # what the log knows; a process begins without its uplink

    @property
    def health(self) -> BusHealth:
        """Live counters, of the uplink as soon as there is one."""
        return self._nobody if self.uplink is None else self.uplink.health

    @property
    def is_up(self) -> bool:
        """Whether somebody is there now."""
        return self.uplink is not None and self.uplink.health.connected

    @property
    def is_lost(self) -> bool:
        """Whether the node has been alone for too long."""
        return self.solitude.is_too_long and not self.is_up

    # -- the uplink

    async def run(self, connect: Callable[[], Awaitable[Bus]]) -> None:
        """Reach the uplink, and look after it until closed."""
        async with asyncio.TaskGroup() as self._group:
            self.start(self._attach(connect))
            while not self._closed.is_set():
                self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT):
                        await self._closed.wait()
            for task in tuple(self._tasks):
                task.cancel()

    async def reach(self) -> Bus:
        """The uplink, once there is one."""
        await self._attached.wait()
        return self._up("reach")

    def start(self, work: Coroutine[Any, Any, None], lane: str = "") -> asyncio.Task[None]:
        """Work that ends with the bus at the latest."""
        assert self._group is not None, "the bus does not run"
        task = self._group.create_task(work)
        self._tasks[task] = lane
        task.add_done_callback(self._tasks.pop)
        return task

    def raise_up(self, lane: str, work: Coroutine[Any, Any, None]) -> None:
        """Send something up, unless that is being done."""
        if lane in self._tasks.values():
            work.close()
        else:
            self.start(work, lane)

    async def close(self) -> None:
        """Flush and leave; bounded."""
        if self._closed.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                while self.is_up and any(self._tasks.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        self._closed.set()
        if self.uplink is not None:
            await self.uplink.close()

    async def _attach(self, connect: Callable[[], Awaitable[Bus]]) -> None:
        self.uplink = await connect()
        self._attached.set()

    def _up(self, attempt: str) -> Bus:
        if self.uplink is None:
            raise Unavailable(f"{attempt}: not connected to NATS")
        return self.uplink

    def _look(self) -> None:
        """Here, away, away for too long, or back."""
        lasted, told = self.solitude.lasts, self._told
        self.solitude.look(connected=self.is_up)
        self._told = "too long" if self.solitude.is_too_long else "" if self.is_up else "away"
        if self._told != told:
            self._tell(lasted)
        if self.is_up and (told or self.health.reconnects != self._reconnects):
            self._reconnects = self.health.reconnects
            self.said.resume()
        if self.is_up and len(self.events):
            self.raise_up(EVENTS, self.events.drain())
        for reader in tuple(self.watching):
            reader.look(self.now())

    def _tell(self, lasted: Seconds) -> None:
        kept, most = self.events, format_duration(self.alone.most)
        if self._told == "away":
            LOG.warning("bus.alone: NATS is away; the node goes on with what it knows, for %s at most", most)
        elif self._told:
            LOG.warning("bus.alone.too_long: no NATS for more than %s: advice is renewed no more, and lapses", most)
        elif lasted >= NOTICED:
            counts = f"{len(kept)} events kept, {kept.dropped} dropped, {kept.stale} too old"
            LOG.info("bus.back: after %s; %s", format_duration(lasted), counts)

    # -- LATEST

    async def publish(self, to: Address[M], message: M) -> None:
        """Heard here at once; goes up unless nobody is there."""
        place, context = to.subject, current.get()
        self.must_say(place)
        if not self.is_up:
            self.health.unsent += 1
        elif place in self.proven:
            waiting = self._latest.setdefault(place, deque(maxlen=UNDER_WAY))
            self.health.unsent += len(waiting) == UNDER_WAY
            waiting.append((to, message, context))
            self.raise_up(place, self._send(waiting))
        else:
            await self._up(f"send {place}").publish(to, message)
            self.proven.add(place)
        if self.is_lawful(to, message):
            item = received(place, message, 0, headers_of(context))
            for reader in self.hearing:
                if reader.wants(item):
                    reader.take(item)

    def subscribe(
        self, only: Pattern[M], *, queue: str = "", limit: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[Received[M] | Lost]]:
        """LATEST, from both sides."""
        return Hearing(self, only, queue, limit)

    async def _send(self, waiting: deque[tuple[Address[Any], Any, SpanContext | None]]) -> None:
        """A connection that does not take any more makes no reader here wait."""
        bus = await self.reach()
        while waiting:
            to, message, context = waiting.popleft()
            current.set(context)
            try:
                await bus.publish(to, message)
            except NeapError as error:
                self.refuse(to.subject, error)

    # -- STATE

    async def put(self, key: Address[M], value: M, *, revision: int | None = None) -> int:
        """Heard here at once, and kept until the uplink has it; with `revision` it is the uplink's business."""
        place = wire_subject(key.channel, key.subject)
        self.must_say(place)
        if revision is None:
            return await self.said.put(key, value)
        self.said.forget(place)
        return await self._up(f"put {place}").put(key, value, revision=revision)

    async def get(self, key: Address[M]) -> Received[M] | None:
        """What this process has said and the uplink does not know yet; else what the uplink has."""
        own = self.said.unstored(wire_subject(key.channel, key.subject))
        return await self._up(f"get {key.subject}").get(key) if own is None else own.item()

    async def delete(self, key: Address[M]) -> None:
        """The uplink's business."""
        place = wire_subject(key.channel, key.subject)
        self.said.forget(place)
        await self._up(f"delete {place}").delete(key)

    def watch(self, only: Pattern[M]) -> AbstractAsyncContextManager[AsyncIterator[StateItem[M]]]:
        """STATE, from both sides."""
        bucket_of(only.channel)
        return Watching(self, only)

    # -- EVENTS, WORK

    async def emit(self, to: Address[M], message: M, *, id: str) -> Stored:
        """Stored, or kept until somebody is there: then the sequence is 0."""
        stream_of(to.channel)
        if self.is_up and not len(self.events):
            with suppress(TimeoutError, Unavailable):
                async with asyncio.timeout(AT_ONCE):
                    return await self._up(f"emit {to.subject}").emit(to, message, id=id)
        self.events.keep(to, message, id)
        self.raise_up(EVENTS, self.events.drain())
        return Stored(0)

    def consume(
        self, only: Pattern[M], *, durable: str, ack_wait: Seconds = 30.0, batch: int = 64
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """EVENTS, WORK: each at least once."""
        stream_of(only.channel)
        return Behind(self, lambda bus: bus.consume(only, durable=durable, ack_wait=ack_wait, batch=batch))

    # -- what is the uplink's

    async def ensure(self, streams: tuple[Stream, ...], channels: tuple[Channel[Any], ...]) -> None:
        """Create what the catalogue declares."""
        await (await self.reach()).ensure(streams, channels)

    async def append(self, to: Address[M], entry: M, *, seen: int, id: str) -> Stored | LostRace:
        """LEDGER: store if `seen` is still the last sequence of the subject."""
        return await self._up(f"append {to.subject}").append(to, entry, seen=seen, id=id)

    def follow(self, only: Pattern[M], *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[LedgerItem[M]]]:
        """LEDGER, EVENTS: replay, then live."""
        stream_of(only.channel)
        return Behind(self, lambda bus: bus.follow(only, after=after))

    async def request(
        self, endpoint: Endpoint[Q, R], request: Q, *, timeout: Seconds | None = None, **tokens: str
    ) -> R:
        """Ask one responder; one in this process, if there is one."""
        subject = endpoint.at(**tokens)
        if not (here := self._responders.get(subject)):
            return await self._up(f"ask {subject}").request(endpoint, request, timeout=timeout, **tokens)
        within = endpoint.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(within):
                return reply_of(endpoint, *await answered(endpoint, here[0], encode(request), subject), subject)
        except TimeoutError:
            raise Unavailable(f"ask {subject}: no answer in {within:g} s") from None

    @asynccontextmanager
    async def serve(
        self, endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], **tokens: str
    ) -> AsyncIterator[None]:
        """Answer requests from both sides."""
        here = self._responders.setdefault(endpoint.at(**tokens), [])
        async with (await self.reach()).serve(endpoint, answer, **tokens):
            here.append(answer)
            try:
                yield
            finally:
                here.remove(answer)

    # -- what may be said

    def must_say(self, place: str) -> None:
        """Raise what the server said to the word before."""
        if (error := self._refused.pop(place, None)) is not None:
            raise error

    def refuse(self, place: str, error: NeapError) -> None:
        """Remember what the server said."""
        LOG.warning("bus.refused: %s: %s", place, error)
        self._refused[place] = error
        self.proven.discard(place)

    def is_lawful(self, to: Address[Any], message: Any) -> bool:
        """Whether a message speaks of what its subject names; readers of the uplink would not hear it either."""
        for name, token in to.channel.tokens_of(to.subject).items():
            said = getattr(message, name, token)
            if str(said) != token:
                LOG.warning("bus.poison: %s: speaks of %s %r", to.channel.title(to.subject), name, said)
                poison, title = self.health.poison, to.channel.title()
                poison[title] = poison.get(title, 0) + 1
                return False
        return True
