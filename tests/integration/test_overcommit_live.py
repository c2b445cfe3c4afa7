"""`neap overcommit` on a real NATS server: what is refused writes nothing, what is accepted is the planner's policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import CHANNELS, NODES, PLACEMENTS, POLICY, RATIOS, STREAMS, TOPOLOGY
from neap.common.errors import InputError
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.policy import PolicyDocument
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU
from neap.common.testing.natsd import NatsServer
from neap.console.shell.overcommitting import set_overcommit, show_overcommit
from tests.unit.scheduler_world import a_node, an_owner


async def documents(bus: Bus) -> list[PolicyDocument]:
    found: list[PolicyDocument] = []
    async with bus.watch(POLICY.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                return found
            if isinstance(item, Received):
                found.append(item.message)
    raise AssertionError("the bus ended")


async def fill(bus: Bus) -> None:
    """Node n9 of the pool web with 47 cores asked of 32, and n1 of no pool."""
    await bus.ensure(STREAMS, CHANNELS)
    for name in ("n9", "n1"):
        await bus.put(TOPOLOGY.at(node=name), a_node(name, cores=32))
    web = NodeObject(at=0.0, source="gateway", node="n9", labels={"neap.io/pool": "web"})
    await bus.put(NODES.at(node="n9"), web)
    placements = tuple(
        Placement(workload=(pod := an_owner(uid, cores=cores)), charged=pod.requests)
        for uid, cores in (("a", 1.5), ("b", 1.0), ("c", 44.5))
    )
    entry = Checkpoint(at=0.0, source="scheduler", node="n9", placements=placements)
    await bus.append(PLACEMENTS.at(node="n9"), entry, seen=0, id="1")
    kind = KindRatio(
        resource=CPU, ratio=1.5, set=1.5, foreseen=1.6, peak=18_000, requested=47_000, original=32_000, arithmetic="so"
    )
    await bus.put(RATIOS.at(node="n9"), NodeRatios(at=0.0, source="planner", node="n9", kinds=(kind,)))


async def test_s9_a_pool_is_sold_more_if_nobody_is_left_on_what_is_not_there(tmp_path: Path) -> None:
    async with NatsServer(store=tmp_path) as server:
        bus = await connect(server.url, name="neap-test")
        try:
            await fill(bus)
            with pytest.raises(InputError, match=r"n9: Σrequests 47\.0 > 44\.8 = 32 × 1\.4; pods: shop/c"):
                await set_overcommit(["cpu=1.4"], pool="web", node="", reason="", url=server.url)
            assert await documents(bus) == []
            said = await set_overcommit(["cpu=1.5"], pool="web", node="", reason="idle", url=server.url)
            assert said[0] == "planner/overcommit-web v1, for pool=web"
            assert said[1] == "n9: cpu up to 48.0 cores = 32 × 1.5; predicted peak 18.0, 1.60 foreseen"
            await set_overcommit(["memory=1.2"], pool="web", node="", reason="", url=server.url)
            [document] = await documents(bus)
            assert document.now.patch == {"overcommit.cpu": 1.5, "overcommit.memory": 1.2}, "one leaves the other"
            shown = await show_overcommit("", server.url, in_json=False)
            assert shown.splitlines()[1].split()[:5] == ["n9", "cpu", "1.50", "1.60", "1.50"]
            with pytest.raises(InputError, match="nobody has said anything"):
                await show_overcommit("n7", server.url, in_json=False)
            with pytest.raises(InputError, match="pool 'batch': nobody has said anything"):
                await set_overcommit(["cpu=1.5"], pool="batch", node="", reason="", url=server.url)
        finally:
            await bus.close()
