"""What only the API server in memory can do: faults on demand, virtual time, and the same story for the same seed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from neap.common.errors import Conflict, Expired, Throttled, Unavailable
from neap.common.kube.memory import Fault, MemoryCluster, MemoryKube
from neap.common.kube.objects import LEASES, NODES, PODS
from neap.common.kube.port import Change
from neap.common.testing.simloop import simulate
from tests.contract.kube_stages import pod_named

SPACE = "default"


def cluster() -> tuple[MemoryCluster, MemoryKube]:
    loop = asyncio.get_running_loop()
    made = MemoryCluster(now=loop.time, random=Random(7))
    return made, made.endpoint()


async def make(kube: MemoryKube, *names: str) -> None:
    for name in names:
        await kube.create(PODS, pod_named(name), namespace=SPACE)


def test_a_request_fails_as_often_as_the_fault_says() -> None:
    async def story() -> None:
        server, kube = cluster()
        server.faults.append(Fault("create", "pods", error=Throttled, after=3.0, times=2))
        for _ in range(2):
            with pytest.raises(Throttled) as refused:
                await make(kube, "a")
            assert refused.value.after == 3.0
        await make(kube, "a")
        assert server.asked["create", "pods"] == 3

    simulate(story())


def test_an_answer_is_lost_and_what_was_asked_for_is_done() -> None:
    async def story() -> None:
        _, kube = cluster()
        kube.faults.append(Fault("create", "pods", done=True, times=1))
        with pytest.raises(Unavailable):
            await make(kube, "a")
        with pytest.raises(Conflict):
            await make(kube, "a")

    simulate(story())


def test_one_endpoint_is_slow_or_gone_while_the_other_answers() -> None:
    async def story() -> None:
        server, one = cluster()
        two = server.endpoint("two")
        one.faults.append(Fault(error=None, least=2.0, most=2.0))
        began = asyncio.get_running_loop().time()
        await make(one, "a")
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
        await make(two, "b")
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
        one.faults.clear()
        version = (await one.list(PODS)).version
        async with one.watch(PODS, version=version) as stream:
            one.go()
            with pytest.raises(Unavailable):
                await anext(stream)
        assert (await one.is_ready(), await two.is_ready()) == (False, True)
        one.come()
        assert len((await one.list(PODS)).items) == 2

    simulate(story())


def test_who_is_behind_when_the_past_is_compacted_is_expired_in_mid_stream() -> None:
    async def story() -> None:
        server, kube = cluster()
        version = (await kube.list(PODS)).version
        async with kube.watch(PODS, version=version) as behind, kube.watch(PODS, version=version) as ahead:
            await make(kube, "a", "b")
            assert (await anext(behind)).version == (await anext(ahead)).version
            await anext(ahead)
            server.compact()
            with pytest.raises(Expired):
                await anext(behind)
            await make(kube, "c")
            told = (await anext(ahead)).object
            assert told is not None
            assert told.metadata.name == "c"

    simulate(story())


def test_a_watch_is_cut_after_so_many_lines() -> None:
    async def story() -> None:
        _, kube = cluster()
        version = (await kube.list(PODS)).version
        await make(kube, "a", "b")
        async with kube.watch(PODS, version=version) as stream:
            await anext(stream)
            kube.faults.append(Fault("tell", "pods", times=1))
            with pytest.raises(Unavailable):
                await anext(stream)

    simulate(story())


def test_bookmarks_come_every_minute_and_at_the_end() -> None:
    async def story() -> list[float]:
        _, kube = cluster()
        loop, heard = asyncio.get_running_loop(), list[float]()
        version = (await kube.list(PODS)).version
        await kube.create(NODES, {"metadata": {"name": "n"}})
        async with kube.watch(PODS, version=version, within=150.0) as stream:
            async for each in stream:
                assert each.change is Change.BOOKMARK
                assert int(each.version) > int(version)
                heard.append(loop.time())
        return [*heard, loop.time()]

    assert simulate(story()) == pytest.approx([60.0, 120.0, 148.0, 150.0])


def test_the_same_seed_tells_the_same_story() -> None:
    def life(seed: int) -> list[Any]:
        async def story() -> list[Any]:
            server = MemoryCluster(now=asyncio.get_running_loop().time, random=Random(seed))
            kube, heard = server.endpoint(), list[Any]()
            server.faults.append(Fault("create", share=0.3, least=0.1, most=1.0))
            for number in range(30):
                try:
                    heard.append(
                        await kube.create(LEASES, {"metadata": {"generateName": f"l{number}-"}}, namespace=SPACE)
                    )
                except Unavailable as error:
                    heard.append(str(error))
            return [*heard, asyncio.get_running_loop().time()]

        return simulate(story())

    assert life(3) == life(3)
    assert life(3) != life(4)
