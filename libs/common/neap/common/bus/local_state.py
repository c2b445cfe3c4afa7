"""What this process last said of STATE keys: heard here, and kept until the uplink has it.

A value is *withheld* from readers here while the server's first verdict on its key is awaited, and while the node has
been alone for too long. It *waits* until the uplink has confirmed it; then it has a revision, and only a greater one
can be news. A key somebody else has written since is *foreign*: it is left alone until this process says something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from neap.common.bus.local_up import RETRY
from neap.common.bus.port import Deleted, Received
from neap.common.bus.reader import received
from neap.common.contract.channel import Address, Channel, Pattern
from neap.common.contract.subject import covers, wire_subject
from neap.common.errors import NeapError, Unavailable
from neap.common.telemetry.span import SpanContext, current
from neap.common.units import Seconds

if TYPE_CHECKING:
    from neap.common.bus.local import LocalFirst

CONFIRMED: Final[Seconds] = 0.5  # real seconds a word that was heard here waits for the uplink's answer


@dataclass(slots=True)
class Own:
    """One value; see module docstring."""

    key: Address[Any]
    value: Any
    context: SpanContext | None
    revision: int  # of the last value of this key that the uplink has confirmed
    waits: bool = True
    withheld: bool = True
    is_foreign: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # by the uplink, whatever it said

    def item(self) -> Received[Any]:
        """As readers hear it."""
        return received(self.key.subject, self.value, self.revision, headers_of(self.context))


class Said:
    """See module docstring. `proven` are the subjects the server is known to allow."""

    def __init__(self, local: LocalFirst) -> None:
        self._local = local
        self._own: dict[str, Own] = {}  # by subject on the wire

    async def put(self, key: Address[Any], value: Any) -> int:
        """Say it; returns the last revision the uplink has confirmed."""
        local, place = self._local, wire_subject(key.channel, key.subject)
        before, is_up = self._own.get(place), local.is_up
        own = self._own[place] = Own(key, value, current.get(), before.revision if before is not None else 0)
        is_proven = place in local.proven
        if is_proven or not is_up:
            self._tell(own)
        local.raise_up(place, self.keep_stored(place))
        if is_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIRMED if is_proven else None):
                    await own.answered.wait()
            local.must_say(place)
            self._tell(own)
        return own.revision

    def forget(self, place: str) -> None:
        """Somebody else, or another word, decides what the key is."""
        self._own.pop(place, None)

    def unstored(self, place: str) -> Own | None:
        """What this process has said and nobody else can know; what it has said, while nobody else can be asked."""
        own = self._own.get(place)
        return own if own is not None and not own.is_foreign and (own.waits or not self._local.is_up) else None

    def all(self, only: Pattern[Any]) -> Iterator[Received[Any]]:
        """What readers of these keys have to hear first."""
        for own in self._own.values():
            if not own.is_foreign and not own.withheld and _matches(only, own.key):
                yield own.item()

    def resume(self) -> None:
        """Somebody is there again: what waits goes up, and what a server has lost goes up once more."""
        for place in self._own:
            self._local.raise_up(place, self.keep_stored(place))

    def is_news(self, channel: Channel[Any], item: Received[Any] | Deleted) -> bool:
        """Whether a change on the uplink is somebody else's, and newer than what this process has said of the key.

        While its own word is still on the way up it is going to replace whatever is there. A confirmed word that was
        sent twice has two revisions and one value.
        """
        own = self._own.get(wire_subject(channel, item.subject))
        if own is None:
            return True
        if (own.waits and not own.is_foreign) or item.seq <= own.revision:
            return False
        if isinstance(item, Received) and own.value == item.message and not own.is_foreign:
            own.revision = item.seq
            return False
        own.is_foreign = True
        return True

    async def keep_stored(self, place: str) -> None:
        """Until the uplink has what was last said of a key; if it had it, until it is sure that it still has."""
        bus = await self._local.reach()
        while (own := self._own.get(place)) is not None and not own.is_foreign:
            current.set(own.context)
            try:
                if not own.waits and await bus.get(own.key) is not None:
                    return
                revision = await bus.put(own.key, own.value)
            except Unavailable:
                own.answered.set()
                await asyncio.sleep(RETRY)
            except NeapError as error:
                self._local.refuse(place, error)
                self.forget(place)
                own.answered.set()
                return
            else:
                self._local.proven.add(place)
                newest = self._own.get(place, own)
                newest.revision = revision
                own.answered.set()
                if newest is own:
                    own.waits = False
                    self._tell(own)
                    return

    def _tell(self, own: Own) -> None:
        """To readers here, once; not while the node is alone for too long."""
        if not own.withheld or self._local.is_lost:
            return
        own.withheld = False
        if self._local.is_lawful(own.key, own.value):
            item = own.item()
            for reader in self._local.watching:
                if _matches(reader.only, own.key):
                    reader.take(item)


def headers_of(context: SpanContext | None) -> dict[str, str]:
    """As a message carries its trace."""
    return {} if context is None else {"traceparent": context.traceparent}


def _matches(only: Pattern[Any], key: Address[Any]) -> bool:
    return only.channel == key.channel and covers(only.subject, key.subject)
