"""The client: connect, live as a plugin, reconnect for ever; and the question whether there is a runtime at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import NoReturn

from neap.common.errors import PortError, Unavailable
from neap.common.runtime.clock import Clock
from neap.common.units import Seconds
from neap.enforcer.nri.model import Container, Lost, Pod, Update
from neap.enforcer.nri.plugin import Adjust, Plugin, Tell
from neap.enforcer.nri.session import Session
from neap.enforcer.nri.settings import NriSettings


async def probe(path: str) -> str | None:
    """None if a runtime listens at `path`, else why it cannot be asked."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        return _reason(path, error)
    await _close(writer)
    return None


def _reason(path: str, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no {path}: the container runtime offers no NRI"
        case ConnectionRefusedError():
            return f"nobody listens at {path}"
        case PermissionError():
            return f"{path} may not be opened"
    return f"{path}: {error}"


class NriClient:
    """One container runtime.

    Args:
        random: spreads the attempts of many nodes.
        adjust: what a container should have; asked before it starts, when somebody changes it, and about every
            container at each synchronisation. None leaves it alone. It may wait and it may raise.
        tell: hears what happened; must not wait, must not raise.
    """

    def __init__(self, settings: NriSettings, clock: Clock, random: Random, adjust: Adjust, tell: Tell) -> None:
        self._settings, self._clock, self._random, self._adjust, self._tell = settings, clock, random, adjust, tell
        self._plugin: Plugin | None = None

    @property
    def joined(self) -> bool:
        """Whether the runtime asks us before containers start."""
        return self._plugin is not None and self._plugin.joined.is_set()

    @property
    def containers(self) -> Mapping[str, tuple[Pod, Container]]:
        """Those alive, by the runtime's id, as the runtime told them; empty while not joined."""
        return self._plugin.containers if self._plugin else {}

    async def run(self) -> NoReturn:
        """Until cancelled. The pause between attempts doubles until a connection has held for `last_retry`."""
        failures = 0
        while True:
            since = self._clock.now()
            why = await self._live()
            now = self._clock.now()
            failures = 0 if now - since >= self._settings.last_retry else failures + 1
            again = now + self._pause(failures)
            self._tell(Lost(at=now, why=why, again=again))
            await self._clock.sleep_until(again)

    async def update(self, updates: Sequence[Update]) -> tuple[str, ...]:
        """Change running containers; the ids of those the runtime could not change.

        Raises:
            PortError: not joined, no answer in time, or refused as a whole.
        """
        plugin = self._plugin
        if plugin is None or not plugin.joined.is_set():
            raise Unavailable(f"NRI: not connected to {self._settings.socket}")
        return await plugin.update(updates)

    def _pause(self, failures: int) -> Seconds:
        longest = min(self._settings.last_retry, self._settings.first_retry * 2.0 ** min(failures, 32))
        return longest * self._random.uniform(0.5, 1.0)

    async def _live(self) -> str:
        """One connection from beginning to end; why it ended."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._settings.socket)
        except OSError as error:
            return _reason(self._settings.socket, error)
        why = ""
        try:
            async with asyncio.TaskGroup() as group:
                session = Session(reader, writer, group, self._clock)
                plugin = self._plugin = Plugin(self._settings, self._clock, group, session, self._adjust, self._tell)
                group.create_task(plugin.join())
                await session.run(plugin.serve)
        except* PortError as errors:
            why = "; ".join(str(error) for error in errors.exceptions)
        finally:
            self._plugin = None
            await _close(writer)
        return why


async def _close(writer: asyncio.StreamWriter) -> None:
    """At once: what was not read by now is of no use."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
