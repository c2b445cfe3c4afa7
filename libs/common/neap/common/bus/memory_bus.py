"""One connection to a MemoryBroker: the Bus port, as far as one connection can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neap.common.bus.answer import Answering, encode, reply_of
from neap.common.bus.health import Health
from neap.common.bus.memory_reader import Consuming, Following, Hearing, MemoryReader, Sent, Watching
from neap.common.bus.memory_store import Bucket, Log
from neap.common.bus.patience import Patience, again
from neap.common.bus.port import Delivery, LedgerItem, Lost, LostRace, Received, StateItem, Stored
from neap.common.bus.reader import NO_HEADERS, received
from neap.common.contract.channel import Address, Channel, Endpoint, Pattern, State, Stream
from neap.common.contract.permissions import Rights
from neap.common.contract.subject import (
    bucket_of,
    bucket_stream,
    create_subject,
    direct_subject,
    stream_of,
    wire_subject,
)
from neap.common.errors import Denied, NoResponder, PortError, StaleRevision, Unavailable, WireError
from neap.common.telemetry.span import current
from neap.common.units import Seconds

if TYPE_CHECKING:
    from neap.common.bus.memory import MemoryBroker

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

YIELD_EVERY: Final = 64  # publishes of one connection between two turns for everybody else


class MemoryBus:
    """One connection; see module docstring and `neap.common.bus.port.Bus`. Made by `MemoryBroker.bus`."""

    def __init__(
        self, broker: MemoryBroker, name: str, rights: Rights | None, patience: Patience, *, echo: bool = True
    ) -> None:
        self.broker, self.name = broker, name
        self._unheard_by = None if echo else self
        self.readers: dict[MemoryReader[Any], None] = {}
        self._health = Health(connected=True)
        self._rights, self._patience = rights, patience
        self._here = asyncio.Event()
        self._here.set()
        self._then: list[Callable[[], None]] = []
        self._asked: set[asyncio.Future[tuple[bytes, dict[str, str]]]] = set()
        self._sent = 0

    @property
    def health(self) -> Health:
        """Live counters."""
        return self._health

    # -- the connection, for the broker and the readers

    def go(self) -> None:
        """The connection is lost."""
        self._health.connected = False
        self._here.clear()
        for future in self._asked:
            if not future.done():
                future.set_exception(Unavailable(f"{self.name}: the connection was lost"))

    def come(self) -> None:
        """It is back."""
        if self._health.connected:
            return
        self._health.connected = True
        self._health.reconnects += 1
        self._here.set()
        waiting, self._then = self._then, []
        for act in waiting:
            act()
        for reader in tuple(self.readers):
            reader.returned()

    def when_here(self, act: Callable[[], None]) -> None:
        """Now, or after the reconnect."""
        if self._health.connected:
            act()
        else:
            self._then.append(act)

    def must_send(self, subject: str) -> None:
        """Raise Denied if this connection may not publish there."""
        if self._rights is not None and not self._rights.may_publish(subject):
            self._health.denied += 1
            raise Denied(f"publish {subject}: this connection may not")

    def must_hear(self, subject: str) -> None:
        """Raise Denied if this connection may not subscribe there."""
        if self._rights is not None and not self._rights.may_subscribe(subject):
            self._health.denied += 1
            raise Denied(f"subscribe {subject}: this connection may not")

    async def log(self, channel: Channel[Any]) -> Log:
        """The stream of a channel, once it exists."""
        return await _once(self.broker.logs, stream_of(channel).name)

    async def bucket(self, channel: Channel[Any]) -> Bucket:
        """The bucket of a channel, once it exists."""
        return await _once(self.broker.buckets, bucket_of(channel).bucket)

    async def _present(self, what: str, within: Seconds) -> None:
        if self._health.connected:
            return
        try:
            async with asyncio.timeout(within):
                await self._here.wait()
        except TimeoutError:
            raise Unavailable(f"{what}: not connected") from None

    async def _reach(self, table: Mapping[str, Any], name: str, what: str, within: Seconds) -> Any:
        """What is stored under a name, when the connection stands and it exists."""
        if self._health.connected and name in table:
            return table[name]

        async def attempt(_: Seconds) -> Any:
            if name not in table:
                raise Unavailable(f"{name} is not there (yet)")
            return table[name]

        return await again(self._present, what, within, attempt)

    # -- the port

    async def ensure(self, streams: tuple[Stream, ...], channels: tuple[Channel[Any], ...]) -> None:
        """Create what the catalogue declares."""
        buckets = [channel for channel in channels if isinstance(channel, State)]

        async def attempt(_: Seconds) -> None:
            for stream in streams:
                if stream.name not in self.broker.logs:
                    self._must_make(stream.name)
                    self.broker.logs[stream.name] = Log(stream, self.broker.now)
            for bucket in buckets:
                if bucket.bucket not in self.broker.buckets:
                    self._must_make(bucket_stream(bucket.bucket))
                    self.broker.buckets[bucket.bucket] = Bucket(bucket, self.broker.now)

        await again(self._present, "ensure", self._patience.ensure, attempt)

    async def close(self) -> None:
        """Leave."""
        self.go()
        if self in self.broker.buses:
            self.broker.buses.remove(self)

    async def publish(self, to: Address[M], message: M) -> None:
        """LATEST: send and forget; dropped while away."""
        if not self._health.connected:
            self._health.unsent += 1
            return
        if self._rights is not None:
            self.must_send(to.subject)
        self.broker.deliver(Sent(to.subject, to.channel.encode(message), _headers(), self._unheard_by))
        self._sent += 1
        if self._sent % YIELD_EVERY == 0:
            await asyncio.sleep(0)

    def subscribe(
        self, only: Pattern[M], *, queue: str = "", limit: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[Received[M] | Lost]]:
        """LATEST: hear from now on."""
        return Hearing(self, only, queue, limit)

    async def put(self, key: Address[M], value: M, *, revision: int | None = None) -> int:
        """STATE: write."""
        payload, what = key.channel.encode(value), f"put {key.subject}"
        self.must_send(wire_subject(key.channel, key.subject))
        bucket = await self._bucket(key, what)
        if revision is not None:
            held = bucket.value(key.subject)
            if (held.seq if held is not None else 0) != revision:
                raise StaleRevision(f"{what}: it is no longer at revision {revision}")
        written = bucket.write(key.subject, payload, _headers())
        if bucket.ttl:
            asyncio.get_running_loop().call_later(bucket.ttl, _expire, bucket, key.subject, written)
        await self._acknowledged(what, self._patience.call)
        return written

    async def get(self, key: Address[M]) -> Received[M] | None:
        """STATE: read."""
        bucket_name = bucket_of(key.channel).bucket
        self.must_send(direct_subject(bucket_stream(bucket_name), wire_subject(key.channel, key.subject)))
        entry = (await self._bucket(key, f"get {key.subject}")).value(key.subject)
        if entry is None:
            return None
        try:
            value = key.channel.decode(entry.payload or b"", key.subject)
        except WireError as error:
            self._health.poisoned(key.channel, key.subject, error, self.broker.now())
            raise
        return received(key.subject, value, entry.seq, entry.headers)

    async def delete(self, key: Address[M]) -> None:
        """STATE: remove."""
        self.must_send(wire_subject(key.channel, key.subject))
        bucket = await self._bucket(key, f"delete {key.subject}")
        if bucket.value(key.subject) is not None:
            bucket.write(key.subject, None, NO_HEADERS)

    def watch(self, only: Pattern[M]) -> AbstractAsyncContextManager[AsyncIterator[StateItem[M]]]:
        """STATE: keep up."""
        bucket_of(only.channel)
        return Watching(self, only)

    async def emit(self, to: Address[M], message: M, *, id: str) -> Stored:
        """EVENTS, WORK: store under a dedupe id."""
        payload, name = to.channel.encode(message), stream_of(to.channel).name
        self.must_send(to.subject)
        log: Log = await self._reach(self.broker.logs, name, f"store {to.subject}", self._patience.emit)
        outcome = log.append(to.subject, payload, _headers(), id=id)
        if isinstance(outcome, LostRace):
            raise PortError(f"emit {to.subject}: refused for its sequence, though none was expected")
        await self._acknowledged(f"store {to.subject}", self._patience.emit)
        return outcome

    def consume(
        self, only: Pattern[M], *, durable: str, ack_wait: Seconds = 30.0, batch: int = 64
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """EVENTS, WORK: each at least once."""
        stream_of(only.channel)
        return Consuming(self, only, durable, ack_wait, batch)

    async def append(self, to: Address[M], entry: M, *, seen: int, id: str) -> Stored | LostRace:
        """LEDGER: store if `seen` is still the last sequence of the subject."""
        payload, name = to.channel.encode(entry), stream_of(to.channel).name
        self.must_send(to.subject)
        log: Log = await self._reach(self.broker.logs, name, f"store {to.subject}", self._patience.call)
        outcome = log.append(to.subject, payload, _headers(), id=id, expected=seen)
        await self._acknowledged(f"store {to.subject}", self._patience.call)
        return outcome

    def follow(self, only: Pattern[M], *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[LedgerItem[M]]]:
        """LEDGER, EVENTS: replay, then live."""
        stream_of(only.channel)
        return Following(self, only, after)

    async def request(
        self, endpoint: Endpoint[Q, R], request: Q, *, timeout: Seconds | None = None, **tokens: str
    ) -> R:
        """Ask one responder."""
        subject, payload = endpoint.at(**tokens), encode(request)
        within = endpoint.timeout if timeout is None else timeout
        self.must_send(subject)
        if not self._health.connected:
            raise Unavailable(f"ask {subject}: not connected")
        present = [answering for bus, answering in self.broker.responders.get(subject, ()) if bus.health.connected]
        if not present:
            raise NoResponder(f"ask {subject}: nobody serves it")
        future: asyncio.Future[tuple[bytes, dict[str, str]]] = asyncio.get_running_loop().create_future()

        async def reply(payload: bytes, headers: dict[str, str]) -> None:
            if not future.done():
                future.set_result((payload, headers))

        present[self._sent % len(present)].take(payload, subject, reply)
        self._sent += 1
        self._asked.add(future)
        try:
            async with asyncio.timeout(within):
                return reply_of(endpoint, *await future, subject)
        except TimeoutError:
            raise Unavailable(f"ask {subject}: no answer in {within:g} s") from None
        finally:
            self._asked.discard(future)

    @asynccontextmanager
    async def serve(
        self, endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], **tokens: str
    ) -> AsyncIterator[None]:
        """Answer requests."""
        subject = endpoint.at(**tokens)
        self.must_hear(subject)
        async with asyncio.TaskGroup() as group:
            here = (self, Answering(endpoint, answer, group, self._health))
            self.broker.responders.setdefault(subject, []).append(here)
            try:
                yield
            finally:
                self.broker.responders[subject].remove(here)

    async def _acknowledged(self, what: str, within: Seconds) -> None:
        """A slow disk: it is stored, and that is said late, or too late for whoever waits."""
        if not self.broker.slow:
            return
        late = self.broker.random.uniform(0.0, max(self.broker.slow))
        await asyncio.sleep(min(late, within))
        if late > within:
            raise Unavailable(f"{what}: no answer in {within:g} s")

    def _must_make(self, name: str) -> None:
        if self._rights is not None and not self._rights.may_publish(create_subject(name)):
            raise Unavailable(f"{name} does not exist, and this connection may not make it")

    async def _bucket(self, key: Address[Any], what: str) -> Bucket:
        name = bucket_of(key.channel).bucket
        bucket: Bucket = await self._reach(self.broker.buckets, name, what, self._patience.call)
        return bucket


def _headers() -> Mapping[str, str]:
    context = current.get()
    return NO_HEADERS if context is None else {"traceparent": context.traceparent}


def _expire(bucket: Bucket, key: str, revision: int) -> None:
    held = bucket.value(key)
    if held is not None and held.seq == revision:
        bucket.write(key, None, NO_HEADERS)


async def _once(table: Mapping[str, T], name: str) -> T:
    while name not in table:  # noqa: ASYNC110  rare: a reader that is there before its stream
        await asyncio.sleep(0.5)
    return table[name]
