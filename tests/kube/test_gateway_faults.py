"""A real API server that is killed, cut off, made to forget, stormed at or slow: what the gateway knows stays right."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from neap.common.errors import PortError
from neap.common.kube.objects import NAMESPACES, PODS
from neap.common.kube.port import Kube
from neap.common.runtime.clock import stopwatch, wall_clock
from neap.common.testing.apiserver import ApiServer
from neap.gateway.core.asking.breaker import BreakerSettings
from neap.gateway.core.asking.flow import Flow, FlowSettings
from neap.gateway.core.hearing.reflector import Complete, Reflector, ReflectorSettings, Removed, Seen, Stale
from neap.gateway.shell.http import HttpKube, connect
from neap.gateway.shell.reflect import reflected
from neap.gateway.shell.steady import SteadyKube
from tests.conftest import SOON
from tests.kube.server import api_server  # noqa: F401  a fixture

pytestmark = [pytest.mark.kube, pytest.mark.timeout(4 * SOON)]

QUICK = ReflectorSettings(page=10, stale_after=1.0, first_retry=0.1, last_retry=1.0, lived=2.0, relist_spread=0.2)
FLOW = FlowSettings(
    probe_every=0.5, deadline=5.0, breaker=BreakerSettings(failures=5, cool_down=1.0), rate=2000.0, burst=2000.0
)
NAP = 0.05


class Proxy:
    """An endpoint in front of the API server, to which anything may happen; it counts what is asked."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.asked: Counter[str] = Counter()
        self.storm = False
        self.delay = 0.0
        self.expire = False  # whoever watches is told 410
        self._streams: set[asyncio.Task[Any] | None] = set()
        self.port = 0

    async def serve(self, stack: AsyncExitStack) -> None:
        trust = ssl.create_default_context(cafile=self._server.ca)
        self._session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0))
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]

    def cut(self) -> None:
        for stream in self._streams:
            if stream is not None:
                stream.cancel()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        verb = "watch" if request.query.get("watch") else request.method
        self.asked[f"{verb} {request.path.rsplit('/', 1)[-1]}"] += 1
        await asyncio.sleep(self.delay)
        if self.storm:
            return web.json_response({"code": 503, "message": "a storm"}, status=503)
        if verb == "watch" and self.expire:
            return web.json_response({"code": 410, "message": "too old", "reason": "Expired"}, status=410)
        kept = {key: request.headers[key] for key in ("Authorization", "Content-Type") if key in request.headers}
        try:
            async with self._session.request(
                request.method, self._server.url + request.path_qs, headers=kept, data=await request.read()
            ) as answer:
                passed = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
                await passed.prepare(request)
                self._streams.add(asyncio.current_task())
                async for part in answer.content.iter_any():
                    await passed.write(part)
                return passed
        except (aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        finally:
            self._streams.discard(asyncio.current_task())


class Stage:
    """Two endpoints through proxies, SteadyKube over them, and a reflector of the pods of the whole cluster."""

    def __init__(self, truth: Kube, space: str, proxies: dict[str, Proxy], ends: dict[str, HttpKube]) -> None:
        self.truth, self.space, self.proxies = truth, space, proxies
        clock = wall_clock()
        self.flow = Flow(FLOW, tuple(ends))
        self.kube = SteadyKube(ends, self.flow, clock)
        self.reflector = Reflector(PODS, QUICK)
        self.clock = clock
        self.known: dict[str, Any] = {}
        self.told: list[Any] = []
        self.versions: set[tuple[str, str]] = set()
        self.least = 10**9

    async def follow(self) -> None:
        async with reflected(self.kube, self.clock, self.reflector, asyncio.Semaphore(2)) as said:
            async for what in said:
                self.told.append(what)
                match what:
                    case Seen(object=object, version=version):
                        assert (object.metadata.uid, version) not in self.versions
                        self.versions.add((object.metadata.uid, version))
                        self.known[object.metadata.key] = object
                    case Removed(key=key):
                        del self.known[key]
                self.least = min(self.least, len(self.mine))

    @property
    def mine(self) -> dict[str, Any]:
        return {key: pod for key, pod in self.known.items() if key.startswith(f"{self.space}/")}

    def count(self, kind: type) -> int:
        return sum(isinstance(what, kind) for what in self.told)

    async def pod(self, name: str) -> None:
        spec = {"containers": [{"name": "main", "image": "none"}]}
        await self.truth.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace=self.space)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        end = stopwatch() + SOON
        while not holds():
            assert stopwatch() < end, f"not within {SOON:g} s: {what}; {self.reflector.state(self.clock.now())}"
            await asyncio.sleep(NAP)

    async def catches_up(self) -> None:
        page = await self.truth.list(PODS, namespace=self.space, limit=5000)
        there = {each.metadata.key: each for each in page.items}
        await self.until(lambda: self.mine == there, f"{len(there)} pods are known")


