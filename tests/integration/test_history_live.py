"""The history on a real server: an import arrives, a life ends, and the next one knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from neap.common.bus.nats import connect
from neap.common.contract.catalogue import CHANNELS, HISTORY, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.runtime.clock import wall_clock, wall_seconds
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from neap.console.shell.importing import import_history
from neap.planner.core.machine import PlannerMachine
from neap.planner.core.record import Record
from neap.planner.settings import Settings
from neap.planner.wiring import wire
from tests.conftest import SOON

FEED = "shop/Deployment/feed"
STEPS = 400


@asynccontextmanager
async def planner(url: str) -> AsyncIterator[Record]:
    """A life; yields what it remembers once it has read all of that: a record comes in several pages."""
    own = await connect(url, name="planner")
    await own.ensure(STREAMS, CHANNELS)
    stop, outside = asyncio.Event(), Outside(bus=own, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer())
    service = wire(Settings(), outside)
    running = asyncio.ensure_future(run_service(service, outside, stop=stop, count=lambda *_: None))
    machine = service.machine
    assert isinstance(machine, PlannerMachine)
    try:
        await until(lambda: machine.is_synced)
        yield machine._desks["history"]  # type: ignore[misc]
    finally:
        stop.set()
        await running
        await own.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_import_reaches_the_planner_and_outlives_it(tmp_path: Path) -> None:
    start = wall_seconds() - STEPS * 300
    values = [[start + 300 * i, str(1 + i % 7)] for i in range(STEPS)]
    labels = {"node": "n1", "namespace": "shop", "workload": "feed", "pod": "feed-a", "container": "main"}
    told = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}}
    (tmp_path / "usage.json").write_text(json.dumps(told))
    async with NatsServer() as server:
        async with planner(server.url) as record:
            assert "sent: 2 messages" in await import_history(tmp_path, server.url, is_dry=False)
            await until(lambda: record.total(FEED, "cpu") is not None and record.node("n1", "cpu") is not None)
            first, kept = record.total(FEED, "cpu"), record.container(FEED, "main")
            assert "sent: 0 messages" in await import_history(tmp_path, server.url, is_dry=False)
        bus = await connect(server.url, name="test")
        assert await bus.get(HISTORY.at(page="containers-0")) is not None
        await bus.close()
        async with planner(server.url) as record:
            await until(lambda: record.total(FEED, "cpu") is not None)
            again, container = record.total(FEED, "cpu"), record.container(FEED, "main")
            assert first is not None
            assert again is not None
            assert kept is not None
            assert container is not None
            assert list(again.values) == list(first.values)
            assert list(container.cpu.hours_max.values) == list(kept.cpu.hours_max.values)
            assert container.samples == kept.samples == STEPS
