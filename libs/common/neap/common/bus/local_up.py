"""Events that wait for the uplink: in order, under their ids, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from neap.common.bus.alone import Alone
from neap.common.bus.health import LOG
from neap.common.bus.port import Bus
from neap.common.contract.channel import Address, Delivery
from neap.common.errors import NeapError, Unavailable
from neap.common.telemetry.span import SpanContext, current
from neap.common.units import Seconds

RETRY: Final[Seconds] = 0.1  # real seconds between attempts
AT_ONCE: Final[Seconds] = 2.0  # real seconds an event waits for the uplink's answer before it is kept (again)


@dataclass(frozen=True, slots=True)
class Kept:
    """One event, and under which trace it was told."""

    to: Address[Any]
    message: Any
    id: str
    context: SpanContext | None


@dataclass
class Events:
    """See module docstring. What was sent and not confirmed is sent again under its id, so it is stored once."""

    up: Callable[[], Bus | None]  # the uplink, while somebody is there
    now: Callable[[], Seconds]
    alone: Alone
    dropped: int = 0  # beyond `alone.kept`
    stale: int = 0  # commands older than `alone.work`
    _waiting: deque[Kept] = field(default_factory=deque)
    _under_way: int = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._under_way

    def keep(self, to: Address[Any], message: Any, id: str) -> None:
        """Behind all that wait, at the cost of the oldest."""
        if len(self._waiting) >= self.alone.kept:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(Kept(to, message, id, current.get()))

    async def drain(self) -> None:
        """Send all, one after the other; returns when none is left, or nobody is there."""
        while self._waiting and (bus := self.up()) is not None:
            kept, self._under_way = self._waiting.popleft(), 1
            try:
                if self._is_stale(kept):
                    self.stale += 1
                    LOG.warning("bus.stale: %s on %s is too old to be sent", kept.id, kept.to.subject)
                    continue
                current.set(kept.context)
                async with asyncio.timeout(AT_ONCE):
                    await bus.emit(kept.to, kept.message, id=kept.id)
            except (TimeoutError, Unavailable):
                self._waiting.appendleft(kept)
                await asyncio.sleep(RETRY)
            except NeapError as error:  # it can never be said
                self.dropped += 1
                LOG.warning("bus.refused: %s: %s", kept.id, error)
            finally:
                self._under_way = 0

    def _is_stale(self, kept: Kept) -> bool:
        return kept.to.channel.delivery is Delivery.WORK and self.now() - kept.message.at > self.alone.work
