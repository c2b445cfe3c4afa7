"""Reading JetStream: one consumer's messages, and an ordered reader that outlives consumers and servers.

A `Pull` is the unread part of one consumer. A `Tail` is an ordered reader of one stream and filter: it makes a
consumer under a random name, checks that its delivery numbers have no gap, and makes a new one behind the last
message seen whenever something is in doubt: a gap, silence, a reconnect, a consumer or a stream that is gone.

Named pull consumers with one filter are used throughout, because NATS can limit the right to create one to its
filter. A reader's consumer is never deleted by its reader (that right would cover everybody's); it expires.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from neap.common.bus.health import LOG
from neap.common.bus.nats_wire import Wire
from neap.common.contract.subject import inspect_subject, pull_subject, reader_subject
from neap.common.errors import NoResponder, PortError, Unavailable
from neap.common.units import MIB, Seconds

NANO: Final = 1_000_000_000
HEARTBEAT: Final[Seconds] = 5.0  # an idle consumer says so this often; silent twice as long, it is gone
REQUEST_LIFE: Final[Seconds] = 60.0
READER_LIFE: Final[Seconds] = 30.0  # an abandoned reader's consumer expires
CALL: Final[Seconds] = 2.0
FIRST_RETRY: Final[Seconds] = 0.05
LAST_RETRY: Final[Seconds] = 1.0
READ_AHEAD: Final = 256
BYTES_AHEAD: Final = 16 * MIB  # a server cuts off a connection for which it holds more than 64 MiB
COMPLAIN_EVERY: Final = 20  # failed attempts between two lines in the log
NO_RESOURCES: Final = 10023  # JetStream: "insufficient resources", a 503 that does not pass by itself
STREAM_OFFLINE: Final = 10118  # JetStream: a 500 that does

encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Broken(Exception):
    """The consumer can no longer be trusted to deliver; make it again."""


@dataclass(frozen=True)
class Restarted:
    """A tail begins (again)."""


@dataclass(frozen=True)
class Current:
    """A tail has delivered everything that was stored when it (re)started."""

    seq: int


async def call(
    wire: Wire,
    subject: str,
    request: Mapping[str, Any] | bytes | None,
    within: Seconds = CALL,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Ask JetStream; what it refuses stays in the answer under "error"."""
    payload = request if isinstance(request, bytes) else b"" if request is None else encode(request)
    try:
        answer = await wire.ask(subject, payload, within=within, headers=headers)
    except NoResponder:
        raise Unavailable(f"{subject}: no stream takes it, or JetStream is not enabled (yet)") from None
    return _decode(answer.data)


def refusal(answer: Mapping[str, Any], attempt: str) -> PortError:
    """JetStream's error as ours."""
    code, number, text = (answer["error"].get(key) for key in ("code", "err_code", "description"))
    passes = number == STREAM_OFFLINE or (code == 503 and number != NO_RESOURCES)
    kind = Unavailable if passes else PortError
    return kind(f"{attempt}: {text} (JetStream error {number})")


def position(message: Msg) -> tuple[int, int, int, int, int]:
    """(deliveries, stream sequence, consumer sequence, time in ns, left) from a delivered message's reply subject."""
    tokens = message.reply.split(".")
    start = 4 if len(tokens) == 9 else 6  # the longer form names domain and account first
    deliveries, seq, consumer_seq, at, left = tokens[start : start + 5]
    return int(deliveries), int(seq), int(consumer_seq), int(at), int(left)


class Pull:
    """Messages of one consumer; a batch is asked for when the one before is taken.

    A `lasting` consumer survives a reconnect and is asked again; any other is Broken by it.
    """

    def __init__(self, wire: Wire, stream: str, consumer: str, batch: int, *, lasting: bool) -> None:
        self._wire, self._next, self._lasting = wire, pull_subject(stream, consumer), lasting
        self._batch, self._open = batch, 0
        expires, beat = int(REQUEST_LIFE * NANO), int(HEARTBEAT * NANO)
        self._request = encode({"batch": batch, "max_bytes": BYTES_AHEAD, "expires": expires, "idle_heartbeat": beat})
        self._arrived: deque[Msg] = deque()
        self._reconnected = False
        self._wake = asyncio.Event()
        self._inbox = wire.new_inbox()
        self._subscription: Subscription | None = None
        self._forget = wire.on_reconnect(self._returned)

    async def open(self) -> None:
        """Hear the inbox."""
        self._subscription = await self._wire.listen(self._inbox, self._take)

    async def close(self) -> list[Msg]:
        """Hear no more; returns what arrived and was not taken."""
        self._forget()
        if self._subscription is not None:
            await self._wire.silence(self._subscription)
        return [message for message in self._arrived if message.reply]

    async def take(self) -> Msg | None:
        """The next message; None when the consumer says that there is none.

        Raises:
            Broken: the consumer is gone or silent.
        """
        while True:
            if self._reconnected:
                self._reconnected, self._open = False, 0
                if not self._lasting:
                    raise Broken("reconnected")
            while self._arrived:
                message = self._arrived.popleft()
                if message.reply:
                    self._open -= 1
                    return message
                if self._idle(message):
                    return None
            if self._open <= 0 and self._wire.health.connected:
                self._open = self._batch
                await self._wire.send(self._next, self._request, self._inbox)
            await self._wait()

    def _idle(self, message: Msg) -> bool:
        """Read a status: a heartbeat is True; an ended request is asked again; anything worse is Broken."""
        headers = message.headers or {}
        status, text = headers.get("Status", ""), headers.get("Description", "").strip().partition("\n")[0]
        if status == "100":
            return True
        if status in ("404", "408") or (status == "409" and "deleted" not in text.lower()):
            self._open = 0
            return False
        raise Broken(f"{self._next}: {status} {text}")

    async def _wait(self) -> None:
        self._wake.clear()
        if self._arrived or self._reconnected:
            return
        try:
            async with asyncio.timeout(2 * HEARTBEAT):
                await self._wake.wait()
        except TimeoutError:
            if self._wire.health.connected:
                raise Broken(f"{self._next}: silent for {2 * HEARTBEAT:g} s") from None

    def _take(self, message: Msg) -> None:
        self._arrived.append(message)
        self._wake.set()

    def _returned(self) -> None:
        self._reconnected = True
        self._wake.set()


