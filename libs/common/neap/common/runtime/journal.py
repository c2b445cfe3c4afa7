"""The journal of a service: every event it handled and the instructions it answered, one JSON line each.

Replaying the events through a fresh machine must give the same instructions; `replay` tells where it does not.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from neap.common.contract.channel import Address, Channel
from neap.common.runtime.machine import Event, Instruction


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
    """Appends to a file opened by the caller; lines are flushed by the file's own buffering."""

    def __init__(self, out: Any) -> None:
        self._out, self._full = out, False

    def write(self, service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> None:
        """Append one line; a full disk ends the journal, not the service."""
        if self._full:
            return
        try:
            self._out.write(line(service, node, event, instructions) + b"\n")
        except OSError as error:
            self._full = True
            sys.stderr.write(f"neap: the journal ends here: {error.strerror}\n")


def plain(value: Any) -> Any:
    """Addresses and channels by name, everything else as JSON would have it."""
    if isinstance(value, Address):
        return value.subject
    if isinstance(value, Channel):
        return value.pattern
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"is": type(value).__name__} | fields
    return msgspec.to_builtins(value, enc_hook=str)


def line(service: str, node: str, event: Event, instructions: Sequence[Instruction]) -> bytes:
    """One journal line without its newline."""
    record = {"service": service, "node": node, "event": plain(event), "do": [plain(item) for item in instructions]}
    return msgspec.json.encode(record, order="sorted")
