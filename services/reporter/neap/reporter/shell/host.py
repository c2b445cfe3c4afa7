"""Carry out the reporter's instructions on the host port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from neap.common.host.port import HostFs
from neap.common.host.turn import in_turn
from neap.common.runtime.clock import Clock
from neap.common.runtime.machine import Instruction
from neap.reporter.core.instruction import ListDirs, Listing, ReadFiles, Reading, ReadTopology
from neap.reporter.core.topology.snapshot import FIRST, LISTED, Snapshot, listed_next, wanted


def listings(host: HostFs, paths: Sequence[str]) -> tuple[Listing, ...]:
    """Names in each directory; None if it is gone or closed to us."""
    return tuple(None if names is None else tuple(names) for names in host.list_all(paths))


def read_snapshot(host: HostFs) -> Snapshot:
    """Everything that describes the machine, as it is now."""
    names = _listings(host, LISTED)
    first = _texts(host, FIRST)
    paths = wanted(names, first)
    return Snapshot(first | _texts(host, paths), names | _listings(host, listed_next(names)))


def execute(host: HostFs, clock: Callable[[], float], instruction: Instruction) -> Any:
    """One instruction's outcome."""
    match instruction:
        case ListDirs(paths=paths):
            return listings(host, paths)
        case ReadFiles(paths=paths):
            return Reading(clock(), host.read_all(paths))
        case ReadTopology():
            return read_snapshot(host)
        case _:
            raise TypeError(f"not the host's business: {type(instruction).__name__}")


def effects(host: HostFs, clock: Clock) -> Mapping[type[Instruction], Callable[[Any], Awaitable[Any]]]:
    """The table of the reporter's own instructions."""

    async def run(instruction: Instruction) -> Any:
        return await in_turn(host, lambda: execute(host, clock.now, instruction))

    return {ListDirs: run, ReadFiles: run, ReadTopology: run}


def _texts(host: HostFs, paths: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {path: text for path, text in zip(paths, host.read_all(paths), strict=True) if text is not None}


def _listings(host: HostFs, paths: tuple[str, ...] | list[str]) -> dict[str, tuple[str, ...]]:
    return {path: names for path, names in zip(paths, listings(host, paths), strict=True) if names is not None}
