"""The Kube port: a Kubernetes API server, as far as neap needs one.

Every adapter keeps the promises of tests/contract/test_kube.py. Errors are those of neap.common.errors:

    404  Vanished         409  Conflict        410  Expired          429  Throttled, with Retry-After
    400, 413, 415, 422  Rejected               401, 403  Denied      5xx, time-outs, no connection  Unavailable

A watch that was answered ends by itself, after `within` at the latest, and says how far it came in its bookmarks;
who is behind for too long gets Expired, as the first thing or in mid-stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from neap.common.kube.kind import Kind
from neap.common.units import Seconds

T = TypeVar("T")
Body: TypeAlias = Mapping[str, Any] | msgspec.Struct


@dataclass(frozen=True)
class Page(Generic[T]):
    """Part of a list; `token` leads to the next one, empty at the end. All pages are of one `version`."""

    items: tuple[T, ...]
    version: str
    token: str = ""


class Change(StrEnum):
    """What a watch tells."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"  # nothing changed; only the object's resource version says anything


@dataclass(frozen=True)
class Watched(Generic[T]):
    """One line of a watch; of a bookmark only `version` is known."""

    change: Change
    version: str
    object: T | None


class PatchStyle(StrEnum):
    """How a patch is meant; the value is its media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


class Kube(Protocol):
    """See module docstring. `body` holds apiVersion and kind only where it wants to; the adapter adds them."""

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
        """One page; `only` is a field selector (spec.nodeName=n1). `version` "0" takes what a cache has."""
        ...

    def watch(
        self, kind: Kind[T], *, version: str, namespace: str = "", within: Seconds = 300.0, only: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[Watched[T]]]:
        """What happened after `version`, with bookmarks."""
        ...

    async def get(self, kind: Kind[T], name: str, *, namespace: str = "") -> T:
        """One object."""
        ...

    async def create(self, kind: Kind[T], body: Body, *, namespace: str = "", rehearse: bool = False) -> T:
        """A new object; `rehearse` only asks whether it would be taken. Conflict: it is there."""
        ...

    async def replace(self, kind: Kind[T], name: str, body: Body, *, namespace: str = "", subresource: str = "") -> T:
        """The whole object; Conflict if the body has a resource version that is not the newest."""
        ...

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
        """Part of an object; Conflict if the body has a resource version or uid that is not the object's."""
        ...

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
        """Server-side apply: the fields of `body` become the manager's, those it had before and left out go.

        Conflict: another manager has one of them with another value, unless `force`.
        """
        ...

    async def delete(
        self, kind: Kind[T], name: str, *, namespace: str = "", uid: str = "", grace: Seconds | None = None
    ) -> None:
        """An object; Conflict if `uid` is given and another one bears the name."""
        ...

    async def bind(self, namespace: str, name: str, *, uid: str, node: str) -> None:
        """A pod to a node; Conflict: it is bound already, or the name is another pod's."""
        ...

    async def evict(self, namespace: str, name: str, *, uid: str, grace: Seconds | None = None) -> None:
        """Ask for a pod's eviction (policy/v1).

        Throttled: a budget has no room now. Rejected: it has several budgets, which the API answers with 500.
        Conflict: the name is another pod's by now.
        """
        ...

    async def is_ready(self) -> bool:
        """Whether it says of itself that it can serve (/readyz); False also when it does not answer."""
        ...
