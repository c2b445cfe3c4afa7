"""A machine that goes on where its earlier life ended: what it learnt is kept on the bus, one key per room and node.

    machine.memory            all that must not be forgotten, as one Struct
    machine.recall(memory)    before it starts: this is what an earlier life knew

    written    `keep.every` after the last time, and when the service is told to stop; only what changed, and never
               more than MOST bytes
    read       before the machine starts: until then it is not told that anything is Synced
    refused    from the future, older than `keep.patience`, of another room or node, or not understood: it starts
               without, as a new one does, and that is said and counted

Killed without a word it loses what it learnt since it wrote last, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from neap.common.contract.catalogue import MEMORY
from neap.common.errors import InputError
from neap.common.model.memory import RoomMemory
from neap.common.runtime.machine import Arrived, Count, Event, Failed, Gone, Instruction, Machine, Put, Stopping, Synced
from neap.common.telemetry.log import get_logger
from neap.common.units import KIB, Bytes, Seconds, format_bytes, format_duration

M = TypeVar("M", bound=msgspec.Struct)
MOST: Final[Bytes] = 512 * KIB  # of one memory: half of what a NATS message may hold
REFUSED: Final = "neap_memory_refused_total"


class Mindful(Protocol[M]):
    """What has something to remember: the machine itself, or one inside it."""

    @property
    def memory(self) -> M:
        """All that must not be forgotten; msgspec turns it into JSON and back."""
        ...

    def recall(self, memory: M, at: Seconds) -> None:
        """Told at most once, before anything is Synced.

        Raises:
            InputError: it makes no sense here; nothing has changed then.
        """
        ...


@dataclass(frozen=True)
class Keep:
    """Whose memory it is, how often it is written, and how old it may be."""

    room: str
    node: str
    every: Seconds
    patience: Seconds
    rather: Callable[[Event], bool] = lambda _: True  # after such an event; after any, once it is late


@dataclass(frozen=True, slots=True)
class TellMemory(Instruction):
    """Say in the log what became of a memory."""

    event: str
    why: str


class RememberingMachine(Generic[M]):
    """See module docstring."""

    def __init__(self, machine: Machine, mind: Mindful[M], kind: type[M], keep: Keep) -> None:
        self.machine, self._mind, self._kind, self._keep = machine, mind, kind, keep
        self._found: RoomMemory | None = None  # of an earlier life, until it is recalled
        self._is_synced = False
        self._held: list[Synced] = []
        self._written: Any = None  # what is on the bus, as far as is known
        self._written_at: Seconds | None = None
        self._too_large = False  # and it was said

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        match event:
            case Arrived(message=RoomMemory() as found):
                self._found = None if self._is_synced else found
                return ()
            case Gone(channel=channel) if channel == MEMORY:
                self._found = self._written = None
                return ()
            case Synced(channel=channel) if channel == MEMORY:
                return self._start(event.at)
            case Synced() if not self._is_synced:
                self._held.append(event)
                return ()
            case Failed(instruction=Put(value=RoomMemory())):
                self._written = None
                return ()
        said = self.machine.handle(event)
        return [*said, *self._write(event.at)] if self._is_due(event) else said

    def validate(self) -> None:
        """See Machine."""
        self.machine.validate()

    # -- reading -----------------------------------------------------------------------------------------------------

    def _start(self, at: Seconds) -> Sequence[Instruction]:
        if self._is_synced:
            return ()
        self._is_synced, self._written_at = True, at
        said = [*self._recall(at)]
        held, self._held = self._held, []
        for before in held:
            said += self.machine.handle(Synced(at, before.channel, before.seq))
        return said

    def _recall(self, at: Seconds) -> Sequence[Instruction]:
        found, self._found = self._found, None
        if found is None:
            return ()
        why = self._flaw(found, at)
        if not why:
            try:
                self._mind.recall(msgspec.convert(found.what, self._kind, str_keys=True), at)
            except (msgspec.ValidationError, InputError) as error:
                why = f"not understood: {error}"
        if why:
            return self._refuse(why)
        age = format_duration(max(0.0, at - found.at))
        return [TellMemory("memory.recalled", f"goes on where an earlier life was {age} ago")]

    def _flaw(self, found: RoomMemory, at: Seconds) -> str:
        if (found.room, found.node) != (self._keep.room, self._keep.node):
            return f"it is of {found.room} on {found.node}"
        age = at - found.at
        if age < -self._keep.every:
            return f"it is of a time {format_duration(-age)} ahead"
        if age <= self._keep.patience:
            return ""
        return f"it is {format_duration(age)} old, more than {format_duration(self._keep.patience)}"

    # -- writing -----------------------------------------------------------------------------------------------------

    def _is_due(self, event: Event) -> bool:
        if self._written_at is None:
            return False
        waited = event.at - self._written_at
        late = not 0 <= waited < 2 * self._keep.every
        return isinstance(event, Stopping) or late or (waited >= self._keep.every and self._keep.rather(event))

    def _write(self, at: Seconds) -> Sequence[Instruction]:
        self._written_at = at
        what = msgspec.to_builtins(self._mind.memory, str_keys=True)
        if what == self._written:
            return ()
        if (size := len(msgspec.json.encode(what))) > MOST:
            why = f"{format_bytes(size)} to remember, more than {format_bytes(MOST)}: not written"
            said, self._too_large = () if self._too_large else self._refuse(why), True
            return said
        self._written, self._too_large = what, False
        keep = self._keep
        memory = RoomMemory(at=at, source=keep.room, node=keep.node, room=keep.room, what=what)
        return [Put(MEMORY.at(room=keep.room, node=keep.node), memory)]

    def _refuse(self, why: str) -> Sequence[Instruction]:
        return [Count(REFUSED, labels={"service": self._keep.room}), TellMemory("memory.refused", why)]


def tell_memory(room: str, node: str) -> Callable[[TellMemory], Any]:
    """The effect of `TellMemory`."""
    log = get_logger(room)

    async def tell(said: TellMemory) -> None:
        say = log.warning if said.event == "memory.refused" else log.info
        say(said.event, why=said.why, node=node)

    return tell
