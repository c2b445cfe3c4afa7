"""The journal of a service: every event it handled and the instructions it answered, one JSON line each.

Replaying the events through a fresh machine must give the same instructions; `replay` tells where it does not. Each
life begins with a line of the settings and the seed it ran with; recorded.py reads a file back.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from neap.common.contract.channel import Address, Channel
from neap.common.runtime.machine import Arrived, Done, Event, Failed, Instruction, Machine

UNANSWERED: Final = 4096  # instructions whose answers a replay waits for


class Journal(Protocol):
    """Where the lines go."""

    def write(self, service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> None:
        """Append one line; never fails the service."""
        ...


class NoJournal:
    """The journal that keeps nothing."""

    def write(self, service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> None:
        """Forget it."""


class FileJournal:
    """Appends to a file opened by the caller; lines are flushed by the file's own buffering. `only`: of this service."""

    def __init__(self, out: Any, *, only: str = "") -> None:
        self._out, self._full, self._only = out, False, only

    def begin(self, service: str, settings: msgspec.Struct, seed: int) -> None:
        """A life of this service begins; these are its settings."""
        if self._only in {"", service}:
            self._append(msgspec.json.encode({"service": service, "settings": settings, "seed": seed}, order="sorted"))

    def write(self, service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> None:
        """Append one line; a full disk ends the journal, not the service."""
        if self._only in {"", service}:
            self._append(line(service, node, event, instructions))

    def _append(self, text: bytes) -> None:
        if self._full:
            return
        try:
            self._out.write(text + b"\n")
        except OSError as error:
            self._full = True
            sys.stderr.write(f"neap: the journal ends here: {error.strerror}\n")


class Recording:
    """Keeps everything in memory, by service and node, to be replayed."""

    def __init__(self) -> None:
        self.lives: dict[tuple[str, str], list[tuple[Event, Sequence[Instruction]]]] = {}

    def write(self, service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> None:
        """Keep it."""
        self.lives.setdefault((service, node), []).append((event, tuple(instructions)))


def replay(machine: Machine, life: Iterable[tuple[Event, Sequence[Instruction]]]) -> str:
    """Hand a recorded life to a fresh machine; where it first decides otherwise, as two lines, or nothing.

    Answers to instructions are answers to the machine's own, equal ones: some machines know theirs by identity.
    """
    asked: deque[Instruction] = deque(maxlen=UNANSWERED)
    for number, (recorded, decided) in enumerate(life, start=1):
        event = recorded
        if isinstance(event, Done | Failed) and event.instruction in asked:
            event = dataclasses.replace(event, instruction=asked[asked.index(event.instruction)])
            asked.remove(event.instruction)
        answered = machine.handle(event)
        asked += answered
        then, now = line("", "", recorded, decided), line("", "", recorded, answered)
        if then != now:
            return f"event {number}\nthen {then.decode()}\nnow  {now.decode()}"
    return ""


def plain(value: Any) -> Any:
    """Addresses and channels by name, keys as text, sets in order, everything else as JSON would have it."""
    if isinstance(value, Address):
        return value.subject
    if isinstance(value, Channel):
        return value.title()
    if isinstance(value, Arrived) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = {name: plain(getattr(value, name)) for name in _names(value)}
        said = getattr(value, "message", None)
        of = {"of": type(said).__name__} if isinstance(said, msgspec.Struct) else {}
        return {"is": type(value).__name__} | of | fields
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return msgspec.to_builtins(value, enc_hook=str, str_keys=True, order="deterministic")


def _names(value: Any) -> Sequence[str]:
    return value.__struct_fields__ if isinstance(value, Arrived) else [item.name for item in dataclasses.fields(value)]


def _key(key: Any) -> str:
    """A dataclass as the words it is made of."""
    if dataclasses.is_dataclass(key):
        return " ".join(_key(getattr(key, item.name)) for item in dataclasses.fields(key))
    return str(key)


def line(service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> bytes:
    """One journal line without its newline."""
    record = {"service": service, "node": node, "event": plain(event), "do": [plain(item) for item in instructions]}
    return msgspec.json.encode(record, order="sorted")