async def open_pull(wire: Wire, stream: str, consumer: str, batch: int, *, lasting: bool) -> Pull:
    """A Pull that hears its inbox, or none at all."""
    async with AsyncExitStack() as undo:
        pull = Pull(wire, stream, consumer, batch, lasting=lasting)
        undo.push_async_callback(pull.close)
        await pull.open()
        undo.pop_all()
    return pull


class Tail:
    """See module docstring. `newest` starts from the newest message of every subject, else behind `after`."""

    def __init__(self, wire: Wire, stream: str, only: str, *, newest: bool, after: int = 0) -> None:
        self._wire, self._stream, self._only, self._newest, self._after = wire, stream, only, newest, after
        self._born = ""  # when the stream was made: another time means another stream
        self._pull: Pull | None = None
        self._expected = 1
        self._waiting = 0  # delivery number of the last message that was stored at the start; -1: current
        self._attempts = 0
        self.where = (0, 0, 0, 0, 0)  # `position` of the message that `next` returned last
        self._spread = random.Random(zlib.crc32(f"{wire.name} {stream} {only}".encode()))

    async def next(self) -> Msg | Restarted | Current:
        """For ever: Restarted, what is stored, Current, what comes, and again. May be cancelled and called again."""
        while self._pull is None:
            await self._pause()
            if await self.start():
                return Restarted()
        if self._waiting == self._expected - 1:
            return self._caught_up()
        try:
            while True:
                message = await self._pull.take()
                if message is None:
                    if self._waiting >= 0:
                        return self._caught_up()
                elif self._follows(message):
                    return message
        except (Broken, Unavailable) as error:
            LOG.debug("bus.reader: %s %s starts again: %s", self._stream, self._only, error)
            await self.close()
            return await self.next()

    @property
    def is_current(self) -> bool:
        """Whether everything stored at the start was delivered."""
        return self._waiting < 0

    async def start(self) -> bool:
        """Make a consumer; False if that must be tried again.

        Raises:
            Denied: this connection may not read there.
        """
        try:
            self._pull, self._waiting = await self._consumer()
        except (Broken, Unavailable) as error:
            self._attempts += 1
            if self._attempts % COMPLAIN_EVERY == 0:
                LOG.warning("bus.reader: %s %s waits: %s", self._stream, self._only, error)
            return False
        self._expected, self._attempts = 1, 0
        return True

    async def close(self) -> None:
        """Hear no more."""
        if self._pull is not None:
            pull, self._pull = self._pull, None
            await pull.close()

    def _caught_up(self) -> Current:
        self._waiting = -1
        return Current(self._after)

    def _follows(self, message: Msg) -> bool:
        """Whether a message is news; a gap before it is Broken."""
        self.where = _, seq, consumer_seq, _, left = position(message)
        if consumer_seq != self._expected:
            raise Broken(f"delivery {self._expected} is missing")
        self._expected += 1
        if left == 0 and self._waiting >= 0:
            self._waiting = consumer_seq
        news = self._newest or seq > self._after
        self._after = max(self._after, seq)
        return news

    async def _pause(self) -> None:
        """Wait for the connection, then a little: readers come back one after the other."""
        while not self._wire.health.connected:
            try:
                await self._wire.present(self._only, LAST_RETRY)
            except Unavailable:
                continue
        delay = min(FIRST_RETRY * 2 ** min(self._attempts, 10), LAST_RETRY)
        await asyncio.sleep(self._spread.uniform(0.0, 1.0) * delay)

    async def _consumer(self) -> tuple[Pull, int]:
        """A new consumer behind what was seen, and how many stored messages it will deliver."""
        await self._inspect()
        name = self._wire.nuid.next().decode()
        config: dict[str, Any] = {
            "name": name,
            "filter_subject": self._only,
            "ack_policy": "none",
            "deliver_policy": "last_per_subject",
            "inactive_threshold": int(READER_LIFE * NANO),
            "mem_storage": True,
            "num_replicas": 1,
        }
        if not self._newest:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._after + 1}
        subject = reader_subject(self._stream, name, self._only)
        answer = await call(self._wire, subject, {"stream_name": self._stream, "config": config})
        if "error" in answer:
            raise Broken(str(refusal(answer, f"read {self._stream} {self._only}")))
        pull = await open_pull(self._wire, self._stream, name, READ_AHEAD, lasting=False)
        return pull, int(answer.get("num_pending", 0))

    async def _inspect(self) -> None:
        """If the stream is another one than before, its sequences mean something else: read it from the first."""
        answer = await call(self._wire, inspect_subject(self._stream), None)
        if "error" in answer:
            raise Broken(str(refusal(answer, f"read {self._stream}")))
        born, before = str(answer["created"]), self._born
        self._born = born
        if (before and born != before) or self._after > int(answer["state"]["last_seq"]):
            LOG.warning("bus.reader: %s was made anew; reading it from its beginning", self._stream)
            self._after = 0
