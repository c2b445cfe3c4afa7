"""The container runtime's door (NRI), as the enforcer uses it: answers before a start, updates after a change.

What a container had before it got sets of ours is kept in a journal of its own, so that it can be given back after
a kill -9, too; a container that had none gets every CPU and memory node there is. The pod's cgroup is always written
first: the kernel keeps a container within its pod, so a container can be late but never wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Final, Protocol

from neap.common.errors import PortError
from neap.common.host.real import RealHost
from neap.common.model.enforcement import Rung
from neap.common.runtime.service import Outside
from neap.enforcer.core.instruction import RungFound, TellRuntime
from neap.enforcer.core.knob import Site
from neap.enforcer.core.runtime import Wished, adjustment, sets
from neap.enforcer.nri.client import NriClient
from neap.enforcer.nri.drift import drift
from neap.enforcer.nri.model import Adjustment, Container, Ended, Joined, LeftAlone, Lost, Pod, Resources, Update
from neap.enforcer.nri.settings import NriSettings
from neap.enforcer.nri.story import Stories
from neap.enforcer.shell.journal import RestoreJournal

ALL_CPUS: Final = "/sys/devices/system/cpu/online"
ALL_NODES: Final = "/sys/devices/system/node/has_memory"
CPUS, MEMS = "cpuset.cpus", "cpuset.mems"


class Advised(Protocol):
    """What the machine knows of a container."""

    def wished(self, target: str) -> Wished:
        """Kernel file -> text of "pod/<uid>"."""
        ...

    def environment(self, uid: str, container: str) -> Mapping[str, str]:
        """Variables of one container."""
        ...


class RuntimeDoor:
    """See module docstring."""

    def __init__(self, settings: NriSettings, outside: Outside, journal: RestoreJournal, advised: Advised) -> None:
        self._host, self._journal, self._advised = outside.host, journal, advised
        self._before = dict(journal.load())  # (container id, file) -> what it had; "" for nothing of its own
        self._given: dict[str, Resources] = {}  # by container id
        self._turn = asyncio.Lock()  # one request to the runtime at a time: each rests on what the last one did
        self._stories = Stories()
        self._client = NriClient(settings, outside.clock, Random(outside.seed), self._adjust, self._stories.add)

    @asynccontextmanager
    async def stories(self) -> AsyncIterator[AsyncIterator[RungFound | LeftAlone]]:
        """Which rung this door makes, and whom it missed, as long as the context is open."""
        async with self._stories.of(self._client.run) as told:
            try:
                yield self._read(told)
            finally:
                with suppress(PortError):  # the journal keeps what cannot be given back
                    await self._bring_in_line(lambda _: {})

    async def tell(self, asked: TellRuntime) -> tuple[str, ...]:
        """Bring every container in line with the advice that holds; the ids of those the runtime could not change.

        Raises:
            PortError: the runtime is away, or the journal cannot be kept.
        """
        del asked  # what holds now counts, not what held when it was asked
        return await self._bring_in_line(self._advised.wished)

    async def _bring_in_line(self, wished: Callable[[str], Wished]) -> tuple[str, ...]:
        async with self._turn:
            given: dict[str, Resources] = {}
            updates, done = [], []
            for name, (pod, container) in self._client.containers.items():
                asked = sets(wished(f"pod/{pod.uid}"))
                wanted = asked if asked != Resources() else self._original(name)
                if wanted is None:
                    continue
                done += [name] if asked == Resources() else []
                if (rest := drift(self._given.get(name, container.resources), wanted)) is not None:
                    self._remember(container)
                    updates.append(Update(container_id=name, resources=rest))
                    given[name] = wanted
            failed = await self._client.update(updates) if updates else ()
            self._given |= {name: wanted for name, wanted in given.items() if name not in failed}
            for name in done:
                if name not in failed:
                    self._forget(name)
            return failed

    async def _adjust(self, pod: Pod, container: Container) -> Adjustment | None:
        found = adjustment(self._advised.wished(f"pod/{pod.uid}"), self._advised.environment(pod.uid, container.name))
        if found is not None and found.resources != Resources():
            self._remember(container)
            self._given[container.id] = found.resources
        return found

    def _original(self, name: str) -> Resources | None:
        """What a container had before; None if it never got anything of ours."""
        if not any(Site(name, file) in self._before for file in (CPUS, MEMS)):
            return None
        cpus, mems = self._before.get(Site(name, CPUS), ""), self._before.get(Site(name, MEMS), "")
        all_cpus, all_nodes = self._host.read_all((ALL_CPUS, ALL_NODES))
        return Resources(cpus=cpus or (all_cpus or "").strip(), mems=mems or (all_nodes or "").strip())

    def _remember(self, container: Container) -> None:
        sites = {Site(container.id, CPUS): container.resources.cpus, Site(container.id, MEMS): container.resources.mems}
        if not sites.keys() <= self._before.keys():
            self._before = sites | self._before
            self._journal.save(self._before)

    def _forget(self, name: str) -> None:
        self._given.pop(name, None)
        if any(self._before.pop(Site(name, file), None) is not None for file in (CPUS, MEMS)):
            self._before = {site: text for site, text in self._before.items() if site.cgroup != name}
            self._journal.save(self._before)

    async def _read(self, told: AsyncIterator[Any]) -> AsyncIterator[RungFound | LeftAlone]:
        async for story in told:
            match story:
                case Joined(runtime=runtime, containers=count, corrected=corrected):
                    why = f"{runtime}: {count} containers, {len(corrected)} corrected"
                    yield RungFound(Rung.NRI, works=True, why=why)
                case Lost(why=why):
                    self._given.clear()
                    yield RungFound(Rung.NRI, works=False, why=why)
                case Ended(container_id=name):
                    self._forget(name)
                case LeftAlone():
                    yield story


def door_of(outside: Outside, settings: NriSettings, journal: RestoreJournal, advised: Advised) -> RuntimeDoor | None:
    """The door of this machine's runtime; None where no socket is named, or the host is none of a machine's."""
    if not settings.socket or not isinstance(outside.host, RealHost):
        return None
    return RuntimeDoor(settings, outside, journal, advised)
