"""A wire that delays: a TCP relay to a server that stalls now and then, and cuts connections when told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

CHUNK = 1 << 14
LONGEST = 0.3  # seconds of a stall


class SlowWire:
    """Relays from a port of its own to `port`, both on loopback; of all pieces a part (`stalls`) is held up."""

    def __init__(self, port: int, random: Random, stalls: float) -> None:
        self._to, self._random, self._stalls = port, random, stalls
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.stalls = self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """End every connection, whatever is on its way."""
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        self._open |= {writer, down}
        for source, sink in ((reader, down), (up, writer)):
            task = asyncio.ensure_future(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if self._random.random() < self._stalls:
                    self.stalls += 1
                    await asyncio.sleep(self._random.uniform(0.0, LONGEST))
                sink.write(data)
                await sink.drain()
        self._open.discard(sink)
        sink.transport.abort()
