"""Drive one reflector over a Kube: `hear(lambda: reflected(...))`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any

from neap.common.errors import PortError
from neap.common.kube.port import Kube, Watched
from neap.common.runtime.clock import Clock
from neap.common.units import Seconds
from neap.gateway.core.hearing.following import (
    Begun,
    Broke,
    ChangeHeard,
    Ended,
    Listen,
    ListPage,
    Next,
    Opened,
    OpenWatch,
    PageRead,
    Passed,
    Say,
    Wait,
    What,
)
from neap.gateway.core.hearing.reflector import Reflector, Said


@asynccontextmanager
async def reflected(
    kube: Kube, clock: Clock, reflector: Reflector, gate: asyncio.Semaphore
) -> AsyncIterator[AsyncIterator[Said]]:
    """What a reflector says, while the context is open. `gate` bounds how many lists of all kinds run at once."""
    async with aclosing(_said(_Reader(kube, clock, reflector, gate), reflector, clock)) as said:
        yield said


async def _said(reader: _Reader, reflector: Reflector, clock: Clock) -> AsyncGenerator[Said, None]:
    what: What = Begun()
    try:
        while True:
            *said, do = reflector.handle(what, clock.now())
            for say in said:
                assert isinstance(say, Say)
                yield say.what
            assert not isinstance(do, Say)
            what = await reader.do(do)
    finally:
        await reader.close()


class _Reader:
    """Does what the reflector asks for; one watch is open at most."""

    def __init__(self, kube: Kube, clock: Clock, reflector: Reflector, gate: asyncio.Semaphore) -> None:
        self._kube, self._clock, self._kind, self._gate = kube, clock, reflector.kind, gate
        self._watch = AsyncExitStack()
        self._lines: AsyncIterator[Watched[Any]] | None = None
        self._next: asyncio.Future[Watched[Any] | None] | None = None

    async def do(self, asked: Next) -> What:
        try:
            if isinstance(asked, Listen):
                return await self._listen(asked.until)
            await self.close()
            match asked:
                case ListPage(limit=limit, token=token):
                    async with self._gate:
                        return PageRead(await self._kube.list(self._kind, limit=limit, token=token))
                case OpenWatch(version=version, within=within):
                    watch = self._kube.watch(self._kind, version=version, within=within)
                    self._lines = await self._watch.enter_async_context(watch)
                    return Opened()
                case Wait(until=until):
                    await self._clock.sleep_until(until)
                    return Passed()
        except PortError as error:
            return Broke(error)

    async def _listen(self, until: Seconds) -> What:
        """The next line, which stays asked for when the time is over first."""
        assert self._lines is not None
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._lines, None))
        left = max(0.0, until - self._clock.now()) / self._clock.speed
        done, _ = await asyncio.wait([self._next], timeout=left)
        if not done:
            return Passed()
        line, self._next = self._next.result(), None
        return Ended() if line is None else ChangeHeard(line)

    async def close(self) -> None:
        """End the open watch, if there is one."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        self._next = self._lines = None
        with suppress(PortError):  # it is over in any case
            await self._watch.aclose()
