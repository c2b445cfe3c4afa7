"""A Kube that is opened when it is first needed: wiring a service is no time to read credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, cast

from neap.common.kube.kind import Kind
from neap.common.kube.port import Kube, Watched

CALLS: Final = ("list", "get", "create", "replace", "patch", "apply", "delete", "bind", "evict", "is_ready")


class Closable(Kube, Protocol):
    """A Kube that holds connections."""

    async def close(self) -> None:
        """Let them go."""
        ...


class _LateKube:
    def __init__(self, open_kube: Callable[[], Awaitable[Closable]]) -> None:
        self._open, self._kube, self._gate = open_kube, cast("Closable | None", None), asyncio.Lock()

    async def close(self) -> None:
        if self._kube is not None:
            await self._kube.close()

    async def now(self) -> Kube:
        async with self._gate:
            if self._kube is None:
                self._kube = await self._open()
            return self._kube

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in CALLS:
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await getattr(await self.now(), name)(*args, **kwargs)

        return call

    @asynccontextmanager
    async def watch(self, kind: Kind[Any], **how: Any) -> AsyncIterator[AsyncIterator[Watched[Any]]]:
        async with (await self.now()).watch(kind, **how) as lines:
            yield lines


def late(open_kube: Callable[[], Awaitable[Closable]]) -> Closable:
    """The Kube that `open_kube` gives, once it is asked something; what cannot be opened is tried again then."""
    return cast("Closable", _LateKube(open_kube))
