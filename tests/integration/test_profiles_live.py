"""Profiles on a real NATS server: an imported past becomes profiles, and the console reads, predicts and sums them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, NODES, PAST, PLACEMENTS, PROFILES, STREAMS
from neap.common.errors import InputError
from neap.common.host.memory import MemoryHost
from neap.common.model.node import NodeObject
from neap.common.model.past import PastUsage
from neap.common.model.placement import Placed, Placement
from neap.common.model.profile import MACHINE_LABEL, MEMORY_BANDWIDTH, MachineType, Observation, ServiceProfile, Window
from neap.common.model.resource import CPU, MEMORY
from neap.common.runtime.clock import wall_clock, wall_seconds
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB, HOUR
from neap.console.core import profileview
from neap.console.shell.profiles import find_waste, predict, show_machine_types, show_profile
from neap.planner.core.profiling.settings import ProfilingSettings
from neap.planner.settings import Settings
from neap.planner.wiring import wire
from tests.conftest import SOON
from tests.unit.scheduler_world import an_owner

STEPS = 48 * 12
FEED, SEARCH = "shop/Deployment/feed", "shop/Deployment/search"


async def tell(bus: Bus) -> None:
    """Two days of two cores and 2 GiB of one service, its pod, a node, and what somebody says of another service."""
    now = wall_seconds() // HOUR * HOUR
    for resource, value in (("cpu", 2.0), ("memory", 2.0 * GIB)):
        line = PastUsage(
            at=now, source="t", namespace="shop", kind="Deployment", name="feed", resource=resource,
            start=now - STEPS * 300, step=300.0, values=(value,) * STEPS, container="main", replica="feed-0",
        )  # fmt: skip
        await bus.emit(PAST.at(namespace="shop"), line, id=resource)
    workload = an_owner("feed-0", cores=8, gib=8, owner="Deployment/feed")
    placement = Placement(workload=workload, charged=workload.requests)
    entry = Placed(at=now, source="t", node="n1", placement=placement, reason="")
    await bus.append(PLACEMENTS.at(node="n1"), entry, seen=0, id="placed")
    await bus.put(NODES.at(node="n1"), NodeObject(at=now, source="t", node="n1", labels={MACHINE_LABEL: "M1"}))
    seen = Observation(
        kind=MEMORY_BANDWIDTH, machine="M1", windows=(Window(start=now, containers={"main": 100e6}),), pod_hours=40
    )
    theirs = ServiceProfile(at=now, source="console", key=SEARCH, version="g1", observations=(seen,))
    await bus.put(PROFILES.at(namespace="shop", kind="Deployment", name="search"), theirs)


@asynccontextmanager
async def planner() -> AsyncIterator[tuple[str, Bus]]:
    async with NatsServer() as server:
        bus, own = await connect(server.url, name="test"), await connect(server.url, name="planner")
        await bus.ensure(STREAMS, CHANNELS)
        await tell(bus)
        machines = {"M1": {MEMORY_BANDWIDTH: 1000.0}, "M4": {MEMORY_BANDWIDTH: 3000.0}}
        settings = Settings(profiling=ProfilingSettings(period=0.2, again=0.2, machines=machines))
        stop, outside = asyncio.Event(), Outside(bus=own, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer())
        running = asyncio.ensure_future(run_service(wire(settings, outside), outside, stop=stop, count=lambda *_: None))
        try:
            yield server.url, bus
        finally:
            stop.set()
            await running
            await bus.close()
            await own.close()


async def known(url: str, name: str, *parts: str) -> str:
    """What the console says of a profile, once the planner knows all of it."""
    told = ""
    try:
        async with asyncio.timeout(SOON):
            while not all(part in told for part in parts):
                told, _ = await show_profile(name, url, "text")
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {SOON:g} s: {told}")
    return told


async def types(url: str) -> tuple[Mapping[str, MachineType], Mapping[str, Mapping[str, str]]]:
    """The table of machine types, once the planner has told it."""
    async with asyncio.timeout(SOON):
        while not (found := await show_machine_types(url))[0]:  # noqa: ASYNC110  another task tells it
            await asyncio.sleep(0.05)
    return found


async def test_an_imported_past_is_a_profile_that_the_console_reads_and_sums() -> None:
    async with planner() as (url, bus):
        await known(url, FEED, "cpu by hour", "memory by hour", "cpu p99", "memory p99")
        stored = await bus.get(PROFILES.at(namespace="shop", kind="Deployment", name="feed"))
        assert stored is not None
        assert len(stored.message.version) == 12
        assert stored.message.portrait[CPU] == (2000.0,) * 24
        assert min(stored.message.portrait[MEMORY]) >= 2 * GIB
        [row], _ = await find_waste(url, "cpu")
        assert (row.name, row.pods, row.asked, row.version) == (FEED, 1, 8000, stored.message.version)
        assert row.wasted == pytest.approx(6000, rel=0.05)
        with pytest.raises(InputError, match="cpu or memory"):
            await find_waste(url, "cards")


async def test_what_somebody_told_is_predicted_from_and_written_in_katalysts_words() -> None:
    async with planner() as (url, _):
        await known(url, SEARCH, "told by the console")
        machines, labels = await types(url)
        assert "100 000 000/core × 3 (3000 / 1000) × 8 = 2 400 000 000 bytes/s" in await predict(SEARCH, "M4", 8, url)
        text, is_known = await show_profile(SEARCH, url, "yaml")
        assert is_known
        assert 'usage: {memory_bandwidth-M1: "100", memory_bandwidth-M4: "300"}' in text
        rows = [line.split() for line in profileview.machine_types(machines, labels).splitlines()]
        assert ["M4", "3000", "0.333", "1", "0"] in rows
        told, is_known = await show_profile("shop/Deployment/nobody", url, "text")
        assert not is_known
        assert "profile: none" in told
        for name, cores in ((SEARCH, 0.0), ("shop/Deployment/nobody", 1.0)):
            with pytest.raises(InputError):
                await predict(name, "M4", cores, url)
