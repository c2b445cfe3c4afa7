"""One NATS connection: send, ask, listen. Knows denials and reconnects, and nothing of channels.

What nats-py leaves to its user, measured with 2.16 against server 2.15:

- a denied publish is reported only to `error_cb`, lower-cased, while the caller runs into a time-out: `ask` fails
  its future at once, and the first `send` to a subject waits for the server to have seen it;
- `flush()` writes its PING ahead of what is still buffered, so it proves nothing: here PING keeps its place;
- a `flush()` that times out cancels its future, and the late PONG then ends the reading loop: here it does not;
- any `-ERR` but a permissions violation closes the client for good: here it reconnects;
- a subject that is not UTF-8, or headers that are none, end the reading loop: here they are odd, or missing;
- the answer to a request is lost with the connection: here the asker is told at once and may ask again.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import nats.errors
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from neap.common.bus.health import LOG, Health
from neap.common.bus.nats_client import WireClient
from neap.common.contract.subject import inbox_prefix
from neap.common.errors import Denied, InputError, NoResponder, Unavailable
from neap.common.telemetry.span import current
from neap.common.units import Seconds

PING_INTERVAL: Final = 15  # s; a half-open connection is noticed after two
FIRST_WAIT: Final[Seconds] = 0.1  # between attempts of the first connection
RETRY_FIRST: Final[Seconds] = 0.05
RETRY_LIMIT: Final[Seconds] = 1.0  # a client is back at most this long after its server
CLOSING: Final[Seconds] = 2.0
SUBJECTS_PROVEN: Final = 65_536  # subjects known to be allowed, before they are forgotten together
PENDING_REQUESTS: Final = 16_384
RESOLUTION: Final[Seconds] = 0.001  # of the loop's timers

_DENIAL: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"")


def next_attempt(name: str) -> Callable[[list[Server], dict[str, Any]], tuple[Server, Seconds]]:
    """Which server to try next and how long to wait first: doubling, capped, spread by the connection's name."""
    spread = random.Random(zlib.crc32(name.encode()))

    def choose(servers: list[Server], _: dict[str, Any]) -> tuple[Server, Seconds]:
        server = min(servers, key=lambda each: each.reconnects)
        delay = min(RETRY_FIRST * 2 ** min(server.reconnects, 10), RETRY_LIMIT)
        return server, delay * spread.uniform(0.5, 1.0)

    return choose


class _Asked(NamedTuple):
    future: asyncio.Future[Msg]
    subject: str
    deadline: Seconds  # of the loop
    within: Seconds


