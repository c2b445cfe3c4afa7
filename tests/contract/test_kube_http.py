"""What a wire can do to HttpKube that a real API server seldom does: storms, silence, halves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from neap.common.errors import Denied, Rejected, Throttled, Unavailable
from neap.common.kube.kind import Kind
from neap.common.kube.objects import PODS
from neap.gateway.shell.http import HttpKube, connect
from tests.conftest import SOON

MAPS: Kind[dict[str, Any]] = Kind("", "v1", "configmaps", "ConfigMap", dict[str, Any])
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Wire:
    """A server that answers what a test wants, and the endpoint in front of it."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        assert self.answer is not None
        return await self.answer(request)

    def says(self, status: int, body: Any, **headers: str) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status, headers=headers)

        self.answer = answer

    def streams(self, *pieces: bytes, breaks: bool = False) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
            if breaks:
                assert request.transport is not None
                request.transport.abort()
            return response

        self.answer = answer


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def kube(wire: Wire, tmp_path: Path) -> AsyncIterator[HttpKube]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", wire.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    config = {
        "current-context": "c", "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}], "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    async with await connect(kubeconfig=str(tmp_path / "config"), call=SOON) as found:
        yield found
    await runner.cleanup()


def line(change: str, version: int, text: str = "") -> bytes:
    metadata = {"name": "a", "resourceVersion": str(version)}
    return json.dumps({"type": change, "object": {"metadata": metadata, "data": {"x": text}}}).encode() + b"\n"


async def test_a_server_with_too_much_to_do_says_when_to_come_again(wire: Wire, kube: HttpKube) -> None:
    wire.says(429, {"kind": "Status", "code": 429}, **{"Retry-After": "3"})
    with pytest.raises(Throttled) as refused:
        await kube.list(PODS)
    assert refused.value.after == 3.0
    wire.says(503, {})
    with pytest.raises(Unavailable):
        await kube.list(PODS)
    assert not await kube.is_ready()


async def test_who_we_are_is_said_every_time(wire: Wire, kube: HttpKube) -> None:
    wire.says(401, {})
    with pytest.raises(Denied):
        await kube.get(PODS, "a", namespace="b")
    assert wire.asked[0].headers["Authorization"] == "Bearer secret"
    assert wire.asked[0].headers["User-Agent"] == "neap-gateway"
    assert wire.asked[0].path == "/api/v1/namespaces/b/pods/a"


async def test_an_answer_that_cannot_be_read_is_named(wire: Wire, kube: HttpKube) -> None:
    wire.says(200, {"items": [{"metadata": {"name": 7}}]})
    with pytest.raises(Rejected, match="pods.*name"):
        await kube.list(PODS)


async def test_silence_is_no_answer(wire: Wire, kube: HttpKube) -> None:
    until = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await until.wait()
        return web.Response()

    wire.answer, kube._call = answer, 0.2
    with pytest.raises(Unavailable):
        await kube.list(PODS)
    with pytest.raises(Unavailable):
        async with kube.watch(PODS, version="1"):
            pass
    assert not await kube.is_ready()
    until.set()


async def test_a_line_of_several_mebibytes_comes_through(wire: Wire, kube: HttpKube) -> None:
    large = line("ADDED", 2, "x" * (5 << 20))
    wire.streams(
        line("ADDED", 1), large[: 3 << 20], large[3 << 20 :] + line("BOOKMARK", 3)[:10], line("BOOKMARK", 3)[10:]
    )
    async with asyncio.timeout(SOON), kube.watch(MAPS, version="0") as stream:
        heard = [
            (each.change, each.version, len(each.object["data"]["x"]) if each.object else 0) async for each in stream
        ]
    assert heard == [("ADDED", "1", 0), ("ADDED", "2", 5 << 20), ("BOOKMARK", "3", 0)]
    assert wire.asked[0].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("breaks", [True, False])
async def test_half_a_line_is_no_change(wire: Wire, kube: HttpKube, breaks: bool) -> None:
    wire.streams(line("ADDED", 1), line("ADDED", 2)[:20], breaks=breaks)
    heard: list[str] = []

    async def listen() -> None:
        async with asyncio.timeout(SOON), kube.watch(MAPS, version="0") as stream:
            async for each in stream:
                heard.append(each.version)  # noqa: PERF401  what was heard before it broke counts

    with pytest.raises(Unavailable):
        await listen()
    assert heard in (["1"], [])  # what came before the break may be lost with it


async def test_who_stops_listening_leaves_no_stream_behind(wire: Wire, kube: HttpKube) -> None:
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(line("ADDED", 1))
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    wire.answer = answer
    async with asyncio.timeout(SOON):
        async with kube.watch(MAPS, version="0") as stream:
            await anext(stream)
        await gone.wait()
