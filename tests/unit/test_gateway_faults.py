"""What befalls API servers, all of it, on two replicas that follow three kinds: nothing is lost, doubled or stormed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import pytest

from neap.common.errors import Conflict, PortError, Unavailable
from neap.common.kube.memory import Fault
from neap.common.kube.objects import BUDGETS, NODES, PODS
from neap.common.testing.simloop import simulate
from neap.gateway.core.asking.breaker import BreakerSettings
from neap.gateway.core.asking.flow import Flow, FlowSettings
from neap.gateway.core.hearing.reflector import Reflector, ReflectorSettings, Removed, Seen, Stale
from neap.gateway.shell.reflect import reflected
from neap.gateway.shell.steady import SteadyKube
from tests.unit.endpoint_world import SPACE, World

KINDS = (PODS, NODES, BUDGETS)
SETTINGS = FlowSettings(probe_every=5.0, breaker=BreakerSettings(failures=5, cool_down=10.0))


class Replica(AsyncExitStack):
    """What one gateway knows; it asserts on everything it is told."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__()
        self.world = world
        self.flow = Flow(SETTINGS, tuple(world.ends))
        self.kube = SteadyKube(world.ends, self.flow, world.clock)
        self.reflectors = {kind: Reflector(kind, ReflectorSettings(page=20), seed=seed) for kind in KINDS}
        self.known: dict[str, dict[str, Any]] = {str(kind): {} for kind in KINDS}
        self.versions: set[tuple[str, str]] = set()
        self.stale: list[Stale] = []
        self.least = 0  # of pods known, since somebody looked
        gate = asyncio.Semaphore(SETTINGS.lists_at_once)
        self._tasks = [asyncio.ensure_future(self._follow(kind, gate)) for kind in KINDS]
        self._tasks.append(asyncio.ensure_future(self.kube.probe()))
        self.push_async_callback(self._end)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    async def _follow(self, kind: Any, gate: asyncio.Semaphore) -> None:
        mine = self.known[str(kind)]
        async with reflected(self.kube, self.world.clock, self.reflectors[kind], gate) as said:
            async for what in said:
                match what:
                    case Seen(object=object, version=version):
                        assert (object.metadata.uid, version) not in self.versions, "told twice"
                        self.versions.add((object.metadata.uid, version))
                        mine[object.metadata.key] = object
                    case Removed(key=key, uid=uid):
                        assert mine.pop(key).metadata.uid == uid
                        there = await self.world.truth.list(kind, limit=10_000)
                        assert uid not in {each.metadata.uid for each in there.items}, "taken back, and there it is"
                    case Stale():
                        self.stale.append(what)
                self.least = min(self.least, len(self.known["pods"]))

    async def is_right(self) -> bool:
        for kind in KINDS:
            there = (await self.world.truth.list(kind, limit=10_000)).items
            if {each.metadata.key: each for each in there} != self.known[str(kind)]:
                return False
        return True


async def churn(world: World, random: Random) -> None:
    """Pods come, change and go."""
    count = 0
    while True:
        await asyncio.sleep(random.uniform(0.2, 1.0))
        count += 1
        await world.pod(f"new{count}")
        names = [pod.metadata.name for pod in (await world.truth.list(PODS, limit=10_000)).items]
        name = random.choice(names)
        if len(names) > 80:
            await world.truth.delete(PODS, name, namespace=SPACE, grace=0.0)
        else:
            await world.truth.patch(PODS, name, {"metadata": {"labels": {"n": str(count)}}}, namespace=SPACE)


async def binding(world: World, kube: SteadyKube, bound: dict[str, list[str]]) -> None:
    """Bind what is unbound, as a gateway does: a refusal is an outcome, an unknown end is asked about again."""
    while True:
        await asyncio.sleep(0.5)
        with suppress(PortError):
            for pod in (await kube.list(PODS)).items:
                if pod.spec.node_name is None:
                    with suppress(Conflict):
                        await kube.bind(SPACE, pod.metadata.name, uid=pod.metadata.uid, node=f"n{len(bound)}")
                        bound.setdefault(pod.metadata.uid, []).append("bound")


Blow = Callable[[World, Random], Awaitable[None]]


async def server_away(world: World, _: Random) -> None:
    for end in world.ends.values():
        end.go()
    await asyncio.sleep(60)
    for end in world.ends.values():
        end.come()


async def watches_cut(world: World, random: Random) -> None:
    for _ in range(20):
        world.cluster.cut()
        await asyncio.sleep(random.uniform(0, 5))


