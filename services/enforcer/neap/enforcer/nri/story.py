"""What the client tells, as a source a service can hear.

stories = Stories()
client = NriClient(settings, clock, random, adjust, stories.add)
routes = (hear(lambda: stories.of(client.run)), ...)     # Heard(what=Joined | Lost | Adjusted | ...)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from neap.enforcer.nri.model import Told

HELD: Final = 4096  # stories nobody has read yet; then the oldest are lost


class Stories:
    """See module docstring."""

    def __init__(self) -> None:
        self._told: deque[Told] = deque(maxlen=HELD)
        self._news = asyncio.Event()

    def add(self, told: Told) -> None:
        """Never waits."""
        self._told.append(told)
        self._news.set()

    @asynccontextmanager
    async def of(self, run: Callable[[], Awaitable[Any]]) -> AsyncIterator[AsyncIterator[Told]]:
        """What is told while `run` runs, which is as long as the context is open; if it raises, so does the reader."""
        running = asyncio.ensure_future(run())
        running.add_done_callback(lambda _: self._news.set())
        try:
            yield self._read(running)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    async def _read(self, running: asyncio.Future[Any]) -> AsyncIterator[Told]:
        while not running.done() or self._told:
            await self._news.wait()
            self._news.clear()
            while self._told:
                yield self._told.popleft()
        running.result()
