"""The plugin's side of NRI on one connection: what each request of the runtime is answered.

A plugin that fails a request about a container fails that container, and one that is late delays it. So whatever
goes wrong here is answered with "no change" and told: late, raised, unreadable, too many at once. An answer that
comes after all becomes an update, once the container is there. Only configuration and synchronisation may fail:
they cost the connection, not a container.

Source: containerd/nri pkg/adaptation/plugin.go (which errors reach the container).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from neap.common.errors import Denied, PortError, Unavailable, WireError
from neap.common.runtime.clock import Clock
from neap.enforcer.nri.drift import drift
from neap.enforcer.nri.model import (
    Adjusted,
    Adjustment,
    Container,
    Ended,
    Joined,
    LeftAlone,
    Pod,
    Resources,
    State,
    Told,
    Update,
    Updated,
)
from neap.enforcer.nri.schema import (
    ABOUT,
    CHANGE,
    CHANGES,
    CONFIGURE,
    CONFIGURED,
    CREATED,
    REGISTER,
    SUBSCRIPTION,
    SYNCHRONIZE,
    SYNCHRONIZED,
    About,
    Changes,
    Configured,
    Created,
    Event,
    Register,
    Synchronize,
    Synchronized,
)
from neap.enforcer.nri.session import Session, Unknown, finished
from neap.enforcer.nri.settings import NriSettings
from neap.enforcer.nri.wire import LONGEST

Adjust: TypeAlias = Callable[[Pod, Container], Awaitable[Adjustment | None]]
Tell: TypeAlias = Callable[[Told], None]

ALIVE: Final = frozenset({State.CREATED, State.PAUSED, State.RUNNING})
SYNCHRONISATION: Final = 16 << 20  # bytes of all parts of one
EVENTS_BY_METHOD: Final = {
    "PostCreateContainer": Event.POST_CREATE_CONTAINER,
    "RemoveContainer": Event.REMOVE_CONTAINER,
    "StopContainer": Event.STOP_CONTAINER,
}


class Plugin:
    """See module docstring. Lives as long as one connection; everything it starts lives in `group`."""

    def __init__(
        self,
        settings: NriSettings,
        clock: Clock,
        group: asyncio.TaskGroup,
        session: Session,
        adjust: Adjust,
        tell: Tell,
    ) -> None:
        self._settings, self._clock, self._group, self._session = settings, clock, group, session
        self._adjust, self._tell = adjust, tell
        self.containers: dict[str, tuple[Pod, Container]] = {}
        self.joined = asyncio.Event()
        self._runtime = ""
        self._told = Synchronize()  # what came of a synchronisation in parts
        self._told_bytes = 0
        self._questions = 0
        self._owed: dict[str, Update] = {}  # answers that came before their container did

    async def join(self) -> None:
        """Register, then wait for configuration and synchronisation.

        Raises:
            PortError: refused, or not in time.
        """
        register = REGISTER.encode(Register(name=self._settings.name, index=self._settings.index))
        await self._session.call("RegisterPlugin", register, self._settings.call_within)
        joined = asyncio.ensure_future(self.joined.wait())
        try:
            if not await finished(joined, self._clock, self._settings.join_within):
                raise Unavailable(f"the runtime did not synchronise within {self._settings.join_within:g} s")
        finally:
            joined.cancel()

    async def update(self, updates: Sequence[Update]) -> tuple[str, ...]:
        """Change containers that are there; the ids of those the runtime could not change.

        Raises:
            PortError: the runtime did not answer, or refused a whole request; earlier batches hold.
        """
        failed: list[str] = []
        size = self._settings.batch
        for first in range(0, len(updates), size):
            try:
                message = CHANGES.encode(Changes(updates=tuple(updates[first : first + size])))
                answer = await self._session.call("UpdateContainers", message, self._settings.call_within)
                failed += [each.container_id for each in CHANGES.decode(answer).updates]
            except WireError as error:
                raise Denied(f"NRI UpdateContainers: {error}") from error
        return tuple(failed)

    async def serve(self, method: str, message: bytes) -> bytes:
        """Answer one request of the runtime.

        Raises:
            WireError: a configuration or synchronisation cannot be read.
            Unknown: there is no such method.
        """
        match method:
            case "Configure":
                asked = CONFIGURE.decode(message)
                self._runtime = f"{asked.runtime_name} {asked.runtime_version}".strip()
                return CONFIGURED.encode(Configured(events=SUBSCRIPTION))
            case "Synchronize":
                return await self._synchronize(message)
            case "CreateContainer":
                return await self._create(message)
            case "UpdateContainer":
                return await self._change(message)
            case "Shutdown":
                return b""  # the runtime closes the connection when it goes
            case "StateChange" | "PostCreateContainer" | "StopContainer" | "RemoveContainer":
                self._follow(method, message)
                return b""
        raise Unknown(f"no method {method[:80]!r}")

    # -- before a container starts -----------------------------------------------------------------------------------

    async def _create(self, message: bytes) -> bytes:
        about = self._read(message)
        adjustment = about and await self._ask(about.pod, about.container)
        if not about or not adjustment:
            return b""
        try:
            answer = CREATED.encode(Created(adjustment=adjustment))
        except WireError as error:
            self._leave(about.container.id, str(error))
            return b""
        self._tell(Adjusted(at=self._clock.now(), pod=about.pod, container=about.container, adjustment=adjustment))
        return answer

    async def _change(self, message: bytes) -> bytes:
        """Somebody else changes a container (a resize): what is wanted here wins."""
        about = self._read(message)
        adjustment = about and await self._ask(about.pod, about.container)
        if not about or not adjustment or adjustment.resources == Resources():
            return b""
        update = Update(container_id=about.container.id, resources=adjustment.resources)
        try:
            return CHANGES.encode(Changes(updates=(update,)))
        except WireError as error:
            self._leave(about.container.id, str(error))
            return b""

    def _read(self, message: bytes) -> About | None:
        try:
            return ABOUT.decode(message)
        except WireError as error:
            self._leave("", str(error))
            return None

    async def _ask(self, pod: Pod, container: Container) -> Adjustment | None:
        """What `adjust` says in time; what it says later becomes an update."""
        if self._questions >= self._settings.questions:
            self._leave(container.id, f"{self._questions} questions are open already")
            return None
        within = self._settings.answer_within
        self._questions += 1
        question = self._group.create_task(self._question(pod, container))
        question.add_done_callback(self._count_answer)
        if await finished(question, self._clock, within):
            return question.result()
        self._leave(container.id, f"no answer within {1000 * within:g} ms; an update follows")
        self._group.create_task(self._make_good(question, container))
        return None

    def _count_answer(self, _: object) -> None:
        self._questions -= 1

    async def _question(self, pod: Pod, container: Container) -> Adjustment | None:
        (answer,) = await asyncio.gather(_call(self._adjust, pod, container), return_exceptions=True)
        if isinstance(answer, BaseException):
            self._leave(container.id, f"{type(answer).__name__}: {answer}")
            return None
        return answer

    async def _make_good(self, question: asyncio.Task[Adjustment | None], container: Container) -> None:
        if not await finished(question, self._clock, self._settings.late_within):
            question.cancel()
            self._leave(container.id, f"no answer within {self._settings.late_within:g} s; none is awaited any more")
            return
        adjustment = question.result()
        lacking = drift(container.resources, adjustment.resources) if adjustment else None
        if lacking is None:
            return
        update = Update(container_id=container.id, resources=lacking)
        if container.id in self.containers:
            await self._send((update,))
        elif len(self._owed) < LONGEST:
            self._owed[container.id] = update

    # -- what is there -----------------------------------------------------------------------------------------------

    async def _synchronize(self, message: bytes) -> bytes:
        part = SYNCHRONIZE.decode(message)
        pods, containers = self._told.pods + part.pods, self._told.containers + part.containers
        self._told, self._told_bytes = Synchronize(pods=pods, containers=containers), self._told_bytes + len(message)
        if max(len(pods), len(containers)) > LONGEST or self._told_bytes > SYNCHRONISATION:
            raise WireError(f"a synchronisation of {len(containers)} containers, {self._told_bytes} bytes")
        if part.more:
            return SYNCHRONIZED.encode(Synchronized(more=True))
        self._told, self._told_bytes = Synchronize(), 0
        by_id = {pod.id: pod for pod in pods}
        self.containers = {each.id: (by_id.get(each.pod_id, Pod()), each) for each in containers if each.state in ALIVE}
        found: list[Update] = []
        walk = self._group.create_task(self._walk(found))
        await finished(walk, self._clock, self._settings.synchronize_within)
        answered = tuple(found[: self._settings.batch])
        if len(found) > len(answered) or not walk.done():
            self._group.create_task(self._finish(walk, found, len(answered)))
        self.joined.set()
        self._tell(
            Joined(at=self._clock.now(), runtime=self._runtime, containers=len(self.containers), corrected=answered)
        )
        return SYNCHRONIZED.encode(Synchronized(updates=answered))

    async def _walk(self, found: list[Update]) -> None:
        """Ask about every container; collect what they lack."""
        for pod, container in list(self.containers.values()):
            adjustment = await self._question(pod, container)
            lacking = drift(container.resources, adjustment.resources) if adjustment else None
            if lacking is not None:
                found.append(Update(container_id=container.id, resources=lacking))

    async def _finish(self, walk: asyncio.Task[None], found: Sequence[Update], answered: int) -> None:
        """Send what the answer to the synchronisation could not hold, or did not wait for."""
        if not await finished(walk, self._clock, self._settings.late_within):
            walk.cancel()
            self._leave("", f"containers were not asked about within {self._settings.late_within:g} s")
        await self._send(tuple(found[answered:]))

    def _follow(self, method: str, message: bytes) -> None:
        """Keep up with which containers there are."""
        try:
            change = CHANGE.decode(message) if method == "StateChange" else None
            about = About(pod=change.pod, container=change.container) if change else ABOUT.decode(message)
        except WireError as error:
            self._leave("", f"{method}: {error}")
            return
        event = change.event if change else EVENTS_BY_METHOD[method]
        id = about.container.id
        if event == Event.POST_CREATE_CONTAINER and len(self.containers) < LONGEST:
            self.containers[id] = (about.pod, about.container)
            if id in self._owed:
                self._group.create_task(self._send((self._owed.pop(id),)))
        elif event in (Event.STOP_CONTAINER, Event.REMOVE_CONTAINER):
            self._owed.pop(id, None)
            if self.containers.pop(id, None):
                self._tell(Ended(at=self._clock.now(), container_id=id))

    async def _send(self, updates: tuple[Update, ...]) -> None:
        """An update nobody waits for."""
        if not updates:
            return
        try:
            failed, why = await self.update(updates), ""
        except PortError as error:
            failed, why = tuple(each.container_id for each in updates), str(error)
        self._tell(Updated(at=self._clock.now(), updates=updates, failed=failed, why=why))

    def _leave(self, container_id: str, why: str) -> None:
        self._tell(LeftAlone(at=self._clock.now(), container_id=container_id, why=why))


async def _call(adjust: Adjust, pod: Pod, container: Container) -> Adjustment | None:
    """So that one that raises before it is awaited raises here as well."""
    return await adjust(pod, container)