async def past_forgotten(world: World, random: Random) -> None:
    for _ in range(3):
        world.cluster.cut()
        world.cluster.compact()
        await asyncio.sleep(random.uniform(1, 20))


async def storm(world: World, _: Random) -> None:
    fault = Fault(share=0.9)
    world.cluster.faults.append(fault)
    await asyncio.sleep(45)
    world.cluster.faults.remove(fault)


async def lost_answers(world: World, _: Random) -> None:
    fault = Fault("create", "pods/binding", share=0.5, done=True)
    world.cluster.faults.append(fault)
    await asyncio.sleep(30)
    world.cluster.faults.remove(fault)


async def one_slow(world: World, _: Random) -> None:
    fault = Fault(error=None, least=3.0, most=20.0)
    world.ends["b"].faults.append(fault)
    await asyncio.sleep(60)
    world.ends["b"].faults.remove(fault)


BLOWS: dict[str, Blow] = {
    "server away": server_away,
    "watches cut": watches_cut,
    "410": past_forgotten,
    "5xx storm": storm,
    "answers lost": lost_answers,
    "one slow": one_slow,
}


async def life(blows: list[str], seed: int) -> tuple[World, list[Replica], dict[str, list[str]]]:
    world, random = World(seed=seed), Random(seed)
    await world.fill(60)
    for number in range(5):
        await world.truth.create(NODES, {"metadata": {"name": f"n{number}"}})
    bound: dict[str, list[str]] = {}
    async with AsyncExitStack() as stack:
        replicas = [await stage for stage in map(stack.enter_async_context, (Replica(world, n) for n in range(2)))]
        await asyncio.sleep(5)
        for replica in replicas:
            replica.least = len(replica.known["pods"])
        tasks = [
            asyncio.ensure_future(churn(world, random)),
            asyncio.ensure_future(binding(world, replicas[0].kube, bound)),
        ]
        for blow in blows:
            await BLOWS[blow](world, random)
            await asyncio.sleep(10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(60)
        for replica in replicas:
            assert await replica.is_right()
            assert replica.least >= 50, "never a wiped state"
            replica.flow.validate()
    return world, replicas, bound


@pytest.mark.parametrize("blow", list(BLOWS))
def test_each_fault_by_itself_is_survived(blow: str) -> None:
    _, _, bound = simulate(life([blow], seed=3))
    assert all(len(each) == 1 for each in bound.values()), "nobody is bound twice"


@pytest.mark.parametrize("seed", range(4))
def test_all_faults_in_any_order_are_survived(seed: int) -> None:
    order = [*BLOWS]
    Random(seed).shuffle(order)
    _, _, bound = simulate(life(order, seed))
    assert len(bound) > 20
    assert all(len(each) == 1 for each in bound.values())


def test_a_server_that_was_away_is_not_overrun_when_it_comes_back() -> None:
    async def story() -> None:
        world, replicas, _ = await life(["server away"], seed=5)
        for replica in replicas:
            states = [reflector.state(world.clock.now()) for reflector in replica.reflectors.values()]
            assert [state.lists for state in states] == [1, 1, 1], "the thread is taken up again: nothing is listed"
            assert len(replica.stale) == 3, "each kind says so, once"
            for end in replica.flow.endpoints():
                turns = [turn.state for turn in end.timeline]
                assert turns[0] == "open"
                assert turns[-1] == "closed"
                assert set(turns[1::2]) == {"half open"}
                opened = [turn.at for turn in end.timeline if turn.state == "open"]
                assert all(later - earlier >= 10.0 for earlier, later in itertools.pairwise(opened))

    simulate(story())


def test_after_a_410_of_all_kinds_every_replica_reads_one_list_of_each() -> None:
    async def story() -> None:
        world = World(seed=5)
        await world.fill(60)
        async with AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(Replica(world, number)) for number in range(2)]
            await asyncio.sleep(20)
            before = world.cluster.asked["list", "pods"]
            world.cluster.faults.append(Fault("watch", error=Unavailable, times=6))
            world.cluster.cut()
            for number in range(5):
                await world.pod(f"late{number}")
                await world.truth.create(NODES, {"metadata": {"name": f"late{number}"}})
            world.cluster.compact()
            await asyncio.sleep(30)
            assert world.cluster.asked["list", "pods"] - before == 2 * 4, "65 pods, 20 to a page"
            for replica in replicas:
                assert await replica.is_right()

    simulate(story())
