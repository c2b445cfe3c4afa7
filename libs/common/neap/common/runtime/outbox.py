"""What a service wants to tell the bus, in order, without making its machine wait.

The newest LATEST or STATE message of a subject replaces the one still waiting, so an outage costs no memory.
EVENTS, WORK and trail lines are kept and tried again until the bus has them. Messages of one subject are sent
one after the other; different subjects go side by side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from neap.common.errors import NeapError, PortError, Unavailable
from neap.common.runtime.machine import Append, Decide, Delete, Emit, Instruction, Publish, Put
from neap.common.units import Seconds

ABREAST: Final = 64
FIRST_RETRY: Final[Seconds] = 0.1
LAST_RETRY: Final[Seconds] = 2.0


@dataclass(slots=True)
class Batch:
    """The instructions one event led to; over when all of them are."""

    waiting: int = 0
    refused: bool = False
    _over: asyncio.Event | None = None  # made for whoever waits: most batches nobody waits for

    def finish(self, *, refused: bool = False) -> None:
        """One instruction of this batch is over."""
        self.waiting -= 1
        self.refused |= refused
        if self.waiting == 0 and self._over is not None:
            self._over.set()

    async def over(self) -> None:
        """Wait until all of them are over."""
        if self.waiting:
            self._over = self._over or asyncio.Event()
            await self._over.wait()


@dataclass(slots=True)
class _Entry:
    instruction: Instruction
    batch: Batch
    context: Any


def lane(instruction: Instruction) -> str:
    """Instructions of one lane keep their order."""
    match instruction:
        case Publish(to=to) | Emit(to=to) | Append(to=to):
            return to.subject
        case Put(key=key) | Delete(key=key):
            return f"{key.channel.bucket}/{key.subject}"  # type: ignore[attr-defined]
        case Decide(entry=entry):
            return f"trail/{entry.about.namespace}/{entry.about.name}"
    return ""


def replaceable(instruction: Instruction) -> bool:
    """Whether a newer instruction of the same lane makes this one pointless."""
    return isinstance(instruction, Publish) or (
        isinstance(instruction, Put) and instruction.revision is None and not instruction.answer
    )


class Outbox:
    """See module docstring. `send` does one instruction; `tell` reports outcome or error to the machine."""

    def __init__(
        self,
        send: Callable[[Instruction, Any], Awaitable[Any]],
        tell: Callable[[Instruction, Any, NeapError | None], None],
    ) -> None:
        self._send, self._tell = send, tell
        self._lanes: dict[str, deque[_Entry]] = {}  # those with something to say, or saying it
        self._ready: deque[str] = deque()  # of them, those that nobody works on
        self._working = 0
        self._unsaid = 0
        self._wake = asyncio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return self._unsaid

    def add(self, instruction: Instruction, batch: Batch, context: Any) -> None:
        """Queue one instruction."""
        name = lane(instruction)
        entries = self._lanes.get(name)
        if entries is None:
            entries = self._lanes[name] = deque()
            self._ready.append(name)
            self._wake.set()
        elif entries and replaceable(instruction) and replaceable(entries[-1].instruction):
            entries.pop().batch.finish()
            self._unsaid -= 1
            self.dropped += 1
        entries.append(_Entry(instruction, batch, context))
        self._unsaid += 1

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for _ in range(min(len(self._ready), ABREAST - self._working)):
                    self._working += 1
                    group.create_task(self._work())

    async def _work(self) -> None:
        """One lane after the other, while there are any: a task costs more than most instructions."""
        try:
            while self._ready:
                name = self._ready.popleft()
                entries = self._lanes[name]
                while entries:
                    await self._deliver(entries.popleft())
                    self._unsaid -= 1
                del self._lanes[name]
        finally:
            self._working -= 1

    async def _deliver(self, entry: _Entry) -> None:
        instruction, delay = entry.instruction, FIRST_RETRY
        keep = isinstance(instruction, Emit | Decide)
        while True:
            try:
                outcome = await self._send(instruction, entry.context)
            except Unavailable as error:
                if keep:
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, LAST_RETRY)
                    continue
                self._tell(instruction, None, error)
                entry.batch.finish(refused=True)
            except PortError as error:
                self._tell(instruction, None, error)
                entry.batch.finish(refused=True)
            except NeapError as error:  # it can never be said: too large, or about a name that no subject can carry
                self._tell(instruction, None, error)
                entry.batch.finish()
            else:
                self._tell(instruction, outcome, None)
                entry.batch.finish()
            return
