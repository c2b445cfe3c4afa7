"""The health port: is this process alive, is it ready, what has it counted.

    /healthz   200 while no event has been handled for longer than the bound. NATS being away is no reason to be
               restarted: the node's reflex goes on without it.
    /readyz    200 while the bus is connected and every stored channel has been read to its end.
    /metrics   Prometheus text.

The first two answer in JSON, 503 with what is wrong in words. A blocked event loop answers nothing at all, which a
probe reads as not alive.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from neap.common.errors import SettingsError

if TYPE_CHECKING:
    from aiohttp.web import Request, Response

NO_PORT: Final = -1
PROMETHEUS: Final = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}

Probe = Callable[[], Sequence[str]]  # what is wrong, in words; nothing: all is well


@dataclass(frozen=True)
class Probes:
    """What the health port asks its process."""

    alive: Probe
    ready: Probe
    metrics: Callable[[], bytes]


@asynccontextmanager
async def serve_health(bind: str, port: int, probes: Probes) -> AsyncIterator[int]:
    """Answer while the context is open; yields the port (NO_PORT: none is wanted, and aiohttp is not imported).

    Raises:
        SettingsError: the port is taken, or the address is not ours; names both.
    """
    if port == NO_PORT:
        yield NO_PORT
        return
    from aiohttp import web  # noqa: PLC0415  3 MiB and 50 ms, only for those who listen

    async def healthz(_: Request) -> Response:
        return _verdict(probes.alive())

    async def readyz(_: Request) -> Response:
        return _verdict(probes.ready())

    async def metrics(_: Request) -> Response:
        return web.Response(body=probes.metrics(), headers=PROMETHEUS)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, bind, port).start()
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise SettingsError(
                f"health port {port} on {bind}: {reason} (process.health_port; 0: any free port, -1: none)"
            ) from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _verdict(wrong: Sequence[str]) -> Response:
    from aiohttp import web  # noqa: PLC0415

    body = msgspec.json.encode({"ok": not wrong, "wrong": list(wrong)})
    return web.Response(body=body, status=503 if wrong else 200, content_type="application/json")
