"""The planner as a service: a past is told, a size recommended, applied on wish, all over a bus in memory."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import APPLY, CHANNELS, PAST, PLACEMENTS, RECOMMENDATIONS, RESIZED, RESIZES, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.model.past import PastUsage
from neap.common.model.placement import Placed, Placement
from neap.common.model.recommendation import ApplyRequest, Recommendation, Resize, Resized
from neap.common.model.resource import CPU
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate
from neap.common.units import DAY, GIB
from neap.planner.core.sizing.settings import SizingSettings
from neap.planner.settings import Settings
from neap.planner.wiring import wire
from tests.unit.scheduler_world import an_owner

FEED: dict[str, Any] = {"namespace": "shop", "kind": "Deployment", "name": "feed"}
EPOCH = 1_724_342_400.0


async def stored(bus: Bus) -> Recommendation | None:
    """What is recommended now."""
    found = None
    async with bus.watch(RECOMMENDATIONS.only(**FEED)) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                found = item.message
    return found


async def a_past(bus: Bus) -> None:
    """Seven days of two cores at noon and one at midnight, 2 GiB, in five-minute means; and two replicas that run now."""
    count = int(7 * DAY / 300)
    start = EPOCH - count * 300
    for resource, values in (
        ("cpu", [1.5 + 0.5 * math.sin(2 * math.pi * index / 288) for index in range(count)]),
        ("memory", [2.0 * GIB] * count),
    ):
        line = PastUsage(
            at=EPOCH, source="t", resource=resource, start=start, step=300.0, values=tuple(values), container="main", **FEED
        )  # fmt: skip
        await bus.emit(PAST.at(namespace="shop"), line, id=f"past-{resource}")
    for index in range(2):
        workload = an_owner(f"feed-{index}", cores=8, gib=8, owner="Deployment/feed")
        placement = Placement(workload=workload, charged=workload.requests)
        entry = Placed(at=EPOCH, source="t", node="n1", placement=placement, reason="")
        await bus.append(PLACEMENTS.at(node="n1"), entry, seen=index, id=f"placed-{index}")


async def live() -> dict[str, Any]:
    """A minute of the planner."""
    broker, stop = MemoryBroker(), asyncio.Event()
    bus, planner, gateway = broker.bus("neap-console"), broker.bus("neap-planner"), broker.bus("neap-gateway")
    await bus.ensure(STREAMS, CHANNELS)
    await a_past(bus)
    outside = Outside(
        bus=planner, clock=loop_clock(asyncio.get_running_loop(), epoch=EPOCH), host=MemoryHost(), tracer=NoTracer()
    )
    settings = Settings(sizing=SizingSettings(period=1.0, every=10.0, guard=20.0))
    seen: dict[str, Any] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(run_service(wire(settings, outside), outside, stop=stop, count=lambda *_: None))
        await asyncio.sleep(30)
        seen["first"] = await stored(bus)
        seen["shown"] = await bus.request(APPLY, ApplyRequest(**FEED, show=True))
        seen["answer"] = await bus.request(APPLY, ApplyRequest(**FEED))
        async with gateway.consume(RESIZES.only(), durable="gateway") as items:
            async for item in items:
                seen["resize"] = item.message
                await item.ack()
                break
        done = Resized(at=EPOCH + 31, source="g", version=seen["resize"].version, outcome="done", uid="feed-0", **FEED)
        await gateway.emit(RESIZED.at(namespace="shop", name="feed"), done, id="done")
        await asyncio.sleep(5)
        seen["under way"] = await stored(bus)
        seen["again"] = await bus.request(APPLY, ApplyRequest(**FEED))
        await asyncio.sleep(25)
        seen["settled"] = await stored(bus)
        seen["undo"] = await bus.request(APPLY, ApplyRequest(**FEED, undo=True))
        await asyncio.sleep(2)
        seen["last"] = await stored(bus)
        stop.set()
    return seen


def test_a_past_becomes_a_size_and_a_wish_a_change_that_is_watched() -> None:
    seen = simulate(live())
    first = seen["first"]
    [size] = first.containers
    assert first.replicas == 2
    assert {each.resource: each.now for each in size.requests} == {"cpu": 8000, "memory": 8 * GIB}
    target = next(each.target for each in size.requests if each.resource == CPU)
    assert 2000 <= target <= 2400  # p90 is 1.98
    assert first.saves[CPU] == 2 * (8000 - target)
    assert max(value for course in seen["shown"].courses if course.resource == CPU for value in course.max) > 1.9
    assert seen["answer"].accepted
    resize: Resize = seen["resize"]
    assert (resize.namespace, resize.kind, resize.name, resize.version) == ("shop", "Deployment", "feed", first.version)
    assert resize.requests["main"][CPU] == target
    assert seen["under way"].state == "applying"
    assert seen["under way"].applying.outcomes == {"done": 1}
    assert not seen["again"].accepted
    assert seen["settled"].state == "applied"
    assert seen["undo"].accepted
    assert seen["last"].state == "rolled back"
