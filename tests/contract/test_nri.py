"""The NRI client against a runtime that speaks the real frames. Time stands still unless a test lets it pass."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec
import pytest

from neap.common.errors import Denied, Unavailable
from neap.common.testing.nrid import Hangup, NriPlugin, NriServer, encode
from neap.enforcer.nri.client import NriClient, probe
from neap.enforcer.nri.model import (
    Adjusted,
    Adjustment,
    Container,
    Device,
    Ended,
    Joined,
    LeftAlone,
    Lost,
    Pod,
    Resources,
    State,
    Told,
    Update,
    Updated,
)
from neap.enforcer.nri.settings import NriSettings
from neap.enforcer.nri.story import HELD, Stories
from neap.enforcer.nri.wire import sized
from tests.conftest import SOON

K = TypeVar("K", bound=Told)

POD = {"id": "sandbox-1", "uid": "uid-1", "name": "cart", "namespace": "shop", "labels": {"tier": "web"}}


def a_container(id: str = "c1", *, cpus: str = "", state: State = State.RUNNING, **more: Any) -> dict[str, Any]:
    resources = {"cpu": {"cpus": cpus, "quota": {"value": 200_000}}}
    return {
        "id": id, "pod_sandbox_id": POD["id"], "name": f"name-{id}", "state": int(state),
        "args": ["sleep"], "env": ["A=1"], "linux": {"resources": resources, "oom_score_adj": {"value": -5}}, **more,
    }  # fmt: skip


def cpus(text: str) -> Adjustment:
    return Adjustment(resources=Resources(cpus=text))


def an_update(id: str, text: str) -> dict[str, Any]:
    return {"container_id": id, "linux": {"resources": {"cpu": {"cpus": text}}}}


class HandClock:
    """Stands still until somebody sleeps who would wake within the seconds a test lets pass."""

    speed = 1.0

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._slept = asyncio.Event()

    def now(self) -> float:
        return self._now

    async def sleep_until(self, at: float) -> None:
        if at > self._now:
            sleeper = (at, asyncio.get_running_loop().create_future())
            self._sleepers.append(sleeper)
            self._slept.set()
            try:
                await sleeper[1]
            finally:
                self._sleepers.remove(sleeper)

    async def run(self, seconds: float) -> None:
        """Wait until somebody sleeps for at most so long, then let the time pass."""
        async with asyncio.timeout(SOON):
            while not any(at <= self._now + seconds and not sleeper.done() for at, sleeper in self._sleepers):
                self._slept.clear()
                await self._slept.wait()
        self._now += seconds
        for at, sleeper in self._sleepers:
            if at <= self._now and not sleeper.done():
                sleeper.set_result(None)


class World:
    """A runtime, a client, and what is wanted; `answer` may be replaced by a slower or worse advisor."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.runtime = NriServer(folder / "nri.sock", pods=[POD])
        self.settings = NriSettings(socket=str(self.runtime.path), late_within=3000, call_within=4000, join_within=5000)
        self.wanted: dict[str, Adjustment] = {}
        self.asked: list[tuple[Pod, Container]] = []
        self.answer: Callable[[Container], Awaitable[Adjustment | None]] = self._know
        self.client = self.a_client()
        self._told: dict[type, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._running: asyncio.Future[Any] | None = None

    def a_client(self, seed: int = 1) -> NriClient:
        return NriClient(self.settings, self.clock, Random(seed), self.adjust, self.hear)

    def hear(self, told: Told) -> None:
        self._told[type(told)].put_nowait(told)

    async def told(self, kind: type[K]) -> K:
        async with asyncio.timeout(SOON):
            found: K = await self._told[kind].get()
            return found

    def is_told(self, kind: type[Told]) -> bool:
        return not self._told[kind].empty()

    def run(self) -> None:
        self._running = asyncio.ensure_future(self.client.run())

    async def join(self) -> NriPlugin:
        self.run()
        return await self.runtime.joined()

    async def end(self) -> None:
        if self._running is not None:
            assert not self._running.done(), f"the client ended: {self._running}"
            self._running.cancel()
            await asyncio.wait([self._running])

    async def adjust(self, pod: Pod, container: Container) -> Adjustment | None:
        self.asked.append((pod, container))
        return await self.answer(container)

    async def _know(self, container: Container) -> Adjustment | None:
        return self.wanted.get(container.id)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: the path of a socket has 107 characters."""
    with TemporaryDirectory(prefix="neap-") as path:
        yield Path(path)


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    world = World(folder)
    async with world.runtime:
        yield world
        await world.end()
    assert not world.runtime.complaints


# -- joining ---------------------------------------------------------------------------------------------------------


async def test_a_plugin_registers_subscribes_and_is_synchronised(world: World) -> None:
    plugin = await world.join()
    assert plugin.registered == {"plugin_name": "neap", "plugin_idx": "90"}
    joined = await world.told(Joined)
    assert (joined.runtime, joined.containers, joined.corrected) == ("nrid v2", 0, ())
    assert world.client.joined


async def test_the_oldest_runtime_knows_every_event_subscribed_to(world: World) -> None:
    world.runtime.last_event = 11
    plugin = await world.join()
    assert {n for n in range(1, 32) if plugin.events >> n - 1 & 1} == {4, 5, 8, 10, 11}


async def test_a_synchronisation_corrects_drift_and_nothing_else(world: World) -> None:
    world.runtime.containers = [
        a_container("drifted", cpus="0-3"),
        a_container("right", cpus="0,1,2"),
        a_container("unwanted", cpus="5"),
        a_container("over", cpus="0-3", state=State.STOPPED),
    ]
    world.wanted = {"drifted": cpus("0-1"), "right": cpus("0-2"), "over": cpus("7")}
    plugin = await world.join()
    assert plugin.corrected == [an_update("drifted", "0-1")]
    joined = await world.told(Joined)
    assert [each.container_id for each in joined.corrected] == ["drifted"]
    assert list(world.client.containers) == ["drifted", "right", "unwanted"]
    pod, container = world.client.containers["right"]
    assert (pod.uid, pod.namespace, pod.labels) == ("uid-1", "shop", {"tier": "web"})
    assert (container.resources.quota, container.oom_score_adj) == (200_000, -5)


async def test_the_advisor_is_told_who_asks(world: World) -> None:
    plugin = await world.join()
    pod = POD | {"annotations": {"a": "1"}, "linux": {"cgroup_parent": "/kubepods/pod1"}}
    container = a_container(cpus="0-3", labels={"l": "2"}, annotations={"b": "3"}, pid=77, state=State.CREATED)
    container["linux"] |= {"cgroups_path": "kubepods-pod1.slice:cri-containerd:c1"}
    container["linux"]["resources"] = {
        "memory": {"limit": {"value": 5}},
        "cpu": {"cpus": "0-3", "mems": "1", "shares": {"value": 2}, "quota": {"value": 3}, "period": {"value": 4}},
        "unified": {"memory.min": "6"},
    }
    await plugin.ask("CreateContainer", {"pod": pod, "container": container})
    unified = {"memory.min": "6"}
    limits = Resources(cpus="0-3", mems="1", shares=2, quota=3, period=4, memory_limit=5, unified=unified)
    assert world.asked == [
        (
            Pod(
                id="sandbox-1", uid="uid-1", name="cart", namespace="shop", labels={"tier": "web"},
                annotations={"a": "1"}, cgroup_parent="/kubepods/pod1",
            ),
            Container(
                id="c1", pod_id="sandbox-1", name="name-c1", state=State.CREATED, labels={"l": "2"},
                annotations={"b": "3"}, pid=77, cgroup="kubepods-pod1.slice:cri-containerd:c1", oom_score_adj=-5,
                resources=limits,
            ),
        )
    ]  # fmt: skip


async def test_a_synchronisation_may_come_in_parts(world: World) -> None:
    world.runtime.containers = [a_container(f"c{n}", cpus="0") for n in range(7)]
    world.wanted = {f"c{n}": cpus("1") for n in range(7)}
    world.runtime.part = 2
    plugin = await world.join()
    assert [each["container_id"] for each in plugin.corrected] == [f"c{n}" for n in range(7)]
    assert all(pod.uid == "uid-1" for pod, _ in world.asked)


async def test_each_synchronisation_is_about_itself(world: World) -> None:
    plugin = await world.join()
    for id in ("c1", "c2"):
        await plugin.ask("Synchronize", {"pods": [POD], "containers": [a_container(id)]})
        assert list(world.client.containers) == [id]


async def test_a_synchronisation_without_end_is_refused(world: World) -> None:
    plugin = await world.join()
    for _ in range(4):
        await plugin.ask_raw("Synchronize", b"\x18\1" + sized(99, bytes(4_000_000)))
    with pytest.raises(Hangup, match="Synchronize: 3 .* 20000040 bytes"):
        await plugin.ask_raw("Synchronize", b"\x18\1" + sized(99, bytes(4_000_000)))


async def test_more_corrections_than_fit_an_answer_follow_as_updates(world: World) -> None:
    world.runtime.containers = [a_container(f"c{n}", cpus="0") for n in range(300)]
    world.wanted = {f"c{n}": cpus("1") for n in range(300)}
    plugin = await world.join()
    updates = await world.runtime.heard(lambda updates: len(updates) == 172)
    found = {each["container_id"] for each in [*plugin.corrected, *updates]}
    assert found == {f"c{n}" for n in range(300)}


async def test_a_slow_advisor_does_not_delay_a_synchronisation(world: World) -> None:
    gate = asyncio.Event()

    async def slow(container: Container) -> Adjustment | None:
        if container.id == "c1":
            await gate.wait()
        return cpus("1")

    world.answer = slow
    world.runtime.containers = [a_container(f"c{n}", cpus="0") for n in range(3)]
    world.run()
    await world.clock.run(world.settings.synchronize_within)
    plugin = await world.runtime.joined()
    assert [each["container_id"] for each in plugin.corrected] == ["c0"]
    gate.set()
    updates = await world.runtime.heard(lambda updates: len(updates) == 2)
    assert updates == [an_update("c1", "1"), an_update("c2", "1")]


async def test_a_runtime_that_refuses_is_asked_again(world: World) -> None:
    world.runtime.refusal = "external plugins are disabled"
    world.run()
    lost = await world.told(Lost)
    assert "external plugins are disabled" in lost.why
    world.runtime.refusal = ""
    await world.clock.run(1)
    await world.runtime.joined()


async def test_a_runtime_that_never_synchronises_is_left(world: World) -> None:
    world.runtime.silent = True
    world.run()
    await world.clock.run(world.settings.call_within)
    assert "no answer within 4000 s" in (await world.told(Lost)).why


# -- before a container starts ---------------------------------------------------------------------------------------


async def test_a_container_starts_with_everything_it_should_have(world: World) -> None:
    plugin = await world.join()
    world.wanted["c1"] = Adjustment(
        resources=Resources(
            cpus="2-3",
            mems="0",
            shares=0,
            quota=-1,
            period=100_000,
            memory_limit=1 << 40,
            unified={"memory.high": "max"},
        ),
        env={"CUDA_MPS_PIPE_DIRECTORY": "/run/mps/0", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30"},
        devices=(Device(path="/dev/nvidia0", type="c", major=195, minor=0, file_mode=0o666),),
        oom_score_adj=0,
    )
    answer = await plugin.ask("CreateContainer", {"pod": POD, "container": a_container()})
    assert answer == {
        "adjust": {
            "env": [
                {"key": "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "value": "30"},
                {"key": "CUDA_MPS_PIPE_DIRECTORY", "value": "/run/mps/0"},
            ],
            "linux": {
                "devices": [{"path": "/dev/nvidia0", "type": "c", "major": "195", "file_mode": {"value": 0o666}}],
                "resources": {
                    "memory": {"limit": {"value": str(1 << 40)}},
                    "cpu": {
                        "shares": {}, "quota": {"value": "-1"}, "period": {"value": "100000"}, "cpus": "2-3", "mems": "0",
                    },
                    "unified": {"memory.high": "max"},
                },
                "oom_score_adj": {},
            },
        }
    }  # fmt: skip
    adjusted = await world.told(Adjusted)
    assert (adjusted.pod.uid, adjusted.container.id) == ("uid-1", "c1")
    assert adjusted.adjustment == world.wanted["c1"]


async def test_a_container_nobody_has_an_opinion_about_is_left_alone(world: World) -> None:
    plugin = await world.join()
    assert await plugin.ask("CreateContainer", {"pod": POD, "container": a_container()}) == {}
    assert not world.is_told(Adjusted)
    assert not world.is_told(LeftAlone)


@pytest.mark.parametrize("there_first", [True, False])
async def test_a_late_answer_delays_nothing_and_becomes_an_update(world: World, *, there_first: bool) -> None:
    gate = asyncio.Event()

    async def late(_: Container) -> Adjustment | None:
        await gate.wait()
        return cpus("2")

    world.answer = late
    plugin = await world.join()
    start = asyncio.ensure_future(plugin.ask("CreateContainer", {"pod": POD, "container": a_container(cpus="0")}))
    await world.clock.run(world.settings.answer_within)
    assert await start == {}
    assert "within 40 ms" in (await world.told(LeftAlone)).why
    if there_first:
        await plugin.ask("PostCreateContainer", {"pod": POD, "container": a_container(cpus="0")})
        gate.set()
    else:
        gate.set()
        await plugin.ask("Shutdown", {})  # one round, so that the answer has been heard
        assert not world.runtime.updates
        await plugin.ask("PostCreateContainer", {"pod": POD, "container": a_container(cpus="0")})
    assert await world.runtime.heard(bool) == [an_update("c1", "2")]
    assert (await world.told(Updated)).failed == ()


async def test_an_answer_later_than_late_is_dropped(world: World) -> None:
    async def never(_: Container) -> Adjustment | None:
        return await asyncio.get_running_loop().create_future()

    world.answer = never
    plugin = await world.join()
    start = asyncio.ensure_future(plugin.ask("CreateContainer", {"pod": POD, "container": a_container()}))
    await world.clock.run(world.settings.answer_within)
    assert await start == {}
    await world.told(LeftAlone)
    await world.clock.run(world.settings.late_within)
    assert "none is awaited any more" in (await world.told(LeftAlone)).why


async def test_an_advisor_that_raises_costs_nothing(world: World) -> None:
    async def broken(_: Container) -> Adjustment | None:
        raise KeyError("no such pod")

    world.answer = broken
    plugin = await world.join()
    assert await plugin.ask("CreateContainer", {"pod": POD, "container": a_container()}) == {}
    left = await world.told(LeftAlone)
    assert (left.container_id, left.why) == ("c1", "KeyError: 'no such pod'")


async def test_more_questions_than_allowed_are_answered_at_once(world: World) -> None:
    async def never(_: Container) -> Adjustment | None:
        return await asyncio.get_running_loop().create_future()

    world.answer = never
    world.settings = msgspec.structs.replace(world.settings, questions=2)
    world.client = world.a_client()
    plugin = await world.join()
    starts = [
        asyncio.ensure_future(plugin.ask("CreateContainer", {"pod": POD, "container": a_container(f"c{n}")}))
        for n in range(3)
    ]
    assert await starts[2] == {}
    assert (await world.told(LeftAlone)).why == "2 questions are open already"
    await world.clock.run(world.settings.answer_within)
    assert [await start for start in starts] == [{}, {}, {}]


async def test_questions_that_were_answered_make_room_for_others(world: World) -> None:
    world.settings = msgspec.structs.replace(world.settings, questions=1)
    world.client = world.a_client()
    world.wanted["c1"] = cpus("2")
    plugin = await world.join()
    for _ in range(100):
        assert await plugin.ask("CreateContainer", {"pod": POD, "container": a_container()})


async def test_no_more_requests_are_read_than_are_served_at_once(world: World) -> None:
    asked: asyncio.Queue[bool] = asyncio.Queue()

    async def never(_: Container) -> Adjustment | None:
        asked.put_nowait(world.is_told(LeftAlone))
        return await asyncio.get_running_loop().create_future()

    world.answer = never
    world.settings = msgspec.structs.replace(world.settings, questions=1000)
    world.client = world.a_client()
    plugin = await world.join()
    starts = [
        asyncio.ensure_future(plugin.ask("CreateContainer", {"pod": POD, "container": a_container(f"c{n}")}))
        for n in range(65)
    ]
    async with asyncio.timeout(SOON):
        assert not any([await asked.get() for _ in range(64)])
        await world.clock.run(world.settings.answer_within)
        assert await asked.get()  # the 65th was read once another had been answered
        await world.clock.run(world.settings.answer_within)
        assert await asyncio.gather(*starts) == [{}] * 65


async def test_an_answer_for_a_container_that_is_gone_is_dropped(world: World) -> None:
    gate = asyncio.Event()

    async def late(_: Container) -> Adjustment | None:
        await gate.wait()
        return cpus("2")

    world.answer = late
    plugin = await world.join()
    await world.told(Joined)
    about = {"pod": POD, "container": a_container()}
    start = asyncio.ensure_future(plugin.ask("CreateContainer", about))
    await world.clock.run(world.settings.answer_within)
    await start
    gate.set()
    await plugin.ask("Shutdown", {})  # one round, so that the answer has been heard
    await plugin.ask("RemoveContainer", about)
    await plugin.ask("PostCreateContainer", about)
    await world.client.update([Update(container_id="last")])
    assert [each["container_id"] for each in world.runtime.updates] == ["last"]


async def test_what_is_wanted_wins_over_a_change_by_somebody_else(world: World) -> None:
    plugin = await world.join()
    world.wanted["c1"] = cpus("2")
    change = {"pod": POD, "container": a_container(), "linux_resources": {"cpu": {"cpus": "0-7"}}}
    assert await plugin.ask("UpdateContainer", change) == {"update": [an_update("c1", "2")]}
    assert await plugin.ask("UpdateContainer", change | {"container": a_container("c2")}) == {}


# -- what is there ---------------------------------------------------------------------------------------------------


async def test_containers_are_followed_from_creation_to_the_end(world: World) -> None:
    plugin = await world.join()
    for id in ("c1", "c2", "c3"):
        await plugin.ask("PostCreateContainer", {"pod": POD, "container": a_container(id)})
    await plugin.ask("StopContainer", {"pod": POD, "container": a_container("c1")})
    await plugin.ask("RemoveContainer", {"pod": POD, "container": a_container("c1")})
    await plugin.ask("RemoveContainer", {"pod": POD, "container": a_container("c3")})
    assert list(world.client.containers) == ["c2"]
    assert [(await world.told(Ended)).container_id for _ in range(2)] == ["c1", "c3"]
    assert not world.is_told(Ended)


async def test_an_older_runtime_tells_the_same_as_state_changes(world: World) -> None:
    plugin = await world.join()
    about = {"pod": POD, "container": a_container()}
    await plugin.ask("StateChange", {"event": 5, **about})
    assert list(world.client.containers) == ["c1"]
    await plugin.ask("StateChange", {"event": 99, **about})
    await plugin.ask("StateChange", {"event": 11, **about})
    assert not world.client.containers


async def test_updates_are_made_at_any_time_and_failures_are_named(world: World) -> None:
    await world.join()
    await world.told(Joined)
    world.runtime.failing = {"c7", "c200"}
    updates = [Update(container_id=f"c{n}", resources=Resources(cpus=str(n))) for n in range(300)]
    assert await world.client.update(updates) == ("c7", "c200")
    assert world.runtime.updates == [an_update(f"c{n}", str(n)) for n in range(300)]


async def test_an_update_without_a_runtime_says_so(world: World) -> None:
    with pytest.raises(Unavailable, match="not connected"):
        await world.client.update([Update(container_id="c1")])


async def test_an_update_the_runtime_does_not_answer_is_given_up(world: World) -> None:
    await world.join()
    await world.told(Joined)
    world.runtime.silent = True
    updating = asyncio.ensure_future(world.client.update([Update(container_id="c1")]))
    await world.clock.run(world.settings.call_within)
    with pytest.raises(Unavailable, match="no answer within 4000 s"):
        await updating


async def test_an_update_under_way_fails_when_the_runtime_dies(world: World) -> None:
    plugin = await world.join()
    await world.told(Joined)
    world.runtime.silent = True
    updating = asyncio.ensure_future(world.client.update([Update(container_id="c1")]))
    await plugin.ask("Shutdown", {})  # a round, so that the request is out
    plugin.hang_up()
    with pytest.raises(Unavailable, match="ended before"):
        await updating


async def test_calls_that_wait_are_limited(world: World) -> None:
    await world.join()
    await world.told(Joined)
    world.runtime.silent = True
    waiting = [asyncio.ensure_future(world.client.update([Update(container_id="c")])) for _ in range(16)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="16 requests wait"):
        await world.client.update([Update(container_id="c1")])
    await world.clock.run(world.settings.call_within)
    assert all(isinstance(each, Unavailable) for each in await asyncio.gather(*waiting, return_exceptions=True))


async def test_an_update_no_runtime_would_take_is_refused_here(world: World) -> None:
    await world.join()
    await world.told(Joined)
    huge = Resources(unified={"memory.high": "9" * (5 << 20)})
    with pytest.raises(Denied, match="bytes"):
        await world.client.update([Update(container_id="c1", resources=huge)])
    assert await world.client.update([Update(container_id="c1")]) == ()


# -- losing and finding ----------------------------------------------------------------------------------------------


async def test_a_restarted_runtime_is_joined_again_and_drift_put_right(world: World) -> None:
    world.runtime.containers = [a_container(cpus="0")]
    world.wanted["c1"] = cpus("0")
    assert (await world.join()).corrected == []
    world.runtime.containers = [a_container(cpus="0-7")]
    await world.runtime.restart()
    lost = await world.told(Lost)
    assert lost.why == "the runtime closed the connection"
    assert 0 < lost.again - lost.at <= 2 * world.settings.first_retry
    assert not world.client.joined
    assert not world.client.containers
    await world.clock.run(lost.again - lost.at)
    assert (await world.runtime.joined()).corrected == [an_update("c1", "0")]


async def test_a_runtime_that_comes_late_is_found(folder: Path) -> None:
    world = World(folder)
    world.run()
    pauses = []
    for _ in range(12):
        lost = await world.told(Lost)
        assert lost.why == f"there is no {world.runtime.path}: the container runtime offers no NRI"
        pauses.append(lost.again - lost.at)
        await world.clock.run(lost.again - lost.at)
    longest = [min(world.settings.last_retry, world.settings.first_retry * 2**n) for n in range(1, 13)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, longest, strict=True))
    assert len(set(pauses)) == 12  # jitter
    await world.told(Lost)
    async with world.runtime:
        await world.clock.run(world.settings.last_retry)
        await world.runtime.joined()
        await world.end()


async def test_a_connection_that_held_is_followed_by_a_short_pause(world: World) -> None:
    plugin = await world.join()
    await world.told(Joined)
    sleeping = asyncio.ensure_future(world.clock.sleep_until(world.clock.now() + world.settings.last_retry))
    await world.clock.run(world.settings.last_retry)
    await sleeping
    plugin.hang_up()
    lost = await world.told(Lost)
    assert lost.again - lost.at <= world.settings.first_retry


NONSENSE = {
    "a connection that is reserved": b"\0\0\0\0\0\0\0\1x",
    "a frame of 4 GiB": b"\0\0\0\1\xff\xff\xff\xff",
    "a frame one byte too large": b"\0\0\0\1" + ((4 << 20) + 11).to_bytes(4, "big"),
    "a message of 4 GiB": b"\0\0\0\1\0\0\0\x0a\xff\xff\xff\xff\0\0\0\1\1\0",
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(64),
    "an answer that is none": b"\0\0\0\2\0\0\0\x0c\0\0\0\2\0\0\0\1\2\0\x0a\x7f",
}


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_costs_the_connection_and_not_the_client(world: World, raw: bytes) -> None:
    plugin = await world.join()
    await world.told(Joined)
    if raw[:4] == b"\0\0\0\2":  # somebody must be waiting for it
        world.runtime.silent = True
        raw = raw.replace(b"\0\0\0\1\2", b"\0\0\0\3\2")
        updating = asyncio.ensure_future(world.client.update([Update(container_id="c1")]))
        await asyncio.sleep(0)
        await plugin.send(raw)
        with pytest.raises(Unavailable):
            await updating
        world.runtime.silent = False
    else:
        await plugin.send(raw)
    assert "cannot be read" in (await world.told(Lost)).why
    await world.clock.run(1)
    await world.runtime.joined()


async def test_what_a_newer_runtime_may_say_is_skipped(world: World) -> None:
    plugin = await world.join()
    await plugin.send(b"\0\0\0\3\0\0\0\4what")  # a connection we do not know
    await plugin.send(b"\0\0\0\1\0\0\0\x0b\0\0\0\1\0\0\0\7\3\1x")  # stream data
    await plugin.send(b"\0\0\0\2\0\0\0\x0c\0\0\0\2\0\0\0\x63\2\0\x0a\0")  # an answer nobody waits for
    world.wanted["c1"] = cpus("2")
    unknown = b"\xfa\x01\3abc" + b"\xf8\x01\7" + b"\xfd\x01four" + b"\xf9\x01eight bt"
    about = encode("CreateContainerRequest", {"pod": POD, "container": a_container()})
    assert await plugin.ask_raw("CreateContainer", unknown + about + unknown)


async def test_a_container_request_that_cannot_be_read_does_not_fail_the_container(world: World) -> None:
    plugin = await world.join()
    for method in ("CreateContainer", "UpdateContainer", "PostCreateContainer", "StopContainer", "StateChange"):
        assert await plugin.ask_raw(method, b"\x12\x7f cut") == b""
        assert "protobuf" in (await world.told(LeftAlone)).why


async def test_an_answer_that_cannot_be_written_does_not_fail_the_container(world: World) -> None:
    plugin = await world.join()
    world.wanted["c1"] = cpus("\ud800")
    about = {"pod": POD, "container": a_container()}
    assert await plugin.ask("CreateContainer", about) == {}
    assert await plugin.ask("UpdateContainer", about) == {}
    assert "UTF-8" in (await world.told(LeftAlone)).why


async def test_other_requests_are_answered_with_a_code(world: World) -> None:
    plugin = await world.join()
    with pytest.raises(Hangup, match="Synchronize: 3 "):
        await plugin.ask_raw("Synchronize", b"\x0a\x7f cut")
    with pytest.raises(Hangup, match="RunPodSandbox: 12 "):
        await plugin.ask("RunPodSandbox", {"pod": POD})
    assert await plugin.ask("Shutdown", {}) == {}
    assert world.client.joined


@pytest.mark.parametrize(("piece", "dribble"), [(1, 0), (3, 7), (5000, 1), (0, 13)])
async def test_frames_may_come_in_any_pieces(world: World, piece: int, dribble: int) -> None:
    world.runtime.piece, world.runtime.dribble = piece, dribble
    world.runtime.containers = [a_container(cpus="0-3")]
    world.wanted = {"c1": cpus("0-1"), "c2": cpus("2")}
    plugin = await world.join()
    assert plugin.corrected == [an_update("c1", "0-1")]
    answer = await plugin.ask("CreateContainer", {"pod": POD, "container": a_container("c2")})
    assert answer["adjust"]["linux"]["resources"]["cpu"]["cpus"] == "2"


async def test_long_messages_pass_both_ways(world: World) -> None:
    """The runtime here, like Go's, cannot take a frame that is larger than its buffer."""
    plugin = await world.join()
    world.wanted["c1"] = Adjustment(env={f"KEY_{n}": "x" * 100 for n in range(2000)})
    container = a_container(env=[f"E{n}=" + "y" * 100 for n in range(20_000)])
    answer = await plugin.ask("CreateContainer", {"pod": POD, "container": container})
    assert len(answer["adjust"]["env"]) == 2000


async def test_what_happens_can_be_heard_as_a_source(world: World) -> None:
    stories = Stories()
    client = NriClient(world.settings, world.clock, Random(1), world.adjust, stories.add)
    async with asyncio.timeout(SOON), stories.of(client.run) as heard:
        plugin = await world.runtime.joined()
        assert isinstance(await anext(heard), Joined)
        plugin.hang_up()
        assert isinstance(await anext(heard), Lost)
    assert not client.joined


async def test_a_source_whose_client_fails_says_so() -> None:
    stories = Stories()

    async def fails() -> None:
        stories.add(Ended(at=1, container_id="c1"))
        raise ZeroDivisionError

    async with stories.of(fails) as heard:
        assert await anext(heard) == Ended(at=1, container_id="c1")
        with pytest.raises(ZeroDivisionError):
            await anext(heard)


async def test_stories_nobody_reads_are_capped() -> None:
    async def talks() -> None:
        for n in range(HELD + 5):
            stories.add(Ended(at=n, container_id=""))

    stories = Stories()
    async with stories.of(talks) as heard:
        assert [told.at async for told in heard] == list(range(5, HELD + 5))


# -- is there one ----------------------------------------------------------------------------------------------------


async def test_a_probe_says_why_not(world: World, folder: Path) -> None:
    assert await probe(str(world.runtime.path)) is None
    assert (
        await probe(str(folder / "none.sock")) == f"there is no {folder}/none.sock: the container runtime offers no NRI"
    )
    (folder / "file").write_text("")
    assert await probe(str(folder / "file")) == f"nobody listens at {folder}/file"
    await world.runtime.stop()
    assert await probe(str(world.runtime.path)) == f"nobody listens at {world.runtime.path}"
    assert "nri" in str(await probe(f"{folder}/{'nri' * 100}"))  # longer than any socket's path
