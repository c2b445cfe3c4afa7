"""The Kube in memory: an API server and its endpoints, with the promises of a real one, on any asyncio loop.

    cluster = MemoryCluster(now=clock.now, random=random.Random(7))
    one, two = cluster.endpoint("a"), cluster.endpoint("b")
    one.faults.append(Fault("create", "pods/binding", times=3))             # three fail
    two.faults.append(Fault(error=None, least=0.5, most=2.0))               # slow
    cluster.faults.append(Fault("watch", error=Expired, times=1))
    cluster.cut(), cluster.compact(), two.go(), two.come()

No sockets, no tasks of its own; delays, bookmarks and the ends of watches are timers of the loop, so that a simulation
under virtual time is deterministic. There are no controllers: budgets are counted, namespaces emptied and pods ended by
whoever plays them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

from neap.common.errors import Denied, PortError, Rejected, Throttled, Unavailable, Vanished
from neap.common.kube import memory_rules as rules
from neap.common.kube.kind import Kind
from neap.common.kube.memory_cluster import Server, plain
from neap.common.kube.memory_patch import json_patch, merge, strategic
from neap.common.kube.memory_store import Entry, Event
from neap.common.kube.objects import PODS
from neap.common.kube.port import Body, Change, Page, PatchStyle, Watched
from neap.common.units import Seconds

T = TypeVar("T")
May = Callable[[str, str, str], bool]  # verb, resource with its subresource (pods/binding), namespace

BOOKMARKS: Final[Seconds] = 60.0  # at least this often
FAREWELL: Final[Seconds] = 2.0  # before a watch ends
PATCHES: Final[dict[PatchStyle, Callable[[Any, Any], Any]]] = {
    PatchStyle.JSON: json_patch, PatchStyle.MERGE: merge, PatchStyle.STRATEGIC: strategic,
}  # fmt: skip


@dataclass(slots=True)
class Fault:
    """What befalls requests of this verb (RBAC's words, or "tell": one line of a watch) on this resource; "*" means all.

    A request waits between `least` and `most` seconds, and then fails with `error` if there is one: before it does
    anything, or, if `done`, afterwards, so that only the answer is lost. `share` of the requests are struck, and no
    more than `times` if that is not negative. The first fault that strikes decides.
    """

    verb: str = "*"
    resource: str = "*"
    error: type[PortError] | None = Unavailable
    share: float = 1.0
    times: int = -1
    least: Seconds = 0.0
    most: Seconds = 0.0
    done: bool = False
    after: Seconds = 0.0  # Retry-After of Throttled

    def strikes(self, verb: str, resource: str, random: Random) -> bool:
        """Whether it does now; if so it is counted."""
        if self.times == 0 or self.verb not in {"*", verb} or self.resource not in {"*", resource}:
            return False
        if self.share < 1.0 and random.random() >= self.share:
            return False
        self.times -= 1 if self.times > 0 else 0
        return True

    def fail(self, what: str) -> None:
        """Raise its error."""
        if self.error is not None:
            raise Throttled(what, self.after) if self.error is Throttled else self.error(what)


class MemoryCluster:
    """See module docstring. `absent` names kinds that are not installed; `asked` counts requests by (verb, resource)."""

    def __init__(self, *, now: Callable[[], Seconds] = lambda: 0.0, random: Random | None = None) -> None:
        self.random = random or Random(0)
        self.server = Server(now, self.random)
        self.faults: list[Fault] = []
        self.absent: set[str] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.cuts = 0

    def endpoint(self, name: str = "neap-gateway", *, may: May | None = None) -> MemoryKube:
        """A way to it; without `may` everything is allowed."""
        return MemoryKube(self, name, may)

    def cut(self) -> None:
        """Break off every watch."""
        self.cuts += 1
        self.server.store.wake()

    def compact(self) -> None:
        """Forget the past: watches that are not at the end, and lists that were begun, get Expired."""
        self.server.store.compact()
        self.server.store.wake()


class MemoryKube:
    """One endpoint; keeps the promises of neap.common.kube.port. See module docstring."""

    def __init__(self, cluster: MemoryCluster, name: str, may: May | None) -> None:
        self._cluster, self._server, self._may = cluster, cluster.server, may
        self.name = name
        self.faults: list[Fault] = []
        self.away = False

    def go(self) -> None:
        """Nobody answers at this endpoint, and its watches break off."""
        self.away = True
        self._server.store.wake()

    def come(self) -> None:
        """It answers again."""
        self.away = False

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
        async with self._call("list", kind, namespace):
            wanted = _wanted(kind, namespace, only)
            at, entries, left = self._server.store.page(kind, limit, token, lambda entry: wanted(entry.object))
            if version.isdecimal() and int(version) > at:
                raise Unavailable(f"list {kind}: Too large resource version: {version}, current: {at}")
            return Page(tuple(entry.read(kind) for entry in entries), str(at), left)

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], *, version: str, namespace: str = "", within: Seconds = 300.0, only: str = ""
    ) -> AsyncIterator[AsyncIterator[Watched[T]]]:
        """What happened after `version`."""
        async with self._call("watch", kind, namespace):
            if not version.isdecimal():
                raise Rejected(f"watch {kind}: {version!r} is no resource version")
            stream = self._told(kind, int(version), _wanted(kind, namespace, only), within)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def _told(
        self, kind: Kind[T], version: int, wanted: Callable[[Any], bool], within: Seconds
    ) -> AsyncGenerator[Watched[T], None]:
        loop, store, cuts = asyncio.get_running_loop(), self._server.store, self._cluster.cuts
        ends = loop.time() + within
        mark = min(loop.time() + BOOKMARKS, max(loop.time(), ends - FAREWELL))
        place = store.place(kind, version)
        while True:
            if self.away or cuts != self._cluster.cuts:
                raise Unavailable(f"watch {kind}: the stream broke off")
            if event := store.after(kind, place):
                place += 1
                if (told := _seen(kind, event, wanted)) is not None:
                    await self._befall("tell", str(kind))
                    yield told
                continue
            if loop.time() >= mark:
                yield Watched(Change.BOOKMARK, str(store.version), None)
                mark = min(loop.time() + BOOKMARKS, ends - FAREWELL) if loop.time() < ends - FAREWELL else ends + 1.0
            elif loop.time() >= ends:
                return
            else:
                await self._news(kind, min(mark, ends))

    async def _news(self, kind: Kind[Any], until: Seconds) -> None:
        """Wait for something to happen to the kind."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shelf = self._server.store.shelf(kind)
        shelf.waiting.append(news)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await news
        finally:
            if news in shelf.waiting:
                shelf.waiting.remove(news)

    async def get(self, kind: Kind[T], name: str, *, namespace: str = "") -> T:
        """One object."""
        async with self._call("get", kind, namespace):
            return self._server.entry(kind, _key(kind, namespace, name)).read(kind)

    # -- writing

    async def create(self, kind: Kind[T], body: Body, *, namespace: str = "", rehearse: bool = False) -> T:
        """A new object."""
        async with self._call("create", kind, namespace):
            return self._server.create(kind, body, namespace, self.name, rehearse=rehearse).read(kind)

    async def replace(self, kind: Kind[T], name: str, body: Body, *, namespace: str = "", subresource: str = "") -> T:
        """The whole object."""
        async with self._call("update", kind, namespace, subresource):
            return self._server.replace(kind, _key(kind, namespace, name), subresource, self.name, body).read(kind)

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
        async with self._call("patch", kind, namespace, subresource):
            if style is PatchStyle.STRATEGIC and "." in kind.group and not kind.group.endswith(".k8s.io"):
                raise Rejected(f"patch {kind}: own kinds know no strategic merge")
            said, key = plain(body), _key(kind, namespace, name)
            return self._server.write(kind, key, subresource, self.name, lambda old: PATCHES[style](old, said)).read(
                kind
            )

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
        async with self._call("patch", kind, namespace, subresource):
            said = plain(body)
            said["metadata"] = {**(said.get("metadata") or {}), "name": name}
            if kind.namespaced:
                said["metadata"]["namespace"] = namespace
            key = _key(kind, namespace, name)
            return self._server.apply(kind, key, subresource, manager, said, force=force).read(kind)

    async def delete(
        self, kind: Kind[T], name: str, *, namespace: str = "", uid: str = "", grace: Seconds | None = None
    ) -> None:
        """An object."""
        async with self._call("delete", kind, namespace):
            self._server.delete(kind, _key(kind, namespace, name), uid, grace)

    async def bind(self, namespace: str, name: str, *, uid: str, node: str) -> None:
        """A pod to a node."""
        async with self._call("create", PODS, namespace, "binding"):
            self._server.bind(f"{namespace}/{name}", uid, node)

    async def evict(self, namespace: str, name: str, *, uid: str, grace: Seconds | None = None) -> None:
        """Ask for a pod's eviction."""
        async with self._call("create", PODS, namespace, "eviction"):
            self._server.evict(f"{namespace}/{name}", uid, grace)

    async def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            await self._befall("get", "/readyz")
        except PortError:
            return False
        return not self.away

    async def close(self) -> None:
        """Nothing is held."""

    # -- how

    @asynccontextmanager
    async def _call(self, verb: str, kind: Kind[Any], namespace: str, subresource: str = "") -> AsyncIterator[None]:
        resource = f"{kind}/{subresource}" if subresource else str(kind)
        self._cluster.asked[verb, resource] += 1
        fault = await self._befall(verb, resource)
        if self._may is not None and not self._may(verb, resource, namespace):
            raise Denied(f"{verb} {resource}: {self.name} is not allowed to")
        if str(kind) in self._cluster.absent:
            raise Vanished(f"{verb} {resource}: the server knows no such kind")
        yield
        if fault is not None:
            fault.fail(f"{verb} {resource}: the answer was lost")

    async def _befall(self, verb: str, resource: str) -> Fault | None:
        """Wait and fail as faults want it; the one that is to strike once it is done is returned."""
        found = None
        for fault in (*self.faults, *self._cluster.faults):
            if fault.strikes(verb, resource, self._cluster.random):
                found = fault
                break
        wait = self._cluster.random.uniform(found.least, found.most) if found and found.most else 0.0
        await asyncio.sleep(wait)  # others run meanwhile, as they do while a real one is asked
        if self.away:
            raise Unavailable(f"{verb} {resource}: nobody answers at {self.name}")
        if found is not None and not found.done:
            found.fail(f"{verb} {resource}: a fault of the simulation")
        return found if found is not None and found.done else None


def _key(kind: Kind[Any], namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if kind.namespaced else name


def _wanted(kind: Kind[Any], namespace: str, only: str) -> Callable[[Any], bool]:
    terms = rules.field_selector(kind, only)

    def wanted(object: Any) -> bool:
        return (not namespace or object["metadata"].get("namespace") == namespace) and rules.chosen(terms, object)

    return wanted


def _seen(kind: Kind[T], event: Event, wanted: Callable[[Any], bool]) -> Watched[T] | None:
    """What a watch tells of it: coming into a selection is being added, leaving it is being deleted."""

    def meets(entry: Entry | None) -> bool:
        return entry is not None and wanted(entry.object)

    was, now = meets(event.before), event.change is not Change.DELETED and meets(event.entry)
    if not was and not now:
        return None
    change = Change.ADDED if not was else Change.MODIFIED if now else Change.DELETED
    return Watched(change, str(event.version), event.entry.read(kind))


__all__ = ("Fault", "MemoryCluster", "MemoryKube")
