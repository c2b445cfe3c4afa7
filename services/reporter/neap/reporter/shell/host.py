"""Carry out the reporter's instructions on the host port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from neap.common.host.port import HostFs
from neap.common.host.turn import in_turn
from neap.common.runtime.clock import Clock
from neap.common.runtime.machine import Instruction
from neap.reporter.core.instruction import ListDirs, Listing, LookAround, ReadFiles, Reading, ReadTopology
from neap.reporter.core.space import SPACE
from neap.reporter.core.surroundings import directories, levels
from neap.reporter.core.topology.snapshot import FIRST, LISTED, Snapshot, linked, listed_next, wanted, wanted_next


def listings(host: HostFs, paths: Sequence[str]) -> tuple[Listing, ...]:
    """Names in each directory; None if it is gone or closed to us."""
    return tuple(None if names is None else tuple(names) for names in host.list_all(paths))


def look_around(host: HostFs, patterns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names by directory, for every directory that the patterns stand for and that is there."""
    names: dict[str, tuple[str, ...]] = {}
    for level in levels(patterns):
        names |= _listings(host, directories(level, names))
    return names


def read_snapshot(host: HostFs, also: str = "") -> Snapshot:
    """Everything that describes the machine, as it is now; `also` is a file of that host, too."""
    names = _listings(host, LISTED)
    first = _texts(host, (*FIRST, also) if also else FIRST)
    texts = _texts(host, wanted(names, first))
    texts |= _texts(host, wanted_next(names, texts))
    links = linked(names)
    targets = zip(links, host.link_all(links), strict=True)
    return Snapshot(
        files=first | texts,
        names=names | _listings(host, listed_next(names)),
        links={path: target for path, target in targets if target is not None},
    )


def execute(host: HostFs, clock: Callable[[], float], instruction: Instruction) -> Any:
    """One instruction's outcome."""
    match instruction:
        case ListDirs(paths=paths):
            return listings(host, paths)
        case LookAround(patterns=patterns):
            return look_around(host, patterns)
        case ReadFiles(paths=paths):
            return Reading(clock(), _read(host, paths))
        case ReadTopology(also=also):
            return read_snapshot(host, also)
        case _:
            raise TypeError(f"not the host's business: {type(instruction).__name__}")


def effects(host: HostFs, clock: Clock) -> Mapping[type[Instruction], Callable[[Any], Awaitable[Any]]]:
    """The table of the reporter's own instructions."""

    async def run(instruction: Instruction) -> Any:
        return await in_turn(host, lambda: execute(host, clock.now, instruction))

    return {ListDirs: run, LookAround: run, ReadFiles: run, ReadTopology: run}


def _read(host: HostFs, paths: tuple[str, ...]) -> list[str | None]:
    """Texts of files; of what is asked for as space, the numbers."""
    spaces = [path for path in paths if path.startswith(SPACE)]
    if not spaces:
        return host.read_all(paths)
    found = zip(spaces, host.space_all([path.removeprefix(SPACE) for path in spaces]), strict=True)
    told = {path: "" if space is None else " ".join(map(str, space)) for path, space in found}
    texts = iter(host.read_all([path for path in paths if path not in told]))
    return [told[path] if path in told else next(texts) for path in paths]


def _texts(host: HostFs, paths: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {path: text for path, text in zip(paths, host.read_all(paths), strict=True) if text is not None}


def _listings(host: HostFs, paths: tuple[str, ...] | list[str]) -> dict[str, tuple[str, ...]]:
    return {path: names for path, names in zip(paths, listings(host, paths), strict=True) if names is not None}
