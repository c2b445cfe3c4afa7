"""The Bus port: five delivery words and request/reply, typed by the catalogue.

Every adapter keeps the promises of tests/contract/test_bus.py. All iterators are pull-shaped, bounded, and end
when their context exits. An adapter reconnects for ever; while it is away, calls raise Unavailable after their
deadline and iterators wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from neap.common.contract.channel import Address, Channel, Endpoint, Pattern, Stream
from neap.common.units import Seconds

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True)
class Received(Generic[M]):
    """One message. `seq` is the stream sequence or KV revision (0 for LATEST); `headers` carry trace context."""

    subject: str
    message: M
    seq: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    redelivered: bool = False


@dataclass(frozen=True)
class Deleted:
    """A STATE key is gone."""

    subject: str
    seq: int


@dataclass(frozen=True)
class CaughtUp:
    """Everything stored when the reader (re)connected has been delivered; what follows is live.

    A follower says so again in the place of an entry that cannot be read, so that nobody waits for that one.
    """

    seq: int


@dataclass(frozen=True)
class Lost:
    """A LATEST reader was too slow: this many messages were dropped since the last report."""

    count: int


class Delivery(Received[M]):
    """An EVENTS or WORK message: exactly one of the three must be called."""

    async def ack(self) -> None:
        """Done; never again."""
        raise NotImplementedError

    async def later(self, delay: Seconds) -> None:
        """Not now; deliver again after `delay`."""
        raise NotImplementedError

    async def term(self, reason: str) -> None:
        """Never again, and not because it is done."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stored:
    """A message was stored; `duplicate` says that its id was stored before, and nothing was added."""

    seq: int
    duplicate: bool = False


@dataclass(frozen=True)
class LostRace:
    """A ledger append came too late: the subject has moved past the expected sequence, to `last` (0: unknown)."""

    expected: int
    last: int = field(default=0, compare=False)


StateItem: TypeAlias = Received[M] | Deleted | CaughtUp
LedgerItem: TypeAlias = Received[M] | CaughtUp


class BusHealth(Protocol):
    """Counters and state an operator wants to see."""

    connected: bool
    reconnects: int
    lost: int  # LATEST messages dropped for slow readers
    unsent: int  # LATEST messages dropped because the connection was away
    poison: dict[str, int]  # undecodable messages by channel (its title)
    denied: int


class Bus(Protocol):
    """See module docstring. `headers` default to the current trace context."""

    @property
    def health(self) -> BusHealth:
        """Live counters."""
        ...

    async def ensure(self, streams: tuple[Stream, ...], channels: tuple[Channel[Any], ...]) -> None:
        """Create what the catalogue declares; idempotent, safe to run from every service at once."""
        ...

    async def close(self) -> None:
        """Flush and leave; bounded."""
        ...

    # LATEST
    async def publish(self, to: Address[M], message: M) -> None:
        """Send and forget; silently lost when nobody listens.

        Raises:
            Denied: this connection may not publish there.
        """
        ...

    def subscribe(
        self, only: Pattern[M], *, queue: str = "", limit: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[Received[M] | Lost]]:
        """Hear what is published from now on; at most `limit` wait, older ones are dropped and reported as Lost."""
        ...

    # STATE
    async def put(self, key: Address[M], value: M, *, revision: int | None = None) -> int:
        """Write; with `revision` only if the key still has it (0: only if absent). Returns the new revision.

        Raises:
            StaleRevision, Denied, Unavailable.
        """
        ...

    async def get(self, key: Address[M]) -> Received[M] | None:
        """The value now, or None."""
        ...

    async def delete(self, key: Address[M]) -> None:
        """Remove; no error when absent."""
        ...

    def watch(self, only: Pattern[M]) -> AbstractAsyncContextManager[AsyncIterator[StateItem[M]]]:
        """All matching values now, CaughtUp, then every change. After a reconnect: changed values, CaughtUp again.

        A value may be skipped if a newer one of its key is on the way; revisions of one key never go back.
        """
        ...

    # EVENTS, WORK
    async def emit(self, to: Address[M], message: M, *, id: str) -> Stored:
        """Store under a dedupe id; retried under the same id until acknowledged or the deadline passes.

        Raises:
            Denied, Unavailable.
        """
        ...

    def consume(
        self, only: Pattern[M], *, durable: str, ack_wait: Seconds = 30.0, batch: int = 64
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """Durable, at least once, in order but for redeliveries. Poison is terminated, counted and not delivered."""
        ...

    # LEDGER, and replay of EVENTS
    async def append(self, to: Address[M], entry: M, *, seen: int, id: str) -> Stored | LostRace:
        """Append if `seen` is still the last sequence of this subject (0: empty)."""
        ...

    def follow(self, only: Pattern[M], *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[LedgerItem[M]]]:
        """Everything stored after `after`, CaughtUp, then live; gap-free over reconnects, never twice."""
        ...

    # request/reply
    async def request(
        self, endpoint: Endpoint[Q, R], request: Q, *, timeout: Seconds | None = None, **tokens: str
    ) -> R:
        """Ask one responder.

        Raises:
            NoResponder at once when nobody serves; Unavailable after the timeout; InputError if the responder refused.
        """
        ...

    def serve(
        self, endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], **tokens: str
    ) -> AbstractAsyncContextManager[None]:
        """Answer requests, many at once; an error in `answer` is told to the asker as text, never lost."""
        ...
