"""The bus: from publish to a typed handler, against nats-py from publish to a callback with the same bytes.

Both sides publish a window of messages and wait until all have arrived, each over two connections of its own to one
nats-server, on the loop the services run on. Ours encodes a Struct and hands a decoded one over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, NODE_USAGE, STREAMS
from neap.common.model.usage import NodeUsage
from neap.common.testing.natsd import NatsServer
from tests.bench.measure import AsyncWork, Row, async_race, async_rate
from tests.bench.samples import a_small_usage, a_usage

WINDOW = 250
GOAL = 0.6


async def rows() -> AsyncIterator[Row]:
    async with NatsServer() as server:
        for message, times, name in (
            (a_small_usage("n1"), 40, "300 bytes"),
            (a_usage("n1"), 8, "report of 20 containers"),
        ):
            size = len(NODE_USAGE.encode(message))
            sender, hearer = (
                await connect(server.url, name="neap-bench-a"),
                await connect(server.url, name="neap-bench-b"),
            )
            async with (
                _typed(sender, hearer, message, times) as ours,
                _raw(server.url, NODE_USAGE.encode(message), times) as theirs,
            ):
                value, rival_value, ratio = await async_race(ours, theirs, rounds=7)
            yield Row(
                name=f"bus: publish to typed handler, {name} ({size} B)", value=value, unit="messages/s",
                rival="nats-py, same bytes to a callback", rival_value=rival_value, ratio=ratio, at_least=GOAL,
            )  # fmt: skip
    broker = MemoryBroker()
    message = a_usage("n1")
    async with _typed(broker.bus("a"), broker.bus("b"), message, 8) as work:
        yield Row(name="bus in memory: the same report", value=await async_rate(work), unit="messages/s")


@asynccontextmanager
async def _typed(sender: Bus, hearer: Bus, message: NodeUsage, times: int) -> AsyncIterator[AsyncWork]:
    await sender.ensure(STREAMS, CHANNELS)
    to = NODE_USAGE.at(node="n1")
    heard = _Heard()

    async def listen(items: Any) -> None:
        async for item in items:
            match item:
                case Received(message=NodeUsage() as usage):
                    heard.take(usage)
                case _:
                    raise RuntimeError(f"the bench was too fast for its own reader: {item}")

    async def work() -> int:
        for _ in range(times):
            heard.expect(WINDOW)
            for _ in range(WINDOW):
                await sender.publish(to, message)
            await heard.all()
        return times * WINDOW

    async with hearer.subscribe(NODE_USAGE.only(), limit=2 * WINDOW) as items:
        listening = asyncio.ensure_future(listen(items))
        try:
            yield work
        finally:
            listening.cancel()
            await sender.close()
            await hearer.close()


@asynccontextmanager
async def _raw(url: str, payload: bytes, times: int) -> AsyncIterator[AsyncWork]:
    sender, hearer = await nats.connect(url), await nats.connect(url)
    heard = _Heard()

    async def take(message: Any) -> None:
        heard.take(message)

    async def work() -> int:
        for _ in range(times):
            heard.expect(WINDOW)
            for _ in range(WINDOW):
                await sender.publish("neap.v1.node.n1.usage", payload)
            await heard.all()
        return times * WINDOW

    await hearer.subscribe("neap.v1.node.*.usage", cb=take)
    await hearer.flush()
    try:
        yield work
    finally:
        await sender.close()
        await hearer.close()


class _Heard:
    """Counts what arrives, and tells when it is enough."""

    def __init__(self) -> None:
        self._left = 0
        self._done = asyncio.Event()

    def expect(self, count: int) -> None:
        self._left = count
        self._done.clear()

    def take(self, _: Any) -> None:
        self._left -= 1
        if not self._left:
            self._done.set()

    async def all(self) -> None:
        async with asyncio.timeout(30):
            await self._done.wait()
