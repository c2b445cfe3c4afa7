"""What the reporter asks of its shell, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from neap.common.runtime.machine import Instruction
from neap.common.units import Seconds

Listing: TypeAlias = tuple[str, ...] | None  # names in a directory, or None if it cannot be listed


@dataclass(frozen=True, slots=True)
class ListDirs(Instruction):
    """List directories; answers a tuple of Listing, in order."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookAround(Instruction):
    """List what patterns stand for (see surroundings.py); answers names by directory, for those that are there."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadFiles(Instruction):
    """Read files in one call; answers a Reading."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadTopology(Instruction):
    """Read everything that describes the machine, and one more file if it is named; answers a Snapshot."""

    also: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Texts in the order asked, None where a file could not be read, and the moment they were read."""

    at: Seconds
    texts: list[str | None]
