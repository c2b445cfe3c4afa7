"""The Bus on NATS: five delivery words over one connection that reconnects for ever.

    bus = await connect("nats://127.0.0.1:4222", name="neap-reporter@n1")
    await bus.publish(NODE_USAGE.at(node="n1"), usage)

What each word does is in its module: nats_wire over nats_client (connection), nats_store (writing), nats_pull
(reading what is stored), nats_events and nats_state (readers).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from neap.common.bus import nats_state
from neap.common.bus.answer import encode, reply_of
from neap.common.bus.health import Health
from neap.common.bus.nats_events import Consuming, Following, Hearing, serving
from neap.common.bus.nats_state import Watching
from neap.common.bus.nats_store import MSG_ID, ensure, store, stored_behind
from neap.common.bus.nats_wire import Wire, open_wire
from neap.common.bus.patience import PATIENT, Patience
from neap.common.bus.port import Delivery, LedgerItem, Lost, LostRace, Received, StateItem, Stored
from neap.common.contract.channel import Address, Channel, Endpoint, Pattern, Stream
from neap.common.contract.subject import stream_of
from neap.common.errors import PortError
from neap.common.units import Seconds

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")


class NatsBus:
    """See module docstring and `neap.common.bus.port.Bus`. Made by `connect`."""

    def __init__(self, wire: Wire, patience: Patience, replicas: int) -> None:
        self._wire, self._patience, self._replicas = wire, patience, replicas

    @property
    def health(self) -> Health:
        """Live counters."""
        return self._wire.health

    async def ensure(self, streams: tuple[Stream, ...], channels: tuple[Channel[Any], ...]) -> None:
        """Create what the catalogue declares."""
        await ensure(self._wire, streams, channels, self._replicas, self._patience.ensure)

    async def close(self) -> None:
        """Flush and leave."""
        await self._wire.close()

    async def publish(self, to: Address[M], message: M) -> None:
        """LATEST: send and forget; dropped while away."""
        await self._wire.tell(to.subject, to.channel.encode(message))

    def subscribe(
        self, only: Pattern[M], *, queue: str = "", limit: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[Received[M] | Lost]]:
        """LATEST: hear from now on."""
        return Hearing(self._wire, only, queue, limit)

    async def put(self, key: Address[M], value: M, *, revision: int | None = None) -> int:
        """STATE: write."""
        return await nats_state.put(self._wire, key, value, revision, self._patience.call)

    async def get(self, key: Address[M]) -> Received[M] | None:
        """STATE: read."""
        return await nats_state.get(self._wire, key, self._patience.call)

    async def delete(self, key: Address[M]) -> None:
        """STATE: remove."""
        await nats_state.delete(self._wire, key, self._patience.call)

    def watch(self, only: Pattern[M]) -> AbstractAsyncContextManager[AsyncIterator[StateItem[M]]]:
        """STATE: keep up."""
        return Watching(self._wire, only)

    async def emit(self, to: Address[M], message: M, *, id: str) -> Stored:
        """EVENTS, WORK: store under a dedupe id."""
        stream_of(to.channel)
        payload = to.channel.encode(message)
        outcome = await store(self._wire, to.subject, payload, {MSG_ID: id}, expected=None, within=self._patience.emit)
        if isinstance(outcome, LostRace):
            raise PortError(f"emit {to.subject}: refused for its sequence, though none was expected")
        return outcome

    def consume(
        self, only: Pattern[M], *, durable: str, ack_wait: Seconds = 30.0, batch: int = 64
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """EVENTS, WORK: each at least once."""
        return Consuming(self._wire, only, durable, ack_wait, batch)

    async def append(self, to: Address[M], entry: M, *, seen: int, id: str) -> Stored | LostRace:
        """LEDGER: store if `seen` is still the last sequence of the subject."""
        stream, payload, within = stream_of(to.channel).name, to.channel.encode(entry), self._patience.call
        outcome = await store(self._wire, to.subject, payload, {MSG_ID: id}, expected=seen, within=within)
        if isinstance(outcome, LostRace):
            return await stored_behind(self._wire, stream, to.subject, seen, id, within) or outcome
        return outcome

    def follow(self, only: Pattern[M], *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[LedgerItem[M]]]:
        """LEDGER, EVENTS: replay, then live."""
        return Following(self._wire, only, after)

    async def request(
        self, endpoint: Endpoint[Q, R], request: Q, *, timeout: Seconds | None = None, **tokens: str
    ) -> R:
        """Ask one responder."""
        subject = endpoint.at(**tokens)
        within = endpoint.timeout if timeout is None else timeout
        reply = await self._wire.ask(subject, encode(request), within=within)
        return reply_of(endpoint, reply.data, reply.headers, subject)

    def serve(
        self, endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], **tokens: str
    ) -> AbstractAsyncContextManager[None]:
        """Answer requests."""
        return serving(self._wire, endpoint, endpoint.at(**tokens), answer)


async def connect(
    url: str,
    *,
    name: str,
    user: str | None = None,
    password: str | None = None,
    nkey_seed: str | None = None,
    tls: ssl.SSLContext | None = None,
    within: Seconds = 10.0,
    patience: Patience = PATIENT,
    replicas: int = 1,
    echo: bool = True,
) -> NatsBus:
    """Connect to NATS.

    Args:
        url: one server, or several with commas.
        name: shown by the server, and names the inbox; permissions are generated for exactly this name.
        user: with `password`, for servers that ask for both.
        password: see `user`.
        nkey_seed: path of the file with the seed.
        tls: trusted authorities and own certificate.
        within: seconds for the first connection; later ones are tried for ever.
        patience: seconds that calls try before they raise.
        replicas: copies of every stream and bucket `ensure` makes.
        echo: whether this connection hears what it publishes itself; stored messages are read as ever.

    Raises:
        Unavailable: nobody answers there. Denied: the credentials are refused. InputError: not a NATS address.
    """
    options: dict[str, Any] = {"user": user, "password": password, "nkeys_seed": nkey_seed, "tls": tls}
    options["no_echo"] = None if echo else True
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    return NatsBus(await open_wire(url, name, within=within, **given), patience, replicas)
