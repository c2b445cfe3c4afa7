"""The readers of a LocalFirst bus: each has an ear in the process and, as soon as there is one, one on the uplink."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from neap.common.bus.port import Bus, CaughtUp, Deleted, Lost, Received, StateItem
from neap.common.bus.reader import Reader
from neap.common.contract.channel import Pattern
from neap.common.contract.subject import covers
from neap.common.errors import NeapError
from neap.common.units import Seconds

if TYPE_CHECKING:
    from neap.common.bus.local import LocalFirst

M = TypeVar("M")
T = TypeVar("T")
Open: TypeAlias = Callable[[Bus], AbstractAsyncContextManager[AsyncIterator[Any]]]


class Behind(Reader[T]):
    """A reader of the uplink, which may not be there yet. Subclasses add what is said in the process."""

    def __init__(self, local: LocalFirst, open_up: Open) -> None:
        self.local, self._open_up = local, open_up
        self._wake, self._opened = asyncio.Event(), asyncio.Event()
        self._pumping: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(1)  # what is heard waits in the uplink's reader, not here
        self._next: list[T] = []
        self._error: NeapError | None = None

    async def open(self) -> None:
        """Begin; learns at once if it may not, and waits if nobody is there."""
        self._pumping = self.local.start(self._pump())
        if self.local.uplink is not None:
            try:
                await self._opened.wait()
            finally:
                if not self._opened.is_set() or self._error is not None:
                    await self.close()
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """End."""
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.wait({self._pumping})

    async def heard(self, item: Any) -> None:
        """Something from the uplink."""
        await self._room.acquire()
        self._next.append(item)
        self._wake.set()

    def ready(self) -> T | None:
        """The next item, if there is one."""
        if not self._next:
            return None
        self._room.release()
        return self._next.pop()

    async def __anext__(self) -> T:
        """The next item."""
        while True:
            if (item := self.ready()) is not None:
                return item
            if self._error is not None:
                raise self._error
            self._wake.clear()
            await self._wake.wait()

    async def _pump(self) -> None:
        try:
            bus = await self.local.reach()
            async with self._open_up(bus) as items:
                self._opened.set()
                async for item in items:
                    await self.heard(item)
        except NeapError as error:
            self._error = error
            self._opened.set()
            self._wake.set()


class Hearing(Behind[Received[M] | Lost]):
    """LATEST: the newest `limit` messages from both sides; a Lost stands where older ones were."""

    def __init__(self, local: LocalFirst, only: Pattern[M], queue: str, limit: int) -> None:
        super().__init__(local, lambda bus: bus.subscribe(only, queue=queue, limit=limit))
        self._only, self._hears_own = only, not queue
        self._waiting: deque[Received[M]] = deque(maxlen=max(limit, 1))
        self._lost = 0

    async def open(self) -> None:
        """Begin."""
        await super().open()
        if self._hears_own:  # of a group, a member in another process may hear it: that is the uplink's business
            self.local.hearing[self] = None

    async def close(self) -> None:
        """End."""
        self.local.hearing.pop(self, None)
        await super().close()

    async def heard(self, item: Received[M] | Lost) -> None:
        """From the uplink."""
        if isinstance(item, Lost):
            self._lost += item.count
            self._wake.set()
        else:
            self.take(item)

    def take(self, item: Received[M]) -> None:
        """Keep a message, at the cost of the oldest."""
        if len(self._waiting) == self._waiting.maxlen:
            self._lost += 1
            self.local.health.lost += 1
        self._waiting.append(item)
        self._wake.set()

    def ready(self) -> Received[M] | Lost | None:
        """The oldest message that is left."""
        if self._lost:
            lost, self._lost = self._lost, 0
            return Lost(lost)
        return self._waiting.popleft() if self._waiting else None

    def wants(self, item: Received[Any]) -> bool:
        """Whether it is one of those asked for."""
        return covers(self._only.subject, item.subject)


class Watching(Behind[StateItem[M]]):
    """STATE: the newest value of every key from both sides; what this process said last stands (see `Own`)."""

    def __init__(self, local: LocalFirst, only: Pattern[M]) -> None:
        super().__init__(local, lambda bus: bus.watch(only))
        self.only = only
        self._waiting: dict[str, StateItem[M]] = {}  # by key, "" is CaughtUp; a newer value takes the older one's place
        self._synced = False
        self._since: Seconds = local.now()

    async def open(self) -> None:
        """Begin with what this process has said, and with what it says until the uplink's reader is open."""
        self._take_own()
        await super().open()
        self._take_own()
        self.local.watching[self] = None

    async def close(self) -> None:
        """End."""
        self.local.watching.pop(self, None)
        await super().close()

    async def heard(self, item: StateItem[M]) -> None:
        """From the uplink."""
        if isinstance(item, CaughtUp):
            self.caught_up(item)
        elif self.local.said.is_news(self.only.channel, item):
            self.take(item)

    def _take_own(self) -> None:
        for item in self.local.said.all(self.only):
            self.take(item)

    def take(self, item: Received[M] | Deleted) -> None:
        """A change."""
        self._waiting[item.subject] = item
        self._wake.set()

    def caught_up(self, item: CaughtUp) -> None:
        """Behind all values that came before."""
        self._synced = True
        self._waiting.pop("", None)
        self._waiting[""] = item
        self._wake.set()

    def look(self, now: Seconds) -> None:
        """Nobody is there to say what is stored: of channels said here, there is nothing more to wait for."""
        if not self._synced and now - self._since >= self.local.alone.start and self.local.said_here(self.only):
            self.caught_up(CaughtUp(0))

    def ready(self) -> StateItem[M] | None:
        """The next change."""
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
