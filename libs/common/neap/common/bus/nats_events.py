"""LATEST, EVENTS, WORK and LEDGER as their readers see them, over one wire."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from neap.common.bus.answer import Answering
from neap.common.bus.nats_pull import (
    FIRST_RETRY,
    LAST_RETRY,
    NANO,
    Broken,
    Current,
    Pull,
    Restarted,
    Tail,
    call,
    encode,
    open_pull,
    position,
    refusal,
)
from neap.common.bus.nats_wire import Wire
from neap.common.bus.port import CaughtUp, Delivery, LedgerItem, Lost, Received
from neap.common.bus.reader import NO_HEADERS, Reader, received
from neap.common.contract.channel import Endpoint, Pattern
from neap.common.contract.subject import reader_subject, stream_of
from neap.common.errors import InputError, Unavailable, WireError
from neap.common.units import Seconds

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")

UNACKED: Final = 256  # at least this many messages of a durable may be in work before the server waits
REASON: Final = 256  # characters of a reason that travel with a term


class Hearing(Reader[Received[M] | Lost]):
    """LATEST: the newest `limit` messages; a Lost stands where older ones were."""

    def __init__(self, wire: Wire, only: Pattern[M], queue: str, limit: int) -> None:
        self._wire, self._only, self._queue = wire, only, queue
        self._waiting: deque[Msg] = deque(maxlen=max(limit, 1))
        self._limit = max(limit, 1)
        self._lost = 0
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Begin; everything published from now on is heard."""
        self._subscription = await self._wire.listen(self._only.subject, self._arrived, queue=self._queue)

    async def close(self) -> None:
        """End."""
        if self._subscription is not None:
            await self._wire.silence(self._subscription)

    async def __anext__(self) -> Received[M] | Lost:
        """The oldest message that is left."""
        channel = self._only.channel
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return Lost(lost)
            while self._waiting:
                message = self._waiting.popleft()
                try:
                    value = channel.decode(message.data, message.subject)
                except WireError as error:
                    now = asyncio.get_running_loop().time()
                    self._wire.health.poisoned(channel, message.subject, error, now)
                else:
                    return received(message.subject, value, 0, message.headers or NO_HEADERS)
            self._wake.clear()
            await self._wake.wait()

    def _arrived(self, message: Msg) -> None:
        if len(self._waiting) == self._limit:
            self._lost += 1
            self._wire.health.lost += 1
        self._waiting.append(message)
        self._wake.set()


class Taken(Delivery[M]):
    """A message of a durable consumer, to be answered once."""

    def __init__(self, wire: Wire, message: Msg, value: M) -> None:
        deliveries, seq, *_ = position(message)
        super().__init__(message.subject, value, seq, message.headers or {}, deliveries > 1)
        self._wire, self._reply = wire, message.reply

    async def ack(self) -> None:
        """Done."""
        await self._answer(b"+ACK")

    async def later(self, delay: Seconds) -> None:
        """Again after `delay`."""
        await self._answer(b"-NAK " + encode({"delay": max(1, int(delay * NANO))}))

    async def term(self, reason: str) -> None:
        """Never again."""
        await self._answer(b"+TERM " + reason[:REASON].encode())

    async def _answer(self, word: bytes) -> None:
        if not self._reply:
            raise InputError(f"{self.subject} ({self.seq}): it was acknowledged, postponed or terminated before")
        reply, self._reply = self._reply, ""
        await self._wire.send(reply, word)


