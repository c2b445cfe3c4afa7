"""`neap recommend` on a real NATS server: the table, one service, a figure, applied and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, PAST, PLACEMENTS, RESIZES, STREAMS
from neap.common.errors import InputError
from neap.common.host.memory import MemoryHost
from neap.common.model.past import PastUsage
from neap.common.model.placement import Placed, Placement
from neap.common.model.recommendation import Recommendation, Resize
from neap.common.runtime.clock import wall_clock, wall_seconds
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB, HOUR
from neap.console.core import sizeview
from neap.console.shell.recommending import Ask, recommendations
from neap.planner.core.sizing.settings import SizingSettings
from neap.planner.settings import Settings
from neap.planner.wiring import wire
from tests.conftest import SOON
from tests.unit.scheduler_world import an_owner

STEPS = 48 * 12


async def tell(bus: Bus) -> None:
    """Two days of two cores and 2 GiB, and one replica."""
    now = wall_seconds() // HOUR * HOUR
    for resource, value in (("cpu", 2.0), ("memory", 2.0 * GIB)):
        line = PastUsage(
            at=now, source="t", namespace="shop", kind="Deployment", name="feed", resource=resource,
            start=now - STEPS * 300, step=300.0, values=(value,) * STEPS, container="main",
        )  # fmt: skip
        await bus.emit(PAST.at(namespace="shop"), line, id=resource)
    workload = an_owner("feed-0", cores=8, gib=8, owner="Deployment/feed")
    placed = Placed(
        at=now, source="t", node="n1", placement=Placement(workload=workload, charged=workload.requests), reason=""
    )
    await bus.append(PLACEMENTS.at(node="n1"), placed, seen=0, id="placed")


@asynccontextmanager
async def planner() -> AsyncIterator[tuple[str, Bus]]:
    """A server, a planner on it, and a past."""
    async with NatsServer() as server:
        bus, own = await connect(server.url, name="test"), await connect(server.url, name="planner")
        await bus.ensure(STREAMS, CHANNELS)
        await tell(bus)
        stop, outside = asyncio.Event(), Outside(bus=own, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer())
        settings = Settings(sizing=SizingSettings(period=0.2, every=0.2))
        running = asyncio.ensure_future(run_service(wire(settings, outside), outside, stop=stop, count=lambda *_: None))
        try:
            yield server.url, bus
        finally:
            stop.set()
            await running
            await bus.close()
            await own.close()


async def known(ask: Ask) -> Recommendation:
    """The recommendation, once there is a target."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                found, _ = await recommendations(ask)
                if found[0].containers:
                    return found[0]
            except InputError:
                pass
            await asyncio.sleep(0.1)


async def test_the_console_reads_draws_applies_and_takes_back(tmp_path: Path) -> None:
    figure = tmp_path / "feed.svg"
    async with planner() as (url, bus):
        ask = Ask("deploy/feed", "shop", nats=url)
        told = await known(ask)
        assert "request cpu     8 cores -> 2." in sizeview.text(told)
        table, _ = await recommendations(Ask(nats=url))
        assert "1 services" in sizeview.table(table)
        [applied], says = await recommendations(Ask("deploy/feed", "shop", apply=True, figure=figure, nats=url))
        assert applied.state == "applying"
        assert "asked for" in says
        assert "main: cpu" in figure.read_text()
        with pytest.raises(InputError, match="under way"):
            await recommendations(Ask("deploy/feed", "shop", apply=True, nats=url))
        [undone], _ = await recommendations(Ask("deploy/feed", "shop", undo=True, nats=url))
        assert undone.state == "rolled back"
        heard: list[Resize] = []
        async with asyncio.timeout(SOON), bus.consume(RESIZES.only(), durable="gateway") as items:
            async for item in items:
                heard.append(item.message)
                await item.ack()
                if len(heard) == 2:
                    break
        assert [one.version.startswith("undo ") for one in heard] == [False, True]
        with pytest.raises(InputError, match="nothing is recommended"):
            await recommendations(Ask("deploy/none", "shop", nats=url))
