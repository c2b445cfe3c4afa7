"""The gateway's web server: what Kubernetes asks of it over HTTP.

    POST /mutate /validate        admission webhooks
    GET  /apis...                 metrics, behind the API server's aggregation
    POST /filter /prioritize      kube-scheduler's extender, where it is wanted
    GET  /healthz

Pure functions make the answers; here are sockets, certificates, limits and deadlines. A failure of ours is answered as
"passes", never with an error that would hold up a pod: the API server's own failurePolicy is for when nobody answers.
TLS files are looked at on every handshake, so a renewed certificate is in use at once; one that cannot be read leaves
the one before it in use. With `client_ca`, metrics are told only to those who have a certificate of that authority
(the API server's front proxy).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from neap.common.errors import NeapError, SettingsError
from neap.common.model.workload import Workload
from neap.common.telemetry.log import get_logger
from neap.common.units import Seconds
from neap.gateway.core.door import admission, extender
from neap.gateway.core.door.admission import AdmissionSettings, Noted, nothing_noted
from neap.gateway.core.door.extender import Verdicts
from neap.gateway.core.door.reply import Answered, Opened, Reply, refusal
from neap.gateway.settings import DoorSettings

WAITING: Final = 1024  # answers told to the machine and not taken yet; more are not told
STOP_WITHIN: Final[Seconds] = 2.0

Metrics = Callable[[str, Mapping[str, str], str], Reply]  # path, query, accepted media -> answer
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Weigh = Callable[[Workload, tuple[str, ...]], Awaitable[Verdicts]]


@dataclass(frozen=True)
class Answers:
    """What is answered, as functions. `metrics` reads what the machine knows; `weigh` asks the scheduler."""

    admission: AdmissionSettings
    metrics: Metrics
    healthy: Callable[[], list[str]]  # what is wrong, in words
    weigh: Weigh | None = None
    note: Noted = nothing_noted  # the size of pods to come


def door(
    settings: DoorSettings, answers: Answers
) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[Opened | Answered]]]:
    """A source for `hear(...)`: the server is up while somebody listens to what it says."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[Opened | Answered]]:
        told: asyncio.Queue[Opened | Answered] = asyncio.Queue(WAITING)
        runner = web.AppRunner(_Door(settings, answers, told).app(), access_log=None, shutdown_timeout=STOP_WITHIN)
        await runner.setup()
        try:
            tls = Certificates(settings).context if settings.certificate else None
            try:
                await web.TCPSite(runner, settings.bind, settings.port, ssl_context=tls).start()
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise SettingsError(
                    f"door.port = {settings.port} on {settings.bind}: {reason} (0: any free port)"
                ) from None
            told.put_nowait(Opened(int(runner.addresses[0][1])))
            yield _taken(told)
        finally:
            await runner.cleanup()

    return opened


async def _taken(told: asyncio.Queue[Opened | Answered]) -> AsyncIterator[Opened | Answered]:
    while True:
        yield await told.get()


class Certificates:
    """A TLS context that follows its files; see module docstring.

    Raises:
        SettingsError: at the start they cannot be read; names them.
    """

    def __init__(self, settings: DoorSettings) -> None:
        self._settings = settings
        self._seen: tuple[float, ...] = ()
        self._log = get_logger("door")
        try:
            self._seen = self._stamps()
            self._newest = self.context = self._read()
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(f"door.certificate = {settings.certificate}, door.key, client_ca: {error}") from None
        self.context.sni_callback = self._follow

    def _stamps(self) -> tuple[float, ...]:
        mine = self._settings
        return tuple(os.stat(path).st_mtime_ns for path in (mine.certificate, mine.key, mine.client_ca) if path)  # noqa: PTH116

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.certificate, self._settings.key)
        if self._settings.client_ca:
            context.load_verify_locations(self._settings.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _follow(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """At every handshake."""
        try:
            stamps = self._stamps()
            if stamps != self._seen:
                self._newest, self._seen = self._read(), stamps
                self._log.info("door.certificate_read", file=self._settings.certificate)
        except OSError as error:
            self._log.warning("door.certificate_refused", why=f"{error}; the one before it stays in use")
        connection.context = self._newest


class _Door:
    """The routes."""

    def __init__(self, settings: DoorSettings, answers: Answers, told: asyncio.Queue[Opened | Answered]) -> None:
        self._settings, self._answers, self._told = settings, answers, told

    def app(self) -> web.Application:
        """All of it."""
        app = web.Application(client_max_size=self._settings.largest, middlewares=[self._in_time])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_post("/mutate", self._mutate)
        app.router.add_post("/validate", self._validate)
        app.router.add_get("/apis", self._metrics)
        app.router.add_get("/apis/{path:.*}", self._metrics)
        if self._answers.weigh is not None:
            app.router.add_post("/filter", self._filter)
            app.router.add_post("/prioritize", self._prioritize)
        return app

    @web.middleware
    async def _in_time(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who does not finish his question is sent away; there is one deadline more for what is asked of others."""
        try:
            async with asyncio.timeout(2 * self._settings.deadline):
                return await handler(request)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None

    async def _healthz(self, _: web.Request) -> web.Response:
        wrong = self._answers.healthy()
        body = msgspec.json.encode({"ok": not wrong, "wrong": wrong})
        return web.Response(body=body, status=503 if wrong else 200, content_type="application/json")

    async def _mutate(self, request: web.Request) -> web.Response:
        return self._judged("mutate", await request.read(), changes=True)

    async def _validate(self, request: web.Request) -> web.Response:
        return self._judged("validate", await request.read(), changes=False)

    def _judged(self, where: str, body: bytes, *, changes: bool) -> web.Response:
        verdict = admission.judge(body, self._answers.admission, changes=changes, note=self._answers.note)
        if not verdict.dry_run:
            self._tell(Answered(where, verdict.outcome, verdict.pod, verdict.why or verdict.fault))
        return _sent(Reply(body=admission.encode(verdict)))

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._settings.client_ca and request.get_extra_info("peercert") is None:
            return _sent(refusal(401, "Unauthorized", "metrics are told to the API server's front proxy"))
        return _sent(self._answers.metrics(request.path, request.query, request.headers.get("Accept", "")))

    async def _filter(self, request: web.Request) -> web.Response:
        asked = extender.question(await request.read(), self._answers.admission)
        reply = extender.filtered(asked, *await self._weighed(asked))
        self._tell(Answered("filter", reply.outcome, about=reply.about))
        return _sent(reply)

    async def _prioritize(self, request: web.Request) -> web.Response:
        asked = extender.question(await request.read(), self._answers.admission)
        reply = extender.prioritized(asked, *await self._weighed(asked))
        self._tell(Answered("prioritize", reply.outcome, about=reply.about))
        return _sent(reply)

    async def _weighed(self, asked: extender.Question) -> tuple[Verdicts | None, str]:
        """The scheduler's verdicts; None and why if they do not come, and then all nodes pass."""
        if asked.workload is None or self._answers.weigh is None:
            return None, ""
        try:
            async with asyncio.timeout(self._settings.deadline):
                return await self._answers.weigh(asked.workload, asked.names), ""
        except TimeoutError:
            return None, f"no verdicts within {self._settings.deadline:g} s"
        except NeapError as error:
            return None, f"no verdicts: {error!s:.200}"

    def _tell(self, what: Answered) -> None:
        with suppress(asyncio.QueueFull):  # the machine only counts them
            self._told.put_nowait(what)


def _sent(reply: Reply) -> web.Response:
    return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": reply.media})