class Consuming(Reader[Delivery[M]]):
    """A durable consumer; it outlives this reader, and what this reader did not answer comes back."""

    def __init__(self, wire: Wire, only: Pattern[M], durable: str, ack_wait: Seconds, batch: int) -> None:
        self._wire, self._only, self._durable, self._batch = wire, only, durable, batch
        self._stream = stream_of(only.channel).name
        self._config: dict[str, Any] = {
            "name": durable,
            "durable_name": durable,
            "filter_subject": only.subject,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait * NANO),
            "max_deliver": -1,
            "max_ack_pending": max(UNACKED, 4 * batch),
        }
        self._pull: Pull | None = None

    async def open(self) -> None:
        """Begin; learns at once if it may not, and waits if nobody is there."""
        if self._wire.health.connected:
            with suppress(Unavailable):
                self._pull = await self._bind()

    async def close(self) -> None:
        """End; what was fetched and not yet handed out goes back at once."""
        if self._pull is not None:
            pull, self._pull = self._pull, None
            with suppress(Unavailable):  # then it comes back after ack_wait
                for message in await pull.close():
                    await self._wire.send(message.reply, b"-NAK")

    async def __anext__(self) -> Delivery[M]:
        """The next message that can be decoded."""
        while True:
            pull = self._pull or await self._bound()
            try:
                message = await pull.take()
            except (Broken, Unavailable):
                await self.close()
                continue
            if message is None:
                continue
            try:
                return Taken(self._wire, message, self._only.channel.decode(message.data, message.subject))
            except WireError as error:
                now = asyncio.get_running_loop().time()
                self._wire.health.poisoned(self._only.channel, message.subject, error, now)
                await self._wire.send(message.reply, b"+TERM " + str(error)[:REASON].encode())

    async def _bound(self) -> Pull:
        delay = FIRST_RETRY
        while self._pull is None:
            try:
                await self._wire.present(f"consume {self._durable}", LAST_RETRY)
                self._pull = await self._bind()
            except Unavailable:
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY)
        return self._pull

    async def _bind(self) -> Pull:
        """Make the consumer, or find it as it is.

        Raises:
            Denied, Unavailable, or PortError naming stream and durable.
        """
        subject = reader_subject(self._stream, self._durable, self._only.subject)
        answer = await call(self._wire, subject, {"stream_name": self._stream, "config": self._config})
        if "error" in answer:
            if answer["error"].get("code") == 404:
                raise Unavailable(f"consume {self._stream}: it is not there (yet)")
            raise refusal(answer, f"consume {self._stream} as {self._durable}")
        return await open_pull(self._wire, self._stream, self._durable, self._batch, lasting=True)


class Following(Reader[LedgerItem[M]]):
    """Everything stored behind `after`, CaughtUp, then live; never twice."""

    def __init__(self, wire: Wire, only: Pattern[M], after: int) -> None:
        self._wire, self._channel = wire, only.channel
        self._tail = Tail(wire, stream_of(only.channel).name, only.subject, newest=False, after=after)

    async def open(self) -> None:
        """Begin; learns at once if it may not."""
        if self._wire.health.connected:
            await self._tail.start()

    async def close(self) -> None:
        """End."""
        await self._tail.close()

    async def __anext__(self) -> LedgerItem[M]:
        """The next entry."""
        while True:
            item = await self._tail.next()
            if isinstance(item, Current):
                return CaughtUp(item.seq)
            if isinstance(item, Restarted):
                continue
            try:
                value = self._channel.decode(item.data, item.subject)
            except WireError as error:
                self._wire.health.poisoned(self._channel, item.subject, error, asyncio.get_running_loop().time())
                if self._tail.is_current:
                    return CaughtUp(self._tail.where[1])
            else:
                return received(item.subject, value, self._tail.where[1], item.headers or NO_HEADERS)


@asynccontextmanager
async def serving(
    wire: Wire, endpoint: Endpoint[Q, R], subject: str, answer: Callable[[Q], Awaitable[R]]
) -> AsyncIterator[None]:
    """Answer requests until the context exits."""
    async with asyncio.TaskGroup() as group:
        answering = Answering(endpoint, answer, group, wire.health)

        def arrived(message: Msg) -> None:
            async def reply(payload: bytes, headers: dict[str, str]) -> None:
                await wire.send(message.reply, payload, "", headers or None)

            if message.reply:
                answering.take(message.data, message.subject, reply)

        subscription = await wire.listen(subject, arrived, queue=endpoint.serves)
        try:
            yield
        finally:
            await wire.silence(subscription)
