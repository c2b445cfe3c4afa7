"""Keep what runs beside the machine so that SteadyKube stays steady: health probes, the shared limit, the metrics.

`hear(lambda: kept_steady(...))` says what has been counted, for the machine to pass on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import API_SHARES
from neap.common.errors import PortError
from neap.common.runtime.clock import Clock
from neap.common.runtime.machine import Count
from neap.common.units import Seconds
from neap.gateway.core.asking.api import ApiView
from neap.gateway.core.asking.flow import Flow
from neap.gateway.core.asking.share import Share
from neap.gateway.shell.steady import SteadyKube

COUNT_EVERY: Final[Seconds] = 5.0
CLUSTER: Final = "cluster"  # one bus is one cluster


@asynccontextmanager
async def kept_steady(
    steady: SteadyKube, view: ApiView, bus: Bus, clock: Clock
) -> AsyncIterator[AsyncIterator[tuple[Count, ...]]]:
    """Probe, share and count while the context is open."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(steady.probe()), group.create_task(keep_share(view.share, view.flow, bus, clock))]
        try:
            async with aclosing(_counted(view, clock)) as counted:
                yield counted
        finally:
            for task in tasks:
                task.cancel()


async def keep_share(share: Share, flow: Flow, bus: Bus, clock: Clock) -> None:
    """Renew this replica's part of the limits until cancelled, and give it back then."""
    key = API_SHARES.at(cluster=CLUSTER)
    try:
        while True:
            with suppress(PortError, TimeoutError):  # no bus, or somebody was faster: the part lapses by itself
                async with asyncio.timeout(share.settings.every / clock.speed):
                    now = await bus.get(key)
                    at = clock.now()
                    record = share.renewal(now.message if now is not None else None, at)
                    flow.share(share.part(at), at)
                    await bus.put(key, record, revision=now.seq if now is not None else 0)
                    share.renewed()
            flow.share(share.part(clock.now()), clock.now())
            await clock.sleep_until(share.next_turn(clock.now()))
    finally:
        with suppress(PortError, TimeoutError):
            async with asyncio.timeout(1.0):
                now = await bus.get(key)
                if now is not None:
                    await bus.put(key, share.farewell(now.message, clock.now()), revision=now.seq)


async def _counted(view: ApiView, clock: Clock) -> AsyncGenerator[tuple[Count, ...], None]:
    while True:
        yield view.counts(clock.now())
        await clock.sleep_until(clock.now() + COUNT_EVERY)
