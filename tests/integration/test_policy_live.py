"""Policy on a real NATS server: what the console writes, an advisor and an evictor do, without a restart.

Reports come ten times a second, so 50 of them are five seconds; counting them keeps a slow machine out of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import (
    ADVICE,
    CHANNELS,
    EVICTIONS,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    POLICY,
    STREAMS,
    TOPOLOGY,
)
from neap.common.errors import InputError, StaleRevision
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import NodeAdvice
from neap.common.model.node import NodeObject
from neap.common.model.placement import Checkpoint
from neap.common.model.policy import POOL_LABEL
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.runtime.clock import stopwatch, wall_clock, wall_seconds
from neap.common.runtime.launch import find_room
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB, Seconds
from neap.console.core.policies import Draft
from neap.console.shell.policy import (
    diff_policy,
    drafts_in,
    explain_policy,
    lift_pause,
    list_policy,
    pause_evictions,
    remove,
    roll_back,
    set_policy,
)
from tests.bench.samples import a_placement, a_workload, uid
from tests.conftest import SOON
from tests.unit.test_advisor_node import a_topology

NODE, PERIOD, FIVE_SECONDS = "n1", 0.1, 50
OWNER, GUEST = 1, 2
TTL = 30  # periods, the advisor's default


@dataclass
class Node:
    """Two rooms of one node, and what reaches them and comes from them."""

    url: str
    bus: Bus
    counts: Counter[str] = field(default_factory=Counter)
    reports: int = 0
    greedy: bool = False  # the guest holds ten times the memory it asked for

    async def report(self) -> None:
        """Until it is cancelled."""
        while True:
            self.reports += 1
            held = 40 * GIB if self.greedy else GIB
            containers = tuple(
                ContainerUsage(uid=uid(number), container="c", cgroup=f"c{number}", cpu=1.0, working_set=held)
                for number in (OWNER, GUEST)
            )
            usage = NodeUsage(
                at=wall_seconds(),
                source="reporter",
                node=NODE,
                seq=self.reports,
                period=PERIOD,
                cpu=2.0,
                memory_available=100 * GIB,
                containers=containers,
            )
            await self.bus.publish(NODE_USAGE.at(node=NODE), usage)
            await asyncio.sleep(PERIOD)

    async def advised(self, ttl: int) -> NodeAdvice:
        """Advice that is valid for so many periods."""
        async with asyncio.timeout(SOON), self.bus.watch(ADVICE.only(node=NODE)) as items:
            async for item in items:
                if isinstance(item, Received):
                    advice = item.message
                    if round((advice.expires - advice.at) / PERIOD) == ttl:
                        return advice
        raise AssertionError("the bus ended")

    async def counted(self, what: str, times: int = 1) -> None:
        """Until a room has counted it so often."""
        async with asyncio.timeout(SOON):
            while self.counts[what] < times:  # noqa: ASYNC110
                await asyncio.sleep(PERIOD / 2)

    def count(self, metric: str, by: float = 1.0, labels: dict[str, str] | None = None) -> None:
        """As Running asks for it."""
        self.counts[f"{metric}{{{','.join(f'{k}={v}' for k, v in sorted((labels or {}).items()))}}}"] += int(by)


@asynccontextmanager
async def node(server: NatsServer, *rooms: str) -> AsyncIterator[Node]:
    """A node in the pool "batch" with an owner and a guest, and these rooms."""
    bus = await connect(server.url, name="neap-test")
    await bus.ensure(STREAMS, CHANNELS)
    here, stop = Node(server.url, bus), asyncio.Event()
    labels = {POOL_LABEL: "batch"}
    await bus.put(NODES.at(node=NODE), NodeObject(at=0.0, source="test", node=NODE, labels=labels))
    await bus.put(
        TOPOLOGY.at(node=NODE), msgspec.structs.replace(a_topology(), node=NODE, labels={POOL_LABEL: "other"})
    )
    placed = tuple(a_placement(a_workload(number, cores=4.0, guest=number == GUEST)) for number in (OWNER, GUEST))
    entry = Checkpoint(at=0.0, source="scheduler", node=NODE, placements=placed)
    await bus.append(PLACEMENTS.at(node=NODE), entry, seen=0, id=f"test{wall_seconds()}")
    outside = Outside(bus=bus, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer())
    async with asyncio.TaskGroup() as group:
        for name in rooms:
            room = find_room(name)
            given = {"node": NODE} | ({"period": PERIOD} if "period" in room.settings.__struct_fields__ else {})
            running = Running(room.wire(room.settings(**given), outside), outside, count=here.count)
            group.create_task(running.run(stop))
        reporting = group.create_task(here.report())
        yield here
        reporting.cancel()
        stop.set()
    await bus.close()


def a_draft(name: str, patch: dict[str, Any], tier: str = "cluster", **more: Any) -> Draft:
    return Draft(name=name, room="advisor", tier=tier, patch=patch, **more)


async def test_policy_reaches_the_advisor_tier_by_tier_without_a_restart(
    tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lasted: list[Seconds] = []
    async with NatsServer(store=tmp_path) as server, node(server, "advisor") as here:

        async def says(ttl: int) -> None:
            began, reports = stopwatch(), here.reports
            await here.advised(ttl)
            lasted.append(stopwatch() - began)
            assert here.reports - reports <= FIVE_SECONDS

        await here.advised(TTL)
        for ttl, tier in ((21, "cluster"), (22, "pool=batch"), (23, f"node={NODE}")):
            await set_policy([a_draft(tier.partition("=")[0], {"ttl": ttl}, tier, reason="so")], here.url, None)
            await says(ttl)
        await set_policy([a_draft("cluster", {"ttl": 24}), a_draft("other", {"ttl": 25}, "pool=other")], here.url, None)
        told = await explain_policy(NODE, "advisor.ttl", here.url, service="", config=None, as_json=False)
        assert "advisor.ttl = 23   [node=n1: node v1 'so'; beat pool=batch: pool v1 22, cluster: cluster v2 24" in told
        assert "default 30]" in told
        assert "no effect: advisor/other v1 (pool=other): elsewhere: for pool=other, this is pool batch" in told
        await roll_back("node", here.url)
        await says(22)
        await remove(["pool"], here.url)
        await says(24)
        await roll_back("advisor/cluster", here.url)
        await says(21)
    record_property("seconds", lasted)
    with capsys.disabled():
        print(f"\npolicy reached the advice in {', '.join(f'{each:.2f}' for each in lasted)} s")  # noqa: T201


async def test_a_bad_document_changes_nothing_for_anybody_and_the_console_does_not_write_one(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("name: base\nroom: advisor\npatch: {ttl: 21}\nexpires: 3d2h\n---\nname: two\nroom: advisor\n"
                    "tier: node=n1\npatch: {refresh: 50}\ncanary: 100%\nschedule: '00:00-24:00 +02:00'\n")  # fmt: skip
    async with NatsServer(store=tmp_path / "store") as server, node(server, "advisor") as here:
        told = await diff_policy(drafts_in(file), here.url, None)
        assert "advisor/base: new → v1" in told
        assert "  ttl: 30 → 21 on 1 of 1: n1" in told
        await set_policy(drafts_in(file), here.url, None)
        await here.advised(21)
        for wrong, says in (
            ({"ttl": 99999}, "policy base v1: ttl = 99999: Expected `int` <= 3600"),
            ({"tll": 3}, "unknown setting 'tll' of advisor; did you mean 'ttl'"),
            ({"node": "n2"}, "node cannot change while advisor runs"),
            ({"tune.provision_canonical.margin": -1}, "margin"),
        ):
            with pytest.raises(Exception, match=says):
                await set_policy([a_draft("fine", {"ttl": 22}), a_draft("base", wrong)], here.url, None)
        with pytest.raises(InputError, match=r"ttl cannot be set for one service \(possible: lend_alone, pod_margin\)"):
            await set_policy([a_draft("base", {"ttl": 5}, "service=shop/Deployment/cart")], here.url, None)
        stored = await here.bus.get(POLICY.at(room="advisor", name="base"))
        assert stored is not None
        assert await here.bus.get(POLICY.at(room="advisor", name="fine")) is None
        worse = stored.message.set(msgspec.structs.replace(stored.message.now, patch={"ttl": 99999}))
        await here.bus.put(POLICY.at(room="advisor", name="base"), worse)
        await here.counted("neap_policy_refused_total{service=advisor}")
        await set_policy([a_draft("other", {"smoothing": 0.5})], here.url, None)
        await here.counted("neap_policy_changes_total{service=advisor}", 3)
        await here.advised(21)
        told_now = await explain_policy(NODE, "ttl", here.url, service="", config=None, as_json=False)
        assert "advisor.ttl = 21   [cluster: base v1" in told_now
        assert "no effect: advisor/base v2 (cluster): invalid: policy base v2: ttl = 99999" in told_now
        assert "advisor/other" in await list_policy(here.url, as_json=False)
        with pytest.raises(StaleRevision):
            await here.bus.put(POLICY.at(room="advisor", name="base"), worse, revision=stored.seq)


async def test_a_pause_holds_evictions_also_over_a_restart_and_lifting_it_lets_them_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with NatsServer(store=tmp_path) as server:
        async with node(server) as before:
            said = await pause_evictions("30m", "we measure", "pool=batch", before.url)
            assert said == [
                "evictor/pause-evictions-pool-batch v1, for pool=batch: evictions are paused for 30m (we measure)"
            ]
        async with node(server, "evictor") as here:
            here.greedy = True
            await here.counted("neap_evictor_held_back_total{reason=paused}", 3)
            assert not [key for key in here.counts if key.startswith("neap_evictor_evictions_total")]
            began, reports = stopwatch(), here.reports
            await lift_pause(here.url)
            async with asyncio.timeout(SOON), here.bus.consume(EVICTIONS.only(node=NODE), durable="test") as items:
                async for item in items:
                    assert item.message.uid == uid(GUEST)
                    await item.ack()
                    break
            lasted = stopwatch() - began
            assert here.reports - reports <= FIVE_SECONDS
    with capsys.disabled():
        print(f"\nthe first eviction came {lasted:.2f} s after the pause was lifted")  # noqa: T201


async def test_one_service_may_be_protected_or_have_a_tolerance_of_its_own(tmp_path: Path) -> None:
    guest = a_workload(GUEST, cores=4.0, guest=True)
    service = f"service={guest.namespace}/{guest.owner or guest.name}"
    held_back = "neap_evictor_held_back_total{reason=nobody may leave}"

    def keep(patch: dict[str, Any]) -> Draft:
        return Draft(name="keep", room="evictor", tier=service, patch=patch)

    async with NatsServer(store=tmp_path) as server:
        async with node(server) as before:
            await set_policy([keep({"protected": True})], before.url, None)
        async with node(server, "evictor") as here:
            here.greedy = True
            await here.counted(held_back, 3)
            heard = Draft(name="heard", room="evictor", patch={"confirm_after": 6})
            await set_policy([keep({"memory_overuse.ratio": 1000.0}), heard], here.url, None)
            await here.counted("neap_policy_changes_total{service=evictor}")  # "heard" was written last
            held, until = here.counts[held_back], here.reports + 10
            while here.reports < until:  # noqa: ASYNC110
                await asyncio.sleep(PERIOD)
            assert here.counts[held_back] == held, "its memory is not within its own ratio"
            assert not [key for key in here.counts if key.startswith("neap_evictor_evictions_total")]
            await remove(["keep"], here.url)
            await here.counted("neap_evictor_evictions_total{rule=memory_overuse}")