class Wire:
    """See module docstring. Made by `open_wire`."""

    def __init__(self, client: WireClient, name: str) -> None:
        self.health = Health()
        self.name = name
        self.nuid = client._nuid  # noqa: SLF001  the client's own source of unique names
        self._client = client
        self._inbox = ""
        self._asks = 0
        self._asked: dict[str, _Asked] = {}
        self._sweep: asyncio.TimerHandle | None = None  # one timer for all that was asked: one each is dear (measured)
        self._sweep_at = math.inf
        self._proven: set[str] = set()
        self._refused: set[str] = set()  # lower-cased, "publish x" or "subscription x"
        self._back = asyncio.Event()
        self._returns: dict[int, Callable[[], None]] = {}
        self._opening = True

    # -- callbacks of the client

    async def on_error(self, error: Exception) -> None:
        """Everything nats-py has nobody to raise to; what is raised here while it opens ends that.

        Raises:
            Denied: the server refuses the credentials of a first connection.
        """
        text = str(error).lower()
        denial = _DENIAL.search(text)
        if denial is not None:
            self.health.denied += 1
            self._refused.add(f"{denial[1]} {denial[2]}")
            self._proven.clear()
            LOG.warning("bus.denied: %s may not %s %s", self.name, denial[1], denial[2])
            if denial[1] == "publish":
                self._fail(lambda subject: subject.lower() == denial[2], Denied, "is not allowed")
        elif "authorization violation" in text and self._opening:
            raise Denied(f"connect as {self.name}: the server refuses these credentials")
        else:
            LOG.info("bus.connection: %s: %s", self.name, error)

    async def on_away(self) -> None:
        """The connection is lost: nobody will answer what was asked."""
        self.health.connected = False
        self._proven.clear()
        self._back.clear()
        self._fail(lambda _: True, Unavailable, "the connection was lost")

    async def on_return(self) -> None:
        """Connected again, perhaps with other rights."""
        self._refused.clear()
        self.health.reconnects += 1
        self._connected()
        for tell in tuple(self._returns.values()):
            tell()

    def _connected(self) -> None:
        self.health.connected = True
        self._back.set()

    # -- words

    async def present(self, attempt: str, within: Seconds) -> None:
        """Wait for the connection.

        Raises:
            Unavailable: it did not come back in time.
        """
        if self.health.connected:
            return
        try:
            async with asyncio.timeout(max(within, 0.0)):
                await self._back.wait()
        except TimeoutError:
            raise Unavailable(f"{attempt}: not connected to NATS") from None

    async def send(
        self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Fire and forget; while away, it waits in the client's bounded buffer.

        Raises:
            InputError: the payload is larger than the server takes. Unavailable: closed, or the buffer is full.
        """
        try:
            if self._client.write(subject, payload, reply, headers):
                await self._client.relieve()
        except nats.errors.Error as error:
            raise _error(f"send {subject}", error) from None

    async def tell(self, subject: str, payload: bytes) -> None:
        """Fire and forget, but learn of a missing right; dropped while away.

        Only the first message to a subject, and the first after a reconnect, waits until the server has judged it.
        """
        if subject in self._proven:
            await self.send(subject, payload, "", _traced(None))
        elif self.health.connected:
            await self._prove(subject, payload)
        else:
            self.health.unsent += 1

    async def _prove(self, subject: str, payload: bytes) -> None:
        refused = f"publish {subject.lower()}"
        if refused not in self._refused:
            await self.send(subject, payload, "", _traced(None))
            await self.barrier()
        if refused in self._refused:
            raise Denied(f"publish {subject}: this connection may not")
        if self.health.connected:
            if len(self._proven) >= SUBJECTS_PROVEN:
                self._proven.clear()
            self._proven.add(subject)

    async def ask(
        self, subject: str, payload: bytes, *, within: Seconds, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Request one answer.

        Raises:
            NoResponder, Denied, Unavailable.
        """
        if not self.health.connected:
            raise Unavailable(f"ask {subject}: not connected to NATS")
        if len(self._asked) >= PENDING_REQUESTS:
            raise Unavailable(f"ask {subject}: {PENDING_REQUESTS} requests are waiting already")
        self._asks += 1
        token, loop = str(self._asks), asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._asked[token] = _Asked(future, subject, loop.time() + within, within)
        self._expire_at(loop.time() + within)
        try:
            if self._client.write(subject, payload, f"{self._inbox}.{token}", _traced(headers)):
                with suppress(TimeoutError):  # then the answer is late as well
                    async with asyncio.timeout(within):
                        await self._client.relieve()
            answer = await future
        except nats.errors.Error as error:
            raise _error(f"ask {subject}", error) from None
        finally:
            del self._asked[token]
        if answer.headers and answer.headers.get("Status") == "503" and not answer.data:
            raise NoResponder(f"ask {subject}: nobody serves it")
        return answer

    async def listen(self, subject: str, arrived: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """Hear a subject from now on; `arrived` must be quick.

        Raises:
            Denied: this connection may not hear it.
        """
        subscription = await self._client.hear(subject, queue, arrived)
        await self.barrier()
        if f"subscription {subject.lower()}" in self._refused:
            await self.silence(subscription)
            self._refused.discard(f"subscription {subject.lower()}")
            raise Denied(f"subscribe {subject}: this connection may not")
        return subscription

    async def silence(self, subscription: Subscription) -> None:
        """Hear no more; never raises."""
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def barrier(self, within: Seconds = CLOSING) -> None:
        """Return once the server has judged everything sent so far; or give up, because it is away."""
        if self.health.connected:
            await self._client.barrier(within)

    def new_inbox(self) -> str:
        """A subject only this connection hears."""
        return self._client.new_inbox()

    def on_reconnect(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` after every reconnect, until the returned function is called."""
        key = id(tell)
        self._returns[key] = tell
        return lambda: void(self._returns.pop(key, None))

    async def open(self) -> None:
        """The connection stands: hear the answers."""
        self._opening = False
        self._connected()
        self._inbox = self.new_inbox()
        await self.listen(f"{self._inbox}.*", self._answered)

    async def close(self) -> None:
        """Flush and leave, bounded."""
        await self.barrier()
        self.health.connected = False
        self._fail(lambda _: True, Unavailable, "the bus was closed")
        if self._sweep is not None:
            self._sweep.cancel()
        with suppress(TimeoutError, nats.errors.Error, OSError):
            async with asyncio.timeout(CLOSING):
                await self._client.close()

    def _answered(self, message: Msg) -> None:
        asked = self._asked.get(message.subject[len(self._inbox) + 1 :])
        if asked is not None and not asked.future.done():
            asked.future.set_result(message)

    def _expire_at(self, deadline: Seconds) -> None:
        if deadline < self._sweep_at:
            if self._sweep is not None:
                self._sweep.cancel()
            self._sweep, self._sweep_at = asyncio.get_running_loop().call_at(deadline, self._expire), deadline

    def _expire(self) -> None:
        """Tell everybody whose time is over, and come again for the next one."""
        now = asyncio.get_running_loop().time() + RESOLUTION
        self._sweep, self._sweep_at = None, math.inf
        for asked in self._asked.values():
            if asked.deadline > now:
                self._expire_at(asked.deadline)
            elif not asked.future.done():
                asked.future.set_exception(Unavailable(f"ask {asked.subject}: no answer in {asked.within:g} s"))

    def _fail(self, concerns: Callable[[str], bool], kind: type[Exception], why: str) -> None:
        for asked in self._asked.values():
            if concerns(asked.subject) and not asked.future.done():
                asked.future.set_exception(kind(f"{asked.subject}: {why}"))


def _error(attempt: str, error: nats.errors.Error) -> InputError | Unavailable:
    """nats-py's error as ours."""
    too_large = isinstance(error, nats.errors.MaxPayloadError)
    return (InputError if too_large else Unavailable)(f"{attempt}: {error}")


def _traced(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """These headers, and the operation under which they are sent, if there is one."""
    context = current.get()
    return headers if context is None else {**(headers or {}), "traceparent": context.traceparent}


def void(_: object) -> None:
    """Drop a result."""


async def open_wire(url: str, name: str, *, within: Seconds, **options: Any) -> Wire:
    """Connect, within `within` seconds; from then on the wire reconnects for ever.

    Raises:
        Denied: the credentials are refused. Unavailable: nobody answers there. InputError: not a NATS address.
    """
    client = WireClient()
    wire = Wire(client, name)
    try:
        async with asyncio.timeout(within):
            await client.connect(
                servers=url.split(","),
                name=name,
                error_cb=wire.on_error,
                disconnected_cb=wire.on_away,
                reconnected_cb=wire.on_return,
                max_reconnect_attempts=-1,
                reconnect_time_wait=FIRST_WAIT,  # type: ignore[arg-type]  # nats-py says int and sleeps any number
                reconnect_to_server_handler=next_attempt(name),
                ping_interval=PING_INTERVAL,
                inbox_prefix=inbox_prefix(name),
                skip_subject_validation=True,  # channels escape their tokens
                **options,
            )
    except TimeoutError:
        why = client.last_error or "no answer"
        await _abandon(client)
        raise Unavailable(f"connect {url}: {why} (waited {within:g} s)") from None
    except (nats.errors.Error, ValueError) as error:
        raise InputError(f"connect {url}: {error}") from None
    except Denied:
        await _abandon(client)
        raise
    await wire.open()
    return wire


async def _abandon(client: Client) -> None:
    with suppress(AssertionError, TimeoutError, nats.errors.Error, OSError):
        async with asyncio.timeout(CLOSING):
            await client.close()
