"""SteadyKube: one Kube over several API servers. What may be asked, when and of whom is decided in core/asking/flow.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from copy import copy
from typing import Any, TypeVar

from neap.common.errors import PortError, Throttled, Unavailable
from neap.common.kube.kind import Kind
from neap.common.kube.objects import PODS
from neap.common.kube.port import Body, Kube, Page, PatchStyle, Watched
from neap.common.runtime.clock import Clock
from neap.common.units import Seconds
from neap.gateway.core.asking.flow import Flow, Refusal, Ticket
from neap.gateway.core.asking.routing import Ask, Priority, Verb, usual_priority

T = TypeVar("T")
R = TypeVar("R")


def _always() -> str:
    return ""


class SteadyKube:
    """See module docstring. `probe` runs beside it for as long as it is used."""

    def __init__(self, endpoints: Mapping[str, Kube], flow: Flow, clock: Clock) -> None:
        self._endpoints, self._flow, self._clock = dict(endpoints), flow, clock
        self._priority: Priority | None = None
        self._forbids: Callable[[], str] = _always
        self._writing: set[int] = set()
        self._still = asyncio.Event()
        self._still.set()
        self._out = {name: asyncio.Event() for name in endpoints}  # set while an endpoint's probes are bad

    def of(self, priority: Priority | None = None, *, forbids: Callable[[], str] = _always) -> SteadyKube:
        """The same, for requests of one priority, or whose writes somebody may forbid by saying why (a fence)."""
        view = copy(self)
        vars(view).update(_priority=priority, _forbids=forbids)
        return view

    async def still(self) -> None:
        """Return once no write is under way."""
        await self._still.wait()

    # -- requests

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
        return await self._call(
            self._ask(Verb.LIST, kind),
            lambda kube: kube.list(kind, namespace=namespace, limit=limit, token=token, version=version, only=only),
        )

    async def get(self, kind: Kind[T], name: str, *, namespace: str = "") -> T:
        """One object."""
        return await self._call(self._ask(Verb.GET, kind), lambda kube: kube.get(kind, name, namespace=namespace))

    async def create(self, kind: Kind[T], body: Body, *, namespace: str = "", rehearse: bool = False) -> T:
        """A new object."""
        ask = self._ask(Verb.CREATE, kind)
        return await self._call(ask, lambda kube: kube.create(kind, body, namespace=namespace, rehearse=rehearse))

    async def replace(self, kind: Kind[T], name: str, body: Body, *, namespace: str = "", subresource: str = "") -> T:
        """The whole object."""
        return await self._call(
            self._ask(Verb.REPLACE, kind),
            lambda kube: kube.replace(kind, name, body, namespace=namespace, subresource=subresource),
        )

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
        return await self._call(
            self._ask(Verb.PATCH, kind),
            lambda kube: kube.patch(kind, name, body, namespace=namespace, subresource=subresource, style=style),
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
        return await self._call(
            self._ask(Verb.APPLY, kind),
            lambda kube: kube.apply(
                kind, name, body, manager=manager, namespace=namespace, subresource=subresource, force=force
            ),
        )

    async def delete(
        self, kind: Kind[T], name: str, *, namespace: str = "", uid: str = "", grace: Seconds | None = None
    ) -> None:
        """An object."""
        ask = self._ask(Verb.DELETE, kind)
        await self._call(ask, lambda kube: kube.delete(kind, name, namespace=namespace, uid=uid, grace=grace))

    async def bind(self, namespace: str, name: str, *, uid: str, node: str) -> None:
        """A pod to a node."""
        await self._call(self._ask(Verb.BIND, PODS), lambda kube: kube.bind(namespace, name, uid=uid, node=node))

    async def evict(self, namespace: str, name: str, *, uid: str, grace: Seconds | None = None) -> None:
        """Ask for a pod's eviction."""
        await self._call(self._ask(Verb.EVICT, PODS), lambda kube: kube.evict(namespace, name, uid=uid, grace=grace))

    async def is_ready(self) -> bool:
        """Whether any endpoint is."""
        return any(await asyncio.gather(*(self._is_ready(kube) for kube in self._endpoints.values())))

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], *, version: str, namespace: str = "", within: Seconds = 300.0, only: str = ""
    ) -> AsyncIterator[AsyncIterator[Watched[T]]]:
        """What happened after `version`; ends with Unavailable when its endpoint goes out."""

        def opened(kube: Kube) -> AbstractAsyncContextManager[AsyncIterator[Watched[T]]]:
            return kube.watch(kind, version=version, namespace=namespace, within=within, only=only)

        async with AsyncExitStack() as stack:
            ticket, lines = await self._attempts(
                self._ask(Verb.WATCH, kind), lambda kube: stack.enter_async_context(opened(kube))
            )
            self._flow.watching(ticket, 1)
            stack.callback(self._flow.watching, ticket, -1)
            async with aclosing(_until_out(lines, self._out[ticket.endpoint], ticket.endpoint)) as told:
                yield told

    # -- how

    def _ask(self, verb: Verb, kind: Kind[Any]) -> Ask:
        return Ask(verb, str(kind), self._priority or usual_priority(verb, str(kind)))

    async def _call(self, ask: Ask, request: Callable[[Kube], Awaitable[R]]) -> R:
        return (await self._attempts(ask, request))[1]

    async def _attempts(self, ask: Ask, request: Callable[[Kube], Awaitable[R]]) -> tuple[Ticket, R]:
        """Try until it is answered, or may not be tried again. The token is taken once per attempt."""
        tried: list[str] = []
        while True:
            await self._turn(ask)
            ticket = self._flow.choose(ask, self._clock.now(), tried)
            if isinstance(ticket, Refusal):
                raise Unavailable(ticket.why)
            tried.append(ticket.endpoint)
            try:
                return ticket, await self._attempt(ticket, request)
            except PortError as error:
                if not self._flow.goes_again(ask, error, len(tried)):
                    raise

    async def _turn(self, ask: Ask) -> None:
        if not ask.verb.is_read and (why := self._forbids()):
            raise Unavailable(f"{ask}: {why}")
        wait = self._flow.admit(ask, self._clock.now())
        if isinstance(wait, Refusal):
            raise Throttled(wait.why, wait.after)
        if wait > 0:
            await self._clock.sleep_until(self._clock.now() + wait)
            if not ask.verb.is_read and (why := self._forbids()):
                raise Unavailable(f"{ask}: {why}")

    async def _attempt(self, ticket: Ticket, request: Callable[[Kube], Awaitable[R]]) -> R:
        """One request to one endpoint, with a deadline; the flow is told how it went."""
        flow, clock, deadline = self._flow, self._clock, self._flow.deadline(ticket.ask)
        self._under_way(ticket, begins=True)
        is_told = False
        try:
            async with asyncio.timeout(deadline / clock.speed):
                outcome = await request(self._endpoints[ticket.endpoint])
            flow.answered(ticket, clock.now())
            is_told = True
        except TimeoutError:
            late = Unavailable(f"{ticket.ask} at {ticket.endpoint}: no answer within {deadline:g} s")
            flow.answered(ticket, clock.now(), late)
            is_told = True
            raise late from None
        except PortError as error:
            flow.answered(ticket, clock.now(), error)
            is_told = True
            raise
        finally:
            self._under_way(ticket, begins=False)
            if not is_told:
                flow.forgot(ticket)
        return outcome

    def _under_way(self, ticket: Ticket, *, begins: bool) -> None:
        if ticket.ask.verb.is_read or ticket.ask.resource.startswith("leases"):
            return
        (self._writing.add if begins else self._writing.discard)(ticket.number)
        if self._writing:
            self._still.clear()
        else:
            self._still.set()

    # -- health

    async def probe(self) -> None:
        """Ask every endpoint for its health, again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._endpoints:
                group.create_task(self._probe(name))

    async def _probe(self, name: str) -> None:
        while True:
            self._flow.probed(name, ready=await self._is_ready(self._endpoints[name]))
            (self._out[name].set if self._flow.is_out(name) else self._out[name].clear)()
            await self._clock.sleep_until(self._clock.now() + self._flow.settings.probe_every)

    async def _is_ready(self, kube: Kube) -> bool:
        try:
            async with asyncio.timeout(self._flow.settings.probe_deadline / self._clock.speed):
                return await kube.is_ready()
        except (TimeoutError, PortError):
            return False


async def _until_out(lines: AsyncIterator[T], out: asyncio.Event, name: str) -> AsyncGenerator[T, None]:
    """The lines of a watch, until its endpoint goes out: a half-open connection would be silent for ever."""
    is_out = asyncio.ensure_future(out.wait())
    pending: list[asyncio.Future[Any]] = [is_out]
    try:
        while True:
            line = asyncio.ensure_future(anext(lines, None))
            pending = [is_out, line]
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                raise Unavailable(f"{name} went out while it was watched")
            if (told := line.result()) is None:
                return
            yield told
    finally:
        for each in pending:
            each.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
