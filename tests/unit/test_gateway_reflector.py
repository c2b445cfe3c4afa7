"""A reflector on an API server in memory: what is told through cuts, restarts, 410 and silence, and at which price."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import AsyncExitStack
from typing import Any

import pytest

from neap.common.errors import Denied, Expired, Throttled, Unavailable, Vanished
from neap.common.kube.memory import Fault
from neap.common.kube.objects import BUDGETS, NODES, PODS, Metadata, Pod
from neap.common.kube.port import Change, Page, Watched
from neap.common.testing.simloop import simulate
from neap.gateway.core.hearing.following import (
    Begun,
    Broke,
    ChangeHeard,
    ListPage,
    Opened,
    OpenWatch,
    PageRead,
    Passed,
    Say,
)
from neap.gateway.core.hearing.reflector import Complete, Reflector, ReflectorSettings, Removed, Seen, Stale
from neap.gateway.shell.reflect import reflected
from tests.unit.endpoint_world import SPACE, World


class Reader(AsyncExitStack):
    """Follows one kind and keeps what it was told."""

    def __init__(
        self, world: World, settings: ReflectorSettings | None = None, kind: Any = PODS, seed: int = 1
    ) -> None:
        super().__init__()
        self.world, self.kind = world, kind
        self.reflector = Reflector(kind, settings or ReflectorSettings(), seed=seed)
        self.gate = asyncio.Semaphore(2)
        self.known: dict[str, Any] = {}
        self.told: list[Any] = []

    async def __aenter__(self) -> Reader:
        self._task = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        async with reflected(self.world.kube, self.world.clock, self.reflector, self.gate) as said:
            async for what in said:
                self.told.append(what)
                if isinstance(what, Seen):
                    self.known[what.object.metadata.key] = what.object
                elif isinstance(what, Removed):
                    del self.known[what.key]

    def count(self, kind: type) -> int:
        return sum(isinstance(what, kind) for what in self.told)

    async def is_right(self) -> bool:
        there = (await self.world.truth.list(self.kind, limit=100_000)).items
        return {each.metadata.key: each for each in there} == self.known


def test_everything_is_listed_in_pages_and_then_told_as_it_changes() -> None:
    async def story() -> None:
        world = World()
        await world.fill(23)
        async with Reader(world, ReflectorSettings(page=5)) as reader:
            await asyncio.sleep(1)
            assert reader.count(Seen) == 23
            assert reader.told[-1] == Complete(PODS, reader.told[-1].version, 23)
            assert world.cluster.asked["list", "pods"] == 5
            pod = await world.pod("new")
            await world.truth.bind(SPACE, "new", uid=pod.metadata.uid, node="n1")
            await world.truth.delete(PODS, "p0", namespace=SPACE, grace=0.0)
            await asyncio.sleep(1)
            assert reader.known[f"{SPACE}/new"].spec.node_name == "n1"
            assert await reader.is_right()

    simulate(story())


def test_a_cut_watch_goes_on_where_it_was_and_reads_no_list() -> None:
    async def story() -> None:
        world = World()
        await world.fill(10)
        async with Reader(world) as reader:
            await asyncio.sleep(20)
            for number in range(20):
                world.cluster.cut()
                await world.pod(f"new{number}")
                await asyncio.sleep(15)
            assert await reader.is_right()
            assert reader.count(Seen) == 30
            assert reader.count(Complete) == 1
            assert reader.count(Stale) == 0
            assert reader.reflector.lists == 1

    simulate(story())


def test_after_410_a_list_tells_the_difference_and_nothing_else() -> None:
    async def story() -> None:
        world = World()
        await world.fill(10)
        async with Reader(world) as reader:
            await asyncio.sleep(1)
            world.cluster.faults.append(Fault("watch", times=1))
            world.cluster.cut()
            await world.truth.delete(PODS, "p3", namespace=SPACE, grace=0.0)
            await world.truth.delete(PODS, "p4", namespace=SPACE, grace=0.0)
            again = await world.pod("p4")
            world.cluster.compact()
            await asyncio.sleep(30)
            assert await reader.is_right()
            assert reader.told[11:] == [
                Removed(PODS, f"{SPACE}/p4", reader.told[11].uid),
                Seen(PODS, again, again.metadata.resource_version),
                Removed(PODS, f"{SPACE}/p3", reader.told[13].uid),
                Complete(PODS, reader.told[14].version, 9),
            ]
            assert reader.reflector.relists == 1

    simulate(story())


def test_while_nobody_answers_what_is_known_is_said_to_be_stale_and_kept() -> None:
    async def story() -> None:
        world = World()
        await world.fill(10)
        async with Reader(world) as reader:
            await asyncio.sleep(20)
            for end in world.ends.values():
                end.go()
            left = world.clock.now()
            await asyncio.sleep(60)
            (stale,) = [what for what in reader.told if isinstance(what, Stale)]
            assert stale.since == pytest.approx(left, abs=0.1)
            assert "nobody answers" in stale.why or "open" in stale.why
            assert len(reader.known) == 10
            state = reader.reflector.state(world.clock.now())
            assert state.stale == pytest.approx(60.0, abs=0.2)
            for end in world.ends.values():
                end.come()
            await asyncio.sleep(45)
            assert isinstance(reader.told[-1], Complete), "and when it is not"
            assert reader.reflector.state(world.clock.now()).stale == 0.0
            assert reader.reflector.lists == 1, "the thread was never lost"

    simulate(story())


def test_a_watch_that_hangs_is_noticed_and_reopened() -> None:
    async def story() -> None:
        world = World()
        await world.fill(3)
        async with Reader(world, ReflectorSettings(silence=100.0, jitter=0.0)) as reader:
            await asyncio.sleep(1)
            world.cluster.faults.append(Fault("tell", error=None, least=1e9, most=1e9, times=1))
            await world.pod("new")
            await asyncio.sleep(90)
            assert len(reader.known) == 3
            await asyncio.sleep(15)
            assert await reader.is_right()

    simulate(story())


def test_a_page_token_that_expired_starts_the_list_anew() -> None:
    async def story() -> None:
        world = World()
        await world.fill(30)
        async with Reader(world, ReflectorSettings(page=10)) as reader:
            world.cluster.faults.append(Fault("list", error=None, least=1.0, most=1.0))
            await asyncio.sleep(1.5)
            await world.pod("new")
            world.cluster.compact()
            await asyncio.sleep(20)
            assert await reader.is_right()
            assert reader.count(Seen) == 31
            assert reader.count(Removed) == 0
            assert reader.reflector.lists == 2

    simulate(story())


def test_ten_kinds_never_list_more_than_two_at_once_and_come_back_one_after_the_other() -> None:
    async def story() -> None:
        world = World()
        await world.fill(3)
        gate = asyncio.Semaphore(2)
        running = most = 0
        real = world.kube.list
        began: list[float] = []

        async def counted(*given: Any, **named: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            began.append(world.clock.now())
            try:
                await asyncio.sleep(0.2)
                return await real(*given, **named)
            finally:
                running -= 1

        world.kube.list = counted  # type: ignore[method-assign]
        readers = [Reader(world, seed=number) for number in range(10)]
        async with AsyncExitStack() as stack:
            for reader in readers:
                reader.gate = gate
                await stack.enter_async_context(reader)
            await asyncio.sleep(20)
            began.clear()
            world.cluster.faults.append(Fault("watch", error=Expired, times=10))
            world.cluster.cut()
            await asyncio.sleep(20)
            assert most == 2
            assert len(began) == 10
            assert len({round(at, 2) for at in began}) >= 8, "not all at once"
            for reader in readers:
                assert await reader.is_right()

    simulate(story())


def test_a_kind_that_is_not_installed_is_empty_if_it_may_be() -> None:
    async def story() -> None:
        world = World()
        await world.fill(1)
        world.cluster.absent.add(str(BUDGETS))
        async with (
            Reader(world, ReflectorSettings(optional=True), BUDGETS) as reader,
            Reader(world, ReflectorSettings(), BUDGETS) as strict,
        ):
            await asyncio.sleep(60)
            assert reader.told == [Complete(BUDGETS, "", 0)]
            assert world.cluster.asked["list", str(BUDGETS)] < 12
            assert [type(what) for what in strict.told] == [Stale]
            assert "no such kind" in strict.told[0].why
            world.cluster.absent.clear()
            await asyncio.sleep(2400)
            assert reader.reflector.watches >= 1

    simulate(story())


def test_everything_is_read_anew_now_and_then_without_being_told_again() -> None:
    async def story() -> None:
        world = World()
        await world.fill(5)
        async with Reader(world, ReflectorSettings(relist_every=600.0)) as reader:
            await asyncio.sleep(3600)
            assert 4 <= reader.reflector.relists <= 8
            assert reader.count(Seen) == 5
            assert reader.count(Removed) == reader.count(Stale) == 0

    simulate(story())


def a_pod(number: int) -> Pod:
    uid = f"{number:08d}-aaaa-4bbb-8ccc-{number:012d}"
    version = str(900_000 + number)
    name = f"cart-{number:06d}-7d9f8b6c5-x2x4z"
    return Pod(metadata=Metadata(name=name, namespace="shop-production", uid=uid, resource_version=version))


def test_ten_thousand_pods_are_remembered_in_a_few_mebibytes() -> None:
    reflector = Reflector(PODS, ReflectorSettings())
    reflector.handle(Begun(), 0.0)
    tracemalloc.start()
    try:
        for start in range(0, 10_000, 500):
            page = Page(tuple(a_pod(number) for number in range(start, start + 500)), "1000000", "t")
            reflector.handle(PageRead(page), 1.0)
        del page
        reflector.handle(PageRead(Page((), "1000000")), 1.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reflector) == 10_000
    assert taken < 5 * 2**20, f"{taken / 2**20:.1f} MiB"


def test_the_same_name_with_another_uid_is_another_object() -> None:
    reflector = Reflector(PODS, ReflectorSettings())
    reflector.handle(Begun(), 0.0)
    reflector.handle(PageRead(Page((a_pod(1),), "1000000")), 0.0)
    reflector.handle(Opened(), 0.0)
    old = a_pod(1).metadata
    meta = Metadata(name=old.name, namespace=old.namespace, uid="other", resource_version="1000007")
    new = Pod(metadata=meta)
    *said, _ = reflector.handle(ChangeHeard(Watched(Change.ADDED, "1000007", new)), 1.0)
    assert said == [Say(Removed(PODS, old.key, old.uid)), Say(Seen(PODS, new, "1000007"))]
    *said, _ = reflector.handle(ChangeHeard(Watched(Change.DELETED, "1000009", a_pod(1))), 2.0)
    assert said == [], "the deletion of the one before it, heard late"


@pytest.mark.parametrize("error", [Unavailable("a"), Denied("b"), Vanished("c"), Throttled("d", 45.0)])
def test_after_a_failure_it_waits_longer_each_time_and_never_for_ever(error: Unavailable) -> None:
    reflector, at, waits = Reflector(NODES, ReflectorSettings()), 0.0, []
    orders = reflector.handle(Begun(), at)
    for _ in range(12):
        assert isinstance(orders[-1], ListPage | OpenWatch)
        orders, began = reflector.handle(Broke(error), at), at
        while not isinstance(orders[-1], ListPage):
            at = orders[-1].until  # type: ignore[union-attr]
            orders = reflector.handle(Passed(), at)
        waits.append(at - began)
    after = error.after if isinstance(error, Throttled) else 0.0
    assert all(each >= after for each in waits)
    assert 0.25 <= waits[0] <= max(0.5, after)
    assert all(15.0 <= each <= max(30.0, after) for each in waits[-4:])
    assert len(set(waits[-4:])) == 4 or after, "not in step with others"