@asynccontextmanager
async def stage(server: ApiServer, space: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        truth = await stack.enter_async_context(await connect(kubeconfig=server.kubeconfig, call=SOON))
        await truth.create(NAMESPACES, {"metadata": {"name": space}})
        proxies = {name: Proxy(server) for name in ("a", "b")}
        ends = {}
        for name, proxy in proxies.items():
            await proxy.serve(stack)
            host = f"http://127.0.0.1:{proxy.port}"
            ends[name] = await stack.enter_async_context(await connect(kubeconfig=server.kubeconfig, host=host))
        made = Stage(truth, space, proxies, ends)
        for number in range(30):
            await made.pod(f"p{number}")
        tasks = [asyncio.ensure_future(made.follow()), asyncio.ensure_future(made.kube.probe())]
        try:
            await made.until(lambda: made.count(Complete) > 0, "the first list")
            await made.catches_up()
            made.least = len(made.mine)
            yield made
            assert not [task.exception() for task in tasks if task.done()]
            assert made.least >= 20, "never a wiped state"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(PortError):
                await truth.delete(NAMESPACES, space)


async def test_a_server_that_is_killed_and_started_again_is_taken_up_where_it_was(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-kill") as world:
        lists = world.reflector.lists
        await api_server.kill()
        try:
            await world.until(lambda: world.count(Stale) == 1, "it is said to be stale")
            assert len(world.mine) == 30
        finally:
            await api_server.start()
        await world.pod("new")
        await world.catches_up()
        await world.until(lambda: world.reflector.state(world.clock.now()).stale == 0, "it is not stale any more")
        assert world.reflector.lists - lists <= 1, "no list, or one where the server forgot the past"
        turns = [turn.state for end in world.flow.endpoints() for turn in end.timeline]
        assert turns.count("closed") <= turns.count("half open")


async def test_watches_that_are_cut_go_on_without_a_list(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-cut") as world:
        lists, seen = world.reflector.lists, world.count(Seen)
        for number in range(5):
            opened = world.reflector.watches
            for proxy in world.proxies.values():
                proxy.cut()
            await world.pod(f"new{number}")
            await world.until(lambda opened=opened: world.reflector.watches > opened, "a new watch")  # type: ignore[misc]
            await world.catches_up()
        assert world.reflector.lists == lists
        assert world.count(Seen) == seen + 5
        assert world.count(Removed) == 0


async def test_after_a_410_one_list_tells_the_difference(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-expired") as world:
        lists, seen = world.reflector.lists, world.count(Seen)
        for proxy in world.proxies.values():
            proxy.expire = True
            proxy.cut()
        await world.truth.delete(PODS, "p3", namespace=world.space, grace=0.0)
        await world.pod("new")
        await world.until(lambda: world.reflector.lists == lists + 1, "a list")
        for proxy in world.proxies.values():
            proxy.expire = False
        await world.catches_up()
        assert world.count(Seen) == seen + 1
        assert world.count(Removed) == 1
        assert world.reflector.lists <= lists + 3


async def test_the_past_that_a_real_server_forgot_is_read_anew(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-forgot") as world:
        completes = world.count(Complete)
        for proxy in world.proxies.values():
            proxy.storm = True
            proxy.cut()
        await world.truth.delete(PODS, "p4", namespace=world.space, grace=0.0)
        await world.pod("new")
        await api_server.forget()
        for proxy in world.proxies.values():
            proxy.storm = False
        await world.catches_up()
        await world.until(lambda: world.count(Complete) > completes, "everything is known")
        assert world.count(Removed) == 1


async def test_a_storm_of_5xx_opens_breakers_and_is_over_when_it_is_over(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-storm") as world:
        for proxy in world.proxies.values():
            proxy.storm = True
            proxy.cut()

        def all_are(state: str) -> bool:
            return all(end.breaker == state for end in world.flow.endpoints())

        async def ask() -> None:
            while True:
                with suppress(PortError):
                    await world.kube.get(PODS, "p0", namespace=world.space)
                await asyncio.sleep(NAP)

        asking = asyncio.ensure_future(ask())
        await world.until(lambda: all_are("open"), "both are left alone")
        before, began = sum(sum(proxy.asked.values()) for proxy in world.proxies.values()), stopwatch()
        await asyncio.sleep(1.5)
        probes = 2 * (stopwatch() - began) / FLOW.probe_every + 2
        trials = 2 * (stopwatch() - began) / FLOW.breaker.cool_down + 2
        asked = sum(sum(proxy.asked.values()) for proxy in world.proxies.values()) - before
        assert asked <= probes + trials, "but for health probes and one trial per cool-down"
        for proxy in world.proxies.values():
            proxy.storm = False
        await world.until(lambda: all_are("closed"), "they serve again")
        asking.cancel()
        await world.pod("new")
        await world.catches_up()
        for end in world.flow.endpoints():
            turns = [turn.state for turn in end.timeline]
            assert turns[0] == "open"
            assert turns[-2:] == ["half open", "closed"]
            opened = [turn.at for turn in end.timeline if turn.state == "open"]
            tried = [turn.at for turn in end.timeline if turn.state == "half open"]
            assert all(trial - open_at >= 1.0 for open_at, trial in zip(opened, tried, strict=True))
        assert world.count(Removed) == 0


async def test_one_slow_endpoint_of_two_serves_little(api_server: ApiServer) -> None:  # noqa: F811
    async with stage(api_server, "faults-slow") as world:
        world.proxies["b"].delay = 2.0
        before = Counter({name: proxy.asked["GET p0"] for name, proxy in world.proxies.items()})
        for _ in range(40):
            await world.kube.get(PODS, "p0", namespace=world.space)
        asked = Counter({name: proxy.asked["GET p0"] for name, proxy in world.proxies.items()}) - before
        assert asked["b"] <= 4, asked
        assert asked["a"] >= 36
        world.proxies["b"].delay = 0.0
        await world.pod("new")
        await world.catches_up()
