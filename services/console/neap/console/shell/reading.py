"""Where the console reads from: the bus if there is one, else the journal of the last day; and what stands there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, CaughtUp, Deleted, Received
from neap.common.contract.catalogue import PLACEMENTS, TRAIL
from neap.common.contract.channel import Pattern
from neap.common.errors import InputError, PortError
from neap.common.model.placement import Placement, fold
from neap.common.model.trail import TrailEntry
from neap.common.runtime.settings import process_environment
from neap.common.units import Seconds
from neap.console.core.story import in_order

OUT: Final = Path("build") / "day"
URL_FILE: Final = "nats.url"
JOURNAL: Final = "journal.jsonl"
DEFAULT_URL: Final = "nats://127.0.0.1:4222"
SILENCE: Final[Seconds] = 10.0  # of the bus, while something that is stored has not come yet

M = TypeVar("M")
Item = TypeVar("Item")


class _JournalLine(msgspec.Struct):
    subject: str
    seq: int
    message: msgspec.Raw


def bus_url(given: str) -> str:
    """--nats, else NEAP_PROCESS__NATS_URL, else a `neap up` that runs here, else the usual port."""
    told = OUT / URL_FILE
    if given or (given := process_environment().get("NEAP_PROCESS__NATS_URL", "")):
        return given
    return told.read_text().strip() if told.is_file() else DEFAULT_URL


@asynccontextmanager
async def open_bus(given: str) -> AsyncIterator[Bus]:
    """A connection for one command.

    Raises:
        PortError: names the address nobody answers at.
    """
    bus = await connect(bus_url(given), name="neap-console")
    try:
        yield bus
    finally:
        await bus.close()


async def read(source: AbstractAsyncContextManager[AsyncIterator[Item]]) -> list[Item]:
    """What comes until everything stored has come.

    Raises:
        PortError: nothing came for a while.
    """
    found: list[Item] = []
    try:
        async with asyncio.timeout(SILENCE) as patience, source as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    break
                found.append(item)
                patience.reschedule(asyncio.get_running_loop().time() + SILENCE)
    except TimeoutError:
        raise PortError(f"what is stored could not be read: nothing came for {SILENCE:.0f} s") from None
    return found


async def stored(bus: Bus, only: Pattern[M]) -> list[M]:
    """What a STATE channel holds, by subject.

    Raises:
        PortError: nothing came for a while.
    """
    found: dict[str, M] = {}
    for item in await read(bus.watch(only)):
        if isinstance(item, Received):
            found[item.subject] = item.message
        elif isinstance(item, Deleted):
            found.pop(item.subject, None)
    return [found[subject] for subject in sorted(found)]


async def placed(bus: Bus) -> dict[str, dict[str, Placement]]:
    """Who is placed on every node, by uid, as the ledgers say.

    Raises:
        PortError: nothing came for a while.
    """
    held: dict[str, dict[str, Placement]] = {}
    for item in await read(bus.follow(PLACEMENTS.only())):
        if isinstance(item, Received):
            held[item.message.node] = fold(held.get(item.message.node, {}), item.message)
    return held


async def read_trail(namespace: str, name: str, *, url: str, journal: Path | None) -> tuple[list[TrailEntry], str]:
    """The trail of one object (`name` empty: of a namespace), and where it was read.

    Raises:
        PortError: no bus, and no journal either.
    """
    if journal is None:
        try:
            async with open_bus(url) as bus:
                return in_order(await _entries(bus, namespace, name)), "bus"
        except PortError:
            journal = OUT / JOURNAL
            if url or not journal.is_file():
                raise
    return in_order(_journalled(journal, namespace, name)), str(journal)


async def _entries(bus: Bus, namespace: str, name: str) -> list[tuple[int, TrailEntry]]:
    only = TRAIL.only(namespace=namespace, name=name) if name else TRAIL.only(namespace=namespace)
    return [(item.seq, item.message) for item in await read(bus.follow(only)) if isinstance(item, Received)]


def _journalled(journal: Path, namespace: str, name: str) -> Iterator[tuple[int, TrailEntry]]:
    prefix = TRAIL.pattern.split("{", maxsplit=1)[0]
    decoder = msgspec.json.Decoder(_JournalLine)
    try:
        with journal.open("rb") as lines:
            for number, text in enumerate(lines, start=1):  # noqa: B007 (the error names the line)
                line = decoder.decode(text)
                if line.subject.startswith(prefix):
                    entry = TRAIL.decode(bytes(line.message), line.subject)
                    if entry.about.namespace == namespace and name in {"", entry.about.name}:
                        yield line.seq, entry
    except OSError as error:
        raise InputError(f"{journal}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{journal}, line {number}: {error}") from None
