"""Run one service: its routes feed the driver until it is asked to stop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, assert_never

from neap.common.bus.port import CaughtUp, Deleted, Delivery, Lost, Received
from neap.common.errors import InputError
from neap.common.runtime.driver import Driver
from neap.common.runtime.journal import Journal
from neap.common.runtime.machine import Arrived, Event, Gone, Heard, Missed, Synced, Tick
from neap.common.runtime.service import Consume, Every, Follow, Hear, On, Outside, Route, Serve, Service, Watch
from neap.common.units import Seconds

STOP_WITHIN: Final[Seconds] = 10.0
Counter = Callable[[str, float, dict[str, str]], None]


class Running:
    """A running service as its process sees it."""

    def __init__(
        self,
        service: Service,
        outside: Outside,
        *,
        count: Counter,
        journal: Journal | None = None,
        validate: bool = False,
    ) -> None:
        self.service = service
        self.driver = Driver(service, outside, count=count, journal=journal, validate=validate)
        self._outside = outside
        self._unsynced = {id(route): route for route in service.routes if isinstance(route, Watch | Follow)}
        self.ready = asyncio.Event()

    @property
    def waiting_for(self) -> list[str]:
        """Stored channels that have not been read to their end yet."""
        return sorted(f"{route.only.channel.delivery} {route.only.subject}" for route in self._unsynced.values())

    async def run(self, stop: asyncio.Event, *, within: Seconds = STOP_WITHIN) -> None:
        """Until `stop` is set; then no more input, the machine's last instructions, and out."""
        try:
            async with asyncio.TaskGroup() as group:
                driving = group.create_task(self.driver.run())
                feeding = [group.create_task(self._feed(route)) for route in self.service.routes]
                if not self._unsynced:
                    self.ready.set()
                await stop.wait()
                for task in feeding:
                    task.cancel()
                await self.driver.stop(within)
                driving.cancel()
        finally:
            if self.service.close is not None:
                await self.service.close()

    async def _feed(self, route: Route) -> None:
        bus = self._outside.bus
        match route:
            case Every():
                await self._keep_time(route)
            case Hear(source=source):
                async with source() as said:
                    async for what in said:
                        await self.driver.post(Heard(self._outside.clock.now(), what))
            case Serve(endpoint=endpoint, answer=answer, tokens=tokens):
                await _until_cancelled(bus.serve(endpoint, _asynchronous(answer), **tokens))
            case On(only=only, queue=queue, limit=limit):
                await self._pump(route, bus.subscribe(only, queue=queue, limit=limit))
            case Watch(only=only):
                await self._pump(route, bus.watch(only))
            case Follow(only=only):
                await self._pump(route, bus.follow(only))
            case Consume(only=only, durable=durable, ack_wait=ack_wait):
                await self._pump(route, bus.consume(only, durable=durable, ack_wait=ack_wait))
            case _:
                assert_never(route)

    async def _pump(self, route: On | Watch | Follow | Consume, source: AbstractAsyncContextManager[Any]) -> None:
        overtakes = route.overtakes if isinstance(route, On) else None
        async with source as items:
            async for item in items:
                delivery = item if isinstance(item, Delivery) else None
                await self.driver.post(self._event(route, item), delivery, overtakes)

    def _event(self, route: On | Watch | Follow | Consume, item: Any) -> Event:
        now, channel = self._outside.clock.now(), route.only.channel
        if isinstance(item, Received):
            trace = item.headers.get("traceparent", "") if item.headers else ""
            return Arrived(now, item.message, item.subject, item.seq, item.redelivered, trace)
        match item:
            case Deleted(subject=subject):
                return Gone(now, channel, subject)
            case Lost(count=count):
                return Missed(now, channel, count)
            case CaughtUp(seq=seq):
                self._unsynced.pop(id(route), None)
                if not self._unsynced:
                    self.ready.set()
                return Synced(now, channel, seq)
        raise TypeError(f"the bus said {item!r}")

    async def _keep_time(self, route: Every) -> None:
        clock = self._outside.clock
        if not route.period > 0:
            raise InputError(f"{self.service.name}: timer {route.name!r} has period {route.period}")
        beat = -math.inf
        while True:
            beat = max(beat + 1, math.floor((clock.now() - route.phase) / route.period) + 1)
            await clock.sleep_until(beat * route.period + route.phase)
            await self.driver.post(Tick(clock.now(), route.name))


async def _until_cancelled(context: AbstractAsyncContextManager[None]) -> None:
    async with context:
        await asyncio.Event().wait()


def _asynchronous(answer: Callable[[Any], Any]) -> Any:
    async def answered(request: Any) -> Any:
        return answer(request)

    return answered


async def run_service(
    service: Service,
    outside: Outside,
    *,
    stop: asyncio.Event,
    count: Counter,
    journal: Journal | None = None,
    within: Seconds = STOP_WITHIN,
) -> None:
    """Run a service to its end; for callers that need no view of it while it runs."""
    await Running(service, outside, count=count, journal=journal).run(stop, within=within)
