"""Take part in the election of the one gateway that writes: `hear(lambda: elected(...))`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from neap.common.errors import PortError, Unavailable, Vanished
from neap.common.kube.objects import LEASES, Lease
from neap.common.kube.port import Kube
from neap.common.runtime.clock import Clock
from neap.common.units import Seconds
from neap.gateway.core.asking.lease import (
    Elector,
    LeaseSettings,
    Leave,
    Look,
    Looked,
    Missed,
    Next,
    Role,
    Sleep,
    Tell,
    What,
    Woke,
    Write,
    Wrote,
)

SETTLE_WITHIN: Final[Seconds] = 5.0  # what is under way, and the release


async def _at_once() -> None:
    """Nothing is under way."""


@asynccontextmanager
async def elected(
    kube: Kube,
    clock: Clock,
    elector: Elector,
    settings: LeaseSettings,
    settled: Callable[[], Awaitable[None]] = _at_once,
) -> AsyncIterator[AsyncIterator[Role]]:
    """Who leads, as it changes and whenever it is renewed. The Lease is released when the context closes.

    From then on `elector.leads` is False, and the release waits for `settled`, which returns once nothing that was
    asked for as a leader is under way. What takes longer than SETTLE_WITHIN keeps the Lease until it lapses.
    """
    hands = _Hands(kube, clock, settings)
    try:
        async with aclosing(_roles(elector, hands, clock)) as roles:
            yield roles
    finally:
        *_, do = elector.handle(Leave(), clock.now())
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_WITHIN):
                await settled()
                if isinstance(do, Write):
                    await hands.do(do)


async def _roles(elector: Elector, hands: _Hands, clock: Clock) -> AsyncGenerator[Role, None]:
    what: What = Woke()
    while True:
        *said, do = elector.handle(what, clock.now())
        for tell in said:
            assert isinstance(tell, Tell)
            yield tell.role
        assert not isinstance(do, Tell)
        what = await hands.do(do)


class _Hands:
    """Reads and writes the Lease."""

    def __init__(self, kube: Kube, clock: Clock, settings: LeaseSettings) -> None:
        self._kube, self._clock, self._settings = kube, clock, settings

    async def do(self, asked: Next) -> What:
        try:
            match asked:
                case Look(by=by):
                    async with asyncio.timeout(self._left(by)):
                        return await self._look()
                case Write(lease=lease, by=by):
                    async with asyncio.timeout(self._left(by)):
                        return Wrote(await self._write(lease))
                case Sleep(until=until):
                    await self._clock.sleep_until(until)
                case None:
                    await asyncio.Event().wait()
        except TimeoutError:
            return Missed(Unavailable(f"lease {self._settings.name}: no answer in time"))
        except PortError as error:
            return Missed(error)
        return Woke()

    async def _look(self) -> Looked:
        try:
            lease = await self._kube.get(LEASES, self._settings.name, namespace=self._settings.namespace)
        except Vanished:
            return Looked(None)
        return Looked(lease)

    async def _write(self, lease: Lease) -> Lease:
        namespace = self._settings.namespace
        if not lease.metadata.resource_version:
            return await self._kube.create(LEASES, lease, namespace=namespace)
        return await self._kube.replace(LEASES, self._settings.name, lease, namespace=namespace)

    def _left(self, by: Seconds) -> Seconds:
        return max(0.0, by - self._clock.now()) / self._clock.speed
