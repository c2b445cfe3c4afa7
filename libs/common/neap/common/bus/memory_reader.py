"""The readers of a MemoryBus; each keeps its place, sleeps on one event, and rests while its bus is away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neap.common.bus.memory_store import Bucket, Durable, Entry, Filter, Log
from neap.common.bus.port import CaughtUp, Deleted, Delivery, LedgerItem, Lost, Received, StateItem
from neap.common.bus.reader import Reader, received
from neap.common.contract.channel import Channel, Pattern
from neap.common.contract.subject import key_prefix, reader_subject, stored_in
from neap.common.errors import InputError, WireError
from neap.common.units import Seconds

if TYPE_CHECKING:
    from neap.common.bus.memory_bus import MemoryBus

M = TypeVar("M")
T = TypeVar("T")

UNACKED: Final = 256  # as in the NATS adapter


class Sent:
    """A LATEST message on its way; decoded once, however many hear it."""

    __slots__ = ("channel", "headers", "payload", "subject", "unheard_by", "value")

    def __init__(
        self, subject: str, payload: bytes, headers: Mapping[str, str], unheard_by: MemoryBus | None = None
    ) -> None:
        self.subject, self.payload, self.headers, self.unheard_by = subject, payload, headers, unheard_by
        self.channel: Channel[Any] | None = None
        self.value: Any = None


class MemoryReader(Reader[T]):
    """What all of them share."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self._wake = asyncio.Event()
        self._woken = self._wake.set  # one object, so that it can be taken off a list again

    def returned(self) -> None:
        """The connection is back."""
        self._wake.set()

    async def open(self) -> None:
        """Begin."""
        self.bus.readers[self] = None

    async def close(self) -> None:
        """End."""
        self.bus.readers.pop(self, None)

    async def sleep(self, until: Seconds | None = None) -> None:
        """Wait to be woken, at most until a time of the loop."""
        self._wake.clear()
        if until is None:
            await self._wake.wait()
            return
        timer = asyncio.get_running_loop().call_at(until, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def decoded(self, channel: Channel[M], payload: bytes, subject: str) -> M | None:
        """The message, or None if it is poison (counted)."""
        try:
            return channel.decode(payload, subject)
        except WireError as error:
            self.bus.health.poisoned(channel, subject, error, self.bus.broker.now())
            return None


class Hearing(MemoryReader[Received[M] | Lost]):
    """LATEST."""

    def __init__(self, bus: MemoryBus, only: Pattern[M], queue: str, limit: int) -> None:
        super().__init__(bus)
        self._only, self.queue, self._limit = only, queue, max(limit, 1)
        self._waiting: deque[Sent] = deque(maxlen=self._limit)
        self._lost = 0

    async def open(self) -> None:
        """Begin."""
        self.bus.must_hear(self._only.subject)
        await super().open()
        self.bus.broker.latest.add(self._only.subject, self)

    async def close(self) -> None:
        """End."""
        await super().close()
        self.bus.broker.latest.remove(self)

    def take(self, sent: Sent) -> None:
        """Keep a message, at the cost of the oldest."""
        if len(self._waiting) == self._limit:
            self._lost += 1
            self.bus.health.lost += 1
        self._waiting.append(sent)
        self._wake.set()

    async def __anext__(self) -> Received[M] | Lost:
        """The oldest message that is left."""
        channel = self._only.channel
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return Lost(lost)
            while self._waiting:
                sent = self._waiting.popleft()
                if sent.channel is not channel:
                    sent.value, sent.channel = self.decoded(channel, sent.payload, sent.subject), channel
                if sent.value is not None:
                    return received(sent.subject, sent.value, 0, sent.headers)
            await self.sleep()


class Taken(Delivery[M]):
    """A message of a durable, to be answered once."""

    def __init__(self, bus: MemoryBus, durable: Durable, entry: Entry, deliveries: int, value: M) -> None:
        super().__init__(entry.subject, value, entry.seq, entry.headers, deliveries > 1)
        self._bus, self._durable, self._open = bus, durable, True

    async def ack(self) -> None:
        """Done; a fault may lose the word, so that the message comes back."""
        self._answer()
        if not self._bus.broker.loses_ack(self.subject):
            self._bus.when_here(lambda: self._durable.done(self.seq))

    async def later(self, delay: Seconds) -> None:
        """Again after `delay`."""
        self._answer()
        self._bus.when_here(lambda: self._durable.later(self.seq, delay))

    async def term(self, reason: str) -> None:  # noqa: ARG002  nobody reads it here
        """Never again."""
        self._answer()
        self._bus.when_here(lambda: self._durable.done(self.seq))

    def _answer(self) -> None:
        if not self._open:
            raise InputError(f"{self.subject} ({self.seq}): it was acknowledged, postponed or terminated before")
        self._open = False


class Consuming(MemoryReader[Delivery[M]]):
    """EVENTS, WORK."""

    def __init__(self, bus: MemoryBus, only: Pattern[M], durable: str, ack_wait: Seconds, batch: int) -> None:
        super().__init__(bus)
        self._only, self._name, self._ack_wait, self._most = only, durable, ack_wait, max(UNACKED, 4 * batch)
        self._durable: Durable | None = None

    async def open(self) -> None:
        """Begin."""
        self.bus.must_send(reader_subject(stored_in(self._only.channel), self._name, self._only.subject))
        await super().open()

    async def close(self) -> None:
        """End."""
        await super().close()
        if self._durable is not None:
            self._durable.log.wake.remove(self._woken)
            self._durable.wakes.remove(self._woken)

    async def __anext__(self) -> Delivery[M]:
        """The next message that can be decoded."""
        while True:
            durable = self._durable or await self._bound()
            taken = durable.take(self._most) if self.bus.health.connected else None
            if taken is None:
                await self.sleep(durable.next_due() if self.bus.health.connected else None)
                continue
            entry, deliveries = taken
            value = self.decoded(self._only.channel, entry.payload or b"", entry.subject)
            if value is not None:
                return Taken(self.bus, durable, entry, deliveries, value)
            durable.done(entry.seq)

    async def _bound(self) -> Durable:
        log = await self.bus.log(self._only.channel)
        durable = log.durables.get(self._name)
        if durable is None:
            durable = Durable(log, Filter(self._only.subject), self._ack_wait, self.bus.broker.now)
            log.durables[self._name] = durable
        log.wake.add(self._only.subject, self._woken)
        durable.wakes.append(self._woken)
        self._durable = durable
        return durable


class Following(MemoryReader[LedgerItem[M]]):
    """LEDGER, and replay of EVENTS."""

    def __init__(self, bus: MemoryBus, only: Pattern[M], after: int) -> None:
        super().__init__(bus)
        self._only, self._filter = only, Filter(only.subject)
        self._after = self._scanned = after
        self._log: Log | None = None
        self._stored: int | None = None  # last sequence when it (re)started; None: caught up

    async def open(self) -> None:
        """Begin."""
        self.bus.must_send(reader_subject(stored_in(self._only.channel), "reader", self._only.subject))
        await super().open()

    async def close(self) -> None:
        """End."""
        await super().close()
        if self._log is not None:
            self._log.wake.remove(self._woken)

    def returned(self) -> None:
        """Whatever is stored now counts as stored before CaughtUp."""
        if self._log is not None:
            self._stored = self._log.last
        super().returned()

    async def __anext__(self) -> LedgerItem[M]:
        """The next entry."""
        while True:
            log = self._log or await self._bound()
            entry = next(log.behind(self._scanned, self._filter), None) if self.bus.health.connected else None
            if self._stored is not None and self.bus.health.connected and (entry is None or entry.seq > self._stored):
                self._stored = None
                return CaughtUp(self._after)
            if entry is None:
                if self.bus.health.connected:
                    self._scanned = max(self._scanned, log.last)
                await self.sleep()
                continue
            self._after = self._scanned = entry.seq
            value = self.decoded(self._only.channel, entry.payload or b"", entry.subject)
            if value is not None:
                return received(entry.subject, value, entry.seq, entry.headers)
            if self._stored is None:
                return CaughtUp(self._after)

    async def _bound(self) -> Log:
        log = await self.bus.log(self._only.channel)
        log.wake.add(self._only.subject, self._woken)
        self._log, self._stored = log, log.last
        return log


class Watching(MemoryReader[StateItem[M]]):
    """STATE: keys whose newest value was not delivered yet, in the order of their revisions."""

    def __init__(self, bus: MemoryBus, only: Pattern[M]) -> None:
        super().__init__(bus)
        self._only, self._filter = only, Filter(only.subject)
        self._bucket: Bucket | None = None
        self._news: dict[str, None] = {}
        self._known: dict[str, int] = {}
        self._hears = self._changed
        self._stored: int | None = None  # last revision when it (re)started; None: caught up

    async def open(self) -> None:
        """Begin."""
        prefix = key_prefix(stored_in(self._only.channel).removeprefix("KV_"))
        self.bus.must_send(reader_subject(stored_in(self._only.channel), "reader", prefix + self._only.subject))
        await super().open()

    async def close(self) -> None:
        """End."""
        await super().close()
        if self._bucket is not None:
            self._bucket.changed.remove(self._hears)

    def returned(self) -> None:
        """Compare everything again."""
        if self._bucket is not None:
            self._compare(self._bucket)
        super().returned()

    async def __anext__(self) -> StateItem[M]:
        """The next change."""
        while True:
            bucket = self._bucket or await self._bound()
            if not self.bus.health.connected:
                await self.sleep()
                continue
            key = next(iter(self._news), None)
            if self._stored is not None and (key is None or bucket.entries[key].seq > self._stored):
                seq, self._stored = self._stored, None
                return CaughtUp(seq)
            if key is None:
                await self.sleep()
                continue
            del self._news[key]
            change = self._change(bucket.entries[key])
            if change is not None:
                return change

    def _change(self, entry: Entry) -> Received[M] | Deleted | None:
        known = self._known.get(entry.subject)
        if entry.payload is None:
            return Deleted(entry.subject, entry.seq) if self._known.pop(entry.subject, None) is not None else None
        if known == entry.seq:
            return None
        self._known[entry.subject] = entry.seq
        value = self.decoded(self._only.channel, entry.payload, entry.subject)
        return None if value is None else received(entry.subject, value, entry.seq, entry.headers)

    def _changed(self, key: str) -> None:
        if self.bus.health.connected:
            self._news.pop(key, None)
            self._news[key] = None
            self._wake.set()

    def _compare(self, bucket: Bucket) -> None:
        self._news = {key: None for key in bucket.entries if self._filter(key)}
        self._stored = bucket.last

    async def _bound(self) -> Bucket:
        bucket = await self.bus.bucket(self._only.channel)
        bucket.changed.add(self._only.subject, self._hears)
        self._bucket = bucket
        self._compare(bucket)
        return bucket
