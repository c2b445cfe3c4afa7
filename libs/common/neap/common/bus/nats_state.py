"""STATE over JetStream's key-value convention (ADR-8 of NATS), without nats-py's KV client.

nats-py's `watch` needs the right to read the whole bucket and is silent for 10 to 19 s after a server restart
(measured); here a watch is a Tail over the newest message of every key, which costs neither.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, TypeVar

from nats.aio.msg import Msg

from neap.common.bus.nats_pull import Current, Restarted, Tail
from neap.common.bus.nats_store import MSG_ID, store
from neap.common.bus.nats_wire import Wire
from neap.common.bus.patience import again
from neap.common.bus.port import CaughtUp, Deleted, LostRace, Received, StateItem
from neap.common.bus.reader import NO_HEADERS, Reader, received
from neap.common.contract.channel import Address, Pattern
from neap.common.contract.subject import bucket_of, bucket_stream, direct_subject, key_prefix
from neap.common.errors import NoResponder, StaleRevision, Unavailable, WireError
from neap.common.units import Seconds

M = TypeVar("M")

OPERATION: Final = "KV-Operation"
MARKER: Final = "Nats-Marker-Reason"  # written by the server when a key expires


def is_gone(headers: Mapping[str, str] | None) -> bool:
    """Whether the newest message of a key says that the key is no more."""
    return headers is not None and (headers.get(OPERATION) in ("DEL", "PURGE") or MARKER in headers)


async def newest(wire: Wire, key: Address[M], within: Seconds) -> Msg | None:
    """The newest message of a key, marker or value."""
    bucket = bucket_of(key.channel).bucket
    subject = direct_subject(bucket_stream(bucket), key_prefix(bucket) + key.subject)

    async def attempt(left: Seconds) -> Msg | None:
        try:
            message = await wire.ask(subject, b"", within=left)
        except NoResponder:
            raise Unavailable(f"{bucket} is not there (yet)") from None
        return message if message.headers and "Nats-Sequence" in message.headers else None

    return await again(wire.present, f"get {bucket}/{key.subject}", within, attempt)


async def get(wire: Wire, key: Address[M], within: Seconds) -> Received[M] | None:
    """The value now, or None.

    Raises:
        WireError: it cannot be decoded.
    """
    message = await newest(wire, key, within)
    if message is None or message.headers is None or is_gone(message.headers):
        return None
    try:
        value = key.channel.decode(message.data, key.subject)
    except WireError as error:
        wire.health.poisoned(key.channel, key.subject, error, asyncio.get_running_loop().time())
        raise
    return received(key.subject, value, int(message.headers["Nats-Sequence"]), message.headers)


async def put(wire: Wire, key: Address[M], value: M, revision: int | None, within: Seconds) -> int:
    """Write; a refusal is not believed if the newest message is our own, sent twice."""
    bucket = bucket_of(key.channel).bucket
    subject, payload = key_prefix(bucket) + key.subject, key.channel.encode(value)
    headers = {} if revision is None else {MSG_ID: wire.nuid.next().decode()}
    outcome = await store(wire, subject, payload, headers, expected=revision, within=within)
    if isinstance(outcome, LostRace):
        message = await newest(wire, key, within)
        found = (message.headers or NO_HEADERS) if message is not None else {}
        if found.get(MSG_ID) == headers[MSG_ID]:
            return int(found["Nats-Sequence"])
        if revision == 0 and is_gone(found):  # absent, but its marker has a sequence
            again_at = int(found["Nats-Sequence"])
            outcome = await store(wire, subject, payload, headers, expected=again_at, within=within)
    if isinstance(outcome, LostRace):
        raise StaleRevision(f"put {bucket}/{key.subject}: it is no longer at revision {revision}")
    return outcome.seq


async def delete(wire: Wire, key: Address[M], within: Seconds) -> None:
    """Write a marker, unless there is nothing to delete."""
    message = await newest(wire, key, within)
    if message is not None and not is_gone(message.headers):
        subject = key_prefix(bucket_of(key.channel).bucket) + key.subject
        await store(wire, subject, b"", {OPERATION: "DEL"}, expected=None, within=within)


class Watching(Reader[StateItem[M]]):
    """All values, CaughtUp, then changes; after a reconnect only what changed, also what was deleted meanwhile."""

    def __init__(self, wire: Wire, only: Pattern[M]) -> None:
        self._wire, self._channel = wire, only.channel
        bucket = bucket_of(only.channel).bucket
        self._prefix = len(key_prefix(bucket))
        self._tail = Tail(wire, bucket_stream(bucket), key_prefix(bucket) + only.subject, newest=True)
        self._known: dict[str, tuple[int, int]] = {}  # key -> revision and time of the value delivered
        self._unseen: dict[str, None] = {}  # keys known before a restart and not yet met again
        self._ready: deque[Deleted | CaughtUp] = deque()

    async def open(self) -> None:
        """Begin; learns at once if it may not."""
        if self._wire.health.connected:
            await self._tail.start()

    async def close(self) -> None:
        """End."""
        await self._tail.close()

    async def __anext__(self) -> StateItem[M]:
        """The next change."""
        while True:
            if self._ready:
                return self._ready.popleft()
            item = await self._tail.next()
            if isinstance(item, Restarted):
                self._unseen = dict.fromkeys(self._known)
            elif isinstance(item, Current):
                self._synced(item.seq)
            elif (change := self._change(item)) is not None:
                return change

    def _synced(self, seq: int) -> None:
        for key in self._unseen:
            del self._known[key]
            self._ready.append(Deleted(key, seq))
        self._unseen = {}
        self._ready.append(CaughtUp(seq))

    def _change(self, message: Msg) -> Received[M] | Deleted | None:
        _, revision, _, at, _ = self._tail.where
        key = message.subject[self._prefix :]
        self._unseen.pop(key, None)
        if is_gone(message.headers):
            return Deleted(key, revision) if self._known.pop(key, None) is not None else None
        if self._known.get(key) == (revision, at):
            return None
        self._known[key] = (revision, at)
        try:
            value = self._channel.decode(message.data, key)
        except WireError as error:
            self._wire.health.poisoned(self._channel, key, error, asyncio.get_running_loop().time())
            return None
        return received(key, value, revision, message.headers or NO_HEADERS)
