"""A Kube that is opened when it is first needed: wiring a service is no time to read credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from neap.common.kube.kind import Kind
from neap.common.kube.port import Kube, Watched

CALLS: Final = ("list", "get", "create", "replace", "patch", "apply", "delete", "bind", "evict", "is_ready")


class _LateKube:
    """See module docstring. What cannot be opened is tried again at the next call."""

    def __init__(self, open_kube: Callable[[], Awaitable[Kube]]) -> None:
        self._open, self._kube, self._gate = open_kube, cast("Kube | None", None), asyncio.Lock()

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


def late(open_kube: Callable[[], Awaitable[Kube]]) -> Kube:
    """The Kube that `open_kube` gives, once it is asked something."""
    return cast("Kube", _LateKube(open_kube))
