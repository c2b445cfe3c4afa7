"""The evictor as a service: the whole table on a bus in memory, under virtual time."""

from __future__ import annotations

import asyncio

import msgspec

from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import (
    CHANNELS,
    EVICTING,
    EVICTIONS,
    HEADROOM,
    NODE_USAGE,
    PLACEMENTS,
    POLICY,
    STREAMS,
)
from neap.common.host.memory import MemoryHost
from neap.common.model.lifecycle import Eviction
from neap.common.model.policy import PolicyDocument
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.simloop import simulate
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.settings import Settings
from neap.evictor.wiring import wire
from tests.unit.evictor_world import a_guest, a_report, lends, placed, shows
from tests.unit.policy_world import a_policy, an_edition


async def live(*policies: PolicyDocument) -> list[Eviction]:
    """Two guests of four cores, then one core is lent: reports once a second."""
    broker = MemoryBroker()
    bus, gateway, others = (broker.bus(name) for name in ("neap-evictor", "neap-gateway", "test"))
    await bus.ensure(STREAMS, CHANNELS)
    heard: list[Eviction] = []
    stop = asyncio.Event()
    outside = Outside(bus=bus, clock=loop_clock(asyncio.get_running_loop()), host=MemoryHost(), tracer=NoTracer())

    async def execute() -> None:
        async with gateway.consume(EVICTIONS.only(node="n1"), durable="gateway") as items:
            async for item in items:
                heard.append(item.message)
                await item.ack()

    async with asyncio.TaskGroup() as group:
        executing = group.create_task(execute())
        for policy in policies:
            await broker.bus("neap-console").put(POLICY.at(room="evictor", name=policy.name), policy)
        group.create_task(run_service(wire(Settings(node="n1"), outside), outside, stop=stop, count=lambda *_: None))
        for seq, uid in enumerate(("a", "b")):
            await others.append(PLACEMENTS.at(node="n1"), placed(a_guest(uid), float(seq)), seen=seq, id=uid)
        for second in range(10, 20):
            await asyncio.sleep(second - asyncio.get_running_loop().time())
            await others.put(HEADROOM.at(node="n1"), lends(4.0, float(second)))
            await others.publish(NODE_USAGE.at(node="n1"), a_report(float(second), shows("a"), shows("b")))
        await asyncio.sleep(1)
        stop.set()
        executing.cancel()
    return heard


def test_an_oversold_node_sends_one_command_over_the_bus() -> None:
    (command,) = simulate(live())
    assert (command.uid, command.rule, command.at) == ("b", "reclaimed_overuse", 14.0)


def test_an_eviction_says_which_policy_set_the_numbers_it_was_judged_by() -> None:
    canary = a_policy(
        "batch-canary", an_edition({"reclaimed_overuse": {"ratio": 1.5}}, version=3, reason="trial"), room="evictor"
    )
    (command,) = simulate(live(canary))
    assert command.measured[0].threshold == 6.0
    assert command.policies == ("ratio = 1.5 by policy batch-canary v3 (cluster)",)
    (by_default,) = simulate(live())
    assert by_default.policies == ()


async def two_nodes() -> tuple[list[Eviction], list[str]]:
    """Both run out of memory at once, and the cluster's budget is one: who was asked, and which nodes were closed."""
    broker = MemoryBroker()
    bus, gateway, others = (broker.bus(name) for name in ("neap-evictor", "neap-gateway", "test"))
    await bus.ensure(STREAMS, CHANNELS)
    heard: list[Eviction] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def execute() -> None:
        async with gateway.consume(EVICTIONS.only(), durable="gateway") as items:
            async for item in items:
                heard.append(item.message)
                await item.ack()

    async with asyncio.TaskGroup() as group:
        executing = group.create_task(execute())
        for node in ("n1", "n2"):
            outside = Outside(
                bus=broker.bus(f"neap-evictor@{node}"), clock=loop_clock(loop), host=MemoryHost(), tracer=NoTracer()
            )
            service = wire(Settings(node=node, shared=SharedBudgets(cluster=1)), outside)
            group.create_task(run_service(service, outside, stop=stop, count=lambda *_: None))
            entry = msgspec.structs.replace(placed(a_guest(f"g-{node}")), node=node)
            await others.append(PLACEMENTS.at(node=node), entry, seen=0, id=node)
        for second in range(10, 20):
            await asyncio.sleep(second - loop.time())
            for node in ("n1", "n2"):
                report = a_report(float(second), shows(f"g-{node}"), memory_available=0)
                await others.publish(NODE_USAGE.at(node=node), msgspec.structs.replace(report, node=node))
        await asyncio.sleep(1)
        closed = [
            node for node in ("n1", "n2") if (item := await others.get(EVICTING.at(node=node))) and item.message.closed
        ]
        stop.set()
        executing.cancel()
    return heard, closed


def test_two_nodes_never_say_more_together_than_the_cluster_allows() -> None:
    heard, closed = simulate(two_nodes())
    assert len(heard) == 1
    assert closed == ["n1", "n2"], "both are short of memory, so nobody is to come to either"
