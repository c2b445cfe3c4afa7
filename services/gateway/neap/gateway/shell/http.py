"""HttpKube: one endpoint of a Kubernetes API server, over HTTP.

    async with await connect(kubeconfig=path) as kube:
        page = await kube.list(PODS)

Who we are and whom we trust comes from kubernetes_asyncio (client.py), bodies are msgspec's. Nothing is tried twice and
nothing is held back here: that is SteadyKube's. A watch is silent for as long as nothing happens; how long is too long
is the caller's to say.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from neap.common.errors import PortError, Unavailable, Unreached
from neap.common.kube.kind import Kind
from neap.common.kube.objects import PODS
from neap.common.kube.port import Body, Page, PatchStyle, Watched
from neap.common.units import Seconds
from neap.gateway.shell.answer import complaint, decode, object_decoder, page_decoder, retry_after, watched
from neap.gateway.shell.client import Credentials, credentials
from neap.gateway.shell.line import lines

T = TypeVar("T")

CALL: Final[Seconds] = 30.0  # one answer; a page of 500 pods takes 50 ms
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
AGENT: Final = "neap-gateway"
LOST: Final = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, EOFError)

Options = Mapping[str, str | int | None]


async def connect(
    *, kubeconfig: str = "", context: str = "", host: str = "", server_name: str = "", call: Seconds = CALL
) -> HttpKube:
    """See `client.credentials` for where they come from; nothing is asked yet.

    Raises:
        SettingsError: nothing usable was found.
    """
    found = await credentials(kubeconfig=kubeconfig, context=context, host=host, server_name=server_name)
    return HttpKube(found, call=call)


class HttpKube:
    """See module docstring. Keeps the promises of neap.common.kube.port."""

    def __init__(self, who: Credentials, *, call: Seconds = CALL) -> None:
        self._who, self._call = who, call
        self._session = who.session()

    @property
    def host(self) -> str:
        """The server's URL."""
        return self._who.host

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        """Use it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    # -- reading

    async def list(
        self,
        kind: Kind[T],
        *,
        namespace: str = "",
        limit: int = 500,
        token: str = "",
        version: str = "",
        only: str = "",
    ) -> Page[T]:
        """One page."""
        options: Options = {"limit": limit, "continue": token, "resourceVersion": version, "fieldSelector": only}
        raw = await self._ask("GET", kind.path(namespace), options)
        found = decode(page_decoder(kind), raw, f"GET {kind}")
        return Page(tuple(found.items or ()), found.metadata.version, found.metadata.token)

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], *, version: str, namespace: str = "", within: Seconds = 300.0, only: str = ""
    ) -> AsyncIterator[AsyncIterator[Watched[T]]]:
        """What happened after `version`."""
        what, path = f"watch {kind}", kind.path(namespace)
        options: Options = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "fieldSelector": only,
            "timeoutSeconds": max(1, round(within)),
        }  # fmt: skip
        response = await self._open("GET", path, options, whole=False)
        stream = self._told(kind, response, what)
        try:
            yield stream
        finally:
            await stream.aclose()
            response.close()  # not `release`: what still comes is nobody's

    async def _told(self, kind: Kind[T], response: Any, what: str) -> AsyncGenerator[Watched[T], None]:
        try:
            async for line in lines(response.content.iter_any()):
                yield watched(kind, line, what)
        except LOST as error:
            raise Unavailable(f"{what}: the stream broke off: {_words(error)}") from error

    async def get(self, kind: Kind[T], name: str, *, namespace: str = "") -> T:
        """One object."""
        return await self._object(kind, "GET", kind.path(namespace, _safe(name)))

    # -- writing

    async def create(self, kind: Kind[T], body: Body, *, namespace: str = "", rehearse: bool = False) -> T:
        """A new object."""
        options: Options = {"dryRun": "All" if rehearse else None}
        return await self._object(kind, "POST", kind.path(namespace), options, _whole(kind, body))

    async def replace(self, kind: Kind[T], name: str, body: Body, *, namespace: str = "", subresource: str = "") -> T:
        """The whole object."""
        return await self._object(kind, "PUT", kind.path(namespace, _safe(name), subresource), {}, _whole(kind, body))

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        body: Body | Sequence[Any],
        *,
        namespace: str = "",
        subresource: str = "",
        style: PatchStyle = PatchStyle.MERGE,
    ) -> T:
        """Part of an object."""
        path = kind.path(namespace, _safe(name), subresource)
        return await self._object(kind, "PATCH", path, {}, body, style)

    async def apply(
        self,
        kind: Kind[T],
        name: str,
        body: Body,
        *,
        manager: str,
        namespace: str = "",
        subresource: str = "",
        force: bool = False,
    ) -> T:
        """Server-side apply."""
        whole = _whole(kind, body)
        whole["metadata"] = {**whole.get("metadata", {}), "name": name}
        options: Options = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._object(kind, "PATCH", kind.path(namespace, _safe(name), subresource), options, whole, APPLY)

    async def delete(
        self, kind: Kind[T], name: str, *, namespace: str = "", uid: str = "", grace: Seconds | None = None
    ) -> None:
        """An object."""
        options = _delete_options(uid, grace) | {"apiVersion": "v1", "kind": "DeleteOptions"}
        await self._ask("DELETE", kind.path(namespace, _safe(name)), {}, options)

    async def bind(self, namespace: str, name: str, *, uid: str, node: str) -> None:
        """A pod to a node."""
        metadata, target = {"name": name, "namespace": namespace, "uid": uid}, {"kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        await self._ask("POST", PODS.path(namespace, _safe(name), "binding"), {}, body)

    async def evict(self, namespace: str, name: str, *, uid: str, grace: Seconds | None = None) -> None:
        """Ask for a pod's eviction."""
        body = {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options(uid, grace),
        }  # fmt: skip
        await self._ask("POST", PODS.path(namespace, _safe(name), "eviction"), {}, body)

    async def is_ready(self) -> bool:
        """Whether it says of itself that it can serve."""
        try:
            await self._ask("GET", "/readyz", {})
        except PortError:
            return False
        return True

    # -- how

    async def _object(
        self, kind: Kind[T], method: str, path: str, options: Options | None = None, body: Any = None, media: str = JSON
    ) -> T:
        raw = await self._ask(method, path, options or {}, body, media)
        found: T = decode(object_decoder(kind), raw, f"{method} {path}")
        return found

    async def _ask(self, method: str, path: str, options: Options, body: Any = None, media: str = JSON) -> bytes:
        response = await self._open(method, path, options, body, media)
        try:
            async with response:
                return bytes(await response.read())
        except LOST as error:
            raise Unavailable(f"{method} {path}: the answer broke off: {_words(error)}") from error

    async def _open(
        self, method: str, path: str, options: Options, body: Any = None, media: str = JSON, *, whole: bool = True
    ) -> Any:
        """The answer, its body unread; whatever is no success is raised as what it means."""
        headers = {"User-Agent": AGENT, "Accept": JSON}
        if authorization := await self._who.header():
            headers["Authorization"] = authorization
        if body is not None:
            headers["Content-Type"] = str(media)
        try:
            async with asyncio.timeout(self._call):  # until it answers; then a watch may take its time
                response = await self._session.request(
                    method,
                    self._who.host + path,
                    params={key: str(value) for key, value in options.items() if value not in {None, ""}},
                    data=None if body is None else BytesIO(msgspec.json.encode(body)),
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=self._call if whole else None),
                    server_hostname=self._who.server_name,
                    proxy=self._who.proxy,
                )
                if response.status < 300:  # redirections were followed
                    return response
                async with response:
                    raw = await response.read()
        except aiohttp.ClientConnectorError as error:
            raise Unreached(f"{method} {path}: {_words(error)}") from error
        except LOST as error:
            raise Unavailable(f"{method} {path}: {_words(error)}") from error
        if response.status == 401:
            self._who.doubt()
        raise complaint(response.status, raw, f"{method} {path}", retry_after(response.headers))


def _whole(kind: Kind[T], body: Body) -> dict[str, Any]:
    """With what says which kind it is."""
    fields = msgspec.to_builtins(body)
    return {**fields, "apiVersion": kind.api_version, "kind": kind.name}


def _delete_options(uid: str, grace: Seconds | None) -> dict[str, Any]:
    options: dict[str, Any] = {"preconditions": {"uid": uid}} if uid else {}
    return options if grace is None else options | {"gracePeriodSeconds": max(0, round(grace))}


def _safe(name: str) -> str:
    return quote(name, safe=":")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
